"""The layer type of the authors' published code, AConvFast, as ActiveConvolution."""

import math

import numpy as np

from .. import geometry
from ..errors import UserError

_LEAST_RADIUS, _MOST_RADIUS = (
    np.float32(1e-6),
    1e6,
)  # pixels: the layer's own limits, as are the next two
_MOST_PAD = _MOST_SYNAPSES = 2**20


def check(layer):
    """Raises UserError for parameters that the AConvFast layer itself would refuse, before anything of their size is
    computed."""
    own, kernel = layer.aconv_param, geometry.kernel(layer)
    synapses, pad = math.prod(kernel) * own.position_group, max(map(abs, _pads(layer, kernel)[0]))
    for name, value, fine, allowed in (
        (
            "base_radius",
            own.base_radius,
            _LEAST_RADIUS <= own.base_radius <= _MOST_RADIUS,
            "1e-06 to 1e+06 pixels",
        ),
        ("base_angle", own.base_angle, math.isfinite(own.base_angle), "finite numbers"),
        (
            "pos_filler_std",
            own.pos_filler_std,
            -math.inf < own.pos_filler_std <= _MOST_RADIUS,
            "finite numbers up to 1e+06",
        ),
        (
            "kernel_size times position_group",
            synapses,
            0 < synapses <= _MOST_SYNAPSES,
            f"1 to {_MOST_SYNAPSES} synapses",
        ),
        ("pad", pad, pad <= _MOST_PAD, f"up to {_MOST_PAD} pixels"),
    ):
        if not fine:
            raise UserError(
                f"layer {layer.name}: {name} is {value}, and an AConvFast layer takes {allowed}"
            )


def translate(layer, blobs, draw):
    """Makes an ActiveConvolution of the LayerParameter of an AConvFast layer, in place; returns its blobs.

    ``blobs`` are weight (D, C, kh, kw), bias, x and y, or None, and then None is returned. The synapses are AConvFast's:
    the base first, then around it. Where they start on the kernel's grid they are brought into its order, row by row;
    anything else becomes explicit positions in their own order, with noise from the Generator ``draw`` where AConvFast
    adds some. Raises UserError where the prototxt cannot say the same.
    """
    own, kernel = layer.aconv_param, geometry.kernel(layer)
    order, (pad, grid_pad) = grid_order(layer, blobs is not None), _pads(layer, kernel)
    active = layer.active_convolution_param
    active.normalize_gradient, active.position_group = own.normalize, own.position_group
    if order is None:
        start = _start(own, kernel)
        for x, y in _noisy(start, own, draw).tolist():
            active.position.add(x=x, y=y)
        order = np.arange(len(start))
    else:
        pad = grid_pad
    geometry.set_pair(layer, "pad", pad, 0)
    layer.type = "ActiveConvolution"
    layer.ClearField("aconv_param")
    return None if blobs is None else _reordered(layer, blobs, order, kernel)


def grid_order(layer, with_weights):
    """For each tap of the kernel's grid, row by row, the synapse of an AConvFast layer that ``translate`` puts there; None
    where it lets them keep their own order, as explicit positions. ``with_weights`` says whether it will be given blobs.
    Raises UserError as ``translate`` does."""
    own, kernel = layer.aconv_param, geometry.kernel(layer)
    pad, grid_pad = _pads(layer, kernel)
    order = (
        _at_taps(_start(own, kernel), kernel)
        if own.pos_filler_std < 0 and min(grid_pad) >= 0
        else None
    )
    if order is None and min(pad) < 0:
        order = _base_in_the_middle(layer, kernel, with_weights, grid_pad)
    return order


def _pads(layer, kernel):
    """The (vertical, horizontal) pad of a single tap, and that of the kernel's grid."""
    pad = [axis.pad for axis in geometry.axes(layer)]
    return pad, [of_axis + size // 2 for of_axis, size in zip(pad, kernel)]


def _start(own, kernel):
    """Where the synapses start but for the noise: (K, 2)."""
    return geometry.ring(
        kernel[0] * kernel[1], own.base_radius, own.base_angle, own.pos_filler_std < 0
    )


def _at_taps(start, kernel):
    """For each tap of the kernel's grid, row by row, the synapse that starts there; None unless that is one for each."""
    if not kernel[0] % 2 or not kernel[1] % 2:  # their base is not AConvFast's
        return None
    at = {tuple(place): synapse for synapse, place in enumerate(start.tolist())}
    order = [at.get(tuple(place)) for place in geometry.grid(kernel).tolist()]
    return None if None in order else np.array(order)


def _base_in_the_middle(layer, kernel, with_weights, grid_pad):
    """An order for the kernel's grid as the start, where the blobs say where the synapses are: only the base, which never
    moves, has its place. What a prototxt cannot say is explicit positions with a negative pad."""
    if not with_weights or min(grid_pad) < 0 or not kernel[0] % 2 or not kernel[1] % 2:
        raise UserError(
            f"layer {layer.name} needs a negative pad, which ActiveConvolution takes no more than Convolution: "
            "give more pad" + ("" if with_weights else ", or its weights")
        )
    middle = kernel[0] * kernel[1] // 2
    return np.insert(np.arange(1, kernel[0] * kernel[1]), middle, 0)


def _noisy(start, own, draw):
    """The starting positions, (K, 2), or of each set, (position_group·K, 2), where each has noise of its own."""
    if own.pos_filler_std <= 0:
        return start
    noise = draw.normal(
        scale=own.pos_filler_std * own.base_radius, size=(own.position_group, *start.shape)
    )
    noise[:, 0] = 0  # the base
    return (start + noise).reshape(-1, 2).astype(np.float32)


def _reordered(layer, blobs, order, kernel):
    weight, bias, *xy = blobs
    bias = bias.ravel() if layer.convolution_param.bias_term else bias.reshape(1, 1, 1, 1)
    weight = weight.reshape(*weight.shape[:2], -1)[:, :, order].reshape(weight.shape)
    return [
        weight,
        bias,
        *(of_axis.reshape(-1, len(order))[:, order].reshape(-1, 1, *kernel) for of_axis in xy),
    ]
