"""AlexNet (Krizhevsky et al., 2012) in the two halves of the original, with the parameters
customary in Caffe."""

from ..caffe import locate
from . import units

_RATES = [units.rates(1, 1), units.rates(2, 0)]  # of weights and of biases


def alexnet(net, data, task, variant):
    """Five convolutions and three fully connected layers. Active are the 3×3 convolutions, conv3 to
    conv5; the halves of conv4 and conv5 have positions of their own: five sets (Fig. 11)."""
    layers = locate.caffe().layers
    top = _convolution(net, 1, data, bias=0, num_output=96, kernel_size=11, stride=4)
    top = _pool(net, 1, _normalise(net, 1, top))
    top = _convolution(net, 2, top, bias=0.1, num_output=256, kernel_size=5, pad=2, group=2)
    top = _pool(net, 2, _normalise(net, 2, top))
    for index, outputs, group, bias in (3, 384, 1, 0), (4, 384, 2, 0.1), (5, 256, 2, 0.1):
        active = units.active(task, variant, position_group=group)
        shape = dict(num_output=outputs, kernel_size=3, pad=1, group=group)
        top = _convolution(net, index, top, active, bias, **shape)
    top = _pool(net, 5, top)
    for index in (6, 7):
        top = _fully_connected(net, f"fc{index}", top, 4096, std=0.005, bias=0.1)
        net[f"relu{index}"] = top = layers.ReLU(top, in_place=True)
        net[f"drop{index}"] = top = layers.Dropout(top, in_place=True, dropout_ratio=0.5)
    return _fully_connected(net, "score", top, task.classes, std=0.01, bias=0)


def _fillers(std, bias):
    weights, biases = dict(type="gaussian", std=std), dict(type="constant", value=bias)
    return dict(weight_filler=weights, bias_filler=biases)


def _convolution(net, index, bottom, active_param=None, bias=0, **shape):
    """Adds a convolution and its ReLU."""
    parameters = dict(shape, **_fillers(0.01, bias))
    top = units.convolution(net, f"conv{index}", bottom, _RATES, parameters, active_param)
    net[f"relu{index}"] = locate.caffe().layers.ReLU(top, in_place=True)
    return net[f"relu{index}"]


def _normalise(net, index, bottom):
    net[f"norm{index}"] = locate.caffe().layers.LRN(bottom, local_size=5, alpha=0.0001, beta=0.75)
    return net[f"norm{index}"]


def _pool(net, index, bottom):
    return units.pool(net, f"pool{index}", bottom, "MAX", kernel_size=3, stride=2)


def _fully_connected(net, name, bottom, outputs, std, bias):
    net[name] = locate.caffe().layers.InnerProduct(
        bottom, num_output=outputs, param=_RATES, **_fillers(std, bias)
    )
    return net[name]
