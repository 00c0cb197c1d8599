"""The weights that a training begins with, and the snapshots that it goes on from."""

import json
import math
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from ..caffe import locate, messages
from ..caffe.messages import by
from ..errors import UserError
from ..files import DAMAGE, whole_file


@dataclass(frozen=True)
class Snapshot:
    """The two files that Caffe's solver writes after ``iteration`` iterations."""

    iteration: int
    state: Path
    model: Path


def found(prefix):
    """All snapshots under the solver's snapshot_prefix, newest first, whole or not."""
    prefix = Path(prefix)
    snapshots = []
    for state in prefix.parent.glob("*.solverstate"):
        match = re.fullmatch(re.escape(prefix.name) + r"_iter_(\d+)\.solverstate", state.name)
        if match:
            snapshots.append(Snapshot(int(match[1]), state, state.with_suffix(".caffemodel")))
    return sorted(snapshots, key=lambda snapshot: -snapshot.iteration)


def newest_whole(prefix, solver, warn):
    """The newest snapshot that fits the live ``solver`` (pycaffe) in full, or None.

    A solver that is killed, or a disk that fills up, leaves files that end anywhere, even between
    two fields, where they still parse: so every blob is counted. ``warn(text)`` hears of each
    snapshot passed over.
    """
    for snapshot in found(prefix):
        reason = _damage(snapshot, solver)
        if reason is None:
            return snapshot
        warn(f"warning: passing over {snapshot.state}: {reason}")
    return None


def _damage(snapshot, solver):
    """What is wrong with a snapshot, in a few words; None where it is whole."""
    pb2, read = locate.caffe_pb2(), []
    for path, kind in ((snapshot.state, pb2.SolverState), (snapshot.model, pb2.NetParameter)):
        try:
            read.append(messages.parsed(kind, path.read_bytes()))
        except OSError as error:
            return f"cannot read {path.name} ({error.strerror})"
        except (DecodeError, UserError, ValueError):
            return f"{path.name} is damaged"
    state, model = read
    if state.iter != snapshot.iteration:
        return f"{snapshot.state.name} is of iteration {state.iter}"
    histories_fit = sorted(map(_count, state.history)) == sorted(_history_counts(solver))
    if not (histories_fit and state.HasField("current_step")):  # the last field
        return f"{snapshot.state.name} does not hold the whole state of the solver"
    saved = {layer.name: [_count(blob) for blob in layer.blobs] for layer in model.layer}
    for name, layer in zip(solver.net._layer_names, solver.net.layers):
        if saved.get(name) != [blob.count for blob in layer.blobs]:
            return f"{snapshot.model.name} does not hold all of layer {name}"
    return None


def _count(blob):
    """The number of values in a BlobProto, or -1 where its shape says another."""
    values = len(blob.data) or len(blob.double_data)
    return values if values == math.prod(blob.shape.dim) else -1


def _history_counts(solver):
    """The sizes of what the solver remembers: one or two numbers for each of a parameter's, shared
    parameters once."""
    blobs = [blob for blobs in solver.net.params.values() for blob in blobs]
    sizes = {blob.data.ctypes.data: blob.count for blob in blobs}
    twice = type(solver).__name__ in ("AdaDeltaSolver", "AdamSolver")
    return list(sizes.values()) * (2 if twice else 1)


def restore(solver, iteration, state, model):
    """Brings ``solver`` (pycaffe) to the snapshot with these bytes of its two files."""
    with tempfile.TemporaryDirectory() as folder:
        message = messages.parsed(locate.caffe_pb2().SolverState, state)
        message.learned_net = f"{folder}/{iteration}.caffemodel"
        Path(message.learned_net).write_bytes(model)
        path = Path(folder) / f"{iteration}.solverstate"
        path.write_bytes(message.SerializeToString())
        solver.restore(str(path))


# ---- What a training that was stopped had measured since its last record


def write_since(prefix, iteration, values):
    """Keeps a list of {column: value}, one for each iteration, for the snapshot there."""
    with whole_file(f"{prefix}_iter_{iteration}.since.json") as file:
        json.dump(values, file)


def read_since(snapshot):
    """What ``write_since`` kept; [] where there is nothing that can be read."""
    try:
        return json.loads(snapshot.state.with_suffix(".since.json").read_bytes())
    except (OSError, *DAMAGE):
        return []


# ---- The weights that a training begins with


@dataclass(frozen=True)
class Copied:
    """The layers of a network that got weights from ``file``; ``activated`` are those of them that
    are active and were ordinary there. ``left`` says why other layers got none, ``unused`` names
    those of the file that the network lacks."""

    file: str
    copied: list
    activated: list
    left: dict
    unused: list

    def lines(self):
        """The list, in lines for a person."""
        count = len(self.activated)
        active = f", {count} of them ordinary ones into active convolutions" if count else ""
        yield f"{Path(self.file).name}: weights of {len(self.copied)} layers copied{active}"
        if self.left:
            left = ", ".join(f"{layer} ({why})" for layer, why in self.left.items())
            yield f"  not copied: {left}"
        if self.unused:
            yield f"  not in this network: {', '.join(self.unused)}"


def copy_weights(net, path):
    """Copies the weights in the .caffemodel ``path``, of whichever format, into the live ``net``
    (pycaffe), by the layers' names, those of an ordinary convolution into an active one, too;
    Copied.

    Raises UserError where the file cannot be read, and where no layer takes anything from it.
    """
    stored = {layer.name: layer.blobs for layer in messages.read_weights(path).layer if layer.blobs}
    types = dict(zip(net._layer_names, (layer.type for layer in net.layers)))
    copied, activated, left = [], [], {}
    for name, blobs in net.params.items():
        if name not in stored:
            left[name] = f"not in {Path(path).name}"
            continue
        ordinary = types[name] == "ActiveConvolution" and len(stored[name]) <= 2
        if not _fits(stored[name], blobs[: len(stored[name])] if ordinary else blobs):
            left[name] = _reason(types[name], stored[name], blobs)
            continue
        for live, blob in zip(blobs, stored[name]):
            live.data[...] = messages.values(blob).reshape(live.data.shape)
        copied.append(name)
        activated += [name] if ordinary else []
    if not copied:
        raise UserError(
            f"{path} has no weights for any layer of this network: give the weights of one that "
            "shares layers with it, by name and by shape"
        )
    return Copied(str(path), copied, activated, left, sorted(stored.keys() - net.params.keys()))


def _fits(stored, blobs):
    return len(stored) == len(blobs) and all(
        messages.holds(blob, live.data.shape) for blob, live in zip(stored, blobs)
    )


def _reason(kind, stored, blobs):
    weights = messages.shape(stored[0]) == blobs[0].data.shape
    if kind in ("ActiveConvolution", "AConvFast") and len(stored) <= 2 and weights:
        return "another bias, or AConvFast's order of synapses: see acu convert"
    there = ", ".join(by(messages.shape(blob)) for blob in stored)
    here = ", ".join(by(blob.data.shape) for blob in blobs)
    return f"{there} there, {here} here"
