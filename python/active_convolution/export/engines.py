"""Exported networks in the engines that read them, each in a process of its own: what is foreign may crash, not the
export."""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ..caffe.process import environment
from ..errors import UserError
from . import verify

_PROGRAMS = {
    "onnxruntime": """
import onnxruntime as engine
options = engine.SessionOptions()
options.log_severity_level = 3
session = engine.InferenceSession(model, options, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
outputs = dict(zip(names, session.run(names, inputs)))
""",
    "OpenCV": """
import cv2 as engine
net = engine.dnn.readNet(*([model] if weights is None else [weights, model]))
for name, values in inputs.items():
    net.setInput(values, name if len(inputs) > 1 else "")
names = net.getUnconnectedOutLayersNames()
outputs = dict(zip(names, net.forward(names)))
""",
    "PyTorch": """
import importlib.util, torch as engine
spec = importlib.util.spec_from_file_location("network", model)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
net = module.Network()
net.load_state_dict(engine.load(weights))
net.eval()
with engine.no_grad():
    found = net(*[engine.from_numpy(values) for values in inputs.values()])
outputs = {name: values.numpy() for name, values in zip(net.outputs, found if isinstance(found, tuple) else [found])}
""",
}
_FRAME = """
import json, sys
import numpy as np
engine_name, model, weights, folder = json.loads(sys.argv[1])
stored = np.load(folder + "/inputs.npz")
inputs = dict(zip(json.loads(str(stored["names"])), [stored[f"a{index}"] for index in range(len(stored.files) - 1)]))
%s
np.savez(folder + "/outputs.npz", names=json.dumps(list(outputs)), version=engine.__version__,
         **{f"a{index}": values for index, values in enumerate(outputs.values())})
"""


# What reads each format, beside Caffe; the first is the one that decides whether the files are right.
_READERS = {"caffe": ["OpenCV"], "onnx": ["onnxruntime", "OpenCV"], "torch": ["PyTorch"]}
_ALL = {
    "caffe": "runs in any Caffe",
    "onnx": "runs in whatever reads ONNX",
    "torch": "runs in PyTorch",
}
_MISSING = "No module named"
_NOT_OURS = (
    _MISSING,
    "ImportError",
    "memory",
)  # what PyTorch may fail of, whatever module it is given


class Failed(Exception):
    """The engine is missing, or does not take the network; the message says why in one line."""


def run(files, format, original):
    """Runs exported ``files`` in whatever reads their ``format`` and is installed, on the inputs that the pycaffe Net
    ``original`` has just been run with, and compares: ({engine: (version, largest difference of all outputs, as a part
    of the largest value) or why it did not run}, a line that says where the result runs). Raises UserError where the
    engine that decides computes something else, or PyTorch cannot read the module.
    """
    inputs = {name: original.blobs[name].data for name in original.inputs}
    expected = [original.blobs[name].data for name in original.outputs]
    ran = {}
    for engine in _READERS[format]:
        try:
            found, version = outputs(engine, inputs, *files)
            ran[engine] = version, _share(expected, list(found.values()))
        except Failed as failed:
            if format == "torch" and not any(word in str(failed) for word in _NOT_OURS):
                raise UserError(
                    f"{engine} cannot run the result ({failed}), so nothing is written: give --format caffe"
                ) from None
            ran[engine] = str(failed)
            continue
        if (
            engine == _READERS[format][0]
            and format != "caffe"
            and not ran[engine][1] <= verify.TOLERANCE
        ):
            raise UserError(
                f"{engine} {version} computes something else from the result: the largest difference is "
                f"{ran[engine][1]:.2g} of the largest value, so nothing is written"
            )
    return ran, _where(ran, format)


def _share(expected, found):
    """The largest difference, as a part of the largest value of its output; infinite where the shapes differ."""
    if [array.size for array in expected] != [array.size for array in found]:
        return math.inf
    pairs = [verify.difference(a, np.reshape(b, a.shape)) for a, b in zip(expected, found)]
    return float(np.max([distance / max(1, largest) for distance, largest in pairs], initial=0))


def _where(ran, format):
    same = [
        f"{engine} {answer[0]} (difference {answer[1]:.0e})"
        for engine, answer in ran.items()
        if not isinstance(answer, str) and answer[1] <= verify.TOLERANCE
    ]
    wrong = [
        f"{engine} {answer[0]}, which computes something else"
        for engine, answer in ran.items()
        if not isinstance(answer, str) and not answer[1] <= verify.TOLERANCE
    ]
    unable = [
        f"{engine}, which is not installed" if _MISSING in answer else f"{engine} ({answer})"
        for engine, answer in ran.items()
        if isinstance(answer, str)
    ]
    tried = f"; the same here in {', '.join(same)}" if same else ""
    return (
        _ALL[format] + tried + (f"; not in {', '.join(wrong + unable)}" if wrong or unable else "")
    )


def outputs(engine, inputs, model, weights=None, python=sys.executable):
    """The outputs of an exported network on ``inputs``, {name: float32 array}: ({name: array}, the engine's version).

    ``engine`` is "onnxruntime" or "PyTorch", or "OpenCV", which calls outputs by its own names, in the network's order.
    ``model`` is the .onnx file, the Python module or the prototxt; ``weights`` belong to the last two. Raises Failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        arrays = {
            f"a{index}": np.ascontiguousarray(values, np.float32)
            for index, values in enumerate(inputs.values())
        }
        np.savez(Path(folder) / "inputs.npz", names=json.dumps(list(inputs)), **arrays)
        argument = json.dumps(
            [engine, str(model), None if weights is None else str(weights), folder]
        )
        done = subprocess.run(
            [python, "-c", _FRAME % _PROGRAMS[engine], argument],
            env=environment(),
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode:
            said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            raise Failed(said[-1] if said else f"{engine} ended with status {done.returncode}")
        with np.load(Path(folder) / "outputs.npz") as stored:
            names = json.loads(str(stored["names"]))
            return {name: stored[f"a{index}"] for index, name in enumerate(names)}, str(
                stored["version"]
            )
