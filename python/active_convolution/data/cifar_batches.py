"""The batch files in which CIFAR-10 and CIFAR-100 are distributed (Krizhevsky, 2009): python pickles and plain binary.

Both hold an image as 3072 bytes: the red, the green, then the blue plane, each 32 rows of 32 pixels.
"""
import io
import pickle

import numpy as np

from ..errors import UserError
from .dataset import Split

SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32

# All that a pickled NumPy array needs, under the names that NumPy 1 and 2 give it. ``_codecs.encode`` is how
# Python 3 writes bytes for Python 2. None of them runs anything that the file chooses.
_ALLOWED = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")} | {
    (f"numpy.{core}.{module}", name)
    for core in ("core", "_core") for module, name in (("multiarray", "_reconstruct"), ("numeric", "_frombuffer"))}


class _ArrayUnpickler(pickle.Unpickler):
    """Loads containers and NumPy arrays only: a pickle may otherwise run any code."""

    def find_class(self, module, name):
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which image data does not need")
        return super().find_class(module.replace("numpy._core", "numpy.core"), name)


def read_python(data, name, classes, label_key):
    """The images in ``data``, the bytes of a python batch, as a Split with images (N, 3, 32, 32) uint8, RGB.

    ``label_key`` is the entry that holds the labels, ``classes`` how many there may be, ``name`` what errors call the
    file. Raises UserError for a damaged or malicious file, missing entries, wrong counts and labels out of range.
    """
    try:
        batch = _ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
        entries = {key if isinstance(key, str) else key.decode(): value for key, value in batch.items()}
        pixels, labels = np.asarray(entries["data"]), np.asarray(entries[label_key])
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise UserError(f"{name} is not a whole python batch of CIFAR ({type(error).__name__}: {error}): "
                        "fetch the archive again") from error
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise UserError(f"{name} holds {pixels.dtype} data of shape {pixels.shape}, not uint8 (N, {_PIXELS}): "
                        "fetch the archive again")
    if labels.dtype.kind not in "iu" or labels.shape != pixels.shape[:1]:
        raise UserError(f"{name} holds {len(pixels)} images but {labels.size} integer labels in shape {labels.shape}: "
                        "fetch the archive again")
    return _checked(pixels, labels, name, classes)


def read_binary(data, name, classes, label_bytes):
    """The images in ``data``, the bytes of a binary batch: rows of ``label_bytes`` labels, the last of which counts,
    and 3072 pixels. Result and errors as for ``read_python``.
    """
    row = label_bytes + _PIXELS
    if len(data) % row:
        raise UserError(f"{name} is {len(data)} bytes long, not a multiple of {row}: it is truncated or another "
                        "set's; fetch the archive again")
    rows = np.frombuffer(data, np.uint8).reshape(-1, row)
    return _checked(rows[:, label_bytes:], rows[:, label_bytes - 1], name, classes)


def _checked(pixels, labels, name, classes):
    if not len(labels):
        raise UserError(f"{name} holds no images: fetch the archive again")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise UserError(f"{name}: image {wrong[0]} has label {labels[wrong[0]]}, but there are only {classes} "
                        f"classes, from 0; fetch the archive again")
    return Split(pixels.reshape(-1, *SHAPE), labels.astype(np.int64))
