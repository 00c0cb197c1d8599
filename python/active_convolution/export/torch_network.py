"""A network for PyTorch: ``acu export --format torch`` writes this text, with other tables, as
network.py. It needs torch and NumPy. ``ActiveConv2d`` is the active convolution whose positions
learn."""

import operator
from math import inf, nan  # noqa: F401
from pathlib import Path

import numpy
import torch
from torch import nn
from torch.nn import functional

INPUTS, OUTPUTS = [], []
# (name, ONNX operator, inputs, names or values, outputs, attributes, {parameter: shape})
LAYERS = []


class Network(nn.Module):
    """``layers`` has the modules of those with weights, by their names in Caffe."""

    inputs, outputs = INPUTS, OUTPUTS

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict()
        for name, kind, _, _, own, shapes in LAYERS:
            if kind in MODULES:  # not by add_module, to which some names are taken
                self.layers._modules[name] = MODULES[kind](**own, **shapes)

    def forward(self, *images):
        seen = dict(zip(self.inputs, images))
        for name, kind, inputs, outputs, own, _ in LAYERS:
            values = [seen[each] if isinstance(each, str) else each for each in inputs]
            if kind in MODULES:
                found = self.layers[name](*values)
            else:
                found = OPERATORS[kind](*values, **own)
            seen.update(zip(outputs, found if len(outputs) > 1 else [found]))
        found = [seen[name] for name in self.outputs]
        return found[0] if len(found) == 1 else tuple(found)


def load(weights=None):
    """The Network with its trained weights (default: weights.npz beside this file), for testing."""
    net = Network()
    beside = Path(__file__).with_name("weights.npz")
    with numpy.load(weights or beside, allow_pickle=False) as arrays:
        net.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays.files})
    return net.eval()


# ---- Layers with weights


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
        at_origin = (x == 0) & (y == 0) & bool(fixed)
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


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Of any number of axes."""

    def _check_input_dim(self, x):
        pass


class Constant(nn.Module):
    """A parameter that some operator takes."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(value))

    def forward(self):
        return self.value


def convolution(weight, kernel_shape, strides, pads, dilations, group, bias=None, kind="Conv"):
    axes = len(weight) - 2
    channels = weight[1] * group, weight[0]
    return getattr(nn, f"{kind}{axes}d")(
        *(channels if kind == "Conv" else channels[::-1]),
        tuple(kernel_shape),
        tuple(strides),
        tuple(pads[:axes]),
        dilation=tuple(dilations),
        groups=group,
        bias=bias is not None,
    )


def active_convolution(weight, x, y, moves, bias=None, **own):
    given = [each and torch.zeros(each) for each in (weight, bias, x, y)]
    return ActiveConv2d(*given, **own)


MODULES = {
    "ActiveConv2d": active_convolution,
    "BatchNormalization": lambda epsilon, running_mean, running_var, num_batches_tracked: (
        _BatchNorm(*running_mean, eps=epsilon, affine=False)
    ),
    "Constant": Constant,
    "Conv": convolution,
    "ConvTranspose": lambda **own: convolution(**own, kind="ConvTranspose"),
    "Dropout": nn.Dropout,
    "Gemm": lambda weight, bias=None: nn.Linear(*weight[::-1], bias=bias is not None),
}


# ---- Operators; sizes are lists


def arithmetic(function):
    def apply(a, b):
        if isinstance(a, list) and isinstance(b, list):
            return list(map(function, a, b))
        return function(a[0] if isinstance(a, list) else a, b)

    return apply


def cut(x, starts, ends, axes=(0,), steps=None):
    """x from starts to ends along axes; a step of -1 turns it round."""
    if isinstance(x, list):
        return x[starts[0] : ends[0]]
    if steps:
        return x.flip(axes)
    for start, end, axis in zip(starts, ends, axes):
        x = x.narrow(axis, start % (x.shape[axis] + 1), min(end, x.shape[axis]) - start)
    return x


def pooled(function, x, kernel_shape, strides, pads, value=0.0):
    """Over windows that reach beyond the image, where there is ``value``."""
    top, left, bottom, right = pads
    return function(
        functional.pad(x, (left, right, top, bottom), value=value), kernel_shape, strides
    )


def mean_pooled(x, count_include_pad, **own):
    """The mean of what windows find, or where the pad is not counted, of what they find within
    x."""
    found = pooled(functional.avg_pool2d, x, **own)
    if count_include_pad:
        return found
    return found / pooled(functional.avg_pool2d, torch.ones_like(x[:1, :1]), **own)


def reduced(method):
    """Over the axes of the attribute, or of the second input."""
    return lambda x, listed=None, axes=None, keepdims=1: getattr(x, method)(
        axes or listed, keepdim=bool(keepdims)
    )


def unsqueezed(x, axes):
    for axis in axes:
        x = x.unsqueeze(axis)
    return x


_PLAIN = "abs div exp log mul pow relu sigmoid sqrt tanh"
OPERATORS = {
    **{name.capitalize(): getattr(torch, name) for name in _PLAIN.split()},
    "Add": arithmetic(operator.add),
    # Of equals the last.
    "ArgMax": lambda x, axis, **_: x.shape[axis] - 1 - x.flip(axis).argmax(axis, keepdim=True),
    "AveragePool": mean_pooled,
    "Cast": lambda x, to: x.long() if to == 7 else x.float(),
    "Clip": torch.clamp,
    "Concat": lambda *x, axis: sum(x, []) if isinstance(x[0], list) else torch.cat(x, axis),
    "Elu": functional.elu,
    "Flatten": lambda x, axis: torch.flatten(x, axis),
    "Gather": lambda x, index, axis=0: x[index],
    "GlobalAveragePool": lambda x: x.mean((2, 3), keepdim=True),
    "GlobalMaxPool": lambda x: x.amax((2, 3), keepdim=True),
    "Greater": torch.gt,
    "Identity": lambda x: x,
    "LRN": lambda x, size, **own: functional.local_response_norm(
        x, size, own["alpha"], own["beta"], own["bias"]
    ),
    "LeakyRelu": lambda x, alpha: functional.leaky_relu(x, alpha),
    "MatMul": torch.matmul,
    "Max": torch.maximum,
    "MaxPool": lambda x, **own: pooled(functional.max_pool2d, x, **own, value=-inf),
    "PRelu": lambda x, slope: torch.where(x > 0, x, x * slope),
    # Caffe's own pad, equal on both sides.
    "Pad": lambda x, pads: functional.pad(x, [pads[3]] * 2 + [pads[2]] * 2),
    "ReduceMax": reduced("amax"),
    "ReduceMean": reduced("mean"),
    "ReduceSum": reduced("sum"),
    "Reshape": lambda x, to: x.reshape([n or x.shape[axis] for axis, n in enumerate(to)]),
    "Shape": lambda x: list(x.shape),
    "Slice": cut,
    "Softmax": lambda x, axis: torch.softmax(x, axis),
    "Softplus": functional.softplus,
    "Split": lambda x, axis, parts: torch.chunk(x, parts, axis),
    "Sub": arithmetic(operator.sub),
    "Tile": torch.Tensor.repeat,
    "TopK": lambda x, k, axis: torch.topk(x, k[0], axis),
    "Transpose": lambda x, perm: x.permute(perm),
    "Unsqueeze": unsqueezed,
}

# ---- Preprocessing

classes, HOW = None, {}


def preprocess(image):
    """A picture, RGB (H, W, 3) or grey (H, W), 0 to 255, as Network has to see it: (1, C, H, W), by
    what preprocessing.json says."""
    arrays = Path(__file__).with_name("preprocessing.npz")
    return prepared(image, **HOW, arrays=numpy.load(arrays) if arrays.exists() else {})


def prepared(
    image, channel_order, resize, smooth, size, contrast_scale, mean, scale, shape, arrays
):
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
