"""Stands in for the GPUs and the NCCL that a CPU build of Caffe lacks, in every Python process that has this folder on
its PYTHONPATH: GPU mode is CPU mode, and the mean of the gradients goes over files in the folder FAKE_NCCL."""

import importlib.abc
import importlib.machinery
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np


class Nccl:
    """Has caffe.NCCL's methods, and averages as that one does where layer_wise_reduce is off: once per iteration."""

    made = 0

    @staticmethod
    def new_uid():
        return b"a session \0 of this run"

    def __init__(self, solver, uid):
        assert uid == Nccl.new_uid() and not solver.param.layer_wise_reduce
        self.caffe, self.solver = sys.modules["caffe"], solver
        self.rank, self.size = self.caffe.solver_rank(), self.caffe.solver_count()

    def _exchange(self, arrays):
        """What every rank has, [rank][array]."""
        folder, number = Path(os.environ["FAKE_NCCL"]), Nccl.made
        Nccl.made += 1
        np.savez(folder / f".{self.rank}.npz", *arrays)
        os.replace(folder / f".{self.rank}.npz", folder / f"{number}.{self.rank}.npz")
        while not all((folder / f"{number}.{rank}.npz").exists() for rank in range(self.size)):
            time.sleep(0.001)
        return [
            list(np.load(folder / f"{number}.{rank}.npz").values()) for rank in range(self.size)
        ]

    def bcast(self):
        blobs = [blob for blobs in self.solver.net.params.values() for blob in blobs]
        for blob, values in zip(blobs, self._exchange([blob.data for blob in blobs])[0]):
            blob.data[...] = values

    def reduce(self):
        blobs = [blob for blobs in self.solver.net.params.values() for blob in blobs]
        for blob, *values in zip(blobs, *self._exchange([blob.diff for blob in blobs])):
            blob.diff[...] = np.sum(values, axis=0) / self.size


def patch(caffe):
    if "FAKE_NCCL_DIES" in os.environ:
        Nccl.bcast = lambda self: (
            self.rank == int(os.environ["FAKE_NCCL_DIES"]) and os.kill(os.getpid(), signal.SIGKILL)
        )
    add_callback = caffe._caffe.Solver.add_callback
    caffe._caffe.Solver.add_callback = lambda solver, nccl: add_callback(
        solver, lambda: None, nccl.reduce
    )
    caffe.NCCL, caffe.has_nccl = Nccl, lambda: True
    caffe.set_device, caffe.set_mode_gpu = lambda device: None, caffe.set_mode_cpu


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets the import system load pycaffe as always, and patches it then."""

    def find_spec(self, name, path, target=None):
        if name != "caffe":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (load(module), patch(module))
        return spec


sys.meta_path.insert(0, _Finder())
