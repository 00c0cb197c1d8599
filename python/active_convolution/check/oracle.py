"""The active convolution of the paper in NumPy and double precision: what the layer is compared
with.

It is written from the equations and shares nothing with the layer. What makes it short: bilinear
interpolation is linear and separable, so that reading an image at a synapse's points, for all
output pixels at once, is R_y · image · R_xᵀ. Each row of a reading matrix R holds what eq. 6–9 give
to the pixels of one axis: 1 − Δ at ⌊p⌋, Δ at ⌊p⌋ + 1, with Δ = p − ⌊p⌋. A neighbour outside the
image has no column in R, and so counts as zero. The slope matrix S = ∂R/∂p has −1 and +1 there (eq.
12–13), and the input gets its gradient through R_yᵀ and R_x.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Shape:
    """What convolution_param and active_convolution_param say of a layer; pairs are (vertical,
    horizontal).

    ``explicit`` says that positions were given: then kernel and dilation have no part in where
    outputs stand.
    """

    outputs: int
    kernel: tuple
    stride: tuple = (1, 1)
    pad: tuple = (0, 0)
    dilation: tuple = (1, 1)
    group: int = 1
    position_group: int = 1
    explicit: bool = False

    def grid(self):
        """The starting positions without explicit ones, x and y, K each: the kernel's taps, row by
        row."""
        (kh, kw), (dilation_h, dilation_w) = self.kernel, self.dilation
        taps = [(i, j) for i in range(kh) for j in range(kw)]
        return (
            np.array([(j - (kw - 1) // 2) * dilation_w for i, j in taps], float),
            np.array([(i - (kh - 1) // 2) * dilation_h for i, j in taps], float),
        )

    def base_pixels(self, image):
        """The input rows and the input columns at which output pixels have their base; ``image`` is
        (height, width)."""
        return [self._bases(axis, image[axis]) for axis in (0, 1)]

    def _bases(self, axis, size):
        taps, dilation = (1, 1) if self.explicit else (self.kernel[axis], self.dilation[axis])
        first = (taps - 1) // 2 * dilation - self.pad[axis]
        count = (size + 2 * self.pad[axis] - (taps - 1) * dilation - 1) // self.stride[axis] + 1
        return first + self.stride[axis] * np.arange(count)


def forward(shape, image, weight, bias, x, y):
    """y[d] = Σ_c Σ_k w[d,c,k] · x̃[c] at p_k + b[d]. ``image`` is (N, C, H, W), the others are the
    layer's blobs."""
    rows, columns = shape.base_pixels(image.shape[2:])
    top = np.zeros((len(image), shape.outputs, len(rows), len(columns))) + np.reshape(
        bias, (-1, 1, 1)
    )
    for d, _, channels, synapse, weights in _synapses(shape, image, weight):
        read_y, _ = _reading(rows, y[synapse], image.shape[2])
        read_x, _ = _reading(columns, x[synapse], image.shape[3])
        top[:, d] += np.tensordot(read_y @ image[:, channels] @ read_x.T, weights, axes=(1, 0))
    return top


def backward(shape, image, weight, x, y, top_diff, slope=lambda matrix: matrix):
    """The gradients of weight, bias, x, y and image, as a dict of these names. ``slope`` is applied
    to the matrices S."""
    rows, columns = shape.base_pixels(image.shape[2:])
    diff = {
        "weight": np.zeros(weight.shape),
        "bias": top_diff.sum(axis=(0, 2, 3)),
        "x": np.zeros(x.shape),
        "y": np.zeros(y.shape),
        "image": np.zeros(image.shape),
    }
    weight_diff = diff["weight"].reshape(*weight.shape[:2], -1)
    for d, k, channels, synapse, weights in _synapses(shape, image, weight):
        read_y, slope_y = _reading(rows, y[synapse], image.shape[2])
        read_x, slope_x = _reading(columns, x[synapse], image.shape[3])
        seen, above = image[:, channels], top_diff[:, [d]]
        weight_diff[d, :, k] = (above * (read_y @ seen @ read_x.T)).sum(axis=(0, 2, 3))  # eq. 10
        above = above * weights.reshape(-1, 1, 1)
        diff["x"][synapse] += (above * (read_y @ seen @ slope(slope_x).T)).sum()  # eq. 12
        diff["y"][synapse] += (above * (slope(slope_y) @ seen @ read_x.T)).sum()  # eq. 13
        diff["image"][:, channels] += read_y.T @ above @ read_x
    return diff


def magnitudes(shape, image, weight, bias, x, y, top_diff):
    """For every array that ``forward`` ("top") and ``backward`` give, the same sums over the terms'
    absolute values: what the rounding errors of any order of summation are relative to."""
    image, weight, bias, top_diff = (np.abs(array) for array in (image, weight, bias, top_diff))
    sums = backward(shape, image, weight, x, y, top_diff, slope=np.abs)
    return {"top": forward(shape, image, weight, bias, x, y), **sums}


def _synapses(shape, image, weight):
    """For every output d and synapse k: d, k, the channels that d sees, the index of k in x and y,
    and w[d,:,k]."""
    channels = image.shape[1] // shape.group
    for d in range(shape.outputs):
        first = d // (shape.outputs // shape.group) * channels
        position_set = d // (shape.outputs // shape.position_group)
        for k, (i, j) in enumerate(np.ndindex(*shape.kernel)):
            yield d, k, slice(first, first + channels), (position_set, 0, i, j), weight[d, :, i, j]


def _reading(bases, p, size):
    """R and S, (len(bases), size) each, of one axis of ``size`` pixels read at bases + p.

    An infinite p is outside any image. A p that is NaN has no fraction: all that is read there is
    NaN.
    """
    floor = np.floor(np.float64(p))
    fraction = 0 if np.isinf(p) else p - floor
    pixels, lower = np.arange(size), bases[:, np.newaxis] + floor
    at_floor, at_next = (pixels == lower).astype(float), (pixels == lower + 1).astype(float)
    return (1 - fraction) * at_floor + fraction * at_next, at_next - at_floor
