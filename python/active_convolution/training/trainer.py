"""The loop around Caffe's solver."""
import signal
import sys
import tempfile
import time

import numpy as np
from tqdm import tqdm

from .. import fork, positions, prototxt
from . import run_folder, schedule, snapshots
from .guard import check_gpu, guarded
from .metrics import Metrics
from .run_folder import RunFolder

INTERRUPTED = 128 + signal.SIGINT


def train(model, variant, data, output, max_iter=None, seed=None, gpu=None, resume=False):
    """Trains the network in the folder ``model/variant`` on the data set in ``data``, into the run folder ``output``.

    ``max_iter`` shortens the whole schedule in proportion; ``seed`` is Caffe's random_seed; ``gpu`` a device number, or
    None for the CPU; ``resume`` goes on from the newest whole snapshot. Returns the exit status: 0, or 130 after Ctrl-C
    or SIGTERM, which snapshot and stop. Raises UserError for bad input, and where Caffe fails.
    """
    run = RunFolder(output)
    solver, net = run_folder.resolve(run, model, variant, data, max_iter, seed)
    if gpu is not None:
        check_gpu(gpu)
    if resume:
        run_folder.go_on(run, solver, net)
    else:
        run_folder.start(run, solver, net, model, variant)
    options = [*(["--resume"] if resume else []), *([] if gpu is None else ["--gpu", gpu])]
    return guarded([run.path, *options], run.log)


class Trainer:
    """One process's work on a run folder that is ready. ``gpu`` as in ``train``."""

    def __init__(self, run, gpu):
        self.run = run
        self.parameter, net = run_folder.load(run)
        self.caffe = fork.caffe()
        self.caffe.init_log(0, True)  # all of Caffe's log, to the file descriptor that is the run's log
        self.stop = False
        for number in (signal.SIGINT, signal.SIGTERM):  # after init_log, which handles SIGTERM in its own way
            signal.signal(number, self._ask_to_stop)
        if gpu is None:
            self.caffe.set_mode_cpu()
        else:
            self.caffe.set_device(gpu)
            self.caffe.set_mode_gpu()
        self.solver = self._make_solver()
        self.test_net = self.caffe.Net(str(run.train_val), self.caffe.TEST)
        self.metrics = Metrics()
        self.history = positions.History(schedule.warmup_iter(net))
        self.seconds_before = 0

    def _make_solver(self):
        """Caffe's solver, without its tests and snapshots: those are made here, where a test's progress shows and its
        result is read, and where metrics and positions are on the disk before the snapshot that they lead to."""
        parameter = type(self.parameter)()
        parameter.CopyFrom(self.parameter)
        for name in ("test_iter", "test_interval", "test_initialization", "snapshot"):
            parameter.ClearField(name)
        with tempfile.NamedTemporaryFile("w", suffix=".prototxt", encoding="utf-8") as file:
            file.write(prototxt.text(parameter))
            file.flush()
            return self.caffe.get_solver(file.name)

    def train(self, resume):
        """Runs the solver to its end or until it is told to stop; returns the exit status."""
        if resume:
            self._go_on()
        self.started = time.monotonic()
        if self.solver.iter == 0:
            self._record_positions()
        with tqdm(total=self.parameter.max_iter, initial=self.solver.iter, desc="training", unit="it",
                  mininterval=0.5, dynamic_ncols=True) as bar:
            self._show(bar)
            self._loop(bar)
            if self._at_end() and self.metrics.tested() != self.solver.iter:
                self._record(bar, **self._test())
        return self._finish()

    def _ask_to_stop(self, number, frame):
        self.stop = True

    def _go_on(self):
        snapshot = snapshots.newest_whole(self.parameter.snapshot_prefix, self.solver, self._say)
        if snapshot is None:
            self._say("no whole snapshot: starting at iteration 0")
            return
        snapshots.restore(self.solver, snapshot)
        self.metrics = Metrics.load(self.run.metrics)
        self.metrics.truncate(snapshot.iteration)
        self.seconds_before = self.metrics.last("seconds") or 0
        if self.run.positions.exists():
            self.history = positions.History.load(self.run.positions)
            self.history.truncate(snapshot.iteration)
        self._say(f"going on from iteration {snapshot.iteration}")

    def _at_end(self):
        return self.solver.iter == self.parameter.max_iter

    def _loop(self, bar):
        losses, stop = [], self.stop
        while not (stop or self._at_end()):
            learning_rate = self.solver.lr
            self.solver.step(1)
            losses.append(self._loss(self.solver.net))
            bar.update()
            stop = self.stop  # looked at once: a signal that comes after this has the next iteration to stop at
            snapshot = stop or self._at_end() or self._due("snapshot")
            test = not self._at_end() and self._due("test_interval")  # the last one comes after the snapshot
            if snapshot or test or self._due("display"):
                self._record(bar, loss=float(np.mean(losses)), learning_rate=learning_rate,
                             **(self._test() if test else {}))
                losses.clear()
            if snapshot:
                self.solver.snapshot()

    def _due(self, interval):
        every = getattr(self.parameter, interval)
        return every > 0 and self.solver.iter % every == 0

    @staticmethod
    def _loss(net):
        """The sum of all losses of a pycaffe Net's last forward pass, by their weights."""
        weights = net.blob_loss_weights.items()
        return float(sum(weight * net.blobs[name].data.sum() for name, weight in weights if weight))

    def _test(self):
        """Loss and error over the whole test set; nothing where a stop is asked for meanwhile."""
        self.test_net.share_with(self.solver.net)
        rounds = self.parameter.test_iter[0]
        loss = accuracy = 0
        for _ in tqdm(range(rounds), desc="testing", unit="batch", leave=False, delay=2, dynamic_ncols=True):
            if self.stop:
                return {}
            self.test_net.forward()
            loss += self._loss(self.test_net) / rounds
            accuracy += float(self.test_net.blobs["accuracy"].data) / rounds
        return dict(test_loss=loss, test_error=1 - accuracy)

    def _record(self, bar, **values):
        """Brings metrics and positions to this iteration, on the disk and on the screen."""
        seconds = self.seconds_before + time.monotonic() - self.started
        self.metrics.append(self.solver.iter, seconds=seconds, **values)
        self._record_positions()
        self._save()
        self._show(bar)

    def _record_positions(self):
        layers = positions.from_net(self.solver.net)
        if layers:
            self.history.append(self.solver.iter, layers)

    def _save(self):
        self.metrics.save(self.run.metrics)
        if self.history.names:
            self.history.save(self.run.positions)

    def _show(self, bar):
        loss, error = self.metrics.last("loss"), self.metrics.last("test_error")
        shown = [] if loss is None else [f"loss {loss:.4f}"]
        shown += [] if error is None else [f"test error {100 * error:.2f} %"]
        bar.set_postfix_str(", ".join(shown), refresh=False)

    def _finish(self):
        iteration = self.solver.iter
        if self.metrics.tested() != self.parameter.max_iter:
            self._say(f"stopped at iteration {iteration}: go on with --resume")
            return INTERRUPTED
        print(f"test error {100 * self.metrics.last('test_error'):.2f} % after {iteration} iterations, "
              f"{self.metrics.last('seconds'):.0f} s, in {self.run.path}")
        return 0

    @staticmethod
    def _say(text):
        print(text, file=sys.stderr)
