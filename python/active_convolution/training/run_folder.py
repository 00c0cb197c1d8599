"""The folder of one training run: what is resolved before it starts, and what it leaves."""

import contextlib
import fcntl
import json
import os
import re
from pathlib import Path

from ..caffe import messages
from ..caffe.positions import RUN_FILE
from ..data.manifest import Manifest
from ..errors import UserError
from ..files import DAMAGE, json_object, reading, whole_file
from . import definition, schedule

_LONGEST = 220  # bytes of a network's name in the names of its snapshots


class RunFolder:
    """``solver.prototxt``, ``train_val.prototxt`` and ``deploy.prototxt`` (where the network has
    one) as this run uses them, ``train.log`` (Caffe's), ``metrics.csv``, ``positions.npz``,
    ``snapshots/``, ``run.json``, which says what ran where and when (see record.py), and
    ``data.json``, where it trains on a data set folder: that one's manifest.

    What a command takes as RUN is this: its ``deploy``, a ``snapshot()`` and its ``data``."""

    def __init__(self, path):
        self.path = Path(os.path.realpath(path))  # of a circle of links, too
        self.solver, self.train_val, self.deploy = (
            self.path / f"{name}.prototxt" for name in ("solver", "train_val", "deploy")
        )
        self.log = self.path / "train.log"
        self.metrics = self.path / "metrics.csv"
        self.positions = self.path / RUN_FILE
        self.snapshots = self.path / "snapshots"
        self.record = self.path / "run.json"
        self.data_json = self.path / "data.json"

    def begun(self):
        """Whether a training has brought anything about: what a failed start leaves is not."""
        return self.solver.exists() and (
            self.metrics.exists() or any(self.snapshots.glob("*.solverstate"))
        )

    def snapshot(self, iteration=None):
        """The .caffemodel after ``iteration`` iterations, by default of the newest snapshot. Raises
        UserError where there is none. (Caffe writes the solver's state last: where that is there,
        the weights are whole.)"""
        models = {
            int(number[1]): state.with_suffix(".caffemodel")
            for state in self.snapshots.glob("*.solverstate")
            for number in [re.search(r"_iter_(\d+)$", state.stem)]
            if number
        }
        if not models:
            raise UserError(f"{self.path} has no snapshot: name a run that has one")
        if iteration is not None and iteration not in models:
            known = f"{iteration}: give one of {', '.join(map(str, sorted(models)))}"
            raise UserError(f"{self.path} has no snapshot of iteration {known}")
        return models[max(models) if iteration is None else iteration]

    @property
    def data(self):
        """The Manifest of the data set that the run trains on, as it was then, its paths absolute;
        None where the network names its own sources."""
        said = _json(self.data_json)
        with reading(self.data_json, "is damaged", "name another run", reason=True):
            return said and Manifest.of(said)

    @property
    def said(self):
        """What run.json says, a dictionary (see record.py); None without one."""
        return _json(self.record)


def _json(path):
    if not path.exists():
        return None
    with reading(path, "is damaged", "remove it, or name another run", DAMAGE, reason=True):
        return json_object(path)


def write_json(path, content):
    with whole_file(path, encoding="utf-8") as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")


def existing(path):
    """The RunFolder of a training that was begun. Raises UserError for any other folder."""
    run = RunFolder(path)
    if not run.path.exists():
        raise UserError(f"there is no {path}: give the --output of acu train")
    if not (run.solver.is_file() and run.train_val.is_file()):
        raise UserError(
            f"{path} is not a run of acu train, it has no solver.prototxt and train_val.prototxt: "
            "name its --output (caffe train keeps no records; acu train --solver FILE does)"
        )
    return run


def load(run):
    """The SolverParameter and the NetParameter in a run folder."""
    return messages.read_solver(run.solver), messages.read_net(run.train_val)


def of_run(run):
    """The Definition in a run folder, which may have moved."""
    _check_there(run)
    solver, net = load(run)
    place(run, solver, net)
    return definition.checked(definition.Definition(run.path, solver, net, data=run.data))


def _check_there(run):
    if not run.solver.exists():
        raise UserError(f"{run.path} holds no run to go on with: leave --resume out")


def place(run, solver, net):
    """Lets the solver and the snapshots of a run lie in its folder."""
    solver.net = str(run.train_val)
    name = net.name.encode()[:_LONGEST].decode(errors="ignore").replace("/", "_")
    solver.snapshot_prefix = str(run.snapshots / (name or "net"))


@contextlib.contextmanager
def opened(run, found, resume=False):
    """Makes ``run`` ready to train the Definition ``found``, wherever its folders lay before, and
    yields the descriptor of its log, which keeps others from training into it.

    Without ``resume`` it is a new run, or one whose start failed; with it, one that was started
    with these very settings, or failed to start. Raises UserError for any other.
    """
    if resume:
        _check_there(run)
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        network = run.solver.exists() or run.train_val.exists()
        if network and not (run.log.exists() or run.begun()):
            raise UserError(f"{run.path} holds a network of its own: name another --output")
        log = open(run.log, "a")
    except OSError as error:
        raise UserError(f"cannot write {run.path}: {error.strerror}") from error
    with log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another process is training into {run.path}: wait for its end, or stop it"
            ) from error
        if run.begun():
            if not resume:
                raise UserError(
                    f"{run.path} holds a run already: go on with --resume, or name another --output"
                )
            check_settings(run, found)
        elif found.source != run.path:
            for path in (run.deploy, run.positions, run.data_json, run.record):
                path.unlink(missing_ok=True)
        run.snapshots.mkdir(exist_ok=True)
        if found.deploy is not None:
            messages.write(run.deploy, found.deploy)
        if found.data is not None:
            write_json(run.data_json, found.data.as_dict())
        messages.write(run.train_val, found.net)
        messages.write(run.solver, found.solver)  # last: it says that the others are there
        yield log.fileno()


def check_settings(run, found):
    """Raises UserError unless ``run``, which holds a run, was started with these very settings."""
    for path, before, now in zip((run.solver, run.train_val), load(run), (found.solver, found.net)):
        if without_paths(before) != without_paths(now):
            raise UserError(
                f"{path} is not what this command would train: resume with --output alone, or with "
                "the options that the run was started with, or name another --output"
            )


def without_paths(message):
    copy = type(message)()
    copy.CopyFrom(message)
    for layer in getattr(copy, "layer", ()):
        if layer.type in schedule.READERS:
            schedule.reader(layer).ClearField("source")
    for name in ("net", "snapshot_prefix"):
        if name in copy.DESCRIPTOR.fields_by_name:
            copy.ClearField(name)
    return copy
