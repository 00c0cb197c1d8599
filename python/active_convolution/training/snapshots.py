"""Snapshots of a run: which are whole, and how to go on from one."""

import contextlib
import dataclasses
import glob
import json
import math
import re
import tempfile
from pathlib import Path

from google.protobuf.message import DecodeError

from ..caffe import locate, messages
from ..errors import UserError
from ..files import DAMAGE, content, whole_file


@dataclasses.dataclass(frozen=True)
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


def refuse_pipes(prefix):
    """Raises UserError where a pipe stands in the place of a snapshot: Caffe would wait for its reader for ever."""
    prefix = Path(prefix)
    for path in sorted(prefix.parent.glob(f"{glob.escape(prefix.name)}_iter_*")):
        if path.is_fifo():
            raise UserError(f"{path} is a pipe, where a snapshot is to be written: remove it")


def newest_whole(prefix, solver, warn):
    """The newest snapshot that fits the live ``solver`` (pycaffe) in full, or None.

    A solver that is killed, or a disk that fills up, leaves files that end anywhere, even between two fields, where
    they still parse: so every blob is counted. ``warn(text)`` hears of each snapshot passed over.
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
            read.append(messages.parsed(kind, _bytes(path)))
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


def _bytes(path):
    return content(path, messages.MOST_BYTES)


def _count(blob):
    """The number of values in a BlobProto, or -1 where its shape says another."""
    values = len(blob.data) or len(blob.double_data)
    return values if values == math.prod(blob.shape.dim) else -1


def _history_counts(solver):
    """The sizes of what the solver remembers: one or two numbers for each of a parameter's, shared parameters once."""
    sizes = {
        blob.data.ctypes.data: blob.count for blobs in solver.net.params.values() for blob in blobs
    }
    return list(sizes.values()) * (
        2 if type(solver).__name__ in ("AdaDeltaSolver", "AdamSolver") else 1
    )


def restore(solver, snapshot):
    """Brings ``solver`` (pycaffe) to ``snapshot``, also where the run's folder has moved since."""
    state = messages.parsed(locate.caffe_pb2().SolverState, _bytes(snapshot.state))
    state.learned_net = str(snapshot.model)
    with tempfile.NamedTemporaryFile(suffix=".solverstate") as file:
        file.write(state.SerializeToString())
        file.flush()
        solver.restore(file.name)


# ---- What a training that was stopped had measured since its last record


def write_since(prefix, iteration, values):
    """Keeps a list of {column: value}, one for each iteration, for the snapshot after ``iteration``."""
    with whole_file(_since(f"{prefix}_iter_{iteration}"), encoding="utf-8") as file:
        json.dump(values, file)


def read_since(snapshot):
    """What ``write_since`` kept; [] where there is nothing, or nothing that can be read."""
    try:
        values = json.loads(content(_since(snapshot.state.with_suffix(""))))
        return [{str(column): float(value) for column, value in entry.items()} for entry in values]
    except (OSError, UserError, *DAMAGE):
        return []


def _since(stem):
    return Path(f"{stem}.since.json")


# ---- To another process


def packed(snapshot):
    """A Snapshot with its files' contents, to be sent to another process."""
    return snapshot, _bytes(snapshot.state), _bytes(snapshot.model)


@contextlib.contextmanager
def unpacked(parts):
    """What ``packed`` made, as a Snapshot in a temporary folder."""
    snapshot, state, model = parts
    with tempfile.TemporaryDirectory() as folder:
        copy = Snapshot(
            snapshot.iteration,
            Path(folder) / snapshot.state.name,
            Path(folder) / snapshot.model.name,
        )
        copy.state.write_bytes(state)
        copy.model.write_bytes(model)
        yield copy
