"""The layer type of the authors' published code, AConvFast, as ActiveConvolution."""

import numpy as np

from .. import geometry
from ..errors import UserError


def translate(layer, blobs, draw, shared=False):
    """Makes an ActiveConvolution of the LayerParameter of an AConvFast layer, in place; returns its
    blobs.

    ``blobs`` are weight (D, C, kh, kw), bias, x and y, or None, and then None is returned. The
    synapses are AConvFast's: the base first, then around it. Where they start on the kernel's grid
    they are brought into its order, row by row; anything else, and weights that are ``shared`` with
    another layer, becomes explicit positions in their own order, with noise from the Generator
    ``draw`` where AConvFast adds some. Raises UserError where the prototxt cannot say the same."""
    own, kernel = layer.aconv_param, geometry.kernel(layer)
    pad = [axis.pad for axis in geometry.axes(layer)]  # of a single tap
    grid_pad = [of_axis + size // 2 for of_axis, size in zip(pad, kernel)]
    start = geometry.ring(
        kernel[0] * kernel[1], own.base_radius, own.base_angle, own.pos_filler_std < 0
    )
    order = None
    if own.pos_filler_std < 0 and min(grid_pad) >= 0 and not shared:
        order = _at_taps(start, kernel)
    if order is None and min(pad) < 0:
        order = _base_in_the_middle(layer, kernel, blobs is not None and not shared, grid_pad)
    active = layer.active_convolution_param
    active.normalize_gradient, active.position_group = own.normalize, own.position_group
    if order is None:
        for x, y in _noisy(start, own, draw).tolist():
            active.position.add(x=x, y=y)
        order = np.arange(len(start))
    else:
        pad = grid_pad
    geometry.set_pair(layer, "pad", pad, 0)
    layer.type = "ActiveConvolution"
    layer.ClearField("aconv_param")
    return None if blobs is None else _reordered(layer, blobs, order, kernel)


def _at_taps(start, kernel):
    """For each tap of the kernel's grid, row by row, the synapse that starts there; None unless
    that is one for each."""
    if not kernel[0] % 2 or not kernel[1] % 2:  # their base is not AConvFast's
        return None
    at = {tuple(place): synapse for synapse, place in enumerate(start.tolist())}
    order = [at.get(tuple(place)) for place in geometry.grid(kernel).tolist()]
    return None if None in order else np.array(order)


def _base_in_the_middle(layer, kernel, movable, grid_pad):
    """An order for the kernel's grid as the start, where the blobs say where the synapses are: only
    the base, which never moves, has its place. What a prototxt cannot say is explicit positions
    with a negative pad."""
    if not movable or min(grid_pad) < 0 or not kernel[0] % 2 or not kernel[1] % 2:
        raise UserError(
            f"layer {layer.name} needs a negative pad, which ActiveConvolution takes no more than "
            "Convolution: give it more pad, or its own weights"
        )
    middle = kernel[0] * kernel[1] // 2
    return np.insert(np.arange(1, kernel[0] * kernel[1]), middle, 0)


def _noisy(start, own, draw):
    """The starting positions, (K, 2), or of each set, (position_group·K, 2), where each has noise
    of its own."""
    if own.pos_filler_std <= 0:
        return start
    deviation = own.pos_filler_std * own.base_radius
    noise = draw.normal(scale=deviation, size=(own.position_group, *start.shape))
    noise[:, 0] = 0  # the base
    return (start + noise).reshape(-1, 2).astype(np.float32)


def _reordered(layer, blobs, order, kernel):
    weight, bias, *xy = blobs
    bias = bias.ravel() if layer.convolution_param.bias_term else bias.reshape(1, 1, 1, 1)
    weight = weight.reshape(*weight.shape[:2], -1)[:, :, order].reshape(weight.shape)
    sets = (of_axis.reshape(-1, len(order))[:, order] for of_axis in xy)
    return [weight, bias, *(of_axis.reshape(-1, 1, *kernel) for of_axis in sets)]
