"""An active convolution as an ordinary one: by linearity, a synapse at p gives its weight to the four pixels around p.

The shares are those of the bilinear interpolation (eq. 6–9), so that the output is the same everywhere, borders
included. Everything here is float64 and knows no Caffe.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Window:
    """One axis of an ordinary kernel: tap i reads (first + i)·dilation pixels from the base pixel."""

    size: int
    first: int
    dilation: int
    pad: int

    def shares(self, positions):
        """What each tap gets of the weights at ``positions`` (K,): (K, size). On a dilated lattice they are 0 or 1."""
        taps = (self.first + np.arange(self.size)) * self.dilation
        return np.maximum(0, 1 - np.abs(taps - positions[:, np.newaxis]))


def window(axis, positions):
    """The smallest Window that holds ``positions`` (pixels, finite) and gives the outputs of ``axis`` for any input
    size.

    Output m of a Convolution with S taps d apart and pad P reads from s·m − P on, and there are
    ⌊(size + 2P − (S−1)d − 1)/s⌋ + 1 outputs. With its first tap at A = a·d from the base pixel, equal reads demand
    P = −base − A, and equal sizes 2a + S = t, which the axis alone decides: t = 1, symmetric and odd, but for even
    kernels at rest. P must not be negative: where the positions leave it so, taps of weight zero are added on both
    sides. The layer's dilation stays where all positions are on its lattice.
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


def placed(axis, positions):
    """The Window of the fewest taps that holds ``positions`` wherever they are, and what to cut off its output:
    (Window, outputs to drop in front, or None where its outputs are those of ``axis`` as they are).

    Pads of a Convolution are equal on both sides and not negative, so an output further in front, s pixels each, makes
    up for taps that stand to one side: with o outputs dropped, P = s·o − base − A, and enough outputs remain where 2P −
    extent ≥ 2·pad − extent at rest + s·o.
    """
    spread = axis.dilation if np.all(positions % axis.dilation == 0) else 1
    first, last = int(np.floor(positions.min())) // spread, int(np.ceil(positions.max())) // spread
    start, reach = first * spread, (last - first) * spread + 1
    at_rest = axis.extent - 2 * (axis.base + axis.pad)
    dropped = max(
        0, -(-(axis.base + start) // axis.stride), -(-(2 * start + reach - at_rest) // axis.stride)
    )
    pad = axis.stride * dropped - axis.base - start
    same = dropped == 0 and 2 * pad - reach == 2 * axis.pad - axis.extent
    return Window(last - first + 1, first, spread, pad), None if same else dropped


def splat(weight, x, y, rows, columns):
    """The ordinary kernel, (D, C, rows.size, columns.size).

    ``weight`` is (D, C, …) with K synapses, ``x`` and ``y`` are (position_group, K): set s serves the s-th part of the
    D outputs. ``rows`` and ``columns`` are Windows.
    """
    outputs, channels = weight.shape[:2]
    by_set = weight.reshape(len(x), -1, x.shape[1])  # set × (outputs of it · channels) × synapse
    shares = [
        rows.shares(of_set_y)[:, :, np.newaxis] * columns.shares(of_set_x)[:, np.newaxis]
        for of_set_x, of_set_y in zip(x, y)
    ]
    kernels = [weights @ share.reshape(len(share), -1) for weights, share in zip(by_set, shares)]
    return np.reshape(kernels, (outputs, channels, rows.size, columns.size))
