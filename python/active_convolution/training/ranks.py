"""The processes that train one network together, its ranks: what they tell each other.

Each rank reads every size-th image of the training data, its own (Caffe's Data layer does that by
solver_rank and solver_count), and batch_size of them per pass: an iteration sees size times as many
images as the prototxt says. The gradients are averaged over the ranks before the solver applies
them (ApplyUpdate, where the layers normalise those of positions), so all ranks have the same
weights. What is not learned stays a rank's own: the statistics of BatchNorm, whose averages over
the images that rank 0 has seen are those that are tested and saved.

A process is ``Alone``, or one of ``Mpi``, whose methods are collective: every rank calls them in
the same order. What each of them does in a training is a ``Worker``'s.
"""

import contextlib
import functools
import os
import signal
import socket
import tempfile

import numpy as np

from ..caffe import guard, locate, messages
from ..errors import UserError
from . import schedule, snapshots
from .testing import Outputs

_DRAWING = "Dropout DummyData Python"  # layers that may draw random numbers in a pass
_MPIRUNS = (  # Open MPI; MPICH and its kin
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
)


def under_mpirun():
    """(rank, size) of this process as mpirun has set them, (0, 1) without it; MPI is not
    touched."""
    for rank, size in _MPIRUNS:
        if rank in os.environ and size in os.environ:
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1


def said(text):
    """``text`` as this process says it: with its name where it is one of several."""
    rank, size = under_mpirun()
    return f"rank {rank} on {socket.gethostname()}: {text}" if size > 1 else text


@contextlib.contextmanager
def named():
    """Errors inside are told as ``said``."""
    try:
        with guard.doing(said("training")):
            yield
    except UserError as error:
        raise type(error)(said(error)) from error


def mine():
    """What this process is: Mpi under mpirun, else Alone."""
    return Mpi() if under_mpirun()[1] > 1 else Alone()


class Alone:
    """The only process: nobody to talk to."""

    rank, size, local_rank = 0, 1, 0

    def share(self, value):
        """Rank 0's ``value`` (anything that can be pickled), at every rank."""
        return value

    def agree(self, loss, stop):
        """The mean of all ranks' ``loss``, and whether any has been asked to ``stop``."""
        return loss, stop

    def join(self, solver):
        """Gives rank 0's weights to all, and from now on the mean gradient to each iteration of
        ``solver`` (pycaffe)."""

    def leave(self):
        """The last call, where all went well; a rank that fails just ends."""


class Mpi(Alone):
    """A process that mpirun started. All goes over MPI, gradients in one message per iteration,
    from the CPU's memory."""

    def __init__(self):
        try:
            import mpi4py
        except ImportError as error:
            raise UserError(
                "mpirun needs mpi4py on every machine: apt-get install python3-mpi4py, or pip "
                "install 'active-convolution[mpi]'"
            ) from error
        mpi4py.rc.finalize = False  # at the end of a rank that failed it would wait for the others
        from mpi4py import MPI

        self._mpi, self._world = MPI, MPI.COMM_WORLD
        self.rank, self.size = self._world.rank, self._world.size
        if (self.rank, self.size) != under_mpirun():
            raise UserError(
                f"mpirun started {under_mpirun()[1]} processes, and the MPI of mpi4py sees "
                f"{self.size}: use its own mpirun"
            )
        self.local_rank = self._world.Split_type(MPI.COMM_TYPE_SHARED).rank

    def share(self, value):
        return self._world.bcast(value)

    def agree(self, loss, stop):
        total = np.array([loss, stop], np.float64)
        self._world.Allreduce(self._mpi.IN_PLACE, total)
        return total[0] / self.size, bool(total[1])

    def join(self, solver):
        self._blobs = [blob for blobs in solver.net.params.values() for blob in blobs]
        self._flat = np.empty(sum(blob.count for blob in self._blobs), np.float32)
        weights = [blob.data for blob in self._blobs]
        self._gather(weights)
        self._world.Bcast(self._flat)
        self._scatter(weights)
        solver.add_callback(lambda: None, self._average)

    def _average(self):
        gradients = [blob.diff for blob in self._blobs]  # anew each time: from the GPU, if used
        self._gather(gradients)
        self._world.Allreduce(self._mpi.IN_PLACE, self._flat)
        self._flat /= self.size
        self._scatter(gradients)

    def _gather(self, arrays):
        np.concatenate([array.ravel() for array in arrays], out=self._flat)

    def _scatter(self, arrays):
        ends = np.cumsum([array.size for array in arrays])
        for array, values in zip(arrays, np.split(self._flat, ends[:-1])):
            array[...] = values.reshape(array.shape)

    def leave(self):
        self._mpi.Finalize()


class Worker:
    """One of the ``ranks`` at work. Rank 0's is a Trainer, which is told what to train: a
    SolverParameter and a NetParameter; the others hear it from there.

    ``gpus`` are those of this machine, one for each rank on it, or empty for the CPU.
    """

    def __init__(self, group, gpus, solver=None, net=None):
        self.ranks, self.caffe = group, locate.caffe()
        _log_everything(self.caffe)
        self.stop = False
        self._use(gpus)
        self.parameter, self.net = group.share((solver, net))
        self.caffe.set_solver_count(group.size)  # data layers read their own part of the data
        self.caffe.set_solver_rank(group.rank)
        self.caffe.set_multiprocess(group.size > 1)
        self.solver = self._make_solver()
        layers = schedule.layers(self.parameter, self.net, self.caffe.TRAIN)
        self.outputs = Outputs(self.solver.net, layers, "train")
        pooling = locate.caffe_pb2().PoolingParameter
        self._draws = any(
            layer.type in _DRAWING.split() or layer.pooling_param.pool == pooling.STOCHASTIC
            for layer in self.net.layer
        )

    def _use(self, gpus):
        if not gpus:
            self.caffe.set_mode_cpu()
            return
        if self.ranks.local_rank >= len(gpus):
            raise UserError(f"--gpu names {len(gpus)} GPUs for more ranks here: name one for each")
        with guard.doing(said("--gpu needs a build with ./scripts/build.sh --gpu, and the device")):
            self.caffe.set_device(gpus[self.ranks.local_rank])
            self.caffe.set_mode_gpu()

    def _make_solver(self):
        """Caffe's solver, which neither tests nor takes snapshots by itself: the Trainer does,
        where a test's progress shows, and where the records are on the disk before their
        snapshot."""
        parameter = type(self.parameter)()
        parameter.CopyFrom(self.parameter)
        for name in ("test_initialization", "snapshot"):
            parameter.ClearField(name)
        parameter.test_interval, parameter.test_initialization = 2**31 - 1, False
        if self.ranks.rank > 0:
            parameter.ClearField("test_iter")
            parameter.ClearField("test_state")
        with tempfile.TemporaryDirectory() as folder:
            parameter.net = f"{folder}/train_val.prototxt"  # rank 0's folder may be out of reach
            messages.write(parameter.net, self.net)
            messages.write(f"{folder}/solver.prototxt", parameter)
            return self.caffe.get_solver(f"{folder}/solver.prototxt")

    def begin(self, snapshot=None):
        """Brings all ranks to one state: rank 0's ``snapshot``, or its fresh weights. Returns
        whether to stop at once."""
        files = snapshot and (
            snapshot.iteration,
            snapshot.state.read_bytes(),
            snapshot.model.read_bytes(),
        )
        files = self.ranks.share(files)
        if files:
            snapshots.restore(self.solver, *files)
        self.ranks.join(self.solver)
        return self._agree(0)[1]

    def step(self):
        """One iteration. Returns its loss, the mean over the ranks, and whether to stop.

        A signal that comes after this has the next iteration to stop at.
        """
        if self._draws:  # of the iteration alone: a training that goes on draws the same numbers
            seed = [self.parameter.random_seed, self.solver.iter, self.ranks.rank]
            self.caffe.set_random_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        self.solver.step(1)
        return self._agree(self.outputs.loss)

    def _agree(self, loss):
        loss, self.stop = self.ranks.agree(loss, self.stop)
        return loss, self.stop

    def at_end(self):
        return self.solver.iter >= self.parameter.max_iter

    @contextlib.contextmanager
    def listening(self):
        """STOPS ask to stop after the iteration. (Caffe's log, once begun, handles SIGTERM its
        way.)"""

        def ask(number, frame):
            self.stop = True

        before = {number: signal.signal(number, ask) for number in guard.STOPS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def train(self):
        """Runs the solver to its end or until a rank is told to stop; returns the exit status, the
        same at all ranks."""
        with self.listening():
            stop = self.begin()
            while not (stop or self.at_end()):
                _, stop = self.step()
            return self._leave()

    def _leave(self, status=None):
        """The last thing that a rank does: rank 0's exit ``status``."""
        status = self.ranks.share(status)
        self.ranks.leave()
        return status


@functools.cache
def _log_everything(caffe):
    """All of Caffe's log goes to file descriptor 2: once in a process."""
    caffe.init_log(0, True)
