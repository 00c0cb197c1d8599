"""An active convolution as an ordinary one: by linearity, a synapse at p gives its weight to the
four pixels around p.

The shares are those of the bilinear interpolation (eq. 6–9), so that the output is the same
everywhere, borders included. Nothing here runs Caffe.
"""

import dataclasses
import math

import numpy as np

from .. import geometry
from ..caffe.messages import by
from ..errors import UserError

MAX_KERNEL = 63  # taps: what a position that has run away must not exceed unasked
LARGEST = 2**31 - 2**20  # bytes of weights in a .caffemodel, which is a protocol buffer


@dataclasses.dataclass(frozen=True)
class Window:
    """One axis of an ordinary kernel: tap i reads (first + i)·dilation pixels from the base
    pixel."""

    size: int
    first: int
    dilation: int
    pad: int

    def shares(self, positions):
        """What each tap gets of the weights at ``positions`` (K,) in pixels: (K, size), on a
        dilated lattice 0 or 1."""
        taps = (self.first + np.arange(self.size)) * self.dilation
        return np.maximum(0, 1 - np.abs(taps - positions[:, np.newaxis])).astype(np.float32)


def window(axis, positions):
    """The smallest Window that holds ``positions`` (pixels, finite) and gives the outputs of
    ``axis`` for any input size.

    Output m of a Convolution with S taps d apart and pad P reads from s·m − P on, and there are
    ⌊(size + 2P − (S−1)d − 1)/s⌋ + 1 outputs. With its first tap at A = a·d from the base pixel,
    equal reads demand P = −base − A, and equal sizes 2a + S = t, which the axis alone decides:
    t = 1, symmetric and odd, but for even kernels at rest. P must not be negative: where the
    positions leave it so, taps of weight zero are added on both sides. The layer's dilation stays
    where all positions are on its lattice.
    """
    spread = axis.dilation if np.all(positions % axis.dilation == 0) else 1
    at_rest = (axis.extent - 2 * (axis.base + axis.pad) - 1) // spread + 1  # t
    lowest, highest = (
        int(np.floor(positions.min())) // spread,
        int(np.ceil(positions.max())) // spread,
    )
    size = max(
        at_rest - 2 * lowest, 2 * highest + 2 - at_rest, at_rest - 2 * (-axis.base // spread)
    )
    first = (at_rest - size) // 2
    return Window(size, first, spread, -axis.base - first * spread)


def windows(layer, x, y, max_kernel=MAX_KERNEL):
    """The (vertical, horizontal) Window of the LayerParameter of an ACU whose synapses are at ``x``
    and ``y``. Raises UserError naming the synapse that is nowhere, or needs more than
    ``max_kernel`` taps along an axis."""
    x, y = (position.reshape(len(position), -1).astype(float) for position in (x, y))
    for index in zip(*np.nonzero(~np.isfinite(x + y))):
        raise UserError(
            f"layer {layer.name}: {_synapse(x, y, index)} is nowhere: training has gone wrong "
            f"there, name an earlier snapshot"
        )
    found = [window(axis, of_axis.ravel()) for axis, of_axis in zip(geometry.axes(layer), (y, x))]
    for of_axis, own in zip((y, x), found):
        if own.size > max_kernel:
            index = np.unravel_index(np.abs(of_axis).argmax(), x.shape)
            raise UserError(
                f"layer {layer.name}: {_synapse(x, y, index)} needs a kernel of {own.size} taps, "
                f"more than --max-kernel {max_kernel}: raise that, or name another snapshot"
            )
    return found


def _synapse(x, y, index):
    position_set, synapse = index
    of_set = f" of position set {position_set}" if len(x) > 1 else ""
    return f"synapse {synapse}{of_set}, at ({x[index]:.6g}, {y[index]:.6g}),"


def convolution(layer, rows, columns):
    """The LayerParameter of the Convolution with these Windows in the place of an ACU."""
    made = type(layer)()
    made.CopyFrom(layer)
    made.type = "Convolution"
    made.ClearField("active_convolution_param")
    made.ClearField("aconv_param")
    for field, default in (("kernel_size", None), ("pad", 0), ("dilation", 1)):
        name = field.split("_")[-1]
        geometry.set_pair(made, field, (getattr(rows, name), getattr(columns, name)), default)
    forget_sharing(made, 1 + layer.convolution_param.bias_term)
    return made


def forget_sharing(layer, blobs):
    """Leaves ``param`` entries for no more than ``blobs`` blobs, and no names: they are its own
    now."""
    del layer.param[blobs:]
    for param in layer.param:
        param.ClearField("name")
        param.ClearField("share_mode")


def splat(weight, x, y, rows, columns):
    """The ordinary kernel, (D, C, rows.size, columns.size) float32.

    ``weight`` is (D, C, …) with K synapses, ``x`` and ``y`` are (position_group, …) of K: set s
    serves the s-th group of the D outputs. ``rows`` and ``columns`` are Windows."""
    outputs, channels = weight.shape[:2]
    kernel = np.empty((outputs, channels, rows.size, columns.size), np.float32)
    for weights, into, at_x, at_y in zip(*(np.split(a, len(x)) for a in (weight, kernel, x, y))):
        shares = rows.shares(at_y.ravel())[:, :, None] * columns.shares(at_x.ravel())[:, None]
        flat = weights.reshape(-1, shares.shape[0])
        into[...] = (flat @ shares.reshape(len(shares), -1)).reshape(into.shape)
    return kernel


def kernel(layer, blobs, found):
    """The blobs, float32, of the Convolution in the place of the ACU ``layer`` with ``blobs``
    (weight, bias, x, y), whose ``windows`` are ``found``."""
    weight, bias, x, y = (np.asarray(blob) for blob in blobs)
    biases = [bias.ravel()] if layer.convolution_param.bias_term else []
    return [splat(weight, x, y, *found), *biases]


def check_size(blobs, found):
    """Raises UserError where all weights, ``blobs`` {layer: arrays}, with those of ACUs in their
    Windows, ``found``, are too many for a .caffemodel: before any of their size is there."""
    sizes = {name: 4 * sum(blob.size for blob in of_layer) for name, of_layer in blobs.items()}
    for name, (rows, columns) in found.items():
        sizes[name] = 4 * math.prod(blobs[name][0].shape[:2]) * rows.size * columns.size
    if sum(sizes.values()) > LARGEST:
        worst = max(found, key=sizes.get)
        taps = by([each.size for each in found[worst]])
        raise UserError(
            f"all weights together would be {sum(sizes.values()) / 1e9:.3g} GB, more than the "
            f"{LARGEST / 1e9:.3g} GB that a .caffemodel holds, {sizes[worst] / 1e9:.3g} of them in "
            f"layer {worst}, whose synapses need {taps} taps: train it with a position_limit, or "
            "name another snapshot"
        )
