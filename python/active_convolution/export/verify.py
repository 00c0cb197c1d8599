"""Whether what was written computes what it should: each replaced layer on its own, the networks in
Caffe, and the files in the engines that read them, on random input."""

import importlib.util
import json
import math
import os
import tempfile
from pathlib import Path

import numpy as np

from .. import geometry
from ..caffe import locate, messages
from ..caffe.guard import doing
from ..errors import UserError
from ..files import whole_file

# Of the largest value: far more than rounding, far less than what another network gives.
TOLERANCE = 1e-3
_HELPERS = ("Input", "Parameter", "DummyData")  # layers without a bottom that read nothing
_INDEXED = (  # layers that take numbers for indices: 0 and 1 are of all of them
    *("Embed", "BatchReindex", "Filter", "SoftmaxWithLoss", "Accuracy", "InfogainLoss"),
    *("HingeLoss", "MultinomialLogisticLoss"),
)


def own_source(net):
    """The layer of a NetParameter that reads its images itself, None in a network that is fed
    through its inputs alone."""
    return next((x for x in net.layer if not x.bottom and x.type not in _HELPERS), None)


def difference(expected, found):
    """(largest difference, largest value) of two arrays; NaN where one is, infinite where they have
    other numbers of values."""
    if expected.size != found.size:
        return math.inf, math.inf
    distance = np.abs(expected.ravel() - found.ravel()).max(initial=0)
    return float(distance), float(np.abs(expected).max(initial=0))


def check(name, found):
    """Raises UserError where ``difference`` found more than rounding; ``name`` says of what."""
    distance, largest = found
    if not distance <= TOLERANCE * max(1, largest) < math.inf:  # so is NaN
        raise UserError(
            f"{name} is not the original's on random input: the largest difference is "
            f"{distance:.2g} (largest value {largest:.3g}), so nothing is written: look for "
            f"weights or values that are not finite, and for layers that draw at random"
        )
    return found


def compare(expected, found):
    """{output: (largest difference, largest value)} of two {output: array}. Raises UserError where
    one is more than rounding."""
    return {
        name: check(f"output {name}", difference(values, found[name]))
        for name, values in expected.items()
    }


def said(outputs):
    """Lines about {output: (largest difference, largest value)}."""
    return [
        f"output {name} on random input: largest difference {distance:.1e} (largest value "
        f"{most:.3g})"
        for name, (distance, most) in outputs.items()
    ]


def write_report(folder, report, text):
    """Writes report.txt and, of what JSON holds, report.json."""
    with whole_file(folder / "report.txt") as file:
        file.write(text)
    with whole_file(folder / "report.json") as file:
        json.dump(report, file, indent=2)
        file.write("\n")


# ---- A layer


def layers(before, blobs, after, changed):
    """The ``difference`` between a convolution, ordinary or active, and what takes its place: two
    LayerParameters with their blobs. Each runs alone, on an image in which every synapse reads a
    pixel. Raises UserError where that is more than rounding."""
    sizes = zip(_size(before, blobs), _size(after, changed))
    channels = blobs[0].shape[1] * before.convolution_param.group
    image = np.random.default_rng(0).normal(size=(2, channels, *map(max, sizes)))
    found = [_alone(*each, image) for each in ((before, blobs), (after, changed))]
    return check(f"layer {before.name}", difference(*found))


def _size(layer, blobs):
    """(height, width) of an image in which each synapse reads a pixel, for some output."""
    of_axes = blobs[:1:-1] if len(blobs) == 4 else [np.zeros(1)] * 2  # y and x
    sizes = []
    for axis, positions in zip(geometry.axes(layer), of_axes):
        farthest = math.ceil(np.abs(positions).max())
        outputs = max(1, axis.extent - 2 * axis.pad) + 2 * axis.stride
        sizes.append(outputs + farthest + abs(axis.base) + len(sizes))
    return sizes


def _alone(layer, blobs, image):
    net = locate.caffe_pb2().NetParameter(input=["x"])
    net.input_shape.add(dim=image.shape)
    own = net.layer.add()
    own.CopyFrom(layer)
    for field in ("include", "exclude", "param", "loss_weight", "propagate_down", "blobs"):
        own.ClearField(field)
    own.bottom[:], own.top[:] = ["x"], ["y"]
    with tempfile.TemporaryDirectory() as folder:
        live = build(net, Path(folder) / "net.prototxt", f"layer {layer.name}")
    for blob, values in zip(live.params[layer.name], blobs):
        blob.data[...] = np.reshape(values, blob.data.shape)
    return outputs(live, {"x": image})["y"]


# ---- A network


def build(net, path, called, phase=None, stages=()):
    """The pycaffe Net of a NetParameter, written to ``path`` without fillers, whose weights are to
    come; its end is told as that of ``called``."""
    runnable, caffe = type(net)(), locate.caffe()
    runnable.CopyFrom(net)
    messages.forget_build(runnable)
    messages.write_to_run(path, runnable)
    with doing(f"building {called}"):
        phase = caffe.TEST if phase is None else phase
        return caffe.Net(os.fsencode(path), phase, stages=list(stages) or None)


def random_run(net, live):
    """(inputs, outputs), {name: array} each, of a pycaffe Net on random input: standard normal, or
    positive where it computes no numbers from that (a logarithm), or indices where some layer of
    ``net``, its NetParameter, takes them."""
    indexed = any(layer.type in _INDEXED for layer in net.layer)
    ways = [("integers", 0, 2)] if indexed else [("normal", 0, 1), ("uniform", 0.1, 1)]
    for way, *limits in ways:
        draw = getattr(np.random.default_rng(0), way)
        shapes = {name: tuple(live.blobs[name].shape) for name in live.inputs}
        inputs = {name: np.float32(draw(*limits, shape)) for name, shape in shapes.items()}
        found = outputs(live, inputs)
        if all(np.isfinite(array).all() for array in found.values()):
            break
    return inputs, found


def outputs(live, inputs):
    """{name: array} that a pycaffe Net gives for ``inputs``."""
    for name, values in inputs.items():
        live.blobs[name].data[...] = values
    locate.caffe().set_random_seed(0)  # for DummyData, which draws at each pass
    with doing("running the network on random input"):
        live.forward()
    return {name: live.blobs[name].data.copy() for name in live.outputs}


# ---- Other engines


def _onnxruntime(inputs, model):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, ["CPUExecutionProvider"])
    return session.run(None, inputs), onnxruntime.__version__


def _opencv(inputs, *files):
    import cv2

    net = cv2.dnn.readNet(*map(str, reversed(files)))
    for name, values in inputs.items():
        net.setInput(values, name if len(inputs) > 1 else "")
    return net.forward(net.getUnconnectedOutLayersNames()), cv2.__version__


def _torch(inputs, module, weights):
    import torch

    spec = importlib.util.spec_from_file_location("network", module)
    network = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(network)
    with torch.no_grad():
        found = network.load(weights)(*map(torch.from_numpy, inputs.values()))
    found = found if isinstance(found, tuple) else [found]
    return [array.numpy() for array in found], torch.__version__


# What reads each format beside Caffe; that the first gets it right is what decides.
_READERS = {
    "caffe": {"OpenCV": _opencv},
    "onnx": {"onnxruntime": _onnxruntime, "OpenCV": _opencv},
    "torch": {"PyTorch": _torch},
}
_ALL = {"caffe": "any Caffe", "onnx": "whatever reads ONNX", "torch": "PyTorch"}


def engines(files, format, inputs, expected):
    """Runs exported ``files`` in whatever reads their ``format`` and is installed, and compares
    with ``expected``, {name: array}: a line that says where the result runs. Raises UserError where
    the engine that decides computes something else, or cannot run it."""
    right, wrong, missing, first = [], [], [], next(iter(_READERS[format]))
    for engine, function in _READERS[format].items():
        decides = format != "caffe" and engine == first
        try:
            with doing(f"running the result in {engine}"):
                found, version = function(inputs, *files)
        except ImportError:
            missing.append(engine)
            continue
        except Exception as error:  # whatever a foreign library raises
            if decides:
                raise UserError(f"{engine} cannot run the result ({_reason(error)})") from error
            wrong.append(f"{engine} ({_reason(error)})")
            continue
        pairs = [difference(a, np.asarray(b)) for a, b in zip(expected.values(), found)]
        share = float(np.max([distance / max(1, largest) for distance, largest in pairs]))
        if share <= TOLERANCE:
            right.append(f"{engine} {version} (difference {share:.0e})")
        elif decides:
            raise UserError(
                f"{engine} {version} computes something else from the result: the largest "
                f"difference is {share:.2g} of the largest value, so nothing is written"
            )
        else:
            wrong.append(f"{engine} {version} (which computes something else)")
    said = {"the same here in": right, "not in": wrong, "not tried here, since missing:": missing}
    said = [f"{words} {', '.join(engines)}" for words, engines in said.items() if engines]
    return "; ".join([f"runs in {_ALL[format]}", *said])


def _reason(error):
    """What a library said, as a sentence: OpenCV's ``err`` without its place in the source."""
    lines = [line.strip("> \t") for line in str(getattr(error, "err", error)).splitlines()]
    return " ".join(filter(None, lines))[:300] or type(error).__name__
