"""The checked-in networks, for the tests: which of their convolutions are active, and small copies
that run fast."""

from active_convolution.caffe import locate
from active_convolution.networks import models
from conftest import ROOT
from google.protobuf import text_format

PLAIN = [f"conv{stage}/{index}" for stage in (1, 2, 3) for index in (1, 2)]
BASIC = [
    f"conv{stage}/{block}{letter}"
    for stage in (1, 2, 3)
    for block in (1, 2, 3, 4, 5)
    for letter in "ab"
]
BOTTLENECK = [f"conv{stage}/{block}b" for stage in (1, 2, 3) for block in (1, 2, 3, 4, 5)]
ACTIVE = {  # the names of each network's ACUs
    "digits/plain": PLAIN,
    "digits/shallow": ["conv1", "conv2"],
    "cifar10/plain": PLAIN,
    "cifar10/basic": BASIC,
    "cifar10/bottleneck": BOTTLENECK,
    "cifar100/plain": PLAIN,
    "cifar100/basic": BASIC,
    "cifar100/bottleneck": BOTTLENECK,
    "places365/alexnet": ["conv3", "conv4", "conv5"],
    "places365/residual": [f"conv{stage}/{block}b" for stage in (1, 2, 3, 4) for block in (1, 2)],
}
DATASETS = {model.folder: model.dataset for model in models.MODELS}
SMALL = {
    "places365/alexnet": 67,
    "places365/residual": 64,
}  # sizes of an image that still reach the last convolution


def read(network, variant, kind):
    """A checked-in file as a message."""
    pb2 = locate.caffe_pb2()
    message = pb2.SolverParameter() if kind == "solver" else pb2.NetParameter()
    return text_format.Parse(
        (ROOT / "models" / network / variant / f"{kind}.prototxt").read_text(), message
    )


def layers(message):
    return {layer.name: layer for layer in message.layer}


def build(network, variant, folder, whole=False):
    """The pycaffe Net of the checked-in deploy prototxt: for small images and filled, or else
    ``whole`` and all zero."""
    message = read(network, variant, "deploy")
    if whole:  # to fill the millions of weights of AlexNet takes seconds
        for layer in message.layer:
            layer.convolution_param.ClearField("weight_filler")
            layer.inner_product_param.ClearField("weight_filler")
    elif network in SMALL:
        message.layer[0].input_param.shape[0].dim[2:] = [SMALL[network]] * 2
    (folder / "deploy.prototxt").write_text(models.text(message))
    return locate.caffe().Net(str(folder / "deploy.prototxt"), locate.caffe().TEST)
