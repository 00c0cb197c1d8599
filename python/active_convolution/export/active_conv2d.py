"""The active convolution for PyTorch: ``ActiveConv2d``, whose positions learn. It needs torch alone, and what `acu
export --format torch --learnable` writes has the text of this class in it."""

import torch
from torch import nn
from torch.nn import functional


# ---- What the exported module takes over
class ActiveConv2d(nn.Module):
    """A convolution whose K synapses sit at real-valued positions (Jeon and Kim, CVPR 2017), for images (N, C, H, W).

    ``weight`` is (D, C/groups, K), ``x`` and ``y`` are (sets, K), in pixels from the base pixel, x to the right and y
    down; set s serves the s-th part of the D outputs. Along an axis output m has its base at input pixel base +
    stride·m, and there are ⌊(size + span) / stride⌋ + 1 of them; both are (vertical, horizontal). Each synapse gives
    its weight to the four pixels around it (eq. 6–9), which makes an ordinary convolution: autograd then finds the
    gradients of eq. 10, 12 and 13, at a lattice point the one-sided difference towards +1. Call ``finish_gradients``
    between backward and the optimizer's step; positions want 0.01 × the rate and no weight decay.
    """

    def __init__(
        self,
        weight,
        bias,
        x,
        y,
        base,
        span,
        stride=(1, 1),
        groups=1,
        normalize=True,
        fix_origin=True,
    ):
        super().__init__()
        self.weight, self.x, self.y = nn.Parameter(weight), nn.Parameter(x), nn.Parameter(y)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.base, self.span, self.stride, self.groups, self.normalize = (
            base,
            span,
            stride,
            groups,
            normalize,
        )
        self.register_buffer(
            "moves", torch.ones_like(x) if not fix_origin else ((x != 0) | (y != 0)).to(x.dtype)
        )

    def forward(self, image):
        (rows, top), (columns, left) = self._shares(self.y), self._shares(self.x)
        weight = self.weight.view(len(self.x), -1, *self.weight.shape[1:])
        kernel = torch.einsum("sdck,skh,skw->sdchw", weight, rows, columns).flatten(0, 1)
        pads = []
        for axis, first in ((1, left), (0, top)):
            size, taps, stride = image.shape[2 + axis], kernel.shape[2 + axis], self.stride[axis]
            start = self.base[axis] + first
            pads += [
                -start,
                start + (size + self.span[axis]) // stride * stride + taps - size,
            ]  # negative: cropped
        return functional.conv2d(
            functional.pad(image, pads), kernel, self.bias, self.stride, groups=self.groups
        )

    @staticmethod
    def _shares(positions):
        """What each tap of an axis gets of each synapse (sets, K, taps), and where the first tap is."""
        low = positions.detach().floor()
        first, last = int(low.min()), int(low.max()) + 1
        taps = torch.arange(first, last + 1, device=positions.device, dtype=positions.dtype)
        low, share = low.unsqueeze(-1), (positions - low).unsqueeze(-1)
        return (taps == low) * (1 - share) + (taps == low + 1) * share, first

    @torch.no_grad()
    def finish_gradients(self):
        """Gives each synapse's position gradient unit length (eq. 15–16), and none to a synapse that began at the
        origin (§2.7)."""
        if self.x.grad is None:
            return
        for position in (self.x, self.y):
            position.grad *= self.moves
        if self.normalize:
            length = torch.hypot(self.x.grad, self.y.grad)
            scale = torch.where(length > 0, 1 / length, torch.zeros_like(length))
            for position in (self.x, self.y):
                position.grad *= scale
