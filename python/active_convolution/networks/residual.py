"""Residual networks with pre-activation (He et al., Identity Mappings in Deep Residual Networks,
2016; Fig. 7).

Batch normalisation and ReLU stand before each convolution of a block. Where a block changes the
dimensions, its shortcut is a projection: a 1×1 convolution, with the block's stride, of the
activated input; elsewhere the shortcut is the input as it is. As in He et al., the first
convolution's output is activated before the first block divides it, a bottleneck's stride is in its
first convolution, and the last sum is activated before the pooling.

The 3×3 convolutions in the blocks are active. A projection stays ordinary in every network: a 1×1
ACU has but the synapse at the origin, which never moves.
"""

from ..caffe import locate
from . import units

_WIDTHS = (16, 32, 64)  # He et al.'s for CIFAR


def basic(net, data, task, variant):
    """32 layers: a 3×3 convolution, three stages of five blocks of two 3×3 convolutions, the
    scores. 30 ACUs."""
    top = units.unit(net, "0", data, num_output=16, kernel_size=3, pad=1)
    return _residual(net, top, 16, _basic, 5, _WIDTHS, task, variant)


def bottleneck(net, data, task, variant):
    """47 layers: a 3×3 convolution, three stages of five bottleneck blocks, the scores. 15 ACUs."""
    top = units.unit(net, "0", data, num_output=16, kernel_size=3, pad=1)
    return _residual(net, top, 16, _bottleneck, 5, _WIDTHS, task, variant)


def residual26(net, data, task, variant):
    """26 layers, for large images: a 7×7 convolution and a maximum pooling, both with stride 2,
    four stages of two bottleneck blocks in the widths of He et al.'s networks for ImageNet, the
    scores. Eight ACUs."""
    top = units.unit(net, "0", data, num_output=64, kernel_size=7, pad=3, stride=2)
    top = units.pool(net, "pool0", top, "MAX", kernel_size=3, stride=2)
    return _residual(net, top, 64, _bottleneck, 2, (64, 128, 256, 512), task, variant)


def _basic(width, stride):
    """The convolution parameters of a block, in order."""
    shape = dict(num_output=width, kernel_size=3, pad=1)
    return [dict(shape, stride=stride), dict(shape, stride=1)]


def _bottleneck(width, stride):
    """The convolution parameters of a block, in order."""
    return [
        dict(num_output=width, kernel_size=1, stride=stride),
        dict(num_output=width, kernel_size=3, pad=1, stride=1),
        dict(num_output=4 * width, kernel_size=1, stride=1),
    ]


def _residual(net, top, channels, kind, blocks, widths, task, variant):
    """Adds the stages to ``top``, which is activated and has ``channels``, and the scores."""
    for stage, width in enumerate(widths, start=1):
        for index in range(1, blocks + 1):
            suffix, first = f"{stage}/{index}", (stage, index) == (1, 1)
            path = kind(width, stride=2 if stage > 1 and index == 1 else 1)
            activated = top if first else units.activation(net, f"{suffix}a", top, in_place=False)
            shortcut = _shortcut(net, suffix, top, activated, channels, path)
            residual = _block(net, suffix, activated, path, units.active(task, variant))
            net[f"sum{suffix}"] = top = locate.caffe().layers.Eltwise(residual, shortcut)
            channels = path[-1]["num_output"]
    return units.scores(net, units.activation(net, "last", top), task.classes)


def _shortcut(net, suffix, top, activated, channels, path):
    """The input ``top`` of a block, or its projection where the block changes the dimensions."""
    shape = dict(num_output=path[-1]["num_output"], kernel_size=1, stride=path[0]["stride"])
    if (channels, 1) == (shape["num_output"], shape["stride"]):
        return top
    return units.unbiased(net, f"shortcut{suffix}", activated, **shape)


def _block(net, suffix, top, path, active_param):
    """Adds the convolutions conv<suffix>a, b, ... of one block to its activated input, without its
    shortcut."""
    for letter, shape in zip("abc", path):
        if letter != "a":
            top = units.activation(net, suffix + letter, top)
        active = active_param if shape["kernel_size"] == 3 else None
        top = units.unbiased(net, f"conv{suffix}{letter}", top, active, **shape)
    return top
