"""Nets and solvers."""

import ctypes
from ctypes import byref, c_char_p, c_float, c_int
from functools import cached_property

import numpy as np

from ._library import CALLBACK, ints, kept, lib
from ._objects import Blob, Layer, Object, Owner, as_bytes, as_text, python_layers

# Caffe calls them as long as there is the net, which may outlive our object, and does not say
# when it ends.
_callbacks = []


def _callback(function):
    """What C calls with a number; kept for good."""
    _callbacks.append(CALLBACK(kept(function)))
    return _callbacks[-1]


class Net(Object):
    """Net(network_file, phase, level=0, stages=None, weights=None)."""

    def __init__(self, network_file, phase, *rest, level=0, stages=None, weights=None):
        if isinstance(phase, (str, bytes)):  # the old order: network, weights, phase
            if not rest:
                raise TypeError("the phase is missing: Net(network_file, phase, weights=...)")
            lib.caffe_log(1, b"Net(file, weights, phase) is the old order: name weights=")
            phase, weights, rest = rest[0], phase, ()
        level, stages, weights = (*rest, *(level, stages, weights)[len(rest) :])
        stages = [as_bytes(stage) for stage in stages or ()]
        self._owner = Owner(
            lib.caffe_net_new(
                as_bytes(network_file),
                phase,
                level,
                (c_char_p * len(stages))(*stages),
                len(stages),
                None if weights is None else as_bytes(weights),
            )
        )

    def _forward(self, start, end):
        loss = c_float()
        lib.caffe_net_forward(self._handle, start, end, byref(loss))
        return loss.value

    def _backward(self, start, end):
        lib.caffe_net_backward(self._handle, start, end)

    def reshape(self):
        lib.caffe_net_reshape(self._handle)

    def clear_param_diffs(self):
        lib.caffe_net_clear_param_diffs(self._handle)

    def copy_from(self, name):
        lib.caffe_net_copy_from(self._handle, as_bytes(name))

    def share_with(self, other):
        lib.caffe_net_share_with(self._handle, other._handle)

    def save(self, name):
        lib.caffe_net_save(self._handle, as_bytes(name))

    def save_hdf5(self, name):
        lib.caffe_net_save_hdf5(self._handle, as_bytes(name))

    def load_hdf5(self, name):
        lib.caffe_net_load_hdf5(self._handle, as_bytes(name))

    # What a net is made of does not change.

    @cached_property
    def _blobs(self):
        return [Blob._of(lib.caffe_net_blob(self._handle, i)) for i in range(self._count)]

    @cached_property
    def _blob_names(self):
        return [as_text(lib.caffe_net_blob_name(self._handle, i)) for i in range(self._count)]

    _count = property(lambda self: lib.caffe_net_blobs(self._handle))

    @cached_property
    def layers(self):
        return [_layer(lib.caffe_net_layer(self._handle, i)) for i in range(self._layer_count)]

    @cached_property
    def _layer_names(self):
        names = range(self._layer_count)
        return [as_text(lib.caffe_net_layer_name(self._handle, i)) for i in names]

    _layer_count = property(lambda self: lib.caffe_net_layers(self._handle))

    @property
    def _blob_loss_weights(self):
        return [lib.caffe_net_blob_loss_weight(self._handle, i) for i in range(self._count)]

    def _ids(self, what, layer=0):
        ids = ints()
        return ids[: lib.caffe_net_ids(self._handle, what, layer, byref(ids))]

    def _bottom_ids(self, layer):
        return self._ids(0, layer)

    def _top_ids(self, layer):
        return self._ids(1, layer)

    _inputs = property(lambda self: self._ids(2))
    _outputs = property(lambda self: self._ids(3))

    def _set_input_arrays(self, data, labels):
        sizes = (c_int * 4)()
        if not lib.caffe_net_memory_data(self._handle, sizes):
            raise RuntimeError("set_input_arrays needs a MemoryData for the first layer")
        for name, array, shape in (("data", data, sizes[1:]), ("labels", labels, [1, 1, 1])):
            if array.dtype != np.float32 or not array.flags.c_contiguous:
                raise RuntimeError(f"the array of {name} must be float32 and C contiguous")
            if array.ndim != 4 or list(array.shape[1:]) != shape:
                wanted = ", ".join(map(str, ["N", *shape]))
                raise RuntimeError(f"the array of {name} is {array.shape}, and must be ({wanted})")
        if len(data) != len(labels) or len(data) % sizes[0]:
            raise RuntimeError(
                f"{len(data)} images and {len(labels)} labels are not as many of each, in "
                f"batches of {sizes[0]}"
            )
        lib.caffe_net_set_input(self._handle, data.ctypes.data, labels.ctypes.data, len(data))
        self._input_arrays = data, labels  # Caffe reads them where they are

    def before_forward(self, run):
        self._call(0, run)

    def after_forward(self, run):
        self._call(1, run)

    def before_backward(self, run):
        self._call(2, run)

    def after_backward(self, run):
        if isinstance(run, NCCL):
            lib.caffe_nccl_join_net(run._handle, self._handle)
        else:
            self._call(3, run)

    def _call(self, event, run):
        lib.caffe_net_call(self._handle, event, _callback(run))


def _layer(handle):
    """The object of a layer that is written in Python; for another's handle a new one."""
    layer = Layer._of(handle)
    return python_layers.get(lib.caffe_layer_python_id(handle), layer)


class SolverParameter:
    """What Caffe's SolverParameter tells Python, of a solver."""

    def __init__(self, solver):
        self._solver = solver

    def _values(self):
        values = c_int(), c_int(), c_int(), c_float()
        lib.caffe_solver_param(self._solver._handle, *map(byref, values))
        return [value.value for value in values]

    max_iter = property(lambda self: self._values()[0])
    display = property(lambda self: self._values()[1])
    layer_wise_reduce = property(lambda self: bool(self._values()[2]))

    @property
    def base_lr(self):
        return self._values()[3]

    @base_lr.setter
    def base_lr(self, rate):
        lib.caffe_solver_set_base_lr(self._solver._handle, rate)


class Solver(Object):
    _type = None

    def __init__(self, name):
        if self._type is None:
            raise RuntimeError("a Solver has a type: take SGDSolver or the like, or get_solver()")
        self._owner = Owner(lib.caffe_solver_new(as_bytes(name), self._type))

    @cached_property
    def net(self):
        return Net._of(lib.caffe_solver_net(self._handle))

    @cached_property
    def test_nets(self):
        count = lib.caffe_solver_test_nets(self._handle)
        return [Net._of(lib.caffe_solver_test_net(self._handle, i)) for i in range(count)]

    iter = property(lambda self: lib.caffe_solver_iter(self._handle))
    param = property(SolverParameter)

    def add_callback(self, on_start, on_gradients_ready=None):
        if isinstance(on_start, NCCL):
            lib.caffe_nccl_join_solver(on_start._handle, self._handle)
        else:
            calls = on_start, on_gradients_ready
            lib.caffe_solver_call(self._handle, _callback(lambda what: calls[what]()))

    def solve(self, resume_file=None):
        lib.caffe_solver_solve(self._handle, None if resume_file is None else as_bytes(resume_file))

    def step(self, steps):
        lib.caffe_solver_step(self._handle, steps)

    def restore(self, name):
        lib.caffe_solver_restore(self._handle, as_bytes(name))

    def snapshot(self):
        lib.caffe_solver_snapshot(self._handle)

    def share_weights(self, net):
        lib.caffe_solver_share_weights(self._handle, net._handle)

    def apply_update(self):
        lib.caffe_solver_apply_update(self._handle)


class SGDSolver(Solver):
    _type = b"SGD"
    lr = property(lambda self: lib.caffe_solver_lr(self._handle))


class NesterovSolver(SGDSolver):
    _type = b"Nesterov"


class AdaGradSolver(SGDSolver):
    _type = b"AdaGrad"


class RMSPropSolver(SGDSolver):
    _type = b"RMSProp"


class AdaDeltaSolver(SGDSolver):
    _type = b"AdaDelta"


class AdamSolver(SGDSolver):
    _type = b"Adam"


def get_solver(name):
    """The solver in the file ``name``, of the type that it says."""
    handle = lib.caffe_solver_new(as_bytes(name), None)
    classes = {each._type: each for each in (SGDSolver, *SGDSolver.__subclasses__())}
    return classes.get(lib.caffe_solver_type(handle), Solver)._of(handle)


class NCCL(Object):
    def __init__(self, solver, uid):
        self._owner = Owner(lib.caffe_nccl_new(solver._handle, uid, len(uid)))

    @staticmethod
    def new_uid():
        uid = ctypes.create_string_buffer(1024)
        return uid.raw[: lib.caffe_nccl_new_uid(uid, len(uid))]

    def bcast(self):
        lib.caffe_nccl_bcast(self._handle)
