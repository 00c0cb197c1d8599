"""Networks into active convolutions: ordinary ones into their ACU twins, the authors' AConvFast
into ActiveConvolution."""

import collections
import fnmatch
import math
import os
import tempfile
from pathlib import Path

import numpy as np
from google.protobuf.message import Message

from .. import geometry
from ..caffe import locate, messages, nets
from ..caffe.messages import by
from ..caffe.nets import check_fed
from ..command import aligned
from ..errors import UserError
from ..files import whole_folder
from . import aconv_fast, verify

WEIGHTS = "weights.caffemodel"
_KINDS = ("Convolution", "AConvFast")


def text(report):
    """What ``convert`` returns, for people."""
    rows, cells = report["layers"], [("layer", "was", "kernel", "positions", "difference")]
    for row in rows:
        said = ", ".join([str(row["positions"]), *row["notes"]])
        seen = "{:.1e} of {:.3g}".format(*row["difference"]) if row["difference"] else ""
        cells.append((row["name"], row["was"], by(row["kernel"]), said, seen))
    lines = [f"{len(rows)} layers converted: {', '.join(row['name'] for row in rows)}"]
    lines += ["  ".join(row).rstrip() for row in aligned(cells)]
    return "\n".join([*lines, *verify.said(report["outputs"]), report["runs"]]) + "\n"


def convert(model, weights, output, patterns=(), kernels=(), fields=None, seed=0, stages=()):
    """Writes ``model`` (any network's prototxt) with active convolutions into the new folder
    ``output``, under its own name, ``weights`` (its .caffemodel, or None) as weights.caffemodel,
    and report.txt and report.json. What the network computes stays the same.

    Converted are the Convolution and AConvFast layers whose name matches one of ``patterns`` (as in
    a shell; none: any) and whose kernel is one of ``kernels``, pairs (vertical, horizontal) (none:
    any). With neither given it is every AConvFast layer, or in a network without one every
    Convolution over two axes larger than 1×1. ``fields`` are those of active_convolution_param to
    set; ``seed`` is that of the noise in AConvFast's starting positions; Caffe builds the networks
    with ``stages``. Returns what report.json holds. Raises UserError for files that do not fit, for
    a layer that cannot be converted, and where the result does not compute the same.
    """
    net, fields, draw = messages.read_net(model), fields or {}, np.random.default_rng(seed)
    stored = messages.read_weights(weights) if weights else None
    messages.forget_blobs(net)
    original, (phase, obstacle) = _copy(net), _buildable(net, model, stages)
    with whole_folder(output) as folder, tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch) / name for name in ("original.prototxt", "twin.prototxt")]
        axes = {}
        if not obstacle:
            live = verify.build(original, files[0], model, phase, stages)
            axes = {name: len(blob.shape) for name, blob in live.blobs.items()}
            del live
        report = {"layers": [], "outputs": {}, "runs": f"not built here: {obstacle}"}
        report["layers"] = _converted(
            net, stored, weights, axes, model, patterns, kernels, fields, draw
        )
        messages.write(folder / Path(model).name, net)
        if stored:
            messages.write_weights(folder / WEIGHTS, stored)
            del stored
        if not obstacle:
            verify.build(net, files[1], f"what {model} is converted to", phase, stages)
            report["runs"] = "runs in a Caffe with the layer ActiveConvolution, as built here"
            if weights and phase == locate.caffe().TEST and not verify.own_source(net):
                live = nets.load(files[0], weights, called=model, stages=stages)
                inputs, expected = verify.random_run(original, live)
                del live  # before the twin comes: each takes the memory of the weights
                live = nets.load(files[1], folder / WEIGHTS, called=model, stages=stages)
                report["outputs"] = verify.compare(expected, verify.outputs(live, inputs))
        verify.write_report(folder, report, text(report))
    return report


def _converted(net, stored, weights, axes, model, patterns, kernels, fields, draw):
    """Converts ``net`` and ``stored``, messages, in place; returns the report's rows."""
    held = {layer.name: layer for layer in stored.layer} if stored else {}
    layers = _choose(net, _planar(net, axes, held), model, patterns, kernels)
    # All before the first is replaced: one for training and one for testing may share a name.
    blobs = [_blobs(held, layer, weights) if held else None for layer in layers]
    shared, rows = _shared(net), []
    for layer, before in zip(layers, blobs):
        was = _copy(layer)
        active = to_active(layer, before, fields, draw, shared)
        sets, kernel = layer.active_convolution_param.position_group, geometry.kernel(layer)
        row = {"name": layer.name, "was": was.type, "kernel": kernel, "notes": []}
        row["positions"], row["difference"] = math.prod(kernel) * sets, None
        if held:
            messages.fill(held[layer.name], layer, active)
            row["difference"] = verify.layers(was, before, layer, active)
        rows.append(row)
    _keep_sharing(layers, rows, "position_lr_mult" in fields)
    return rows


def _copy(message):
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


# ---- Whether this Caffe builds it


def _buildable(net, model, stages):
    """(the phase in which Caffe builds the network, why it cannot or None): what others' files
    often lack. Whatever else is wrong with them, Caffe says itself."""
    known = set(locate.caffe().layer_type_list())
    for layer in net.layer:
        if layer.type not in known:
            return None, (
                f"this Caffe has no layer of type {layer.type} ({layer.name}): build the fork from "
                "the tree that has it (./scripts/build.sh --caffe DIR)"
            )
        for _, own in layer.ListFields():
            for name in ("source", "mean_file"):
                path = getattr(own, name, "") if isinstance(own, Message) else ""
                if path and not os.path.exists(path):
                    return None, f"layer {layer.name} reads {path}, which is not there"
    reasons = []
    for phase in ("TEST", "TRAIN"):
        try:
            nets.check_python_layers(net, model)
            check_fed(net, model, stages, phase)
            return getattr(locate.caffe(), phase), None
        except UserError as error:
            reasons.append(str(error))
    return None, reasons[0]


# ---- Which layers


def _planar(net, axes, held):
    """{name: why not, or None} of the network's convolutions: whether they run over two axes, as
    the prototxt, Caffe (``axes``, {blob: how many}) or the weights tell."""
    found = {}
    for layer in net.layer:
        if layer.type in _KINDS:
            blobs = held[layer.name].blobs if layer.name in held else []
            count = len(messages.shape(blobs[0])) if blobs else axes.get(layer.bottom[0], 4)
            found[layer.name] = None if count == 4 else f"reads a blob of {count} axes"
            if layer.convolution_param.force_nd_im2col or not geometry.is_planar(layer):
                found[layer.name] = "has a kernel, axis or force_nd_im2col for other than two axes"
    return found


def _choose(net, planar, model, patterns, kernels):
    """The layers to convert, in order. Raises UserError where nothing fits, and for one that was
    named and does not run over two axes."""
    candidates = [layer for layer in net.layer if layer.type in _KINDS]
    named = ", ".join(planar) or "no convolution"
    chosen = [] if patterns else candidates
    for pattern in patterns:
        fitting = [each for each in candidates if fnmatch.fnmatchcase(each.name, pattern)]
        if not fitting:
            raise UserError(f"no convolution of {model} is called {pattern}: it has {named}")
        chosen += [layer for layer in fitting if layer not in chosen]
    if kernels or not patterns:
        chosen = [layer for layer in chosen if planar[layer.name] is None]
    if kernels:
        chosen = [layer for layer in chosen if geometry.kernel(layer) in kernels]
    elif not patterns:
        chosen = [layer for layer in chosen if layer.type == "AConvFast"] or [
            layer for layer in chosen if math.prod(geometry.kernel(layer)) > 1
        ]
    if not chosen:
        why = next((f": {name} {reason}" for name, reason in planar.items() if reason), "")
        raise UserError(
            f"{model} has no such convolution to convert (it has {named}{why}): give other "
            "--layers or --kernel, by default kernels larger than 1×1"
        )
    for layer in chosen:
        if planar[layer.name]:
            raise UserError(
                f"layer {layer.name} {planar[layer.name]}, and an active convolution takes "
                "images, of four: leave it out with --layers"
            )
    return [layer for layer in candidates if any(layer is each for each in chosen)]


# ---- One layer


def to_active(layer, blobs, fields=None, draw=None, shared=frozenset()):
    """Makes an ActiveConvolution at rest of the LayerParameter of a Convolution, or one of that of
    an AConvFast, in place; returns its four blobs. ``blobs`` are the layer's, or None, and then
    None is returned. ``shared`` are names of what several layers have."""
    param, fields = layer.convolution_param, fields or {}
    if layer.type == "AConvFast":
        own, asked = layer.aconv_param.position_group, fields.get("position_group")
        if asked not in (None, own):
            raise UserError(
                f"layer {layer.name} has position_group {own}, which an AConvFast layer keeps: "
                f"leave out --position-group {asked}, or the layer with --layers"
            )
        names = {layer.name, *(each.name for each in layer.param)}
        blobs = aconv_fast.translate(layer, blobs, draw, not shared.isdisjoint(names))
        _set(layer, fields)
        return blobs
    if param.engine == param.CUDNN:
        param.ClearField("engine")
    # What more there is had no meaning, and would be the positions'.
    del layer.param[1 + param.bias_term :]
    layer.type = "ActiveConvolution"
    _set(layer, fields)
    if blobs is None:
        return None
    kernel, sets = geometry.kernel(layer), layer.active_convolution_param.position_group
    grid = geometry.grid(kernel, geometry.pair(layer, "dilation", 1)).T.reshape(2, 1, 1, *kernel)
    bias = blobs[1].ravel() if param.bias_term else np.zeros((1, 1, 1, 1))
    return [blobs[0], bias, *(np.repeat(of_set, sets, axis=0) for of_set in grid)]


def _set(layer, fields):
    """Sets ``fields`` of active_convolution_param. Raises UserError where the sets do not fit."""
    own, outputs = layer.active_convolution_param, layer.convolution_param.num_output
    for name, value in fields.items():
        setattr(own, name, value)
    if own.position_group < 1 or outputs % own.position_group:
        raise UserError(
            f"layer {layer.name}: position_group {own.position_group} does not divide its "
            f"{outputs} outputs"
        )


# ---- What layers share


def _shared(net):
    """The names of parameters, but for biases, and of layers that are there more than once."""
    names = [layer.name for layer in net.layer]
    for layer in net.layer:
        names += {p.name for index, p in enumerate(layer.param) if index != 1 and p.name}
    return {name for name, count in collections.Counter(names).items() if count > 1}


def _keep_sharing(layers, rows, rate_given):
    """Lets Convolutions that have become active, ``layers``, share positions where they share
    weights, if those start alike (kernels, dilations and position groups are the same), and hold
    positions still where the weights are frozen, unless a rate was given. ``rows`` get notes."""
    by_name = {}
    for layer, row in zip(layers, rows):
        own = layer.active_convolution_param
        if row["was"] == "AConvFast" or not layer.param:
            continue
        if layer.param[0].lr_mult == 0 and not rate_given:
            own.position_lr_mult = 0
            row["notes"].append("frozen as its weights")
        if layer.param[0].name:
            start = row["kernel"], geometry.pair(layer, "dilation", 1), own.position_group
            by_name.setdefault((layer.param[0].name, start), []).append((layer, row))
    for (name, _), sharers in by_name.items():
        names = {layer.name for layer, _ in sharers}
        if len(names) < 2:
            continue  # alone, or the same layer for training and testing
        rate = sharers[0][0].active_convolution_param.position_lr_mult
        for layer, row in sharers:
            while len(layer.param) < 2:
                layer.param.add()
            for axis in "xy":  # a named one takes over what the layer would set
                layer.param.add(name=f"{name}/{axis}", lr_mult=rate, decay_mult=0)
            row["notes"].append(f"shared with {', '.join(sorted(names - {layer.name}))}")


# ---- Stored weights


def _blobs(held, layer, weights):
    """The arrays of ``layer`` in a .caffemodel, {name: LayerParameter}. Raises UserError where they
    are not those that the prototxt announces."""
    found = held[layer.name].blobs if layer.name in held else []
    param, kernel = layer.convolution_param, geometry.kernel(layer)
    channels = (*messages.shape(found[0]), 0, 0)[1] if found else 0
    shapes = [(param.num_output, channels, *kernel)] + [(param.num_output,)] * param.bias_term
    if layer.type == "AConvFast":
        sets = layer.aconv_param.position_group
        shapes += [(1, 1, 1, 1)] * (not param.bias_term) + [(sets, 1, *kernel)] * 2
    same = len(found) == len(shapes) and all(map(messages.holds, found, shapes))
    if not same or not channels:
        seen = ", ".join(by(messages.shape(blob)) for blob in found) or "no blobs"
        raise UserError(
            f"layer {layer.name} has {seen} in {weights}, which does not fit its prototxt: give "
            "the weights of this network, or choose other --layers"
        )
    return [messages.values(blob).reshape(shape) for blob, shape in zip(found, shapes)]
