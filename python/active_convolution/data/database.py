"""Arrays to an LMDB of Caffe's Datum, as Caffe's Data layer reads it, and back."""

import math
import os
from pathlib import Path

import lmdb
import numpy as np
from google.protobuf.message import DecodeError
from tqdm import tqdm

from ..caffe.locate import caffe_pb2
from ..caffe.messages import by, parsed
from ..errors import BadValue, UserError
from ..files import whole_folder
from . import datum
from .checksums import checksum  # noqa: F401

_TRANSACTION = 500  # images
_PAGE = 4096  # bytes
_FLOAT_BYTES = 5  # a number in Datum.float_data: a tag and four bytes
_OVERHEAD_BYTES = 64  # of a record: key, label and shape, and what LMDB adds


# ---- Writing


def space_needed(count, shape):
    """An upper bound in bytes for an LMDB of ``count`` float32 images of ``shape`` (C, H, W)."""
    pages = math.ceil((_FLOAT_BYTES * math.prod(shape) + _OVERHEAD_BYTES) / _PAGE)
    return (
        int(1.1 * count * pages * _PAGE) + 2**20
    )  # a tenth and a mebibyte for the tree above the records


def write(path, images, labels, seed=0):
    """Writes ``images`` (N, C, H, W), float32 or uint8, and ``labels`` (N,) to the new LMDB folder ``path``.

    Keys are 00000000, 00000001, ... in an order shuffled by ``seed``. The folder appears whole and on the disk, or not
    at all. Raises UserError where it exists already and where the disk is full or fails.
    """
    order = permutation(len(images), seed)
    path = Path(path)
    room = space_needed(len(images), images.shape[1:])
    try:
        with (
            whole_folder(path) as folder,
            lmdb.open(os.fsencode(folder), map_size=room, sync=False, mode=0o666) as database,
        ):
            with tqdm(desc=f"writing {path.name}", total=len(order), unit="image") as bar:
                for start in range(0, len(order), _TRANSACTION):
                    part = order[start : start + _TRANSACTION]
                    _put(database, start, images[part], labels[part])
                    bar.update(len(part))
            database.sync(True)
    except lmdb.Error as error:
        raise UserError(
            f"cannot write {path.name} ({error}): free some space or name another --output"
        ) from error


def _put(database, first_key, images, labels):
    with database.begin(write=True) as transaction:
        for key, (image, label) in enumerate(zip(images, labels), first_key):
            transaction.put(b"%08d" % key, _datum(image, label).SerializeToString(), append=True)


def _datum(image, label):
    channels, height, width = image.shape
    datum = caffe_pb2().Datum(channels=channels, height=height, width=width, label=int(label))
    if image.dtype == np.uint8:
        datum.data = image.tobytes()
    elif image.dtype == np.float32:
        datum.float_data.extend(image.ravel().tolist())
    else:
        raise TypeError(f"a Datum holds float32 or uint8, not {image.dtype}")
    return datum


# ---- The order of the images


def check_seed(seed):
    if not 0 <= seed < 2**32:
        raise BadValue(f"--seed {seed} is out of range: give one from 0 to {2**32 - 1}")


def permutation(count, seed):
    """The image at each place: a permutation of range(count)."""
    # RandomState's stream is frozen by NumPy's compatibility policy: a seed gives one order, for good.
    return np.random.RandomState(seed).permutation(count)


# ---- Reading


def batches(path, shape, count, size):
    """Yields (images (n, C, H, W) float32, labels (n,)), n <= ``size``, of the LMDB folder ``path`` in its order. The
    images are one buffer, which the next batch fills again.

    Raises UserError unless that holds ``count`` whole records, each of ``shape`` (C, H, W).
    """
    images, labels = np.empty((min(size, count), *shape), np.float32), []
    try:
        with (
            lmdb.open(os.fsencode(path), readonly=True, lock=False) as database,
            database.begin() as transaction,
        ):
            if transaction.stat()["entries"] != count:
                raise UserError(
                    f"{path} holds {transaction.stat()['entries']} images, and its manifest says {count}: "
                    "make the data set anew"
                )
            for key, value in transaction.cursor():
                images[len(labels)], label = _image(path, key, value, shape)
                labels.append(label)
                if len(labels) == len(images):
                    yield images, np.array(labels)
                    labels = []
    except lmdb.Error as error:
        raise UserError(f"cannot read {path} ({error}): make the data set anew") from error
    if labels:
        yield images[: len(labels)], np.array(labels)


def _image(path, key, value, shape):
    """The pixels and the label of a record."""
    where = f"record {key.decode(errors='replace')} of {path}"
    try:
        record = parsed(caffe_pb2().Datum, value)
        pixels = datum.pixels(record)
    except (DecodeError, ValueError) as error:
        raise UserError(f"{where} is damaged: make the data set anew") from error
    if pixels.shape != shape:
        raise UserError(
            f"{where} is {by(pixels.shape)}, and the manifest says {by(shape)}: make the data set anew"
        )
    return pixels, record.label
