"""The processes that train one network together, its ranks: what they tell each other.

Each rank reads every size-th image of the training data, its own (Caffe's Data layer does that by solver_rank and
solver_count), and batch_size of them per pass: an iteration sees size times as many images as the prototxt says. The
gradients are averaged over the ranks before the solver applies them (ApplyUpdate, where the layers normalise those of positions), so all
ranks have the same weights. What is not learned stays a rank's own: the statistics of BatchNorm, whose averages over the
images that rank 0 has seen are those that are tested and saved.

A rank is one of ``Alone``, ``Mpi`` and ``Nccl``. Their methods are collective: every rank calls them in the same order.
"""

import multiprocessing.connection
import os
import socket

import numpy as np

from ..errors import UserError

_MPIRUNS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
)  # Open MPI; MPICH and its kin


def under_mpirun():
    """(rank, size) of this process as mpirun has set them, (0, 1) without it; MPI itself is not touched."""
    for rank, size in _MPIRUNS:
        if rank in os.environ and size in os.environ:
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1


def name(rank, size):
    """How an error begins that is one of several processes'."""
    return f"rank {rank} on {socket.gethostname()}: " if size > 1 else ""


def mine(nccl=None):
    """What this process is: Nccl with the arguments ``nccl``, Mpi under mpirun, else Alone."""
    if nccl:
        return Nccl(*nccl)
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

    def prepare(self, caffe):
        """Lets this process's data layers, which are still to be made, read its own part of the data."""
        caffe.set_solver_count(self.size)
        caffe.set_solver_rank(self.rank)
        caffe.set_multiprocess(self.size > 1)

    def join(self, solver):
        """Gives rank 0's weights to all, and from now on the mean gradient to each iteration of ``solver`` (pycaffe)."""

    def leave(self):
        """The last call, where all went well; a rank that fails just ends."""


class Mpi(Alone):
    """A process that mpirun started. All goes over MPI, gradients in one message per iteration, from the CPU's memory."""

    def __init__(self):
        mpi4py = _mpi4py()
        mpi4py.rc.finalize = False  # at the end of a rank that failed it would wait for the others
        from mpi4py import MPI

        self._mpi, self._world = MPI, MPI.COMM_WORLD
        self.rank, self.size = self._world.rank, self._world.size
        if (self.rank, self.size) != under_mpirun():
            raise UserError(
                f"mpirun started {under_mpirun()[1]} processes, and the MPI of mpi4py sees {self.size}: "
                "use the mpirun of the MPI that mpi4py was built with"
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
        gradients = [
            blob.diff for blob in self._blobs
        ]  # anew each time: from the GPU, where the solver runs there
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


def _mpi4py():
    try:
        import mpi4py
    except ImportError as error:
        raise UserError(
            "mpirun needs mpi4py on every machine: apt-get install python3-mpi4py"
        ) from error
    return mpi4py


class Nccl(Alone):
    """One process per GPU of this machine. Gradients and weights go over Caffe's own NCCL, the little else over pipes
    between rank 0 and each other: ``pipes`` are their file descriptors, in the order of the ranks.

    Gradients go in one message per iteration. Caffe's ``layer_wise_reduce``, a message per layer in each of the iter_size
    passes, must be off: the next pass adds to gradients that a slower rank has yet to reduce.
    """

    def __init__(self, rank, size, *pipes):
        self.rank = self.local_rank = rank
        self.size = size
        self._pipes = [multiprocessing.connection.Connection(descriptor) for descriptor in pipes]

    def share(self, value):
        if self.rank > 0:
            return self._pipes[0].recv()
        for pipe in self._pipes:
            pipe.send(value)
        return value

    def agree(self, loss, stop):
        if self.rank > 0:
            self._pipes[0].send((loss, stop))
            return self._pipes[0].recv()
        losses, stops = zip((loss, stop), *(pipe.recv() for pipe in self._pipes))
        return self.share((sum(losses) / self.size, any(stops)))

    def prepare(self, caffe):
        super().prepare(caffe)
        self._caffe = caffe

    def join(self, solver):
        name = self.share(self._caffe.NCCL.new_uid() if self.rank == 0 else None)
        self._nccl = self._caffe.NCCL(solver, name)  # the solver does not keep it alive
        self._nccl.bcast()
        solver.add_callback(self._nccl)
