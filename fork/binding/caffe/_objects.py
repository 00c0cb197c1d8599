"""Blobs and layers, those that are written in Python among them."""

import ctypes
import importlib
import math
import os
from ctypes import byref, c_int, c_int64

import numpy as np

from ._library import CALL, CREATE, DESTROY, MOST_AXES, Values, failed, has_gpu, kept, lib, look


def as_bytes(text):
    return text if isinstance(text, bytes) else os.fsencode(text)


def as_text(stored):
    return os.fsdecode(stored)


class Owner:
    """A handle, as long as somebody needs it."""

    __slots__ = ("handle",)

    def __init__(self, handle):
        self.handle = handle

    def __del__(self, release=lib.caffe_release):
        release(self.handle)


class Object:
    """An object of Caffe's, which lives as long as its owner."""

    _owner = None

    @classmethod
    def _of(cls, handle):
        made = cls.__new__(cls)
        made._owner = Owner(handle)
        return made

    @property
    def _handle(self):
        if self._owner is None:
            raise RuntimeError(f"this {type(self).__name__} has nothing of Caffe's, or no more")
        return self._owner.handle


class _Numbers:
    """The data or the diff of a blob: where they were, and an array over them."""

    def __init__(self, owner, diff):
        self.owner = owner
        self.values = Values(blob=owner.handle, diff=diff)
        self.where = byref(self.values)  # for look()
        self.array = None

    def renew(self, changed):
        if changed < 0:
            failed()
        shape = tuple(self.values.shape[: self.values.axes])
        self.array = np.empty(shape, np.float32)
        if self.values.at and self.array.size:
            self.array = np.asarray(_Memory(self.owner, self.values.at, shape))


class _Memory:
    """What an array lies over; it keeps the owner alive."""

    TYPE = np.dtype(np.float32).str

    def __init__(self, owner, at, shape):
        self.owner = owner
        self.__array_interface__ = {
            "version": 3,
            "typestr": self.TYPE,
            "shape": shape,
            "data": (at, False),
        }


class Blob(Object):
    @property
    def shape(self):
        shape = (c_int64 * MOST_AXES)()
        return shape[: lib.caffe_blob_shape(self._handle, shape)]

    def _legacy(self, axis):
        shape = self.shape
        if len(shape) > 4:
            raise RuntimeError(
                f"num, channels, height and width are of 4 axes, not of {len(shape)}"
            )
        return shape[axis] if axis < len(shape) else 1

    num = property(lambda self: self._legacy(0))
    channels = property(lambda self: self._legacy(1))
    height = property(lambda self: self._legacy(2))
    width = property(lambda self: self._legacy(3))
    count = property(lambda self: math.prod(self.shape))

    def reshape(self, *shape):
        lib.caffe_blob_reshape(self._handle, (c_int * len(shape))(*shape), len(shape))

    _data = _diff = None

    # Both are called in loops: written out, for a call costs as much as the work.
    @property
    def data(self):
        numbers = self._data
        if numbers is None:
            numbers = self._data = _Numbers(self._owner, 0)
        changed = look(numbers.where)
        if changed:
            numbers.renew(changed)
        return numbers.array[...]

    @property
    def diff(self):
        numbers = self._diff
        if numbers is None:
            numbers = self._diff = _Numbers(self._owner, 1)
        changed = look(numbers.where)
        if changed:
            numbers.renew(changed)
        return numbers.array[...]

    if has_gpu:
        _gpu_data_ptr = property(lambda self: lib.caffe_blob_gpu_values(self._handle, 0))
        _gpu_diff_ptr = property(lambda self: lib.caffe_blob_gpu_values(self._handle, 1))


def _handles(blobs):
    return (ctypes.c_void_p * len(blobs))(*(blob._handle for blob in blobs)), len(blobs)


class BlobVec:
    """The blobs of a layer, as they are now."""

    def __init__(self, layer):
        self._layer = layer

    def __len__(self):
        return lib.caffe_layer_blobs(self._layer._handle)

    def __getitem__(self, index):
        there = range(len(self))
        if isinstance(index, slice):
            return [self[each] for each in there[index]]
        return Blob._of(lib.caffe_layer_blob(self._layer._handle, there[index]))

    def add_blob(self, *shape):
        lib.caffe_layer_add_blob(self._layer._handle, (c_int * len(shape))(*shape), len(shape))


class LayerParameter:
    """What the constructor of a layer in Python is given, as in Caffe: it tells nothing."""


class Layer(Object):
    """A layer of Caffe's, and the base class of those that are written in Python."""

    def __init__(self, param=None):
        pass

    blobs = property(BlobVec)
    type = property(lambda self: as_text(lib.caffe_layer_type(self._handle)))

    def setup(self, bottom, top):
        if type(self) is Layer:  # else it is one in Python that needs none
            lib.caffe_layer_set_up(self._handle, *_handles(bottom), *_handles(top))

    def reshape(self, bottom, top):
        if type(self) is Layer:
            lib.caffe_layer_reshape(self._handle, *_handles(bottom), *_handles(top))

    def continue_at(self, passes):
        """Has a layer of data give next what it gives after ``passes`` forward passes."""
        lib.caffe_layer_continue_at(self._handle, passes)


class Timer(Object):
    def __init__(self):
        self._owner = Owner(lib.caffe_timer_new())

    def start(self):
        lib.caffe_timer_start(self._handle)

    def stop(self):
        lib.caffe_timer_stop(self._handle)

    ms = property(lambda self: lib.caffe_timer_ms(self._handle))


# ---- Layers that are written in Python

python_layers = {}  # by the id that Caffe knows; Caffe says when one goes
_ids = iter(range(2**31))


def _create(module, name, handle, number):
    owner = Owner(handle)
    kind = getattr(importlib.import_module(as_text(module)), as_text(name))
    if not issubclass(kind, Layer):
        raise TypeError(f"{as_text(module)}.{as_text(name)} is no caffe.Layer")
    layer = kind.__new__(kind)
    layer._owner = owner
    layer.__init__(LayerParameter())
    number[0] = next(_ids)
    python_layers[number[0]] = layer


def _call(number, task, bottom, bottoms, top, tops, propagate_down, param_str, phase):
    bottom = [Blob._of(handle) for handle in bottom[:bottoms]]
    top = [Blob._of(handle) for handle in top[:tops]]
    layer = python_layers[number]
    if task == 0:
        layer.param_str, layer.phase = as_text(param_str), phase
    if task == 3:
        layer.backward(top, [bool(down) for down in propagate_down[:bottoms]], bottom)
    else:
        getattr(layer, ("setup", "reshape", "forward")[task])(bottom, top)


def _destroy(number, layers=python_layers):  # also when Python ends, and python_layers is gone
    layer = layers.pop(number, None)
    if layer is not None:
        layer._owner = None


_calls = CREATE(kept(_create)), CALL(kept(_call)), DESTROY(_destroy)
lib.caffe_set_python_layers(*_calls)
