"""The training runs behind a table: which there are, which of them are finished, training the
others, and publishing one.

A folder of runs has table<N>/<data>-<network>-<variant>-<seed>, or table<N>-<scale>/… for those of
a shortened schedule. A variant is baseline, acu, or the name of an ablation: acu-nowarmup
(warmup_iter is 0, against §2.6 of the paper), acu-raw (gradients of positions are not normalised,
against §2.5).
"""

import dataclasses
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

from ..caffe import guard, messages
from ..errors import UserError
from ..networks import models
from ..training import run_folder
from ..training.metrics import Metrics
from ..training.run_folder import RunFolder
from ..training.trainer import INTERRUPTED
from .tables import TABLES, Comparison

_LOOK = 0.5  # seconds between two looks at how far the trainings are
_PUBLISHED = ("metrics.csv", "positions.npz")  # as they are


@dataclasses.dataclass(frozen=True)
class Run:
    """One training: ``variant`` of a comparison with one ``seed``, ``max_iter`` iterations long, in
    ``folder`` (RunFolder)."""

    comparison: Comparison
    variant: str
    seed: int
    max_iter: int
    folder: RunFolder

    @property
    def name(self):
        return self.folder.path.name

    @property
    def pair(self):
        """What it has in common with those that it is compared with."""
        return self.comparison, self.max_iter

    @functools.cached_property
    def whole(self):
        """The Model's own number of iterations."""
        return models.named(self.comparison.name).dataset.max_iter

    def metrics(self):
        """The Metrics so far, none where the run has not begun."""
        return Metrics.load(self.folder.metrics)

    def iteration(self):
        """How far the training is on the disk, in iterations."""
        return (self.metrics().last("iteration") or 0) if self.folder.begun() else 0

    def error(self):
        """Of the last test, a fraction; None where that found none."""
        return self.metrics().newest_test()["test_error"]

    def finished(self):
        """Whether the network was trained to the end and tested there."""
        return self.folder.begun() and self.metrics().tested() == self.max_iter


# ---- Which there are


def _folder(runs, table, scale):
    return Path(runs) / f"table{table.number}{'' if scale == 1 else f'-{scale:g}'}"


def plan(table, runs, scale=1.0, seeds=1, datasets=None):
    """The runs that ``table`` needs below the folder ``runs``, on the named ``datasets`` (None: all
    of its own), shortened to ``scale``: a list of Run, seed by seed, so that both sides grow
    together."""
    folder = _folder(runs, table, scale)
    return [
        Run(comparison, variant, seed, length, RunFolder(folder / f"{name}-{variant}-{seed}"))
        for seed in range(1, seeds + 1)
        for comparison in table.comparisons
        if not datasets or comparison.dataset in datasets
        for name in [comparison.name.replace("/", "-")]
        for length in [max(1, round(scale * models.named(comparison.name).dataset.max_iter))]
        for variant in models.VARIANTS
    ]


def found(table, runs, datasets=None):
    """All runs of ``table`` below the folder ``runs`` that have begun, of whatever length: list of
    Run."""
    runs_found = []
    for path in sorted(Path(runs).glob(f"table{table.number}*/*")):
        for comparison in table.comparisons:
            name = re.escape(comparison.name.replace("/", "-"))
            match = re.fullmatch(rf"{name}-((?:baseline|acu)(?:-\w+)?)-(\d+)", path.name)
            wanted = not datasets or comparison.dataset in datasets
            if match and wanted and RunFolder(path).begun():
                length = messages.read_solver(path / "solver.prototxt").max_iter
                runs_found.append(Run(comparison, match[1], int(match[2]), length, RunFolder(path)))
    return runs_found


# ---- Training them


def commands(runs, data, networks=None):
    """{run: the arguments of acu that train it, or go on with it}. ``data`` holds a data set's
    folder under its name, ``networks`` <dataset>/<network> where they are not the paper's own."""
    return {
        run: [
            "train",
            *(Path(networks or "") / run.comparison.name, "--variant", run.variant),
            *("--data", Path(data) / run.comparison.dataset, "--output", run.folder.path),
            *("--max-iter", run.max_iter, "--seed", run.seed),
            *(["--resume"] if run.folder.begun() else []),
        ]
        for run in runs
    }


def train_all(commands, jobs=1, gpus=()):
    """Trains those of ``commands`` that are not finished, up to ``jobs`` at a time, each by acu in
    a process of its own.

    Each has cores/jobs threads, unless OMP_NUM_THREADS says otherwise, and the least busy of the
    devices ``gpus``; the CPU where there is none. Returns 0, or 130 after Ctrl-C, SIGTERM or their
    like, which snapshot and stop all of them. Where one fails, the others are stopped, too, and
    UserError says which and why; the same call goes on from there.
    """
    waiting = [run for run in commands if not run.finished()]
    crew, failures, stopped = [], [], []

    def stop(*_):
        stopped.append(True)
        for worker in crew:
            worker.process.send_signal(signal.SIGINT)

    before = {number: signal.signal(number, stop) for number in guard.STOPS}
    try:
        with _progress(commands) as bar:
            while crew or waiting and not stopped:
                while waiting and len(crew) < jobs and not stopped:
                    run = waiting.pop(0)
                    gpu = min(gpus or [None], key=[worker.gpu for worker in crew].count)
                    crew.append(_Worker(run, commands[run], gpu, jobs))
                    if stopped:  # meanwhile
                        stop()
                time.sleep(_LOOK)
                bar.update(sum(run.iteration() for run in commands) - bar.n)
                for worker in [each for each in crew if each.process.poll() is not None]:
                    crew.remove(worker)
                    if worker.process.returncode == 0:
                        bar.write(f"{worker.run.name}: {outcome(worker.run)}")
                    elif not (stopped and worker.process.returncode == INTERRUPTED):
                        failures.append(f"{worker.run.name}: {worker.last_words()}")
                        stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if failures:
        raise UserError(failures[0])
    return INTERRUPTED if stopped else 0


class _Worker:
    """The process ``acu`` that trains one run."""

    def __init__(self, run, arguments, gpu, jobs):
        self.run, self.gpu, self._said = run, gpu, tempfile.TemporaryFile()
        more = [] if gpu is None else ["--gpu", gpu]
        threads = max(1, len(os.sched_getaffinity(0)) // jobs)
        signal.pthread_sigmask(signal.SIG_BLOCK, guard.STOPS)  # it hears of them when it is ready
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "active_convolution", *map(str, [*arguments, *more])],
                env={
                    "OMP_NUM_THREADS": str(threads),
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    "PYTHONSAFEPATH": "1",  # no modules of the working directory
                },
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                preexec_fn=functools.partial(guard.end_with, os.getpid()),
            )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, guard.STOPS)

    def last_words(self):
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").replace("\r", "\n")
        errors = re.findall(r"(?:^|\])error: (.*)", said, re.MULTILINE)  # a bar may stand before
        lines = [line for line in said.split("\n") if line.strip()]
        return (errors or lines or [f"ended with status {self.process.returncode}"])[-1]


def _progress(runs):
    return tqdm(
        total=sum(run.max_iter for run in runs),
        initial=sum(run.iteration() for run in runs),
        desc=f"{len(runs)} runs",
        unit="it",
        mininterval=_LOOK,
        dynamic_ncols=True,
    )


def outcome(run):
    """A run in a few words: how far it is, how it ended, and what ran where."""
    if not run.finished():
        return f"{run.iteration():,} of {run.max_iter:,} iterations"
    error, said = run.error(), run.folder.said or {}
    told = [
        "no test error" if error is None else f"test error {100 * error:.2f} %",
        f"after {run.max_iter:,} iterations",
    ]
    commit = said.get("code", {}).get("commit")
    where = said.get("machine", {})
    told += [f"in {duration(run.metrics().last('seconds'))}"]
    threads = where.get("threads")
    told += [f"{threads} thread{'' if threads == 1 else 's'} of {where['cpu']}"] if where else []
    told += [f"commit {commit[:7]}"] if commit else []
    return ", ".join(told)


def duration(seconds):
    """``seconds`` as a person says them; None where nobody measured them."""
    if seconds is None:
        return "unknown time"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


# ---- Publishing one


def publish(path, runs):
    """Copies what the finished run in the folder ``path`` recorded to its place below the folder
    ``runs``, without the paths of this machine; returns that place. Raises UserError where it is
    not finished, is none of a table's, or says nothing of itself."""
    run = RunFolder(path)
    solver, net = run_folder.load(run)
    match = re.fullmatch(r"([a-z0-9]+)_([a-z0-9]+)_(baseline|acu)", net.name)
    model = match and models.named(f"{match[1]}/{match[2]}")
    tables = [
        (table, comparison)
        for table in TABLES.values()
        for comparison in table.comparisons
        if model and comparison.name == model.folder
    ]
    if not tables:
        raise UserError(f"{path} trains {net.name}, which is in no table: give a run of one")
    (table, comparison), whole = tables[0], model.dataset.max_iter
    if not Run(comparison, match[3], 0, solver.max_iter, run).finished():
        raise UserError(f"{path} is not trained to its end: go on with acu train --resume")
    if not run.record.exists():
        raise UserError(f"{path} has no run.json: write down there what ran where, as far as known")
    name = f"{match[1]}-{match[2]}-{match[3]}{_ablation(model, net)}-{solver.random_seed}"
    place = _folder(runs, table, solver.max_iter / whole) / name
    place.mkdir(parents=True, exist_ok=True)
    for file in _PUBLISHED:
        if (run.path / file).exists():
            shutil.copy(run.path / file, place)
    solver.net, solver.snapshot_prefix = "train_val.prototxt", Path(solver.snapshot_prefix).name
    messages.write(place / "solver.prototxt", solver)
    run_folder.write_json(place / "run.json", _without_paths(run.said))
    return place


def _ablation(model, net):
    active = [layer for layer in net.layer if layer.type == "ActiveConvolution"]
    parameters = [layer.active_convolution_param for layer in active]
    if (
        parameters
        and model.dataset.warmup_iter
        and not any(each.warmup_iter for each in parameters)
    ):
        return "-nowarmup"
    return "-raw" if any(not each.normalize_gradient for each in parameters) else ""


def _without_paths(value):
    if isinstance(value, dict):
        return {name: _without_paths(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_paths(each) for each in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value
