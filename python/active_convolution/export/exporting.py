"""Networks with active convolutions as networks of ordinary ones, for any Caffe, ONNX or
PyTorch."""

import json
import math
import tempfile
from pathlib import Path

import numpy as np

from .. import geometry
from ..caffe import locate, messages, nets, positions
from ..caffe.guard import doing
from ..caffe.messages import by
from ..caffe.nets import check_fed
from ..command import aligned
from ..errors import BadValue, UserError
from ..files import whole_folder
from ..training import imaging
from . import dense, folding, preprocessing, verify
from .free_axes import free_axes

MODEL, WEIGHTS, ONNX = "deploy.prototxt", "weights.caffemodel", "model.onnx"


def text(report):
    """What ``export`` returns, for people."""
    lines = []
    if report["layers"]:
        cells = [("layer", "kernel", "multiply-adds", "ratio", "difference")]
        for row in report["layers"]:
            dilated = (
                "" if tuple(row["dilation"]) == (1, 1) else f", dilation {by(row['dilation'])}"
            )
            kernel = f"{by(row['active_kernel'])} → {by(row['kernel'])}{dilated}"
            costs = _costs(row["active_cost"], row["cost"])
            cells.append(
                (row["name"], kernel, *costs, "{:.1e} of {:.3g}".format(*row["difference"]))
            )
        sums = [sum(row[name] for row in report["layers"]) for name in ("active_cost", "cost")]
        cells.append(("together", "", *_costs(*sums), ""))
        lines += ["  ".join(row).rstrip() for row in aligned(cells)]
    lines += verify.said(report["outputs"])
    sizes = ", ".join(f"{name} {by(shape)}" for name, shape in report["size"].items())
    lines.append(f"costs, and differences of outputs: {sizes}; of layers: images of their own")
    if report["folded"]:
        counts = sum(map(len, report["folded"].values())), len(report["folded"])
        lines.append("{} BatchNorm and Scale layers folded into {} convolutions".format(*counts))
    return "\n".join([*lines, report["images"], report["runs"]]) + "\n"


def _costs(before, after):
    return f"{before / 1e6:.2f} M → {after / 1e6:.2f} M", f"{after / before:.2f}"


def export(
    trained,
    output,
    format="caffe",
    fold=False,
    learnable=False,
    logits=False,
    max_kernel=dense.MAX_KERNEL,
):
    """Writes a network as ordinary convolutions into the new folder ``output``.

    ``trained`` is a training.trained.Trained, whose model is a deploy prototxt. ``format`` "caffe"
    writes deploy.prototxt and weights.caffemodel, "onnx" model.onnx, "torch" network.py and
    weights.npz, in which ``learnable`` leaves the ACUs what they are. Beside them report.txt,
    report.json and, where the data set is known, preprocessing.json. ``fold`` lets BatchNorm and
    Scale go into the convolutions; ``logits`` leaves out a last Softmax; scores of classes are
    N×classes. Returns what report.json holds. Raises UserError for files that do not fit, naming
    layer and synapse for a position that is not finite or needs more than ``max_kernel`` taps,
    naming the layer that ``format`` cannot express or that would be too large, and where the result
    does not compute the same. Then nothing is written."""
    if learnable and format != "torch":
        raise BadValue("--learnable is for --format torch: no other has positions that learn")
    net = _for_testing(trained, format, logits)
    with whole_folder(output) as folder, tempfile.TemporaryDirectory() as scratch:
        place = folder if format == "caffe" else Path(scratch)
        files = place / MODEL, place / WEIGHTS
        report, inputs, expected = _made(net, trained, files, fold, learnable, max_kernel)
        live = nets.load(*files, called=f"what {trained.model} becomes")
        report["outputs"] = verify.compare(expected, verify.outputs(live, inputs))
        report["size"] = {name: values.shape for name, values in inputs.items()}
        del live  # with what it ran on: columns take more than weights
        shape, *others = report["size"].values()
        known = trained.data is not None and not others and len(shape) == 4
        prepared = imaging.steps(trained, shape[1:]) if known else None
        written = _write(folder, format, files, prepared)
        report["images"] = preprocessing.write(folder, prepared)
        report["runs"] = verify.engines(written, format, inputs, expected)
        verify.write_report(folder, report, text(report))
    return report


# ---- The network


def _for_testing(trained, format, logits):
    """The NetParameter of a deploy prototxt without what only training, or another stage, sees, and
    without what would tie it to one build of Caffe. Raises UserError where it takes its images from
    elsewhere than its input, or has a layer that ``format`` does not know."""
    model, net = trained.model, messages.read_net(trained.model)
    stages = [*net.state.stage, *trained.stages]
    check_fed(net, model, trained.stages)
    layers = [x for x in net.layer if messages.takes_part(x, locate.caffe_pb2().TEST, stages)]
    if logits and layers[-1].type == "Softmax":
        layers.pop()
    del net.layer[:]
    net.layer.extend(layers)
    for message, fields in ((net, ["state"]), *((x, ["include", "exclude"]) for x in net.layer)):
        for field in fields:
            message.ClearField(field)
    source = verify.own_source(net)
    if source is not None:
        raise UserError(
            f"{model} reads its images itself, in layer {source.name} of type {source.type}: "
            "give the deploy prototxt"
        )
    if format != "caffe":
        onnx_model, torch_module = _writers()
        onnx_model.check_types(net, torch_module.TABLE)
    messages.forget_build(net)
    messages.forget_blobs(net)
    return net


def _made(net, trained, files, fold, learnable, max_kernel):
    """Writes the network of ordinary convolutions to ``files``, Caffe's two. Returns (the report's
    layers and what was folded, {input: random values}, {output: what the original gives for them}).

    Both networks are in memory, but one layer's kernel at a time, and one set of activations."""
    messages.write_to_run(files[0], net)
    live = nets.load(files[0], trained.weights, called=trained.model)
    blobs = {name: [blob.data for blob in of_layer] for name, of_layer in live.params.items()}
    found = _windows(net, blobs, trained.weights, max_kernel)
    found = {} if learnable else found
    dense.check_size(blobs, found)
    inputs, expected = verify.random_run(net, live)
    shares, folded = folding.fold(net, blobs) if fold else ({}, {})
    rows, active = [], {}
    for layer in net.layer:
        if layer.name in found:
            active[layer.name] = type(layer)()
            active[layer.name].CopyFrom(layer)
            layer.CopyFrom(dense.convolution(layer, *found[layer.name]))
    for name in _flattened(net, live):
        expected[name] = expected[name].reshape(len(expected[name]), -1)
    result = verify.build(net, files[0], f"what {trained.model} would be exported to")
    for layer in net.layer:
        arrays = blobs.get(layer.name, [])
        if layer.name in shares:
            arrays = folding.folded(arrays, *shares[layer.name])
        if layer.name in active:
            kernel = dense.kernel(active[layer.name], arrays, found[layer.name])
            rows.append(_row(active[layer.name], layer, arrays, kernel, live))
            arrays = kernel
        for blob, values in zip(result.params.get(layer.name, []), arrays):
            blob.data[...] = values.reshape(blob.data.shape)
    messages.write(files[0], net)
    del live, blobs
    with doing("writing the weights"):
        result.save(str(files[1]))
    return {"layers": rows, "folded": folded}, inputs, expected


def _windows(net, blobs, weights, max_kernel):
    """{name of an ACU: its (vertical, horizontal) dense.Window}. Raises UserError for positions
    that are nowhere or too far away, and weights that are not finite."""
    found = {
        layer.name: dense.windows(layer, *blobs[layer.name][2:], max_kernel)
        for layer in net.layer
        if layer.type in positions.TYPES
    }
    for name, of_layer in blobs.items():
        if not all(np.isfinite(blob).all() for blob in of_layer):
            raise UserError(
                f"layer {name} of {weights} has weights that are not finite: name an earlier "
                "snapshot"
            )
    return found


def _flattened(net, live):
    """Lets outputs of the NetParameter ``net``, whose pycaffe Net is ``live``, that are
    N×classes×1×1 for every image be N×classes; returns their names."""
    shapes = {name: tuple(blob.shape) for name, blob in live.blobs.items()}
    free, renamed = free_axes(net, shapes), []
    for name in live.outputs:
        if len(shapes[name]) == 4 and shapes[name][2:] == (1, 1) and not free[name] & {2, 3}:
            for layer in net.layer:
                for names in (layer.bottom, layer.top):
                    names[:] = [f"{name}/map" if each == name else each for each in names]
            net.layer.add(name=f"{name}/flat", type="Flatten", bottom=[f"{name}/map"], top=[name])
            renamed.append(name)
    return renamed


# ---- The result


def _write(folder, format, files, prepared):
    """Writes what the user gets, of the network in ``files``, Caffe's two; returns its paths."""
    if format == "caffe":
        return files
    onnx_model, torch_module = _writers()
    net, live = messages.read_net(files[0]), nets.load(*files)
    shapes = {name: tuple(blob.shape) for name, blob in live.blobs.items()}
    table = torch_module.TABLE if format == "torch" else onnx_model.TABLE
    graph = onnx_model.build(net, live, free_axes(net, shapes), table)
    if format == "torch":
        return torch_module.write(folder, graph, prepared)
    said = {}
    if prepared:
        content = prepared[0]
        said = {"preprocessing": json.dumps(content), "classes": json.dumps(content["classes"])}
    onnx_model.write(folder / ONNX, graph, said)
    return [folder / ONNX]


def _writers():
    """The modules that write other formats than Caffe's; UserError where they need what is not
    installed."""
    try:
        from . import onnx_model, torch_module
    except ImportError as error:
        raise UserError(
            f"this format needs Python's onnx ({error}): install python3-onnx, or pip "
            "install 'active-convolution[onnx]'"
        ) from error
    return onnx_model, torch_module


def _row(active, layer, arrays, kernel, live):
    """The report's entry of an ACU in the original ``live`` and its Convolution. Costs are
    multiply-adds an image: those of the ACU count its interpolation, four for each value read."""
    pixels = sum(math.prod(live.blobs[top].shape[2:]) for top in live.top_names[active.name])
    outputs, channels, *size = arrays[0].shape
    group, sets = active.convolution_param.group, len(arrays[2])
    read = len({(d * group // outputs, d * sets // outputs) for d in range(outputs)})
    return {
        "name": active.name,
        "active_kernel": size,
        "kernel": kernel[0].shape[2:],
        "dilation": geometry.pair(layer, "dilation", 1),
        "active_cost": pixels * math.prod(size) * channels * (outputs + 4 * read),
        "cost": kernel[0].size * pixels,
        "difference": verify.layers(active, arrays, layer, kernel),
    }
