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
from ..caffe.feeding import check_fed
from ..caffe.messages import by
from ..command import aligned
from ..errors import UserError
from ..files import whole_folder
from . import aconv_fast, verify

WEIGHTS = "weights.caffemodel"


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
    _forget_blobs(net, model, stored)
    original, (phase, obstacle) = _copy(net), _buildable(net, model, stages)
    with whole_folder(output) as folder, tempfile.TemporaryDirectory() as scratch:
        paths = [Path(scratch) / name for name in ("original.prototxt", "twin.prototxt")]
        axes = {}
        if not obstacle:
            live = verify.build(original, paths[0], model, phase, stages)
            axes = {name: len(blob.shape) for name, blob in live.blobs.items()}
            del live
        layers = _choose(net, _planar(net, axes, stored), model, patterns, kernels)
        # All before the first is replaced: one for training and one for testing may share a name.
        blobs = [_stored_blobs(stored, layer, weights) if stored else None for layer in layers]
        shared, rows = _shared(net), []
        for layer, before in zip(layers, blobs):
            was = _copy(layer)
            active = _to_active(layer, before, fields, draw, shared)
            if stored:
                messages.fill(_find(stored, layer.name), layer, active)
            sets = layer.active_convolution_param.position_group
            kernel = geometry.kernel(layer)
            rows.append(
                {
                    "name": layer.name,
                    "was": was.type,
                    "kernel": kernel,
                    "positions": math.prod(kernel) * sets,
                    "notes": [],
                    "difference": stored and verify.layers(was, before, layer, active),
                }
            )
        _keep_sharing(net, layers, rows, "position_lr_mult" in fields)
        messages.write(folder / Path(model).name, net)
        if stored:
            messages.write_weights(folder / WEIGHTS, stored)
        blobs = before = active = stored = None
        report = {"layers": rows, "outputs": {}, "runs": f"not built here: {obstacle}"}
        if not obstacle:
            verify.build(net, paths[1], f"what {model} is converted to", phase, stages)
            report["runs"] = "runs in a Caffe with the layer ActiveConvolution, as built here"
            if weights and phase == locate.caffe().TEST and not verify.own_source(net):
                files = [(paths[0], weights), (paths[1], folder / WEIGHTS)]
                report["outputs"] = _compared(original, files, model, stages)
        verify.write_report(folder, report, text(report))
    return report


def _copy(message):
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _forget_blobs(net, model, stored):
    """Removes the weights that the prototxt itself holds; raises UserError where nothing
    (``stored``) takes their place."""
    holder = next((layer for layer in net.layer if layer.blobs), None)
    if holder is not None and not stored:
        raise UserError(
            f"layer {holder.name} has its weights in {model} itself, where they would be lost: "
            f"give them as --weights, or take them out"
        )
    messages.forget_blobs(net)


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


def _compared(net, files, model, stages):
    """{output: (largest difference, largest value)} of two networks, [(prototxt, weights)], on
    random input; ``net`` is the first one's NetParameter."""
    inputs, found = None, []
    for path, weights in files:
        live = nets.load(path, weights, called=model, stages=stages)
        if inputs is None:
            inputs, outputs = verify.random_run(net, live)
            found.append(outputs)
        else:
            found.append(verify.outputs(live, inputs))
        del live
    return {
        name: verify.check(f"output {name}", verify.difference(values, found[1][name]))
        for name, values in (found[0].items() if found else ())
    }


# ---- Which layers


def _planar(net, axes, stored):
    """{name: why not, or None} of the network's convolutions: whether they run over two axes, as
    the prototxt, Caffe (``axes``, {name: those of what it reads}) or the weights tell."""
    found = {}
    for layer in net.layer:
        if layer.type not in ("Convolution", "AConvFast"):
            continue
        own, param = stored and _find(stored, layer.name), layer.convolution_param
        read = layer.bottom[0] if layer.bottom else None
        count = len(messages.shape(own.blobs[0])) if own and own.blobs else axes.get(read, 4)
        found[layer.name] = None
        if param.force_nd_im2col or not geometry.is_planar(layer) and layer.type != "AConvFast":
            found[layer.name] = "has a kernel, axis or force_nd_im2col for other than two axes"
        elif count != 4:
            found[layer.name] = f"reads a blob of {count} axes"
    return found


def _choose(net, planar, model, patterns, kernels):
    """The layers to convert, in order. Raises UserError where nothing fits, and for one that was
    named and does not run over two axes."""
    candidates = [layer for layer in net.layer if layer.type in ("Convolution", "AConvFast")]
    named = ", ".join(dict.fromkeys(layer.name for layer in candidates)) or "no convolution"
    chosen = candidates
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(layer.name, pattern) for layer in candidates):
            raise UserError(f"no convolution of {model} is called {pattern}: it has {named}")
    if patterns:
        chosen = [
            layer
            for layer in candidates
            if any(fnmatch.fnmatchcase(layer.name, pattern) for pattern in patterns)
        ]
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
            f"--layers or --kernel, by default kernels larger than 1×1"
        )
    for layer in chosen:
        if planar[layer.name]:
            raise UserError(
                f"layer {layer.name} {planar[layer.name]}, and an active convolution takes "
                f"images, of four: leave it out with --layers"
            )
    return chosen


# ---- One layer


def _to_active(layer, blobs, fields, draw, shared):
    """Makes an ActiveConvolution of a LayerParameter, in place; returns its blobs, None without."""
    if layer.type != "AConvFast":
        return to_active(layer, blobs, fields)
    own, asked = layer.aconv_param.position_group, fields.get("position_group")
    if asked not in (None, own):
        raise UserError(
            f"layer {layer.name} has position_group {own}, which an AConvFast layer keeps: leave "
            f"out --position-group {asked}, or the layer with --layers"
        )
    names = {layer.name, *(param.name for param in layer.param)}
    blobs = aconv_fast.translate(layer, blobs, draw, not shared.isdisjoint(names))
    _set(layer, fields)
    return blobs


def to_active(layer, blobs, fields=None):
    """Makes an ActiveConvolution at rest of the LayerParameter of a Convolution, in place; returns
    its four blobs. ``blobs`` are the Convolution's, or None, and then None is returned."""
    param = layer.convolution_param
    if param.engine == param.CUDNN:
        param.ClearField("engine")
    # What more there is had no meaning, and would be the positions'.
    del layer.param[1 + param.bias_term :]
    layer.type = "ActiveConvolution"
    _set(layer, fields or {})
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


def _keep_sharing(net, layers, rows, rate_given):
    """Lets Convolutions that have become active, ``layers``, share positions where they share
    weights, if those start alike (kernels, dilations and position groups are the same), and hold
    positions still where the weights are frozen, unless a rate was given. ``rows`` get notes."""
    by_name, taken = {}, {param.name for layer in net.layer for param in layer.param}
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
        new = [_unused(f"{name}/{axis}", taken) for axis in "xy"]
        rate = sharers[0][0].active_convolution_param.position_lr_mult
        for layer, row in sharers:
            while len(layer.param) < 2:
                layer.param.add()
            for each in new:  # a named one takes over what the layer would set
                layer.param.add(name=each, lr_mult=rate, decay_mult=0)
            row["notes"].append(f"shared with {', '.join(sorted(names - {layer.name}))}")


def _unused(name, taken):
    while name in taken:
        name += "_"
    taken.add(name)
    return name


# ---- Stored weights


def _find(stored, name):
    """The layer of this name in a .caffemodel, None where it holds none."""
    return next((layer for layer in stored.layer if layer.name == name), None)


def _stored_blobs(stored, layer, weights):
    """The arrays of ``layer`` in a .caffemodel. Raises UserError where they are not those that the
    prototxt announces."""
    found = _find(stored, layer.name)
    shapes = [messages.shape(blob) for blob in found.blobs] if found is not None else []
    blobs = [messages.values(blob) for blob in found.blobs] if found is not None else []
    param, kernel = layer.convolution_param, geometry.kernel(layer)
    channels = shapes[0][1] if shapes and len(shapes[0]) == 4 else 0
    expected = [param.num_output * channels * math.prod(kernel)]
    expected += [param.num_output] * param.bias_term
    if layer.type == "AConvFast":
        expected += [1] * (not param.bias_term)
        expected += [layer.aconv_param.position_group * math.prod(kernel)] * 2
    fits = [blob.size for blob in blobs] == expected and channels
    if not fits or shapes[0] != (param.num_output, channels, *kernel):
        seen = ", ".join(by(shape) for shape in shapes) or "no blobs"
        raise UserError(
            f"layer {layer.name} has {seen} in {weights}, which does not fit its prototxt: give "
            f"the weights of this network, or choose other --layers"
        )
    return [blobs[0].reshape(shapes[0]), *blobs[1:]]
