"""A PyTorch state dict written without PyTorch, which pycaffe's Python seldom has: the file that torch.load reads.

It is a zip archive, stored: ``data.pkl``, a pickle of an OrderedDict whose tensors name their storage, each storage's bytes
under ``data/``, and a version. The pickle's few opcodes are written here, since a Pickler wants to import what it names.
"""

import pickle
import struct
import zipfile

import numpy as np

_STORAGES = {np.dtype(np.float32): "FloatStorage", np.dtype(np.int64): "LongStorage"}


def write(file, arrays):
    """Writes ``arrays``, {name: float32 or int64 array}, to the binary ``file``."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights/data.pkl", b"".join(_pickled(arrays)))
        archive.writestr("weights/byteorder", "little")
        for key, array in enumerate(arrays.values()):
            archive.writestr(
                f"weights/data/{key}",
                np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes(),
            )
        archive.writestr("weights/version", "3\n")


def _pickled(arrays):
    yield pickle.PROTO + b"\x02" + _empty_dict() + pickle.MARK
    for key, (name, array) in enumerate(arrays.items()):
        yield _text(name) + _global("torch._utils", "_rebuild_tensor_v2") + pickle.MARK
        yield (
            pickle.MARK
            + _text("storage")
            + _global("torch", _STORAGES[array.dtype])
            + _text(str(key))
            + _text("cpu")
        )
        yield _integer(array.size) + pickle.TUPLE + pickle.BINPERSID
        strides = [
            stride // array.itemsize for stride in np.empty(array.shape, array.dtype).strides
        ]
        yield (
            _integer(0)
            + _integers(array.shape)
            + _integers(strides)
            + pickle.NEWFALSE
            + _empty_dict()
        )
        yield pickle.TUPLE + pickle.REDUCE
    yield pickle.SETITEMS + pickle.STOP


def _empty_dict():
    return _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE


def _global(module, name):
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(text):
    content = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(content)) + content


def _integer(number):
    if number < 2**31:
        return pickle.BININT + struct.pack("<i", number)
    return pickle.LONG1 + b"\x08" + struct.pack("<q", number)


def _integers(numbers):
    return pickle.MARK + b"".join(map(_integer, numbers)) + pickle.TUPLE
