"""The folder of one training run: what is resolved before it starts, and what it leaves."""

import contextlib
import json
import os
from pathlib import Path

from ..caffe import messages
from ..caffe.positions import RUN_FILE
from ..caffe.process import lock_log
from ..data.manifest import Manifest, read_manifest
from ..errors import BadValue, UserError
from ..files import json_object, reading, whole_file
from . import changes as changing
from . import checks, data_sources, definition, deploying, schedule

# Where a solver also has its weights from (see weights.py); and HDF5, which the other tools do not write.
_REPLACED = ("weights", "snapshot_format")
_LONGEST = 220  # bytes of a network's name in the names of its snapshots
_SEED = 1  # of a solver without random_seed: Caffe would draw another one at each start, also when a run goes on


class RunFolder:
    """``solver.prototxt``, ``train_val.prototxt`` and ``deploy.prototxt`` (where the network has one) as this run uses
    them, ``train.log`` (Caffe's), ``metrics.csv``, ``positions.npz``, ``snapshots/``, ``data.json``, where it trains on a
    data set folder: that one's manifest, and ``weights.json``, where it began with weights: their file, and what was
    copied from it.

    What a command takes as RUN is this: its ``deploy``, a ``snapshot()`` and its ``data``."""

    def __init__(self, path):
        self.path = Path(
            os.path.realpath(path)
        )  # of a circle of links, too, where resolve() gives up
        self.solver, self.train_val, self.deploy = (
            self.path / f"{name}.prototxt" for name in ("solver", "train_val", "deploy")
        )
        self.log = self.path / "train.log"
        self.metrics = self.path / "metrics.csv"
        self.positions = self.path / RUN_FILE
        self.snapshots = self.path / "snapshots"
        self.weights = self.path / "weights.json"
        self.data_json = self.path / "data.json"

    def begun(self):
        """Whether there is anything that a training has brought about: what a failed start leaves is not."""
        return self.solver.exists() and (
            self.metrics.exists() or any(self.snapshots.glob("*.solverstate"))
        )

    def snapshot(self, iteration=None):
        """The .caffemodel after ``iteration`` iterations, by default of the newest snapshot. Raises UserError where there is
        none. (Caffe writes the solver's state last: where that is there, the weights are whole.)"""
        models = {
            int(state.stem.rpartition("_iter_")[2]): state.with_suffix(".caffemodel")
            for state in self.snapshots.glob("*_iter_*.solverstate")
        }
        if not models:
            raise UserError(
                f"{self.path} has no snapshot: name the --output folder of acu train, after its first snapshot"
            )
        if iteration is not None and iteration not in models:
            known = ", ".join(map(str, sorted(models)))
            raise UserError(
                f"{self.path} has no snapshot of iteration {iteration}: give one of {known}"
            )
        return models[max(models) if iteration is None else iteration]

    @property
    def data(self):
        """The Manifest of the data set that the run trains on, as it was then, its paths absolute;
        None where the network names its own sources."""
        if not self.data_json.exists():
            return None
        with reading(self.data_json, "is damaged", "remove it, or name another run", reason=True):
            return Manifest.of(json_object(self.data_json))


def existing(path):
    """The RunFolder of a training that was begun. Raises UserError for any other folder."""
    run = RunFolder(path)
    if not (run.solver.is_file() and run.train_val.is_file()):
        raise UserError(
            f"{path} is no run of acu train, it has no solver.prototxt and train_val.prototxt: name "
            "its --output (caffe train keeps no records; acu train --solver FILE --output RUN does)"
        )
    return run


def resolve(
    run,
    model,
    variant,
    data=None,
    max_iter=None,
    seed=None,
    solver=None,
    changes=changing.Changes(),
):
    """The Definition of a run: that of ``model/variant``, of the prototxt ``solver``, or of that network with that solver, with ``changes`` made, the
    databases in the folder ``data`` (None: those that it names itself), everything written below ``run``, and shortened
    to ``max_iter`` iterations where that is given."""
    _check_range("--max-iter", max_iter, 1, 2**31 - 1)
    _check_range("--seed", seed, 0, 2**32 - 1)
    found = definition.of_model(model, variant, solver) if model else definition.of_solver(solver)
    changes.apply(found)
    checks.check_solver(found.solver, found.source)  # before it is shortened
    if data is None:
        data_sources.find(found)
    else:
        manifest = found.data = read_manifest(data)
        data_sources.point(found, manifest, data)
        changing.check_classes(found, manifest, data)
        if found.deploy is None:
            found.deploy = deploying.of(
                found, (manifest.test if found.solver.test_iter else manifest.train).shape
            )
    if max_iter is not None:
        schedule.shorten(found.solver, found.net, max_iter)
    if seed is not None:
        found.solver.random_seed = seed
    elif found.solver.random_seed < 0:
        found.solver.random_seed = _SEED
    for name in _REPLACED:
        if name in found.solver.DESCRIPTOR.fields_by_name:
            found.solver.ClearField(name)
    _place(run, found.solver, found.net)
    checks.check(found)
    return found


def of_run(run):
    """The Definition in a run folder, which may have moved."""
    if not run.solver.exists():
        raise UserError(f"{run.path} holds no run to go on with: leave --resume out")
    solver, net = load(run)
    if solver.random_seed < 0:
        raise UserError(
            f"{run.solver} has no random_seed, and was written with one: give it the one that the run began with"
        )
    _place(run, solver, net)
    found = definition.Definition(run.path, solver, net)
    checks.check(found)
    return found


def load(run):
    """The SolverParameter and the NetParameter in a run folder."""
    return messages.read_solver(run.solver), messages.read_net(run.train_val)


def _place(run, solver, net):
    solver.net = str(run.train_val)
    name = net.name.encode()[:_LONGEST].decode(errors="ignore").translate({ord("/"): "_", 0: "_"})
    solver.snapshot_prefix = str(run.snapshots / (name or "net"))


def _check_range(option, value, least, most):
    if value is not None and not least <= value <= most:
        raise BadValue(f"{option} {value} is out of range: give one from {least} to {most}")


# ---- Starting, and going on


@contextlib.contextmanager
def started(run, found, weights=None):
    """Fills a new run folder, or one whose start failed, and yields the descriptor of its log, which keeps others from
    training into it. Raises UserError where there is a run already, or another process trains there."""
    _check_not_begun(run)
    with _locked(run) as log:
        _check_not_begun(run)
        try:
            run.snapshots.mkdir(exist_ok=True)
            for path in (run.deploy, run.weights, run.positions, run.data_json):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {run.path}: {error.strerror}") from error
        if found.deploy is not None:
            messages.write(run.deploy, found.deploy)
        if weights is not None:
            write_weights(run, {"file": str(Path(weights).resolve())})
        _write_resolved(run, found)
        yield log


@contextlib.contextmanager
def resumed(run, found, weights=None):
    """Makes ``run`` ready to be gone on with, wherever its folders lay before, and yields as ``started``.

    Raises UserError unless it was started with these very settings; where nothing came of that start, it starts anew.
    """
    if not run.solver.exists():
        raise UserError(f"{run.path} holds no run to go on with: leave --resume out")
    if not run.begun() and found.source != run.path:
        with started(run, found, weights) as log:
            yield log
        return
    check_settings(run, found)
    begun_with = read_weights(run)
    if weights is not None and (begun_with or {}).get("file") != str(Path(weights).resolve()):
        raise UserError(
            f"{run.path} began with {begun_with['file'] if begun_with else 'random weights'}, not with {weights}: leave "
            "--weights out, or name another --output"
        )
    with _locked(run) as log:
        run.snapshots.mkdir(exist_ok=True)
        _write_resolved(run, found)
        yield log


def _check_not_begun(run):
    if run.begun():
        raise UserError(
            f"{run.path} holds a run already: go on with --resume, or name another --output"
        )


@contextlib.contextmanager
def _locked(run):
    try:
        run.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {run.path}: {error.strerror}") from error
    with lock_log(run.log) as log:
        yield log


def check_settings(run, found):
    """Raises UserError unless ``run``, which holds a run, was started with these very settings."""
    for path, before, now in zip((run.solver, run.train_val), load(run), (found.solver, found.net)):
        if _without_paths(before) != _without_paths(now):
            raise UserError(
                f"{path} is not what this command would train: resume with the model, --variant, --data, "
                "--max-iter and --seed that the run was started with, or name another --output"
            )


def _write_resolved(run, found):
    if found.data is not None:
        with whole_file(run.data_json, encoding="utf-8") as file:
            json.dump(found.data.as_dict(), file, indent=2)
            file.write("\n")
    messages.write(run.train_val, found.net)
    messages.write(run.solver, found.solver)  # last: its presence says that the others are there


def _without_paths(message):
    copy = type(message)()
    copy.CopyFrom(message)
    for layer in getattr(copy, "layer", ()):
        if layer.type in schedule.READERS:
            schedule.reader(layer).ClearField("source")
    for name in ("net", "snapshot_prefix"):
        if name in copy.DESCRIPTOR.fields_by_name:
            copy.ClearField(name)
    return copy


# ---- weights.json


def read_weights(run):
    """What ``write_weights`` wrote, None where the run began with random weights."""
    if not run.weights.exists():
        return None
    with reading(run.weights, "is damaged", "name another run", reason=True):
        content = json_object(run.weights)
        return {**content, "file": str(content["file"])}


def write_weights(run, content):
    with whole_file(run.weights, encoding="utf-8") as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")
