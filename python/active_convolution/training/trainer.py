"""The loop around Caffe's solver."""
import os
import signal
import tempfile
import time

import numpy as np
from tqdm import tqdm

from .. import fork, models, positions
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
    return guarded(lambda terminal: Trainer(run, solver, net, gpu, terminal).train(resume), run.log)


class Trainer:
    """One process's work on a run. ``solver`` and ``net`` are the messages in the run's folder."""

    def __init__(self, run, solver, net, gpu, terminal):
        os.environ["GLOG_minloglevel"] = "0"  # Caffe's log goes to the run's file, all of it
        self.run, self.parameter, self.terminal = run, solver, terminal
        self.caffe = fork.caffe()
        if gpu is None:
            self.caffe.set_mode_cpu()
        else:
            self.caffe.set_device(gpu)
            self.caffe.set_mode_gpu()
        self.solver = self._make_solver()
        self.test_net = self.caffe.Net(str(run.train_val), self.caffe.TEST)
        self.metrics = Metrics()
        self.history = positions.History(schedule.warmup_iter(net))
        self.stop = False
        self.seconds_before = 0

    def _make_solver(self):
        """Caffe's solver, without its tests: those are run here, where their progress shows and their result is read."""
        parameter = type(self.parameter)()
        parameter.CopyFrom(self.parameter)
        for name in ("test_iter", "test_interval", "test_initialization"):
            parameter.ClearField(name)
        with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
            file.write(models.prototxt(parameter))
            file.flush()
            return self.caffe.get_solver(file.name)

    def train(self, resume):
        """Runs the solver to its end or until it is told to stop; returns the exit status."""
        if resume:
            self._go_on()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask_to_stop)
        self.started = time.monotonic()
        if self.solver.iter == 0:
            self._record_positions()
        with tqdm(total=self.parameter.max_iter, initial=self.solver.iter, desc="training", unit="it",
                  file=self.terminal, mininterval=0.5, dynamic_ncols=True) as bar:
            self._loop(bar)
        return self._finish()

    def _ask_to_stop(self, number, frame):
        self.stop = True

    def _go_on(self):
        snapshot = snapshots.newest_whole(self.parameter.snapshot_prefix, self.solver.net, self._say)
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

    def _loop(self, bar):
        losses = []
        while self.solver.iter < self.parameter.max_iter and not self.stop:
            learning_rate = self.solver.lr
            self.solver.step(1)
            losses.append(self._loss(self.solver.net))
            bar.update()
            iteration = self.solver.iter
            last = iteration == self.parameter.max_iter
            test = self._due("test_interval") or last
            if self._due("display") or test:
                row = dict(iteration=iteration, loss=float(np.mean(losses)), learning_rate=learning_rate,
                           seconds=self.seconds_before + time.monotonic() - self.started)
                losses = []
                self.metrics.append(**row, **(self._test() if test else {}))
                self._record_positions()
                self._save()
                self._show(bar)

    def _due(self, interval):
        every = getattr(self.parameter, interval)
        return every > 0 and self.solver.iter % every == 0

    @staticmethod
    def _loss(net):
        """The sum of all losses of a pycaffe Net's last forward pass, by their weights."""
        weights = net.blob_loss_weights.items()
        return float(sum(weight * net.blobs[name].data.sum() for name, weight in weights if weight))

    def _test(self):
        """Loss and error over the whole test set."""
        self.test_net.share_with(self.solver.net)
        rounds = self.parameter.test_iter[0]
        loss = accuracy = 0
        for _ in tqdm(range(rounds), desc="testing", unit="batch", file=self.terminal, leave=False, delay=2,
                      dynamic_ncols=True):
            self.test_net.forward()
            loss += self._loss(self.test_net) / rounds
            accuracy += float(self.test_net.blobs["accuracy"].data) / rounds
        return dict(test_loss=loss, test_error=1 - accuracy)

    def _record_positions(self):
        layers = positions.from_net(self.solver.net)
        if layers:
            self.history.append(self.solver.iter, layers)

    def _save(self):
        self.metrics.save(self.run.metrics)
        if self.history.names:
            self.history.save(self.run.positions)

    def _show(self, bar):
        error = self.metrics.last("test_error")
        bar.set_postfix_str(f"loss {self.metrics.last('loss'):.4f}" +
                            (f", test error {100 * error:.2f} %" if error is not None else ""))

    def _finish(self):
        iteration = self.solver.iter
        if not (self.parameter.snapshot and iteration % self.parameter.snapshot == 0):
            self.solver.snapshot()
        self._save()
        if iteration < self.parameter.max_iter:
            self._say(f"stopped at iteration {iteration}, with a snapshot: go on with --resume")
            return INTERRUPTED
        print(f"test error {100 * self.metrics.last('test_error'):.2f} % after {iteration} iterations, "
              f"{self.metrics.last('seconds'):.0f} s, in {self.run.path}")
        return 0

    def _say(self, text):
        print(text, file=self.terminal)
