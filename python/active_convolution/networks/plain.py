"""The plain network of Table 1, also in the form in which the paper's authors published it."""

from ..caffe import locate
from . import units

WIDTHS = (48, 96, 192)  # outputs of the three stages


def plain(net, data, dataset, variant):
    """Table 1: a 1×1 convolution, three stages of two 3×3 convolutions (48, 96, 192 outputs, the
    later stages starting with stride 2), a 1×1 convolution with 1000 outputs, global average
    pooling and the scores. Batch normalisation and ReLU follow each convolution but the last; the
    six 3×3 ones are active."""
    top = units.unit(net, "0", data, num_output=16, kernel_size=1)
    for suffix, outputs, stride in _stages():
        top = units.unit(
            net,
            suffix,
            top,
            units.active(dataset, variant),
            num_output=outputs,
            kernel_size=3,
            pad=1,
            stride=stride,
        )
    top = units.unit(net, "fc1", top, name="fc1", num_output=1000, kernel_size=1)
    return units.scores(net, top, dataset.classes)


def _stages():
    """Yields (name, outputs, stride) of each 3×3 convolution."""
    for stage, outputs in enumerate(WIDTHS, start=1):
        for index in (1, 2):
            yield f"{stage}/{index}", outputs, 2 if stage > 1 and index == 1 else 1


def published():
    """The NetParameter of the network that the paper's authors published the weights of: plain, on
    CIFAR-10, in the layer names, the layer type and the parameters of their code."""
    layers, aconv = locate.caffe().layers, dict(pos_filler_std=-1, normalize=True)
    net = locate.caffe().NetSpec()

    def unit(suffix, bottom, kind="AConvFast", name=None, **convolution):
        name = name or f"conv{suffix}"
        active = dict(aconv_param=aconv) if kind == "AConvFast" else {}
        net[name] = getattr(layers, kind)(
            bottom, convolution_param=dict(convolution, bias_term=False), **active
        )
        net[f"bn{suffix}"] = layers.BatchNorm(net[name], in_place=True)
        net[f"scale{suffix}"] = layers.Scale(net[f"bn{suffix}"], in_place=True, bias_term=True)
        net[f"relu{suffix}"] = layers.ReLU(net[f"scale{suffix}"], in_place=True)
        return net[f"relu{suffix}"]

    net["data"] = layers.Input(shape=dict(dim=[1, 3, 32, 32]))
    top = unit("1_1", net["data"], num_output=16, kernel_size=1)
    for suffix, outputs, stride in _stages():
        top = unit(
            suffix.replace("/", "_1/"), top, num_output=outputs, kernel_size=3, pad=1, stride=stride
        )
    top = unit("_fc1", top, kind="Convolution", name="fc1", num_output=1000, kernel_size=1)
    net["prescore"] = layers.Pooling(
        top, pool=locate.caffe().params.Pooling.AVE, global_pooling=True
    )
    net["score"] = layers.Convolution(
        net["prescore"], convolution_param=dict(num_output=10, kernel_size=1)
    )
    proto = locate.caffe_pb2().NetParameter(name="PlainC")
    proto.layer.extend(net.to_proto().layer)
    return proto
