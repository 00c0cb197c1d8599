"""Networks with active convolutions as networks of ordinary ones, for any Caffe, ONNX or PyTorch."""

import math
import os
import tempfile
from pathlib import Path

import numpy as np

from .. import geometry
from ..caffe import locate, messages, nets, positions
from ..errors import BadValue, UserError
from ..files import whole_folder
from . import account, engines, folding, forms, probing, verify

MODEL, WEIGHTS, ONNX = "deploy.prototxt", "weights.caffemodel", "model.onnx"
FORMATS = ("caffe", "onnx", "torch")


def export(
    model,
    weights,
    output,
    fold=False,
    format="caffe",
    limits=forms.Limits(),
    learnable=False,
    report=None,
):
    """Writes the network as ordinary convolutions into the new folder ``output``, with report.txt and report.json.

    ``model`` is a deploy prototxt and ``weights`` its .caffemodel. ``format`` is one of FORMATS: "caffe" writes
    deploy.prototxt and weights.caffemodel, "onnx" model.onnx, "torch" network.py and weights.pt, in which ``learnable``
    leaves the ACUs what they are. ``fold`` lets BatchNorm and Scale go into the convolutions;
    ``limits`` (forms.Limits) say what takes an ACU's place, and how large it may be; ``report`` is another place for
    the JSON. Returns the Report. Raises UserError for files that do not fit, naming layer and synapse for a position
    that is not finite or too far away, naming the layer that ``format`` cannot express or that would be too large, and
    where the result does not compute the same. Then nothing is written.
    """
    for name, value in (("max-kernel", limits.kernel), ("max-multiply-adds", limits.multiply_adds)):
        if value < 1:
            raise BadValue(f"--{name} {value}: give 1 or more")
    if limits.kernel > forms.MOST_KERNEL:
        raise BadValue(f"--max-kernel {limits.kernel}: give {forms.MOST_KERNEL} or less")
    if learnable and format != "torch":
        raise BadValue(
            "--learnable is for --format torch: no other format has a layer whose positions learn"
        )
    account.check_place(report, output)
    net = _for_testing(model, format)
    with whole_folder(output) as folder, tempfile.TemporaryDirectory() as scratch:
        original = _original(net, model, weights, Path(scratch) / "original.prototxt")
        blobs = _checked_blobs(net, original, weights)
        own = probing.input_shapes(original)
        size, unread = probing.comparing_size(
            Path(scratch) / "original.prototxt",
            net,
            original,
            {
                layer.name: (geometry.axes(layer), *blobs[layer.name][2:])
                for layer in net.layer
                if layer.type in positions.TYPES
            },
        )
        cost_size = own if probing.is_sensible(own) else size
        nets.check_run(Path(scratch) / "original.prototxt", [cost_size, size], model)
        nets.resize(original, cost_size)
        active = {
            layer.name: _active(layer, original)
            for layer in net.layer
            if layer.type in positions.TYPES
        }
        folded = folding.fold(net, blobs) if fold else {}
        limits = limits if format == "caffe" else _without_size(limits)
        made = {} if learnable else _replace(net, blobs, original, limits)
        exported = _live(net, blobs, Path(scratch) / MODEL, model, [own, cost_size, size])
        for live in (original, exported):
            nets.resize(live, size)
        ends = {name: folded.get(name, [name])[-1] for name in active}
        differences, outputs = verify.compare(original, exported, ends, net)
        verify.check(differences, "layer")
        verify.check(outputs, "output")
        nets.resize(exported, own)
        written = _write(folder, format, net, blobs, Path(scratch) / MODEL, exported)
        ran, runs = engines.run(written, format, original)
        nets.resize(exported, cost_size)
        rows = [
            _row(name, made.get(name), blobs, exported, active[name], differences[name])
            for name in active
        ]
        done = account.Report(rows, outputs, folded, cost_size, size, unread, ran, runs)
        done.write(folder)
        if report:
            account.write_json(report, done)
    return done


# ---- The network


def _for_testing(model, format):
    """The NetParameter of a deploy prototxt without what only training, or a stage that is not its own, sees, and
    without what would tie it to one build of Caffe. Raises UserError where it has no ACU that Caffe could need
    replaced, takes its images from elsewhere than its input, or has a layer that ``format`` does not know."""
    net = messages.read_net(model)
    for index in reversed(range(len(net.layer))):
        if not messages.takes_part(
            net.layer[index], locate.caffe_pb2().TEST, stages=net.state.stage
        ):
            del net.layer[index]
    source = verify.own_source(net)
    if source is not None:
        raise UserError(
            f"{model} reads its images itself, in layer {source.name} of type {source.type}: "
            "give the deploy prototxt"
        )
    if format == "caffe" and not any(layer.type in positions.TYPES for layer in net.layer):
        raise UserError(
            f"{model} has no {' or '.join(positions.TYPES)} layer: there is nothing to export"
        )
    if format != "caffe":
        onnx_model, torch_module = _writers()
        onnx_model.check_types(net, torch_module.TABLE)
    messages.forget_build(net)
    messages.forget_blobs(net)
    return net


def _original(net, model, weights, path):
    messages.write_to_run(path, net)
    return nets.load_checked(path, weights, called=model)


def _checked_blobs(net, original, weights):
    """All blobs as float64, {layer: list of arrays}, and all of them finite."""
    blobs = {
        name: [blob.data.astype(float) for blob in of_layer]
        for name, of_layer in original.params.items()
    }
    for layer in net.layer:
        if layer.type in positions.TYPES:
            forms.check_synapses(layer, *blobs[layer.name][2:])
    for name, of_layer in blobs.items():
        if not all(np.isfinite(blob).all() for blob in of_layer):
            raise UserError(
                f"layer {name} of {weights} has weights that are not finite: name an earlier snapshot"
            )
    return blobs


def _replace(net, blobs, original, limits):
    """Puts ordinary convolutions in the place of the ACUs of ``net`` and ``blobs``; returns {name of an ACU: {name of a
    convolution: its Summand}}. All sizes are known before the first kernel is made."""
    parts, made = {}, {}
    for layer in net.layer:
        if layer.type in positions.TYPES:
            weight, _, *xy = blobs[layer.name]
            x, y = (position.reshape(len(position), -1) for position in xy)
            parts[layer.name] = forms.parts(
                layer, weight, x, y, _pixels(original, layer.name), limits
            )
    _check_together(net, blobs, parts, limits)
    layers = list(net.layer)
    taken = {name for layer in layers for name in (layer.name, *layer.bottom, *layer.top)}
    del net.layer[:]
    for layer in layers:
        if layer.name not in parts:
            net.layer.append(layer)
            continue
        written = forms.convolutions(layer, blobs.pop(layer.name), parts[layer.name], taken)
        net.layer.extend(each for each, _ in written)
        blobs.update((each.name, arrays) for each, arrays in written if arrays)
        made[layer.name] = dict(
            zip([each.name for each, arrays in written if arrays], parts[layer.name])
        )
    return made


def _check_together(net, blobs, parts, limits):
    numbers = sum(
        blob.size for name, of_layer in blobs.items() if name not in parts for blob in of_layer
    )
    numbers += sum(forms.weights(chosen, blobs[name][0]) for name, chosen in parts.items())
    if 4 * numbers > limits.size:
        raise UserError(
            f"all weights together are {4 * numbers / 1e9:.3g} GB, more than the {limits.size / 1e9:.3g} "
            "GB that a .caffemodel holds: --form sparse may need less, and --format onnx holds more"
        )


def to_convolution(layer, blobs, limits=forms.Limits("dense")):
    """Makes the dense Convolution of the LayerParameter of an ACU, in place; returns the blobs of it, float64.

    ``blobs`` are the ACU's: weight, bias, x, y. Raises UserError naming the synapse that cannot be held.
    """
    x, y = (position.reshape(len(position), -1) for position in blobs[2:])
    ((made, arrays),) = forms.convolutions(
        layer, blobs, forms.parts(layer, blobs[0], x, y, 1, limits)
    )
    layer.CopyFrom(made)
    return arrays


# ---- The result


def _without_size(limits):
    """ONNX keeps weights of any size in a file beside the model."""
    return forms.Limits(limits.form, limits.kernel, limits.multiply_adds, math.inf)


def _live(net, blobs, path, model, sizes):
    """The pycaffe Net of ``net`` with these blobs, without the detour over a .caffemodel, which has a largest size. Raises
    UserError where Caffe cannot run it at all of ``sizes``, [{input: shape}]."""
    messages.write_to_run(path, net)
    reason = nets.why_not_run(path, sizes)
    if reason:
        raise UserError(
            f"Caffe cannot run what {model} would be exported to ({reason}): give another --form or a smaller "
            "--max-kernel, or name another snapshot"
        )
    live = locate.caffe().Net(os.fsencode(path), locate.caffe().TEST)
    for name, of_layer in live.params.items():
        for blob, values in zip(of_layer, blobs[name], strict=True):
            blob.data[...] = values.reshape(blob.data.shape)
    return live


def _write(folder, format, net, blobs, path, exported):
    """Writes the network; returns the paths of its files. ``path`` is the prototxt of the pycaffe Net ``exported``."""
    if format != "caffe":
        onnx_model, torch_module = _writers()
        graph = onnx_model.build(net, blobs, probing.sizes(path, exported), torch_module.TABLE)
        if format == "torch":
            return torch_module.write(folder, graph)
        onnx_model.write(folder / ONNX, graph)
        return [folder / ONNX]
    messages.write(folder / MODEL, net)
    stored = locate.caffe_pb2().NetParameter(name=net.name)
    for layer in net.layer:
        messages.fill(stored.layer.add(), layer, blobs.get(layer.name, []))
    messages.write_weights(folder / WEIGHTS, stored)
    nets.load(folder / MODEL, folder / WEIGHTS)
    return [folder / MODEL, folder / WEIGHTS]


def _writers():
    """The modules that write other formats than Caffe's; UserError where what they need is not installed."""
    try:
        from . import onnx_model, torch_module
    except ImportError as error:
        raise UserError(
            f"this format needs Python's onnx ({error}): install python3-onnx, or run "
            "./scripts/setup.sh"
        ) from error
    return onnx_model, torch_module


# ---- The report


def _pixels(net, name):
    """Output pixels of a layer for each image."""
    return sum(math.prod(net.blobs[top].data.shape[2:]) for top in net.top_names[name])


def _active(layer, net):
    """(kernel, multiply-adds an image) of an ACU in ``net``: the interpolation, four for each value that is read, and
    the sum over channels and synapses."""
    weight, x = (net.params[layer.name][index].data for index in (0, 2))
    outputs, channels, kernel = len(weight), weight.shape[1], weight.shape[2:]
    read = len(
        {
            (d * layer.convolution_param.group // outputs, d * len(x) // outputs)
            for d in range(outputs)
        }
    )
    return kernel, _pixels(net, layer.name) * math.prod(kernel) * channels * (outputs + 4 * read)


def _row(name, made, blobs, exported, active, difference):
    if made is None:  # it stays an ACU
        kernel, cost = active
        return account.LayerReport(
            name, kernel, kernel, (1, 1), [(kernel, (1, 1))], cost, cost, *difference
        )
    cost = sum(blobs[each][0].size * _pixels(exported, each) for each in made)
    parts = [(part.kernel, part.dilation) for part in made.values()]
    return account.LayerReport(name, active[0], *parts[0], parts, active[1], cost, *difference)
