"""The loop around Caffe's solver: what every rank of a training does, and what rank 0 does besides."""

import dataclasses
import math
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..caffe import locate, messages, nets, positions
from ..caffe.process import INTERRUPTED, STOPS, bar_stands
from ..errors import UserError
from . import events, launch, run_folder, schedule, snapshots
from . import weights as initial
from .changes import Changes
from .metrics import Metrics
from .outputs import Outputs, mean
from .run_folder import RunFolder
from .testing import Tests

_DRAWING = (
    "Dropout",
    "DummyData",
    "Python",
)  # layers that may draw random numbers in a pass, as does stochastic pooling


def train(
    model=None,
    variant=None,
    data=None,
    output=None,
    max_iter=None,
    seed=None,
    gpu=None,
    resume=False,
    solver=None,
    weights=None,
    changes=Changes(),
    tensorboard=False,
):
    """Trains the network in the folder ``model/variant``, or that of the prototxt ``solver``, into the run folder
    ``output``.

    ``data`` is a data set folder (None: the network's own sources); ``max_iter`` shortens the whole schedule in
    proportion; ``seed`` is Caffe's random_seed; ``gpu`` a device number, several of them, or None for the CPU;
    ``weights`` a .caffemodel to begin with (see weights.py); ``changes`` are made in the network and its solver;
    ``tensorboard`` also writes TensorBoard's event files. ``resume`` goes on from the newest whole snapshot: with the
    same arguments, or with ``output`` alone. Returns the exit status: 0, or 130 after Ctrl-C or SIGTERM, which snapshot
    and stop. Raises UserError for bad input, and where Caffe fails.

    Several GPUs train together, one process for each, and so do the processes of one mpirun, which all call this: see
    ranks.py. Rank 0 decides what is trained, and alone has to do with ``output``.
    """
    gpus = [] if gpu is None else [gpu] if isinstance(gpu, int) else list(gpu)
    if launch.follows():
        return launch.follow(gpus)
    run = RunFolder(output)
    if resume and model is None and solver is None:
        found = run_folder.of_run(run)
    else:
        found = run_folder.resolve(run, model, variant, data, max_iter, seed, solver, changes)
        weights = weights or found.weights
    if weights is not None:
        messages.read_weights(weights)  # now, not when the folder is made
    if tensorboard:
        events.check()
    launch.check(gpus)
    options = [
        option for option, given in (("--resume", resume), ("--tensorboard", tensorboard)) if given
    ]
    with (run_folder.resumed if resume else run_folder.started)(run, found, weights) as log:
        return launch.lead(run, log, gpus, *options)


class Worker:
    """One of the ``ranks`` (see ranks.py) at work. Rank 0's is a Trainer, which is told what to train: a SolverParameter
    and a NetParameter; the others hear it from there.

    ``gpus`` are those of this machine, one for each rank on it, or empty for the CPU.
    """

    def __init__(self, ranks, gpus, solver=None, net=None):
        self.ranks = ranks
        self.caffe = locate.caffe()
        self.caffe.init_log(
            0, True
        )  # all of Caffe's log, to the file descriptor that is the run's log
        self.stop = False
        for number in STOPS:  # after init_log, which handles SIGTERM in its own way
            signal.signal(number, self._ask_to_stop)
        self._use(gpus)
        self.parameter, self.net = ranks.share((solver, net))
        ranks.prepare(self.caffe)
        self.solver = self._make_solver()
        self._check_names()
        layers = schedule.layers(self.parameter, self.net, self.caffe.TRAIN)
        self.outputs = Outputs(self.solver.net, layers, "train")
        pooling = locate.caffe_pb2().PoolingParameter
        self._draws = any(
            layer.type in _DRAWING or layer.pooling_param.pool == pooling.STOCHASTIC
            for layer in self.net.layer
        )

    def _ask_to_stop(self, number, frame):
        self.stop = True

    def _use(self, gpus):
        if not gpus:
            self.caffe.set_mode_cpu()
            return
        if self.ranks.local_rank >= len(gpus):
            raise UserError(
                f"--gpu names {len(gpus)} of this machine's GPUs, and more ranks than that run on it: "
                "name one for each"
            )
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

    def _check_names(self):
        """Caffe copies weights to its tests, and from its snapshots, by the layers' names."""
        net = self.solver.net
        shared = nets.shared_name(
            [
                (name, layer.blobs)
                for name, layer in zip(net._layer_names, net.layers)
                if layer.blobs
            ]
        )
        if shared:
            raise UserError(
                f"the network has two layers called {shared[0]} that learn, and would lose one's weights: rename one"
            )

    def _check_data(self):
        for layer in schedule.data_layers(self.parameter, self.net, self.caffe.TRAIN):
            if not Path(schedule.reader(layer).source).exists():
                raise UserError(
                    f"there is no {schedule.reader(layer).source}, which layer {layer.name} reads: the data must be "
                    "at the same path on every machine"
                )

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
        if (
            self._draws
        ):  # of the iteration alone, so that a training that goes on draws the same numbers
            seed = [self.parameter.random_seed, self.solver.iter, self.ranks.rank]
            self.caffe.set_random_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        self.solver.step(1)
        return self._agree(self.outputs.loss)

    def _agree(self, loss):
        loss, self.stop = self.ranks.agree(loss, self.stop)
        return loss, self.stop

    def at_end(self):
        return self.solver.iter >= self.parameter.max_iter

    def train(self):
        """Runs the solver to its end or until a rank is told to stop; returns the exit status, the same at all ranks."""
        stop = self.begin()
        while not (stop or self.at_end()):
            _, stop = self.step()
        return self.ranks.share(None)


class Trainer(Worker):
    """Rank 0's work on a run folder that is ready: it also tests, takes snapshots, and keeps the records."""

    def __init__(self, run, ranks, gpus, tensorboard=False):
        self.run = run
        super().__init__(ranks, gpus, *run_folder.load(run))
        self.tests = Tests(self.caffe, self.parameter, self.net, run.train_val)
        self.metrics = Metrics(self.outputs.names + self.tests.names)
        self.history = positions.History(schedule.warmup_iter(self.net))
        self.events = events.Events(run) if tensorboard else None
        self.seconds_before = 0
        self.images = self.ranks.size * schedule.images_per_iteration(self.parameter, self.net)
        self.rate = 0  # images per second
        self.since = []  # what each iteration gave since the last row: a dictionary of columns
        self.cut = False  # whether a test was interrupted

    def train(self, resume):
        """As Worker.train; ``resume`` goes on from the newest whole snapshot."""
        snapshots.refuse_pipes(self.parameter.snapshot_prefix)
        snapshot = self._go_on() if resume else None
        if snapshot is None:
            self._copy_weights()
        stop = self.begin(snapshot)
        self.kept = self.solver.iter  # what the newest snapshot holds
        self._say_what_trains()
        self.started = time.monotonic()
        bar_stands()
        with tqdm(
            total=self.parameter.max_iter,
            initial=self.solver.iter,
            desc="training",
            unit="it",
            mininterval=0.5,
            dynamic_ncols=True,
        ) as bar:
            if self.solver.iter == 0:
                self._begin_records(bar)
            self._show(bar)
            self._loop(bar, stop, made_up=snapshot is not None)
            if (
                self.at_end()
                and not self.cut
                and self.tests
                and self.metrics.tested() != self.solver.iter
            ):
                self._record(bar, **self._test())
        if self.events:
            self.events.close()
        return self.ranks.share(self._finish())

    def _begin_records(self, bar):
        self._record_positions()
        if self.events:
            self.events.write({"iteration": self.solver.iter}, self.history)
        if self.parameter.test_initialization and self.tests and not self.stop:
            self._record(bar, **self._test())

    def _copy_weights(self):
        """Gives the network the weights that the run is to begin with, and keeps the list of them."""
        given = run_folder.read_weights(self.run)
        if given:
            copied = initial.copy(self.solver.net, given["file"])
            run_folder.write_weights(self.run, dataclasses.asdict(copied))
            for line in copied.lines():
                self._say(line)

    def _say_what_trains(self):
        if self.ranks.size > 1:
            self._say(f"{self.ranks.size} ranks, together {self.images} images per iteration")

    # ---- Going on

    def _go_on(self):
        """Brings the records to the newest whole snapshot, and returns it; None without one."""
        snapshot = snapshots.newest_whole(self.parameter.snapshot_prefix, self.solver, self._say)
        if snapshot is None:
            self._say("no whole snapshot: starting at iteration 0")
            if self.events:
                self.events.truncate(-1)
            return None
        at = snapshot.iteration
        if at > self.parameter.max_iter:
            raise UserError(
                f"{self.run.path} has come to iteration {at}, and is to end at {self.parameter.max_iter}: raise max_iter "
                f"in {self.run.solver}, or name another --output"
            )
        self.metrics = self.metrics.load(self.run.metrics, self.metrics.columns)
        self.metrics.truncate(at)
        self.seconds_before = self.metrics.last("seconds") or 0
        if self.run.positions.exists():
            self.history = positions.History.load(self.run.positions)
        if not self._row_is_due(
            at
        ):  # this row, of a run that was stopped, would not be there without the stop
            self.metrics.truncate(at - 1)
            self.since = snapshots.read_since(snapshot)
        kept = at if self._row_is_due(at) else at - 1
        self.history.truncate(kept)
        if self.events:
            self.events.truncate(kept)
        self._say(f"going on from iteration {at}")
        self._warn_of_data()
        return snapshot

    def _warn_of_data(self):
        for name, layer in zip(self.solver.net._layer_names, self.solver.net.layers):
            reads = (
                layer.type in (*schedule.READERS, "WindowData", "MemoryData")
                or layer.type == "Python"
                and not self.solver.net.bottom_names[name]
            )
            if reads and not (layer.type == "Data" and hasattr(layer, "continue_at")):
                self._say(
                    f"warning: layer {name} ({layer.type}) begins its data anew: only Data goes on where it stood"
                )

    # ---- The loop

    def _loop(self, bar, stop, made_up):
        """``made_up``: whether a test that is due now and missing, as one that was interrupted, is run first."""
        if (
            made_up
            and not stop
            and self._test_is_due()
            and self.metrics.tested() != self.solver.iter
        ):
            self._record(bar, **self._test())
        seconds, images = 0, 0
        while not (stop or self.at_end()):
            learning_rate, before = self.solver.lr, time.monotonic()
            loss, stop = self.step()
            if self.cut:  # the test before it, which is to come first when the training goes on; all ranks stop here
                return
            self.since.append({"loss": loss, **self.outputs.more()})
            seconds, images = seconds + time.monotonic() - before, images + self.images
            bar.update()
            if stop or self._row_is_due(self.solver.iter):
                self.rate = images / seconds
                self._keep(bar, stop, learning_rate)
                seconds, images = 0, 0

    def _keep(self, bar, stop, learning_rate):
        """The records, the test and the snapshot that are due after this iteration, or that a stop asks for."""
        row_is_due = self._row_is_due(self.solver.iter)
        values, since = mean(self.since), self.since
        if row_is_due:
            self.since = []
        self._record(
            bar,
            learning_rate=learning_rate,
            **values,
            **(self._test() if self._test_is_due() else {}),
        )
        if stop or self.cut or self.at_end() or self._is_due("snapshot", self.solver.iter):
            if not row_is_due:
                snapshots.write_since(self.parameter.snapshot_prefix, self.solver.iter, since)
            self.solver.snapshot()
            self.kept = self.solver.iter

    def _row_is_due(self, iteration):
        """Whether metrics.csv has a row after ``iteration``, whatever interrupts the training."""
        return iteration == self.parameter.max_iter or any(
            self._is_due(name, iteration) for name in ("snapshot", "test_interval", "display")
        )

    def _test_is_due(self):
        """But for the last one, which comes after the last snapshot."""
        return (
            bool(self.tests)
            and not self.at_end()
            and self._is_due("test_interval", self.solver.iter)
        )

    def _is_due(self, interval, iteration):
        every = getattr(self.parameter, interval)
        return every > 0 and iteration % every == 0

    def _test(self):
        """What the tests give; nothing where a stop is asked for meanwhile."""
        values = self.tests.run(self.solver.net, lambda: self.stop)
        self.cut = not values
        return values

    # ---- The records

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
        if self.events:
            self.events.write(self.metrics.rows[-1], self.history)

    def _show(self, bar):
        loss, error = self.metrics.last("loss"), self.metrics.last("test_error")
        shown = [] if loss is None else [f"loss {loss:.4f}"]
        shown += [] if error is None else [f"test error {100 * error:.2f} %"]
        shown += [f"{self.rate:.0f} images/s"] if self.rate else []
        bar.set_postfix_str(", ".join(shown + self._more()), refresh=False)

    def _more(self):
        """What is shown by name."""
        values = {name: self.metrics.last(name) for name in self.metrics.more}
        if self.metrics.last("test_error") is None:
            values = {"test loss": self.metrics.last("test_loss"), **values}
        return [f"{name} {value:.4g}" for name, value in values.items() if value is not None]

    def _finish(self):
        iteration = self.solver.iter
        if not self.at_end() or self.tests and self.metrics.tested() != iteration:
            self._say(f"stopped at iteration {self.kept}: go on with --resume")
            return INTERRUPTED
        losses = [
            loss for loss in map(self.metrics.last, ("test_loss", "loss")) if loss is not None
        ]
        if not all(map(math.isfinite, losses[:1])):
            self._say(
                "warning: the training has diverged, and the network gives no numbers: lower the solver's base_lr"
            )
        print(
            f"{self._result()} after {iteration} iterations, {self.metrics.last('seconds') or 0:.0f} s, in {self.run.path}"
        )
        for text in self._more():
            print(f"  {text}")
        return 0

    def _result(self):
        """The error of the last test, in a few words, or what there is instead."""
        if self.metrics.last("test_error") is not None:
            return f"test error {100 * self.metrics.last('test_error'):.2f} %"
        losses = {name: self.metrics.last(name.replace(" ", "_")) for name in ("test loss", "loss")}
        return next(
            (f"{name} {loss:.4f}" for name, loss in losses.items() if loss is not None),
            "no record of a loss",
        )

    @staticmethod
    def _say(text):
        print(text, file=sys.stderr)
