"""Parameters that several layers share, or that are frozen: what becomes of them where layers become active."""

import itertools

import numpy as np

from .. import geometry
from ..caffe import positions
from ..errors import UserError
from . import aconv_fast

# ---- Positions as their weights


def carry_over(net, layers, position_lr_mult=None):
    """Lets ``layers``, Convolutions of ``net`` that have just become active, share positions where they share weights,
    and hold positions still where the weights are frozen, unless ``position_lr_mult`` says that positions are to learn.

    Positions are shared where they start alike: kernels, dilations and position groups are the same. Returns
    {layer: [what was done, in words]}.
    """
    notes, taken = {}, {param.name for layer in net.layer for param in layer.param}
    by_name = {}
    for layer in layers:
        if layer.param and layer.param[0].name:
            start = (
                geometry.kernel(layer),
                geometry.pair(layer, "dilation", 1),
                layer.active_convolution_param.position_group,
            )
            by_name.setdefault((layer.param[0].name, start), []).append(layer)
        if layer.param and layer.param[0].lr_mult == 0 and position_lr_mult is None:
            layer.active_convolution_param.position_lr_mult = 0
            notes.setdefault(layer.name, []).append("frozen as its weights")
    for (name, _), sharers in by_name.items():
        if (
            len({layer.name for layer in sharers}) < 2
        ):  # alone, or the same layer for training and testing
            continue
        names = [_unused(f"{name}/{axis}", taken) for axis in "xy"]
        rate = sharers[0].active_convolution_param.position_lr_mult
        for layer in sharers:
            _name_positions(layer, names, rate)
            others = ", ".join(other.name for other in sharers if other.name != layer.name)
            notes.setdefault(layer.name, []).append(f"shared with {others}")
    return notes


def _unused(name, taken):
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _name_positions(layer, names, rate):
    """Gives the positions' parameters, the third and the fourth, names; naming them takes over what the layer would
    set."""
    while len(layer.param) < 2:
        layer.param.add()
    for name in names:
        layer.param.add(name=name, lr_mult=rate, decay_mult=0)


# ---- AConvFast's order of synapses


def check_orders(net, chosen, with_weights):
    """Raises UserError where AConvFast's synapses would get another order in one of two layers that share them."""
    orders = [
        _new_order(layer, with_weights) if layer.type == "AConvFast" and layer in chosen else None
        for layer in net.layer
    ]
    pairs = list(zip(net.layer, orders))
    reordered = [pair for pair in pairs if pair[1] is not None]
    for (layer, order), (other, others) in itertools.product(reordered, pairs):
        if layer is not other and order != others and _share(layer, other):
            raise UserError(
                f"layers {layer.name} and {other.name} share weights, and conversion brings the synapses of "
                f"{layer.name} into another order: convert both, where they start alike, or neither (--layers)"
            )


def _new_order(layer, with_weights):
    """The synapses of an AConvFast layer as its conversion orders them, None where they keep their own order."""
    order = aconv_fast.grid_order(layer, with_weights)
    return None if order is None or (np.diff(order) == 1).all() else order.tolist()


def _share(layer, other):
    """Whether the weights or positions of an AConvFast layer are another one's, too, by the name of the parameter, or
    of the layer where training and testing have one each. Its bias, parameter 1, has no order."""
    names = {param.name for index, param in enumerate(layer.param) if index != 1 and param.name}
    return (
        not names.isdisjoint(param.name for param in other.param)
        or layer.name == other.name
        and other.type in positions.TYPES
    )
