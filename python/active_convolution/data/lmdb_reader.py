"""An LMDB of Caffe's Datum as arrays."""
import lmdb
import numpy as np
from google.protobuf.message import DecodeError

from ..errors import UserError
from ..fork import caffe_pb2
from ..prototxt import by
from . import datum


def batches(path, shape, count, size):
    """Yields (images (n, C, H, W) float32, labels (n,)), n <= ``size``, of the LMDB folder ``path`` in its order. The
    images are one buffer, which the next batch fills again.

    Raises UserError unless that holds ``count`` whole records, each of ``shape`` (C, H, W).
    """
    images, labels = np.empty((min(size, count), *shape), np.float32), []
    try:
        with lmdb.open(str(path), readonly=True, lock=False) as database, database.begin() as transaction:
            if transaction.stat()["entries"] != count:
                raise UserError(f"{path} holds {transaction.stat()['entries']} images, and its manifest says {count}: "
                                "make the data set anew")
            for key, value in transaction.cursor():
                images[len(labels)], label = _image(path, key, value, shape)
                labels.append(label)
                if len(labels) == len(images):
                    yield images, np.array(labels)
                    labels = []
    except lmdb.Error as error:
        raise UserError(f"cannot read {path} ({error}): make the data set anew") from error
    if labels:
        yield images[:len(labels)], np.array(labels)


def _image(path, key, value, shape):
    """The pixels and the label of a record."""
    where = f"record {key.decode(errors='replace')} of {path}"
    try:
        record = caffe_pb2().Datum.FromString(value)
        pixels = datum.pixels(record)
    except (DecodeError, ValueError) as error:
        raise UserError(f"{where} is damaged: make the data set anew") from error
    if pixels.shape != shape:
        raise UserError(f"{where} is {by(pixels.shape)}, and the manifest says {by(shape)}: make the data set anew")
    return pixels, record.label
