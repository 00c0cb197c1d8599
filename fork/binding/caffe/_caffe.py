"""What Caffe's C++ module for Python offers, by the library's C interface.

One library serves every Python. Python's GIL is free while Caffe computes. An exception in a layer
or a callback that is written in Python goes through Caffe to the caller.
"""

from ctypes import c_char_p

from ._library import Error, lib  # noqa: F401
from ._nets import (  # noqa: F401
    NCCL,
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    Net,
    RMSPropSolver,
    SGDSolver,
    Solver,
    SolverParameter,
    get_solver,
)
from ._objects import Blob, BlobVec, Layer, LayerParameter, Timer, as_bytes, as_text  # noqa: F401

__version__ = CAFFE_VERSION = lib.caffe_version().decode()

# Caffe's vectors are lists here.
BoolVec = DtypeVec = IntVec = LayerVec = NetVec = RawBlobVec = StringVec = list


def init_log(level=-1, stderr=-1):
    lib.caffe_init_log(level, int(stderr))


def log(text):
    lib.caffe_log(0, as_bytes(text))


def has_nccl():
    return bool(lib.caffe_has_nccl())


def set_mode_cpu():
    lib.caffe_set_mode(0)


def set_mode_gpu():
    lib.caffe_set_mode(1)


def set_device(device):
    lib.caffe_set_device(device)


def set_random_seed(seed):
    lib.caffe_set_random_seed(seed)


def set_multiprocess(several):
    lib.caffe_set_multiprocess(bool(several))


solver_count = lib.caffe_solver_count
set_solver_count = lib.caffe_set_solver_count
solver_rank = lib.caffe_solver_rank
set_solver_rank = lib.caffe_set_solver_rank


def layer_type_list():
    return as_text(lib.caffe_layer_type_list()).split("\n")


def run_main(function, words):
    """The exit status of ``function``, a main() of Caffe's, with ``words`` for its arguments."""
    words = (c_char_p * (len(words) + 1))(*words)
    return lib.caffe_run_main(function, len(words) - 1, words)
