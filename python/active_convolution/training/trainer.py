"""A training, from top to bottom: what is trained, the loop around Caffe's solver, the tests,
snapshots and records of rank 0, and what it says. ranks.py has what the other ranks do, too."""

import math
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..caffe import guard, messages, positions
from ..data.manifest import read_manifest
from ..errors import BadValue
from ..networks.schedules import shorten
from . import data_layers, definition, ranks, record, run_folder, schedule, snapshots
from .changes import Changes
from .metrics import Events, Metrics, event_file_writer
from .run_folder import RunFolder
from .testing import Tests, mean

INTERRUPTED = 128 + signal.SIGINT  # exit status of a training that stopped as it was asked to
_SEED = 1  # of a solver without random_seed: Caffe would draw another one when a run goes on
_REPLACED = ("weights", "snapshot_format")  # fields of a solver that acu train sees to itself


def train(
    model=None,
    variant=None,
    data=None,
    output=None,
    *,
    gpu=None,
    resume=False,
    tensorboard=False,
    **options,
):
    """Trains into the run folder ``output`` what ``resolve`` makes of the other ``options``, which
    may have ``weights``, a .caffemodel to begin with.

    ``gpu`` lists device numbers, none for the CPU; ``tensorboard`` also writes TensorBoard's event
    files. ``resume`` goes on from the newest whole snapshot: with the same arguments, or with
    ``output`` alone. Returns the exit status: 0, or 130 after Ctrl-C or SIGTERM, which snapshot and
    stop. Raises UserError for bad input.

    Processes of one mpirun, which all call this, train together: see ranks.py. Rank 0 decides what
    is trained, and alone has to do with ``output``.
    """
    gpus, weights = list(gpu or ()), options.pop("weights", None)
    if len(gpus) > 1 and ranks.under_mpirun()[1] == 1:
        raise BadValue(
            f"--gpu names {len(gpus)} GPUs for one process: start one for each with mpirun -n "
            f"{len(gpus)}, or let caffe train --gpu do it over NCCL"
        )
    with ranks.named():
        group = ranks.mine()
        if group.rank > 0:
            return ranks.Worker(group, gpus).train()
        run = RunFolder(output)
        if resume and model is None and options.get("solver") is None:
            found = run_folder.of_run(run)
        else:
            found = resolve(run, model, variant, data, size=group.size, **options)
            weights = weights or found.weights
        if tensorboard:
            event_file_writer()
        asked = dict(model=model, variant=variant, data=data, **options)
        asked |= asdict(asked.pop("changes", Changes()))
        goes_on = resume and run.begun()
        if weights and not goes_on:
            messages.read_weights(weights)  # now, not when the folder is made
        with run_folder.opened(run, found, resume) as log, guard.log_to(log, run.log):
            trainer = Trainer(run, group, gpus, found, weights, None if goes_on else asked)
            return trainer.train(tensorboard)


def resolve(
    run,
    model=None,
    variant=None,
    data=None,
    solver=None,
    max_iter=None,
    epochs=None,
    seed=None,
    changes=Changes(),  # noqa: B008 (it is frozen)
    size=1,
):
    """The Definition to train into ``run`` (RunFolder): the network in the folder
    ``model/variant``, one of the paper's by its name, or that of the prototxt ``solver``, with
    ``changes`` made.

    ``data`` is a data set folder (None: the network's own sources); ``max_iter`` (iterations), or
    ``epochs`` with ``size`` ranks, shortens the whole schedule in proportion; ``seed`` is Caffe's
    random_seed. Raises UserError where that cannot be trained as it stands.
    """
    found = definition.of_model(model, variant, solver) if model else definition.of_solver(solver)
    if data is not None:
        found.data = read_manifest(data)
        data_layers.point(found, found.data)
    changes.apply(found)
    if data is None:
        data_layers.find(found)
    elif not any(text.startswith("solver.test_iter") for text in changes.set):
        data_layers.see_once(found, found.data)
    data_layers.check(found)
    if found.data and found.deploy is None:
        shape = (found.data.test if found.solver.test_iter else found.data.train).shape
        found.deploy = definition.deploy(found, shape)
    if epochs is not None:
        max_iter = data_layers.iterations(found, epochs, size)
    if max_iter is not None:
        shorten(found.solver, max_iter, found.net)
    if seed is not None or found.solver.random_seed < 0:
        found.solver.random_seed = _SEED if seed is None else seed
    for name in _REPLACED:
        if name in found.solver.DESCRIPTOR.fields_by_name:
            found.solver.ClearField(name)
    run_folder.place(run, found.solver, found.net)
    return found


class Trainer(ranks.Worker):
    """Rank 0's work on a run folder that is ready for the Definition ``found``. ``weights`` is a
    .caffemodel to begin with, ``options`` what was asked of a run that begins; None: it goes on."""

    def __init__(self, run, group, gpus, found, weights=None, options=None):
        super().__init__(group, gpus, found.solver, found.net)
        self.run, self.found, self.gpus, self._weights = run, found, gpus, weights
        self._begins = options is not None
        self.tests = Tests(self.solver, self.parameter, self.net)
        self.metrics = Metrics(self.outputs.names + self.tests.names)
        self.history = positions.History(schedule.warmup_iter(self.net))
        self.record = record.Record(run, options)
        self.events = None
        self.images = group.size * schedule.images_per_iteration(self.parameter, self.net)
        self.seconds_before, self.rate = 0, 0  # of training before; images per second
        self.since = []  # what each iteration gave since the last row: a dictionary of columns
        self.cut = False  # whether a test was interrupted
        self.warned = set()

    def train(self, tensorboard=False):
        """As Worker.train; goes on from the newest whole snapshot."""
        with self.listening():
            self.events = Events(self.run) if tensorboard else None
            snapshot = None if self._begins else self._go_on()
            if snapshot is None and self._weights:
                copied = snapshots.copy_weights(self.solver.net, self._weights)
                listed = {**asdict(copied), "file": str(Path(self._weights).resolve())}
                self.record.content["weights"] = listed
                self._say(*copied.lines())
            stop = self.begin(snapshot)
            self.kept = self.solver.iter  # what the newest snapshot holds
            about = self.record.content
            if "images" not in about:  # to count them may take a while
                about["images"] = data_layers.images(self.found)
            size = self.ranks.size
            self._say(record.what_trains(self.solver.net, self.found, size, about["images"]))
            self.record.begin(self.solver, self.found, self.ranks.size, self.gpus)
            self.started = time.monotonic()
            length = dict(total=self.parameter.max_iter, initial=self.solver.iter, unit="it")
            with tqdm(**length, desc="training", mininterval=0.5, dynamic_ncols=True) as self.bar:
                self._run(stop, snapshot)
            if self.events:
                self.events.close()
            return self._leave(self._finish())

    # ---- Going on

    def _go_on(self):
        """Brings the records to the newest whole snapshot, and returns it; None without one."""
        snapshot = snapshots.newest_whole(self.parameter.snapshot_prefix, self.solver, self._say)
        if snapshot is None:
            self._say("no complete snapshot: starting at iteration 0")
            if self.events:
                self.events.truncate(-1)
            self._weights = self._weights or self.record.content.get("weights", {}).get("file")
            return None
        at = snapshot.iteration
        self.metrics = self.metrics.load(self.run.metrics, self.metrics.columns)
        self.metrics.truncate(at)
        self.seconds_before = self.metrics.last("seconds") or 0
        if self.run.positions.exists():
            self.history = positions.History.load(self.run.positions)
        due = self._row_is_due(at)
        if not due:  # this row, of a run that was stopped, would not be there without the stop
            self.metrics.truncate(at - 1)
            self.since = snapshots.read_since(snapshot)
        kept = at if due else at - 1
        self.history.truncate(kept)
        if self.events:
            self.events.truncate(kept)
        self._say(f"going on from iteration {at}")
        for name, layer in zip(self.solver.net._layer_names, self.solver.net.layers):
            reads = not self.solver.net.bottom_names[name] and layer.type != "Input"
            if reads and not (layer.type == "Data" and hasattr(layer, "continue_at")):
                self._say(
                    f"warning: layer {name} ({layer.type}) starts at its first record: "
                    "only Data goes on where it stood"
                )
        return snapshot

    # ---- The loop

    def _run(self, stop, snapshot):
        if self.solver.iter == 0:
            self._record_positions()
            if self.events:
                self.events.write({"iteration": 0}, self.history)
            if self.parameter.test_initialization and self.tests and not self.stop:
                self._record(**self._test())
        self._show()
        if snapshot and not stop and self._test_is_due() and self._lacks_test():
            self._record(**self._test())  # that was interrupted
        self._loop(stop)
        if self.at_end() and not self.cut and self._lacks_test():
            self._record(**self._test())

    def _loop(self, stop):
        seconds, images = 0, 0
        while not (stop or self.at_end()):
            learning_rate, before = self.solver.lr, time.monotonic()
            loss, stop = self.step()
            if self.cut:  # the test before it comes first when the training goes on
                return
            self.record.losses(self.solver.iter, loss)
            self.since.append({"loss": loss, **self.outputs.more()})
            if not math.isfinite(loss):
                self._warn(loss)
            seconds, images = seconds + time.monotonic() - before, images + self.images
            self.bar.update()
            if stop or self._row_is_due(self.solver.iter):
                self.rate = images / seconds
                self._keep(stop, learning_rate)
                seconds, images = 0, 0

    def _keep(self, stop, learning_rate):
        """The records, the test and the snapshot that are due after this iteration, or that a stop
        asks for."""
        row_is_due = self._row_is_due(self.solver.iter)
        values, since = mean(self.since), self.since
        if row_is_due:
            self.since = []
        tested = self._test() if self._test_is_due() else {}
        self._record(learning_rate=learning_rate, **values, **tested)
        if stop or self.cut or self.at_end() or self._is_due("snapshot", self.solver.iter):
            if not row_is_due:
                snapshots.write_since(self.parameter.snapshot_prefix, self.solver.iter, since)
            with guard.doing("taking a snapshot, for which there may be no room on the disk"):
                self.solver.snapshot()
            self.kept = self.solver.iter

    def _row_is_due(self, iteration):
        """Whether metrics.csv has a row after ``iteration``, whatever interrupts the training."""
        return iteration == self.parameter.max_iter or any(
            self._is_due(name, iteration) for name in ("snapshot", "test_interval", "display")
        )

    def _test_is_due(self):
        """But for the last one, which comes after the last snapshot."""
        due = self._is_due("test_interval", self.solver.iter)
        return self.tests and not self.at_end() and due

    def _is_due(self, interval, iteration):
        every = getattr(self.parameter, interval)
        return every > 0 and iteration % every == 0

    def _lacks_test(self):
        return self.tests and self.metrics.tested() != self.solver.iter

    def _test(self):
        """What the tests give; nothing where a stop is asked for meanwhile."""
        values = self.tests.run(self.solver.net, lambda: self.stop)
        self.cut = not values
        return values

    # ---- The records

    def _record(self, **values):
        """Brings metrics and positions to this iteration, on the disk and on the screen."""
        seconds = self.seconds_before + time.monotonic() - self.started
        self.metrics.append(self.solver.iter, seconds=seconds, **values)
        self._record_positions()
        self.metrics.save(self.run.metrics)
        if self.history.names:
            self.history.save(self.run.positions)
        if self.events:
            self.events.write(self.metrics.rows[-1], self.history)
        self._warn(self.metrics.last("loss") or 0)
        self._show()

    def _record_positions(self):
        layers = positions.from_net(self.solver.net)
        if layers:
            self.history.append(self.solver.iter, layers)

    def _warn(self, loss):
        """Once of each thing."""
        for text in self._warnings(loss):
            if text not in self.warned:
                self.warned.add(text)
                self._say(f"warning: {text}, at iteration {self.solver.iter}")

    def _warnings(self, loss):
        """What is wrong with the training now, in sentences."""
        if not math.isfinite(loss):
            yield "the loss is NaN or infinity: lower the solver's base_lr (--lr)"
        net = self.solver.net
        for layer in positions.from_net(net):
            height, width = net.blobs[net.bottom_names[layer.name][0]].data.shape[2:]
            if not (np.abs(layer.xy) < (width, height)).all():
                yield (
                    f"synapses of layer {layer.name} have left the image of {height}×{width} "
                    "pixels: lower --lr or --position-lr-mult, or set position_limit"
                )

    def _show(self):
        rate = [f"{self.rate:.0f} images/s"] if self.rate else []
        self.bar.set_postfix_str(", ".join(self._told() + rate), refresh=False)

    def _told(self):
        """The newest results in words, the best first."""
        error = self.metrics.last("test_error")
        told = [] if error is None else [f"test error {100 * error:.2f} %"]
        columns = [*([] if told else ["test_loss"]), "loss", *self.metrics.more]
        known = {name: self.metrics.last(name) for name in columns}
        return told + [
            f"{name.replace('test_loss', 'test loss')} {value:.4g}"
            for name, value in known.items()
            if value is not None
        ]

    def _finish(self):
        iteration = self.solver.iter
        stopped = not self.at_end() or self._lacks_test()
        self.record.end(iteration, "stopped" if stopped else "finished")
        if stopped:
            self._say(f"stopped at iteration {self.kept}: go on with")
            self._say(f"  acu train --resume --output {self.run.path}")
            return INTERRUPTED
        loss = self.metrics.last("loss") or 0
        self._say(*(f"warning: {text}" for text in self._warnings(loss)))
        seconds, (best, *others) = self.metrics.last("seconds") or 0, self._told() or ["nothing"]
        print(f"{best} after {iteration} iterations, {seconds:.0f} s, in {self.run.path}")
        for text in others:
            print(f"  {text}")
        report = f"acu report {self.run.path} --output report.html"
        print("next:", f"acu plot {self.run.path}" if self.history.names else report)
        return 0

    @staticmethod
    def _say(*lines):
        for line in lines:
            tqdm.write(line, file=sys.stderr)
