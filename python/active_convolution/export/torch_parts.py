"""What an exported PyTorch module needs beside torch: ``acu export --format torch`` writes the text
of the parts that the network calls into it. ``ActiveConv2d`` is the active convolution whose
positions learn."""

from math import inf

import numpy
import torch
from torch import nn
from torch.nn import functional


class ActiveConv2d(nn.Module):
    """A convolution whose K synapses sit at real-valued positions (Jeon and Kim, CVPR 2017), for
    images (N, C, H, W).

    ``weight`` is (D, C/groups, K), ``x`` and ``y`` are (sets, K), in pixels from the base pixel, x
    to the right and y down; set s serves the s-th group of the D outputs. Along an axis output m
    has its base at input pixel base + stride·m, and there are ⌊(size + span) / stride⌋ + 1 of them;
    both are (vertical, horizontal). Each synapse gives its weight to the four pixels around it (eq.
    6–9), which makes an ordinary convolution: autograd then finds the gradients of eq. 10, 12 and
    13, at a lattice point the one-sided difference towards +1. Call ``finish_gradients`` between
    backward and the optimizer's step; positions want 0.01 × the rate and no weight decay."""

    def __init__(
        self, weight, bias, x, y, base, span, stride=(1, 1), groups=1, normalize=True, fixed=True
    ):
        """``fixed``: a synapse that is at the origin now never moves (§2.7)."""
        super().__init__()
        self.weight, self.x, self.y = nn.Parameter(weight), nn.Parameter(x), nn.Parameter(y)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.base, self.span, self.stride, self.groups = base, span, stride, groups
        self.normalize = normalize
        at_origin = (x == 0) & (y == 0) & fixed
        self.register_buffer("moves", (~at_origin).to(x.dtype))

    def forward(self, image):
        (rows, top), (columns, left) = self._shares(self.y), self._shares(self.x)
        weight = self.weight.view(len(self.x), -1, *self.weight.shape[1:])
        kernel = torch.einsum("sdck,skh,skw->sdchw", weight, rows, columns).flatten(0, 1)
        pads = []
        for axis, first in ((1, left), (0, top)):
            size, taps, stride = image.shape[2 + axis], kernel.shape[2 + axis], self.stride[axis]
            start = self.base[axis] + first
            end = start + (size + self.span[axis]) // stride * stride + taps
            pads += [-start, end - size]  # negative: cropped
        padded = functional.pad(image, pads)
        return functional.conv2d(padded, kernel, self.bias, self.stride, groups=self.groups)

    @staticmethod
    def _shares(positions):
        """What each tap of an axis gets of each synapse (sets, K, taps), and where the first tap
        is."""
        low = positions.detach().floor()
        first, last = int(low.min()), int(low.max()) + 1
        taps = torch.arange(first, last + 1, device=positions.device, dtype=positions.dtype)
        low, share = low.unsqueeze(-1), (positions - low).unsqueeze(-1)
        return (taps == low) * (1 - share) + (taps == low + 1) * share, first

    @torch.no_grad()
    def finish_gradients(self):
        """Gives each synapse's position gradient unit length (eq. 15–16), and none to a synapse
        that began at the origin (§2.7)."""
        if self.x.grad is None:
            return
        for position in (self.x, self.y):
            position.grad *= self.moves
        if self.normalize:
            length = torch.hypot(self.x.grad, self.y.grad)
            scale = torch.where(length > 0, 1 / length, torch.zeros_like(length))
            for position in (self.x, self.y):
                position.grad *= scale


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Of any number of axes."""

    def _check_input_dim(self, x):
        pass


def reshaped(x, sizes):
    """ONNX's Reshape: 0 keeps an axis."""
    sizes = sizes.tolist() if torch.is_tensor(sizes) else sizes
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)])


def cut(x, starts, ends, axes, steps=None):
    """x from starts to ends along axes; a step of -1 turns it round."""
    ends = ends.tolist() if torch.is_tensor(ends) else ends
    if steps:
        return x.flip(axes)
    kept = [slice(None)] * x.dim()
    for start, end, axis in zip(starts, ends, axes):
        kept[axis] = slice(start, min(end, x.shape[axis]))
    return x[tuple(kept)]


def max_pool(x, kernel, stride, pads):
    """Over windows that reach ``pads`` (left, right, top, bottom) pixels beyond the image."""
    return functional.max_pool2d(functional.pad(x, pads, value=-inf), kernel, stride)


def mean_pool(x, kernel, stride, pads):
    """The mean of what windows find within x; they reach ``pads`` beyond it."""
    seen = functional.avg_pool2d(functional.pad(torch.ones_like(x[:1, :1]), pads), kernel, stride)
    return functional.avg_pool2d(functional.pad(x, pads), kernel, stride) / seen


def last_argmax(x, axis):
    """Where the largest value is; of equals the last."""
    return x.shape[axis] - 1 - x.flip(axis).argmax(axis, keepdim=True)


def unsqueezed(x, axes):
    for axis in axes:
        x = x.unsqueeze(axis)
    return x


def prepared(
    image, channel_order, resize, smooth, size, contrast_scale, mean, scale, shape, arrays
):
    """``image``, RGB (H, W, 3) or grey (H, W), 0 to 255, as preprocessing.json says: (1, C, H,
    W)."""
    x = numpy.asarray(image, float)
    x = x[..., None] if x.ndim == 2 else x[..., :3]
    if channel_order == "grey" and x.shape[2] == 3:
        x = numpy.rint(x @ [[0.299], [0.587], [0.114]])
    elif channel_order != "grey":
        x = numpy.repeat(x, 3 // x.shape[2], 2)[..., :: -1 if channel_order == "BGR" else 1]
    scales = numpy.divide(size, x.shape[:2])
    if resize != "stretch":
        scales[:] = scales.max() if resize == "crop" else scales.min()
    ends = [max(1, round(ratio * side)) for ratio, side in zip(scales, x.shape)]
    if tuple(ends) != x.shape[:2]:
        means = smooth and scales.max() < 1
        x = numpy.einsum("ah,hwc->awc", resampling(x.shape[0], ends[0], means), x)
        x = numpy.rint(numpy.einsum("bw,awc->abc", resampling(x.shape[1], ends[1], means), x))
    x = middle(x.transpose(2, 0, 1), size)
    if contrast_scale:
        x = x - x.mean()
        norm = numpy.linalg.norm(x)
        x = x * contrast_scale / (norm if norm > 1e-8 else 1)
    if "whitening_matrix" in arrays:
        x = ((x.ravel() - arrays["whitening_mean"]) @ arrays["whitening_matrix"]).reshape(x.shape)
    x = x - (arrays["mean"] if isinstance(mean, str) else numpy.reshape(mean, (-1, 1, 1)))
    return torch.from_numpy(numpy.float32(middle(x * scale, shape[1:])[None]))


def resampling(size, new, means):
    """(new, size): what each new pixel of an axis takes of the old ones, bilinear or the mean of an
    area."""
    at, ratio = numpy.arange(new)[:, None], size / new
    old = numpy.arange(size)[None]
    if means:
        shares = numpy.minimum(old + 1, (at + 1) * ratio) - numpy.maximum(old, at * ratio)
        return numpy.maximum(shares, 0) / ratio
    centre = numpy.clip((at + 0.5) * ratio - 0.5, 0, size - 1)
    return numpy.maximum(0, 1 - numpy.abs(centre - old))


def middle(x, size):
    """The middle of (C, H, W), or x with zeros around it where it is smaller."""
    for axis, new in zip((1, 2), size):
        first = (x.shape[axis] - new) // 2
        if first >= 0:
            x = x.take(range(first, first + new), axis)
        else:
            around = [(0, 0)] * 3
            around[axis] = (new - x.shape[axis]) // 2, -first
            x = numpy.pad(x, around)
    return x
