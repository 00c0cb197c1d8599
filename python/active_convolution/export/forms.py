"""The ordinary convolutions in the place of an active one: a dense kernel, or the sum of a few small ones.

Both compute the same. A dense kernel covers all that lies between its farthest synapses, which for a dilated kernel off
its lattice, or one far synapse, is mostly zeros; then each group of synapses that lie close together has a convolution
of its own.
"""

import dataclasses
import itertools
import math

import numpy as np

from .. import geometry
from ..caffe.messages import by
from ..errors import UserError
from . import folding, splat

NAMES = ("auto", "dense", "sparse")
MAX_KERNEL = 63  # taps: what a position that has run away must not exceed unasked
MOST_KERNEL = 2**20  # ... or even if asked
_MOST_PIXELS = 2**30  # of a pad: as far as the layer itself reaches at rest
MAX_MULTIPLY_ADDS = 10**12  # of a layer, an image: some minutes of a core
LARGEST = 2**31 - 2**20  # bytes of weights in a .caffemodel, which is a protocol buffer
_MOVED = 16  # multiply-adds in the time that a value takes to be read or written: what one more convolution costs
_WORTH = 2  # so much cheaper must the sum be before ``auto`` gives up the single kernel


@dataclasses.dataclass(frozen=True)
class Limits:
    """``form`` is one of NAMES; ``kernel`` the most taps along an axis that a synapse may need; ``multiply_adds`` the
    most of a layer for each image; ``size`` the most bytes of its weights."""

    form: str = "auto"
    kernel: int = MAX_KERNEL
    multiply_adds: int = MAX_MULTIPLY_ADDS
    size: int = LARGEST


@dataclasses.dataclass(frozen=True)
class Summand:
    """One ordinary convolution: its Windows, how many outputs of it are dropped in front along each axis (None: it
    needs no crop), and the indices of its synapses."""

    rows: splat.Window
    columns: splat.Window
    dropped: tuple
    synapses: list

    @property
    def kernel(self):
        return self.rows.size, self.columns.size

    @property
    def dilation(self):
        return self.rows.dilation, self.columns.dilation


def parts(layer, weight, x, y, pixels, limits=Limits()):
    """The Summands in the place of an ACU, one for the dense form. Nothing of their size is allocated.

    ``layer`` is its LayerParameter, ``weight`` (D, C/group, kh, kw), ``x`` and ``y`` (position_group, K), ``pixels``
    the number of its outputs for an image and channel. Raises UserError naming the synapse that is nowhere or too far
    away, or the size of what would be too large.
    """
    check_synapses(layer, x, y)
    axes = geometry.axes(layer)
    _check_reach(layer, axes, x, y, limits.kernel)
    per_tap = math.prod(weight.shape[:2])
    moved = _MOVED * (weight.shape[1] * layer.convolution_param.group + 2 * len(weight))
    dense = [_symmetric(axes, x, y, range(x.shape[1]))]
    reason = _too_large(dense, per_tap, pixels, limits)
    fine = (
        not reason and _cost(dense, per_tap, 0) <= _WORTH * per_tap * x.shape[1]
    )  # no sum can be so much cheaper
    several = len(layer.top) > 1  # which a sum has not
    sparse = None
    if limits.form == "sparse" or limits.form == "auto" and not fine and not several:
        sparse = _grouped(axes, x, y, per_tap, moved)
    chosen = dense
    if sparse and (
        limits.form == "sparse"
        or reason
        or _cost(dense, per_tap, moved) > _WORTH * _cost(sparse, per_tap, moved)
    ):
        chosen, reason = sparse, _too_large(sparse, per_tap, pixels, limits)
    if reason:
        remedy = "" if chosen is sparse or several else ", or --form sparse"
        raise UserError(
            f"layer {layer.name} needs {_described(chosen)}, {reason}{remedy}, or name another snapshot"
        )
    if len(chosen) > 1 and several:
        raise UserError(
            f"layer {layer.name} has {len(layer.top)} tops, and the sum that it would become has one: give "
            "--form dense"
        )
    return chosen


def convolutions(layer, blobs, chosen, taken=()):
    """The layers (LayerParameters, [list of float64 blobs] for each) that compute what the ACU ``layer`` does, from its
    ``blobs`` and its Summands. The last one has its name and its tops; the others' names are none of ``taken``."""
    weight, bias, *xy = blobs
    x, y = (position.reshape(len(position), -1) for position in xy)
    single = _convolution(layer, chosen[0])
    biases = [bias.ravel()] if layer.convolution_param.bias_term else []
    if len(chosen) == 1:
        return [(single, [_kernel(weight, x, y, chosen[0]), *biases])]
    stem = f"{layer.name}/part"
    while any(name.startswith(stem) for name in taken):
        stem += "_"
    made, summed = [], type(layer)(name=layer.name, type="Eltwise", top=layer.top)
    for index, part in enumerate(chosen):
        own = _convolution(layer, part)
        own.name = own.top[0] = f"{stem}{index}"
        if index and biases:
            own.convolution_param.bias_term = False
            folding.forget_sharing(own, 1)
        made.append((own, [_kernel(weight, x, y, part), *(biases if not index else [])]))
        if part.dropped is not None:
            crop = type(layer)(
                name=f"{own.name}/crop",
                type="Crop",
                bottom=[own.name, f"{stem}0"],
                top=[f"{own.name}/crop"],
            )
            crop.crop_param.offset.extend(part.dropped)
            made.append((crop, []))
        summed.bottom.append(made[-1][0].top[0])
    return [*made, (summed, [])]


# ---- The layers


def _convolution(layer, part):
    made = type(layer)()
    made.CopyFrom(layer)
    made.type = "Convolution"
    made.ClearField("active_convolution_param")
    made.ClearField("aconv_param")
    for field, default in (("kernel_size", None), ("pad", 0), ("dilation", 1)):
        name = field.split("_")[-1]
        geometry.set_pair(
            made, field, (getattr(part.rows, name), getattr(part.columns, name)), default
        )
    folding.forget_sharing(made, 2 if layer.convolution_param.bias_term else 1)
    return made


def _kernel(weight, x, y, part):
    chosen = part.synapses
    by_synapse = weight.reshape(*weight.shape[:2], -1)[:, :, chosen]
    return splat.splat(by_synapse, x[:, chosen], y[:, chosen], part.rows, part.columns)


# ---- Which Summands


def _symmetric(axes, x, y, synapses):
    synapses = list(synapses)
    rows, columns = (
        splat.window(axis, of_axis[:, synapses].ravel()) for axis, of_axis in zip(axes, (y, x))
    )
    return Summand(rows, columns, None, synapses)


def _placed(axes, x, y, synapses):
    (rows, top), (columns, left) = (
        splat.placed(axis, of_axis[:, synapses].ravel()) for axis, of_axis in zip(axes, (y, x))
    )
    dropped = None if top is None and left is None else (top or 0, left or 0)
    return Summand(rows, columns, dropped, synapses)


def _grouped(axes, x, y, per_tap, moved):
    """Summands for groups of synapses. At first those on the layer's lattice are one group and any other one is its
    own; then the two groups whose union saves most become one, while that saves anything. One group's taps are
    completed to stand evenly around the base pixel: its output has the right size, which the others' are cropped to."""
    on_lattice = np.all((x % axes[1].dilation == 0) & (y % axes[0].dilation == 0), axis=0)
    groups = [
        np.flatnonzero(on_lattice).tolist(),
        *([synapse] for synapse in np.flatnonzero(~on_lattice).tolist()),
    ]
    groups = {index: group for index, group in enumerate(filter(None, groups))}
    costs = {
        index: _cost([_placed(axes, x, y, group)], per_tap, moved)
        for index, group in groups.items()
    }
    unions = {}

    def consider(one, other):
        union = _cost([_placed(axes, x, y, groups[one] + groups[other])], per_tap, moved)
        unions[one, other] = costs[one] + costs[other] - union, union

    for pair in itertools.combinations(groups, 2):
        consider(*pair)
    while unions and max(unions.values())[0] > 0:
        one, other = max(unions, key=unions.get)
        groups[one] = sorted(groups[one] + groups.pop(other))
        costs[one] = unions[one, other][1]
        for pair in [pair for pair in unions if other in pair or one in pair]:
            del unions[pair]
        for third in groups:
            if third != one:
                consider(one, third)
    wider = {
        index: _cost([_symmetric(axes, x, y, group)], per_tap, 0)
        - _cost([_placed(axes, x, y, group)], per_tap, 0)
        for index, group in groups.items()
    }
    first = min(wider, key=wider.get)
    return [
        _symmetric(axes, x, y, groups.pop(first)),
        *(_placed(axes, x, y, group) for group in groups.values()),
    ]


def _cost(chosen, per_tap, moved):
    """Multiply-adds for an output pixel, and what it costs to have one convolution more."""
    return sum(per_tap * math.prod(part.kernel) + moved for part in chosen)


# ---- What is too much


def check_synapses(layer, x, y):
    """Raises UserError where a position is not finite."""
    x, y = (position.reshape(len(position), -1) for position in (x, y))
    for index in zip(*np.nonzero(~np.isfinite(x + y))):
        raise UserError(
            f"layer {layer.name}: {_synapse(x, y, index)} is nowhere: training has gone wrong there, "
            "name an earlier snapshot"
        )


def weights(chosen, weight):
    """How many weights the Summands ``chosen`` of an ACU have, whose own are ``weight``."""
    return math.prod(weight.shape[:2]) * sum(math.prod(part.kernel) for part in chosen)


def _check_reach(layer, axes, x, y, max_kernel):
    for axis, position in zip(axes, (y, x)):
        for index in np.ndindex(position.shape):
            window = splat.window(axis, position[index].reshape(1))
            if window.size > max_kernel:
                raise UserError(
                    f"layer {layer.name}: {_synapse(x, y, index)} needs a kernel of {window.size} taps, more than "
                    f"--max-kernel {max_kernel}: raise that, or name another snapshot"
                )
            if window.pad > _MOST_PIXELS:  # few taps, far apart
                raise UserError(
                    f"layer {layer.name}: {_synapse(x, y, index)} needs a pad of {window.pad} pixels, more than "
                    f"{_MOST_PIXELS}: name another snapshot"
                )


def _synapse(x, y, index):
    position_set, synapse = index
    of_set = f" of position set {position_set}" if len(x) > 1 else ""
    return f"synapse {synapse}{of_set}, at ({x[index]:.6g}, {y[index]:.6g}),"


def _too_large(chosen, per_tap, pixels, limits):
    """Why Summands are too large, None where they are not."""
    taps = sum(math.prod(part.kernel) for part in chosen)
    # A dilated kernel off its lattice takes more than a synapse.
    if len(chosen) == 1 and max(chosen[0].kernel) > limits.kernel:
        return f"more than --max-kernel {limits.kernel}: raise that"
    if 4 * per_tap * taps > limits.size:
        return (
            f"{per_tap * taps / 1e6:.3g} million weights or {4 * per_tap * taps / 1e9:.3g} GB, more than the "
            f"{limits.size / 1e9:.3g} GB that a .caffemodel holds: --format onnx holds more"
        )
    if per_tap * taps * pixels > limits.multiply_adds:
        return (
            f"{per_tap * taps * pixels / 1e9:.3g} G multiply-adds an image, more than --max-multiply-adds "
            f"{limits.multiply_adds / 1e9:.3g}e9: raise that"
        )
    return None


def _described(chosen):
    if len(chosen) == 1:
        return f"a kernel of {by(chosen[0].kernel)} taps"
    return f"{len(chosen)} convolutions of {sum(math.prod(part.kernel) for part in chosen)} taps together"
