"""The plain network of Table 1, also as the paper's authors published it; and a shallow one."""

from ..caffe import locate
from . import units

WIDTHS = (48, 96, 192)  # outputs of the three stages
SHALLOW_WIDTHS = (24, 48)
# The paper moves positions at a hundredth of the weights' rate over 64,000 iterations; in 400, that
# is half a pixel at most.
SHALLOW_POSITION_RATE = 0.1


def plain(net, data, task, variant):
    """Table 1: a 1×1 convolution, three stages of two 3×3 convolutions (48, 96, 192 outputs, the
    later stages starting with stride 2), a 1×1 convolution with 1000 outputs, global average
    pooling and the scores. Batch normalisation and ReLU follow each convolution but the last; the
    six 3×3 ones are active."""
    top, active = units.unit(net, "0", data, num_output=16), units.active(task, variant)
    for suffix, shape in _stages():
        top = units.unit(net, suffix, top, active, **shape)
    return units.scores(net, units.unit(net, "fc1", top, name="fc1", num_output=1000), task.classes)


def shallow(net, data, task, variant):
    """Two 3×3 convolutions (24 and 48 outputs, the second with stride 2), each with batch
    normalisation and ReLU, global average pooling and the scores; none of the paper's. On the grid,
    a score sees strokes of 5×5 pixels and not where they are, so how far the synapses of the two
    active convolutions reach decides what it can tell apart, within a minute of training."""
    top, active = data, units.active(task, variant, position_lr_mult=SHALLOW_POSITION_RATE)
    for index, outputs in enumerate(SHALLOW_WIDTHS, start=1):
        shape = dict(num_output=outputs, kernel_size=3, pad=1, stride=index)
        top = units.unit(net, str(index), top, active, **shape)
    return units.scores(net, top, task.classes)


def _stages():
    """Yields the name and the parameters of each 3×3 convolution."""
    for stage, outputs in enumerate(WIDTHS, start=1):
        for index in (1, 2):
            stride = 2 if stage > 1 and index == 1 else 1
            yield f"{stage}/{index}", dict(num_output=outputs, kernel_size=3, pad=1, stride=stride)


def published():
    """The NetParameter of the network that the paper's authors published the weights of: plain, on
    CIFAR-10, in the layer names, the layer type and the parameters of their code."""
    layers, net = locate.caffe().layers, locate.caffe().NetSpec()

    def unit(suffix, bottom, kind="AConvFast", name=None, **convolution):
        name = name or f"conv{suffix}"
        aconv = dict(aconv_param=dict(pos_filler_std=-1, normalize=True))
        active = aconv if kind == "AConvFast" else {}
        convolution_param = dict(convolution, bias_term=False)
        net[name] = getattr(layers, kind)(bottom, convolution_param=convolution_param, **active)
        net[f"bn{suffix}"] = layers.BatchNorm(net[name], in_place=True)
        net[f"scale{suffix}"] = layers.Scale(net[f"bn{suffix}"], in_place=True, bias_term=True)
        net[f"relu{suffix}"] = layers.ReLU(net[f"scale{suffix}"], in_place=True)
        return net[f"relu{suffix}"]

    net["data"] = layers.Input(shape=dict(dim=[1, 3, 32, 32]))
    top = unit("1_1", net["data"], num_output=16, kernel_size=1)
    for suffix, shape in _stages():
        top = unit(suffix.replace("/", "_1/"), top, **shape)
    top = unit("_fc1", top, kind="Convolution", name="fc1", num_output=1000, kernel_size=1)
    units.pool(net, "prescore", top, "AVE", global_pooling=True)
    score = dict(num_output=10, kernel_size=1)
    net["score"] = layers.Convolution(net["prescore"], convolution_param=score)
    proto = locate.caffe_pb2().NetParameter(name="PlainC")
    proto.layer.extend(net.to_proto().layer)
    return proto
