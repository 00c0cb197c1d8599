"""The same convolutions in PyTorch, an optional extra of the benchmark.

Each class computes the passes of a layer from its Values: ``forward()``, then ``backward()`` any
number of times, which returns the gradients of input, weight and, where positions have a part, x
and y."""

import math

import numpy as np
from active_convolution.errors import UserError

try:
    import torch
    from torch.nn import functional
except ImportError:
    torch = None
try:
    import torchvision
except (ImportError, RuntimeError):  # the latter where it was built for another PyTorch
    torchvision = None

if torch:
    # Full float precision on a GPU, as Caffe computes.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True  # its fastest kernel, not the one that it guesses

# The four neighbours of a point: rows below and columns right of the pixel up and left of it.
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


def available():
    return torch is not None


def missing():
    """One line for each part that is not installed."""
    if not torch:
        return ["PyTorch is not installed: its columns are missing (see --help)"]
    return (
        []
        if torchvision
        else ["torchvision is not installed: the column deform_conv2d is missing on a GPU"]
    )


def version():
    return torch.__version__ if torch else None


def device(gpu):
    if gpu and not torch.cuda.is_available():
        raise UserError(
            "--gpu: PyTorch sees no GPU: look at nvidia-smi, and install PyTorch's CUDA build"
        )
    return torch.device("cuda" if gpu else "cpu")


def gpu_name():
    return torch.cuda.get_device_name()


class Conv2d:
    """The ordinary convolution, by oneDNN or cuDNN."""

    def __init__(self, layer, values, where):
        self.layer = layer
        weight, _, x, y = values.parameters
        tensors = [
            torch.tensor(array, device=where, requires_grad=True)
            for array in (values.image, weight, x, y)
        ]
        self.image, self.weight, self.x, self.y = tensors
        self.top_diff = torch.tensor(values.top_diff, device=where)
        self.wanted = [self.image, self.weight]

    def forward(self):
        self.top = self.compute()

    def backward(self):
        return torch.autograd.grad(self.top, self.wanted, self.top_diff, retain_graph=True)

    def results(self):
        """The output, and the gradients that ``backward`` returns, as arrays."""
        return [tensor.detach().cpu().numpy() for tensor in (self.top, *self.backward())]

    def compute(self):
        return functional.conv2d(
            self.image,
            self.weight,
            stride=self.layer.stride,
            padding=self.layer.pad,
            groups=self.layer.group,
        )


class Dense(Conv2d):
    """The way of DCLS: the equivalent dense kernel, built from weights and positions, then an
    ordinary convolution."""

    def __init__(self, layer, values, where):
        super().__init__(layer, values, where)
        self.wanted += [self.x, self.y]
        _, _, x, y = values.parameters
        # The smallest square kernel around the base pixel that holds the neighbours of all
        # positions.
        self.reach = max(math.floor(max(x.max(), y.max())) + 1, -math.floor(min(x.min(), y.min())))

    def compute(self):
        return functional.conv2d(
            self.image,
            self.kernel(),
            stride=self.layer.stride,
            padding=self.reach,
            groups=self.layer.group,
        )

    def kernel(self):
        width = 2 * self.reach + 1
        dense = self.weight.new_zeros(*self.weight.shape[:2], width * width)
        weight = self.weight.flatten(2)
        for row, column, share in _neighbours(self.x.flatten(), self.y.flatten()):
            taps = (row + self.reach) * width + column + self.reach
            dense = dense.index_add(2, taps, weight * share)
        return dense.unflatten(2, (width, width))


class PerSynapse(Dense):
    """One interpolation and one 1×1 convolution per synapse: what the authors' code does."""

    def __init__(self, layer, values, where):
        super().__init__(layer, values, where)
        # Known here, so that no pass waits for a GPU to tell them.
        self.columns, self.rows = (
            np.floor(array).astype(int).ravel() for array in values.parameters[2:]
        )

    def compute(self):
        layer, top = self.layer, None
        padded = functional.pad(self.image, (self.reach,) * 4)
        last = (layer.out_size - 1) * layer.stride + 1
        shares = [share for _, _, share in _neighbours(self.x.flatten(), self.y.flatten())]
        for k, weight in enumerate(self.weight.flatten(2).unbind(2)):
            samples = 0
            for (below, right), share in zip(CORNERS, shares):
                top_row, left = (
                    self.rows[k] + below + self.reach,
                    self.columns[k] + right + self.reach,
                )
                samples = (
                    samples
                    + share[k]
                    * padded[
                        :,
                        :,
                        top_row : top_row + last : layer.stride,
                        left : left + last : layer.stride,
                    ]
                )
            part = functional.conv2d(samples, weight[:, :, None, None], groups=layer.group)
            top = part if top is None else top + part
        return top


class Deformable(Dense):
    """torchvision's deformable convolution, with the positions as offsets of every output pixel."""

    def compute(self):
        layer = self.layer
        grid = torch.arange(layer.kernel, device=self.x.device) - layer.kernel // 2
        offset = torch.stack([self.y[0, 0] - grid[:, None], self.x[0, 0] - grid[None, :]], -1)
        offsets = offset.reshape(1, -1, 1, 1).expand(
            len(self.image), -1, layer.out_size, layer.out_size
        )
        return torchvision.ops.deform_conv2d(
            self.image, offsets.contiguous(), self.weight, stride=layer.stride, padding=layer.pad
        )


def _neighbours(x, y):
    """Row, column (both relative to the base pixel) and bilinear weight of each of the four
    neighbours; K each."""
    left, upper = x.detach().floor(), y.detach().floor()
    dx, dy = x - left, y - upper
    for below, right in CORNERS:
        share = (dy if below else 1 - dy) * (dx if right else 1 - dx)
        yield (upper + below).long(), (left + right).long(), share
