"""The loop around Caffe's solver: what every rank of a training does, and what rank 0 does besides."""
import math
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .. import positions
from ..data.folder import check_manifest
from ..errors import UserError
from ..pycaffe import locate, messages
from ..pycaffe.process import INTERRUPTED, STOPS
from . import launch, run_folder, schedule, snapshots
from .metrics import Metrics
from .run_folder import RunFolder


def train(model, variant, data, output, max_iter=None, seed=None, gpu=None, resume=False):
    """Trains the network in the folder ``model/variant`` on the data set in ``data``, into the run folder ``output``.

    ``max_iter`` shortens the whole schedule in proportion; ``seed`` is Caffe's random_seed; ``gpu`` a device number,
    several of them, or None for the CPU; ``resume`` goes on from the newest whole snapshot. Returns the exit status: 0,
    or 130 after Ctrl-C or SIGTERM, which snapshot and stop. Raises UserError for bad input, and where Caffe fails.

    Several GPUs train together, one process for each, and so do the processes of one mpirun, which all call this: see
    ranks.py. Rank 0 decides what is trained, and alone has to do with ``output``.
    """
    gpus = [] if gpu is None else [gpu] if isinstance(gpu, int) else list(gpu)
    if launch.follows():
        return launch.follow(gpus)
    run = RunFolder(output)
    solver, net = run_folder.resolve(run, model, variant, data, max_iter, seed)
    launch.check(gpus)
    if resume:
        run_folder.go_on(run, solver, net)
    else:
        run_folder.start(run, solver, net, model, variant)
    return launch.lead(run, gpus, resume)


class Worker:
    """One of the ``ranks`` (see ranks.py) at work. Rank 0's is a Trainer, which is told what to train: a SolverParameter
    and a NetParameter; the others hear it from there.

    ``gpus`` are those of this machine, one for each rank on it, or empty for the CPU.
    """

    def __init__(self, ranks, gpus, solver=None, net=None):
        self.ranks = ranks
        self.caffe = locate.caffe()
        self.caffe.init_log(0, True)  # all of Caffe's log, to the file descriptor that is the run's log
        self.stop = False
        for number in STOPS:  # after init_log, which handles SIGTERM in its own way
            signal.signal(number, self._ask_to_stop)
        self._use(gpus)
        self.parameter, self.net = ranks.share((solver, net))
        ranks.prepare(self.caffe)
        self.solver = self._make_solver()

    def _ask_to_stop(self, number, frame):
        self.stop = True

    def _use(self, gpus):
        if not gpus:
            self.caffe.set_mode_cpu()
            return
        if self.ranks.local_rank >= len(gpus):
            raise UserError(f"--gpu names {len(gpus)} of this machine's GPUs, and more ranks than that run on it: "
                            "name one for each")
        self.caffe.set_device(gpus[self.ranks.local_rank])
        self.caffe.set_mode_gpu()

    def _make_solver(self):
        """Caffe's solver, without its tests and snapshots: those are made by the Trainer, where a test's progress shows
        and its result is read, and where metrics and positions are on the disk before the snapshot that they lead to."""
        parameter = type(self.parameter)()
        parameter.CopyFrom(self.parameter)
        for name in ("test_iter", "test_interval", "test_initialization", "test_state", "snapshot"):
            parameter.ClearField(name)
        parameter.layer_wise_reduce = False  # see ranks.Nccl
        with tempfile.TemporaryDirectory() as folder:
            if self.ranks.rank > 0:  # rank 0's folder may be out of reach
                parameter.net = f"{folder}/train_val.prototxt"
                messages.write(parameter.net, self.net)
                self._check_data()
            file = Path(folder) / "solver.prototxt"
            messages.write(file, parameter)
            return self.caffe.get_solver(str(file))

    def _check_data(self):
        for layer in schedule.data_layers(self.parameter, self.net, self.caffe.TRAIN):
            check_manifest(Path(layer.data_param.source).parent)

    def begin(self, snapshot=None):
        """Brings all ranks to one state: rank 0's ``snapshot``, or its fresh weights. Returns whether to stop at once."""
        packed = self.ranks.share(snapshot and self.ranks.size > 1 and snapshots.packed(snapshot))
        if self.ranks.rank == 0 and snapshot:
            snapshots.restore(self.solver, snapshot)
        elif packed:
            with snapshots.unpacked(packed) as copy:
                snapshots.restore(self.solver, copy)
        self.ranks.join(self.solver)
        return self._agree(0)[1]

    def step(self):
        """One iteration. Returns its loss, the mean over the ranks, and whether to stop.

        A signal that comes after this has the next iteration to stop at.
        """
        self.solver.step(1)
        return self._agree(self.loss(self.solver.net))

    def _agree(self, loss):
        loss, self.stop = self.ranks.agree(loss, self.stop)
        return loss, self.stop

    @staticmethod
    def loss(net):
        """The sum of all losses of a pycaffe Net's last forward pass, by their weights."""
        weights = net.blob_loss_weights.items()
        return float(sum(weight * net.blobs[name].data.sum() for name, weight in weights if weight))

    def at_end(self):
        return self.solver.iter == self.parameter.max_iter

    def train(self):
        """Runs the solver to its end or until a rank is told to stop; returns the exit status, the same at all ranks."""
        stop = self.begin()
        while not (stop or self.at_end()):
            _, stop = self.step()
        return self.ranks.share(None)


class Trainer(Worker):
    """Rank 0's work on a run folder that is ready: it also tests, takes snapshots, and keeps the records."""

    def __init__(self, run, ranks, gpus):
        self.run = run
        super().__init__(ranks, gpus, *run_folder.load(run))
        state = schedule.state(self.parameter, self.net, self.caffe.TEST)
        self.test_net = self.caffe.Net(str(run.train_val), self.caffe.TEST, level=state.level, stages=list(state.stage))
        self.metrics = Metrics()
        self.history = positions.History(schedule.warmup_iter(self.net))
        self.seconds_before = 0
        self.images = self.ranks.size * schedule.images_per_iteration(self.parameter, self.net)
        self.rate = 0  # images per second

    def train(self, resume):
        """As Worker.train; ``resume`` goes on from the newest whole snapshot."""
        stop = self.begin(self._go_on() if resume else None)
        self._say_what_trains()
        self.started = time.monotonic()
        if self.solver.iter == 0:
            self._record_positions()
        with tqdm(total=self.parameter.max_iter, initial=self.solver.iter, desc="training", unit="it",
                  mininterval=0.5, dynamic_ncols=True) as bar:
            self._show(bar)
            self._loop(bar, stop)
            if self.at_end() and self.metrics.tested() != self.solver.iter:
                self._record(bar, **self._test())
        return self.ranks.share(self._finish())

    def _say_what_trains(self):
        if self.ranks.size > 1:
            self._say(f"{self.ranks.size} ranks, together {self.images} images per iteration")

    def _go_on(self):
        """Brings the records to the newest whole snapshot, and returns it; None without one."""
        snapshot = snapshots.newest_whole(self.parameter.snapshot_prefix, self.solver, self._say)
        if snapshot is None:
            self._say("no whole snapshot: starting at iteration 0")
            return None
        self.metrics = Metrics.load(self.run.metrics)
        self.metrics.truncate(snapshot.iteration)
        self.seconds_before = self.metrics.last("seconds") or 0
        if self.run.positions.exists():
            self.history = positions.History.load(self.run.positions)
            self.history.truncate(snapshot.iteration)
        self._say(f"going on from iteration {snapshot.iteration}")
        return snapshot

    def _loop(self, bar, stop):
        losses, seconds = [], 0
        while not (stop or self.at_end()):
            learning_rate, before = self.solver.lr, time.monotonic()
            loss, stop = self.step()
            losses.append(loss)
            seconds += time.monotonic() - before
            bar.update()
            snapshot = stop or self.at_end() or self._due("snapshot")
            test = not self.at_end() and self._due("test_interval")  # the last one comes after the snapshot
            if snapshot or test or self._due("display"):
                self.rate = len(losses) * self.images / seconds
                self._record(bar, loss=float(np.mean(losses)), learning_rate=learning_rate,
                             **(self._test() if test else {}))
                losses, seconds = [], 0
            if snapshot:
                self.solver.snapshot()

    def _due(self, interval):
        every = getattr(self.parameter, interval)
        return every > 0 and self.solver.iter % every == 0

    def _test(self):
        """Loss and error over the whole test set; nothing where a stop is asked for meanwhile."""
        self.test_net.share_with(self.solver.net)
        rounds = self.parameter.test_iter[0]
        loss = accuracy = 0
        for _ in tqdm(range(rounds), desc="testing", unit="batch", leave=False, delay=2, dynamic_ncols=True):
            if self.stop:
                return {}
            self.test_net.forward()
            loss += self.loss(self.test_net) / rounds
            accuracy += float(self.test_net.blobs["accuracy"].data) / rounds
        # Caffe's Accuracy counts scores that are no numbers as right.
        return dict(test_loss=loss, test_error=1 - accuracy if math.isfinite(loss) else 1.)

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
        shown += [f"{self.rate:.0f} images/s"] if self.rate else []
        bar.set_postfix_str(", ".join(shown), refresh=False)

    def _finish(self):
        iteration = self.solver.iter
        if self.metrics.tested() != self.parameter.max_iter:
            self._say(f"stopped at iteration {iteration}: go on with --resume")
            return INTERRUPTED
        if not math.isfinite(self.metrics.last("test_loss")):
            self._say("warning: the training has diverged, and the network gives no numbers: lower the solver's base_lr")
        print(f"test error {100 * self.metrics.last('test_error'):.2f} % after {iteration} iterations, "
              f"{self.metrics.last('seconds'):.0f} s, in {self.run.path}")
        return 0

    @staticmethod
    def _say(text):
        print(text, file=sys.stderr)
