"""The training runs behind a table: which there are, which of them are finished, and training the others."""

import dataclasses
import json
import os
import re
import selectors
import signal
import subprocess
from collections import deque
from pathlib import Path

from tqdm import tqdm

from ..caffe import messages
from ..caffe.process import INTERRUPTED, STOPS, start, stops_go_to, stops_held_back
from ..data.manifest import read_manifest
from ..errors import BadValue, UserError
from ..networks.models import VARIANTS
from ..training import run_folder
from ..training.metrics import Metrics
from ..training.run_folder import RunFolder
from .tables import Comparison

_KEPT = 4096  # bytes of what a training says on the screen: its last words tell why it failed
_LOOK = 1  # seconds between two looks at how far the trainings are


@dataclasses.dataclass(frozen=True)
class Run:
    """One training: ``variant`` of a comparison with one ``seed``, shortened to ``max_iter`` iterations.

    ``model`` and ``data`` are the folders that acu train takes, ``folder`` the RunFolder that it fills.
    """

    comparison: Comparison
    variant: str
    seed: int
    max_iter: int
    model: Path
    data: Path
    folder: RunFolder

    @property
    def name(self):
        return self.folder.path.name

    def metrics(self):
        """The Metrics so far, none where the run has not begun."""
        return Metrics.load(self.folder.metrics)

    def iteration(self):
        """How far the training is on the disk, in iterations."""
        return (self.metrics().last("iteration") or 0) if self.started() else 0

    def error(self):
        """Of the last test, a fraction; None where that found none."""
        return self.metrics().newest_test()["test_error"]

    def started(self):
        return self.folder.begun()

    def finished(self):
        """Whether the network was trained to the end and tested there."""
        return self.started() and self.metrics().tested() == self.max_iter


# ---- What a table needs


def choose(table, datasets=None):
    """The comparisons of ``table`` on the named ``datasets``, on all of its own where that is None."""
    for name in datasets or ():
        if name not in table.datasets:
            raise BadValue(
                f"table {table.number} has nothing on {name}: its --datasets are "
                + ", ".join(table.datasets)
            )
    return [
        comparison
        for comparison in table.comparisons
        if not datasets or comparison.dataset in datasets
    ]


def plan(comparisons, models, data, output, scale=1.0, seeds=1):
    """The runs of ``comparisons`` (Comparison): a list of Run, seed by seed, so that both sides grow together.

    ``models`` holds <dataset>/<network>, ``data`` a data set's folder under its name; ``output`` gets a folder per run.
    ``scale`` shortens every run in proportion; ``seeds`` is a number, the seeds are 1, 2, … . Raises UserError where a
    network is missing.
    """
    if not 0 < scale <= 1:
        raise BadValue(
            f"--scale {scale:g} is out of range: give a fraction of the full schedule, above 0, 1 at most"
        )
    if seeds < 1:
        raise BadValue(
            f"--seeds {seeds} is out of range: give the number of runs for each network, at least 1"
        )
    lengths = {
        (comparison, variant): _length(Path(models) / comparison.name, variant, scale)
        for comparison in comparisons
        for variant in VARIANTS
    }
    return [
        Run(
            comparison,
            variant,
            seed,
            max_iter,
            Path(models) / comparison.name,
            Path(data) / comparison.dataset,
            RunFolder(
                Path(output) / f"{comparison.dataset}_{comparison.network}_{variant}_seed{seed}"
            ),
        )
        for seed in range(1, seeds + 1)
        for (comparison, variant), max_iter in lengths.items()
    ]


def _length(model, variant, scale):
    if not (model / variant).is_dir():
        raise UserError(
            f"there is no network {model / variant}: make it with acu generate, or leave "
            "its data set out with --datasets"
        )
    return max(1, round(scale * messages.read_solver(model / variant / "solver.prototxt").max_iter))


def check(runs):
    """Raises UserError unless all of ``runs`` can be trained or gone on with: their data is there, and what has begun
    has the same settings. Better said now than after the first hours."""
    for data in dict.fromkeys(run.data for run in runs):
        if not data.exists():
            raise UserError(
                f"there is no data set {data}: make it with acu data {data.name} --output "
                f"{data} …, or leave it out with --datasets"
            )
        read_manifest(data)
    for run in runs:
        found = run_folder.resolve(
            run.folder, run.model, run.variant, run.data, run.max_iter, run.seed
        )
        if run.started():
            run_folder.check_settings(run.folder, found)


# ---- Training them


def train_all(runs, jobs=1, gpus=()):
    """Trains those of ``runs`` that are not finished, up to ``jobs`` at a time, each in a process of its own.

    Each has cores/jobs threads, unless OMP_NUM_THREADS says otherwise, and the least busy of the devices ``gpus``; the
    CPU where there is none. Returns 0, or 130 after Ctrl-C, SIGTERM or their like, which snapshot and stop all of them. Where one
    fails, the others are stopped too, and UserError says which and why; the same call goes on from there.
    """
    if jobs < 1:
        raise BadValue(
            f"--jobs {jobs} is out of range: give the number of trainings at a time, at least 1"
        )
    waiting = deque(run for run in runs if not run.finished())
    crew = _Crew(jobs, gpus)
    with stops_go_to(lambda number: crew.stop()), crew, _progress(runs) as bar:
        while (waiting and not crew.stopped) or crew.workers:
            while waiting and crew.free and not crew.stopped:
                crew.start(waiting.popleft())
            for worker in crew.ended(_LOOK):
                if worker.run.finished():
                    bar.write(f"{worker.run.name}: {outcome(worker.run)}")
            bar.update(sum(run.iteration() for run in runs) - bar.n)
    if crew.failure:
        raise UserError(crew.failure)
    return INTERRUPTED if crew.stopped else 0


def outcome(run):
    """A finished run in a few words."""
    error = run.error()
    return (
        f"{'no test error' if error is None else f'test error {100 * error:.2f} %'} after {run.max_iter:,} iterations, "
        f"{duration(run.metrics().last('seconds'))}"
    )


def duration(seconds):
    """``seconds`` as a person says them; None where nobody measured them."""
    if seconds is None:
        return "time unknown"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def _progress(runs):
    return tqdm(
        total=sum(run.max_iter for run in runs),
        initial=sum(run.iteration() for run in runs),
        desc=f"{len(runs)} runs",
        unit="it",
        mininterval=_LOOK,
        dynamic_ncols=True,
    )


class _Worker:
    """The process that trains one run: ``python3 -m active_convolution.paper``."""

    def __init__(self, run, gpu, threads):
        job = dict(
            model=str(run.model),
            variant=run.variant,
            data=str(run.data),
            output=str(run.folder.path),
            max_iter=run.max_iter,
            seed=run.seed,
            gpu=gpu,
            resume=run.started(),
        )
        self.run, self.gpu, self._said = run, gpu, b""
        self._process = start(
            __package__,
            [json.dumps(job)],
            {"OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def fileno(self):
        return self._process.stderr.fileno()

    def running(self):
        """Reads what the process says; False when it, and what it started, has ended."""
        said = os.read(self.fileno(), _KEPT)
        self._said = (self._said + said)[-_KEPT:]
        return bool(said)

    def stop(self):
        self._process.send_signal(signal.SIGINT)

    def end(self, stopped):
        """Waits for the end; returns why the training failed, None where it did not or was ``stopped`` as asked."""
        status = self._process.wait()
        self._process.stderr.close()
        if status == 0 or stopped and status in (INTERRUPTED, *(-number for number in STOPS)):
            return None
        if status < 0:
            return f"{self.run.name}: ended by {signal.Signals(-status).name}: the same command goes on from there"
        said = self._said.decode(errors="replace").replace("\r", "\n")
        errors = re.findall(
            r"(?:^|\])error: (.*)", said, re.MULTILINE
        )  # a progress bar may stand before it
        lines = [line for line in said.split("\n") if line.strip()]
        return f"{self.run.name}: " + (errors or lines or [f"ended with status {status}"])[-1]


class _Crew:
    """The workers at work; none is left after its ``with``."""

    def __init__(self, jobs, gpus):
        self._jobs, self._gpus = jobs, gpus or (None,)
        self._threads = max(1, len(os.sched_getaffinity(0)) // jobs)
        self._selector = selectors.DefaultSelector()
        self.workers, self.stopped, self.failure = [], False, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.workers:
            self.stop()
        while self.workers:
            self.ended(_LOOK)

    @property
    def free(self):
        return len(self.workers) < self._jobs

    def start(self, run):
        """Starts a worker; it sees no signal before it is ready for one."""
        with stops_held_back():
            worker = _Worker(
                run,
                min(self._gpus, key=[worker.gpu for worker in self.workers].count),
                self._threads,
            )
            self.workers.append(worker)
            self._selector.register(worker, selectors.EVENT_READ)

    def stop(self):
        self.stopped = True
        for worker in self.workers:
            worker.stop()

    def ended(self, seconds):
        """The workers that ended meanwhile: waits ``seconds`` for something to happen, at most."""
        ended = [
            key.fileobj for key, _ in self._selector.select(seconds) if not key.fileobj.running()
        ]
        for worker in ended:
            self._selector.unregister(worker)
            self.workers.remove(worker)
            failure = worker.end(self.stopped)
            if failure:
                self.failure = self.failure or failure
                self.stop()
        return ended
