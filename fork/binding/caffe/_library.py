"""The library's C interface (include/caffe/c_api.h) by ctypes.

The functions of ``lib`` raise where they fail. Those that are done at once keep Python's GIL, the
others leave it free.
"""

import ctypes
import os
import threading
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_int64, c_uint, c_uint64, c_void_p

_PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libcaffe.so")
lib = ctypes.CDLL(_PATH)
_keeping_gil = ctypes.PyDLL(_PATH)

MOST_AXES = 32
ints = POINTER(c_int)
handles = POINTER(c_void_p)
CALLBACK = ctypes.CFUNCTYPE(c_int, c_int)
CREATE = ctypes.CFUNCTYPE(c_int, c_char_p, c_char_p, c_void_p, ints)
CALL = ctypes.CFUNCTYPE(c_int, c_int, c_int, handles, c_int, handles, c_int, ints, c_char_p, c_int)
DESTROY = ctypes.CFUNCTYPE(None, c_int)


class Error(RuntimeError):
    """A check of Caffe's failed; its text. What Caffe was at is lost, the next call works."""


class Values(ctypes.Structure):
    """Where the numbers of a blob are: caffe_values."""

    _fields_ = [
        ("blob", c_void_p),
        ("diff", c_int64),
        ("at", c_int64),
        ("axes", c_int64),
        ("shape", c_int64 * MOST_AXES),
    ]


# ---- Errors

_KINDS = {0: RuntimeError, 2: MemoryError, 3: Error}
_CALLBACK_FAILED = 1
_raised = threading.local()  # .error: what a callback raised, on its way through Caffe


def failed():
    """Raises what the last call of this thread failed with; a callback's exception as it was."""
    text = c_char_p()
    kind = lib.caffe_error(byref(text))
    if kind == _CALLBACK_FAILED:
        error, _raised.error = _raised.error, None
        raise error
    raise _KINDS[kind](text.value.decode(errors="replace"))


def kept(function):
    """``function`` as Caffe calls it: it gives 0, or 1 where it raised."""

    def call(*arguments):
        try:
            function(*arguments)
            return 0
        except BaseException as error:
            _raised.error = error
            return 1

    return call


# ---- Functions

_FAILS = {c_int: lambda result: result < 0, c_void_p: lambda result: result is None}


def _declare(names, result, *arguments, may_fail=False, at_once=False):
    has_failed = _FAILS.get(result)

    def check(result, function, arguments):
        if has_failed(result):
            failed()
        return result

    for name in names.split():
        function = getattr(_keeping_gil if at_once else lib, "caffe_" + name)
        function.restype, function.argtypes = result, arguments
        if may_fail:
            function.errcheck = check
        setattr(lib, "caffe_" + name, function)


_declare("error", c_int, POINTER(c_char_p))
_declare("release", None, c_void_p)
_declare("version layer_type_list", c_char_p)
_declare("init_log", None, c_int, c_int)
_declare("log", None, c_int, c_char_p)
_declare("checks_are_errors has_nccl solver_count solver_rank", c_int)
_declare("set_mode set_device", c_int, c_int, may_fail=True)
_declare("set_random_seed", c_int, c_uint, may_fail=True)
_declare("set_solver_count set_solver_rank set_multiprocess", None, c_int)
_declare("run_main", c_int, c_void_p, c_int, POINTER(c_char_p), may_fail=True)
_declare("set_python_layers", None, CREATE, CALL, DESTROY)

_declare(
    "net_new", c_void_p, c_char_p, c_int, c_int, POINTER(c_char_p), c_int, c_char_p, may_fail=True
)
_declare("net_forward", c_int, c_void_p, c_int, c_int, POINTER(c_float), may_fail=True)
_declare("net_backward", c_int, c_void_p, c_int, c_int, may_fail=True)
_declare("net_reshape net_clear_param_diffs", c_int, c_void_p, may_fail=True)
_declare(
    "net_copy_from net_load_hdf5 net_save net_save_hdf5", c_int, c_void_p, c_char_p, may_fail=True
)
_declare("net_share_with", c_int, c_void_p, c_void_p, may_fail=True)
_declare("net_blobs net_layers", c_int, c_void_p, at_once=True)
_declare("net_blob net_layer", c_void_p, c_void_p, c_int, at_once=True)
_declare("net_blob_name net_layer_name", c_char_p, c_void_p, c_int, at_once=True)
_declare("net_blob_loss_weight", c_float, c_void_p, c_int, at_once=True)
_declare("net_ids", c_int, c_void_p, c_int, c_int, POINTER(ints), at_once=True)
_declare("net_memory_data", c_int, c_void_p, ints, at_once=True)
_declare("net_set_input", c_int, c_void_p, c_void_p, c_void_p, c_int, may_fail=True)
_declare("net_call", c_int, c_void_p, c_int, CALLBACK, may_fail=True)

_declare("blob_shape", c_int, c_void_p, POINTER(c_int64), at_once=True)
_declare("blob_reshape layer_add_blob", c_int, c_void_p, ints, c_int, may_fail=True)
has_gpu = hasattr(lib, "caffe_blob_gpu_values")
if has_gpu:
    _declare("blob_gpu_values", c_void_p, c_void_p, c_int, may_fail=True)
# For every look at an array: a byref() to Values needs no conversion, and the caller checks.
look = _keeping_gil.caffe_blob_look

_declare("layer_type solver_type", c_char_p, c_void_p, at_once=True)
_declare("layer_blobs layer_python_id", c_int, c_void_p, at_once=True)
_declare("layer_blob", c_void_p, c_void_p, c_int, at_once=True)
_declare(
    "layer_set_up layer_reshape", c_int, c_void_p, handles, c_int, handles, c_int, may_fail=True
)
_declare("layer_continue_at", c_int, c_void_p, c_uint64, may_fail=True)

_declare("solver_new", c_void_p, c_char_p, c_char_p, may_fail=True)
_declare("solver_net", c_void_p, c_void_p, at_once=True)
_declare("solver_test_net", c_void_p, c_void_p, c_int, at_once=True)
_declare("solver_test_nets solver_iter", c_int, c_void_p, at_once=True)
_declare("solver_solve solver_restore", c_int, c_void_p, c_char_p, may_fail=True)
_declare("solver_step", c_int, c_void_p, c_int, may_fail=True)
_declare("solver_snapshot solver_apply_update", c_int, c_void_p, may_fail=True)
_declare("solver_share_weights", c_int, c_void_p, c_void_p, may_fail=True)
_declare("solver_call", c_int, c_void_p, CALLBACK, may_fail=True)
_declare("solver_lr", c_float, c_void_p)
_declare("solver_param", None, c_void_p, ints, ints, ints, POINTER(c_float), at_once=True)
_declare("solver_set_base_lr", None, c_void_p, c_float, at_once=True)

_declare("timer_new", c_void_p, may_fail=True)
_declare("timer_start timer_stop", c_int, c_void_p, may_fail=True)
_declare("timer_ms", c_float, c_void_p)

_declare("nccl_new", c_void_p, c_void_p, c_char_p, c_int, may_fail=True)
_declare("nccl_new_uid", c_int, c_char_p, c_int, may_fail=True)
_declare("nccl_bcast", c_int, c_void_p, may_fail=True)
_declare("nccl_join_solver nccl_join_net", c_int, c_void_p, c_void_p, may_fail=True)

lib.caffe_checks_are_errors()
