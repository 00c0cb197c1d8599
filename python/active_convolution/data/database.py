"""Arrays or image files to an LMDB of Caffe's Datum, as Caffe's Data layer reads it."""

import contextlib
import hashlib
import os
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import lmdb
import numpy as np
from tqdm import tqdm

from ..caffe.locate import caffe_pb2
from ..errors import UserError
from . import datum
from .manifest import Part, source_bytes

VERSIONS = {  # of what a database's content depends on
    "python": platform.python_version(),
    **{module.__name__: module.__version__ for module in (np, cv2, lmdb)},
}
_FIRST_MAP = 2**30  # bytes; it grows
_BATCH, _BATCH_BYTES = 1000, 2**27  # the most between two commits: all that a kill can lose


def write(path, images, labels, seed=0):
    """Writes ``images`` (N, C, H, W), float32 or uint8, and ``labels`` (N,) to the LMDB ``path``.

    Keys are 00000000, 00000001, ... in an order shuffled by ``seed``. Raises UserError where the
    disk is full or fails.
    """
    order = permutation(len(images), seed)
    with _opened(path, sync=False) as database, _bar(path, len(order)) as bar:
        for start in range(0, len(order), _BATCH):
            part = order[start : start + _BATCH]
            records = [_record(images[index], labels[index]) for index in part]
            _put(database, enumerate(records, start))
            bar.update(len(part))
        database.sync(True)


def _record(image, label):
    channels, height, width = image.shape
    record = caffe_pb2().Datum(channels=channels, height=height, width=width, label=int(label))
    if image.dtype == np.uint8:
        record.data = image.tobytes()
    else:
        record.float_data.extend(image.ravel().tolist())
    return record.SerializeToString()


def write_images(path, images, recipe, jobs=None, max_unreadable=0):
    """Puts into the LMDB ``path`` what it lacks of ``images``, [(file, label)], by so many threads.

    A record's key is its image's place in the list, so the result depends neither on the number of
    threads nor on when they were stopped. Returns (the labels of the images that have a record,
    {file: why it has none}); more than ``max_unreadable`` of the latter are enough to give up.
    """
    unreadable = {}
    with _opened(path) as database:
        with database.begin() as transaction:
            known = {int(key) for key in transaction.cursor().iternext(values=False)}
        missing = [index for index in range(len(images)) if index not in known]
        with _bar(path, len(images), initial=len(known)) as bar:
            for records in _records(images, missing, recipe, jobs, unreadable):
                _put(database, records.items())
                known.update(records)
                bar.update(len(records))
                if len(unreadable) > max_unreadable:
                    break
    return np.array([images[index][1] for index in sorted(known)], int), unreadable


def pixels(images, recipe, jobs=None):
    """(images (N, 3, H, W) uint8 RGB, labels (N,)) of ``images``, [(file, label)], by a "raw"
    Recipe, and {file: why it cannot be read}."""
    unreadable, found = {}, {}
    for records in _records(images, range(len(images)), recipe, jobs, unreadable):
        found.update(records)
    data = [caffe_pb2().Datum.FromString(record).data for record in found.values()]
    bgr = np.frombuffer(b"".join(data), np.uint8).reshape(-1, 3, recipe.height, recipe.width)
    return (bgr[:, ::-1], np.array([images[index][1] for index in found], int)), unreadable


def _records(images, indices, recipe, jobs, unreadable):
    """Yields {index: Datum} for parts of ``indices``, and enters the others in ``unreadable``."""
    cv2.setNumThreads(1)
    size = max(1, min(_BATCH, _BATCH_BYTES // (3 * recipe.width * recipe.height)))
    with ThreadPoolExecutor(jobs or len(os.sched_getaffinity(0))) as pool:
        for start in range(0, len(indices), size):
            part = indices[start : start + size]
            made = dict(zip(part, pool.map(lambda i: datum.from_file(*images[i], recipe), part)))
            failed = {index: record for index, record in made.items() if isinstance(record, str)}
            unreadable.update({images[index][0]: reason for index, reason in failed.items()})
            yield {index: made[index] for index in made if index not in failed}


@contextlib.contextmanager
def _opened(path, **options):
    try:
        Path(path).mkdir(exist_ok=True)  # LMDB would give the folder the mode of its files
        with lmdb.open(str(path), map_size=_FIRST_MAP, mode=0o666, **options) as database:
            yield database
    except lmdb.Error as error:
        raise UserError(
            f"cannot write {path} ({error}): free some space, or remove {Path(path).parent} to "
            "start over, and run the same command again"
        ) from error


def _put(database, records):
    records = [(b"%08d" % key, record) for key, record in records]
    try:
        with database.begin(write=True) as transaction:
            transaction.cursor().putmulti(records)
    except lmdb.MapFullError:
        database.set_mapsize(2 * database.info()["map_size"])
        _put(database, [(int(key), record) for key, record in records])


def _bar(path, total, **options):
    return tqdm(desc=f"writing {Path(path).name}", total=total, unit="image", **options)


def permutation(count, seed):
    """The image at each place: a permutation of range(count)."""
    # RandomState's stream is frozen by NumPy's compatibility policy: a seed gives one order.
    return np.random.RandomState(seed).permutation(count)


def part_of(path, labels, shape, classes):
    """The Part of the LMDB ``path`` of images of ``shape`` (C, H, W) with ``labels``."""
    counts = np.bincount(labels, minlength=classes).tolist()
    size = source_bytes(path, "LMDB")
    return Part(len(labels), list(shape), counts, bytes=size, sha256=checksum(path))


def checksum(path):
    """The SHA-256, in hexadecimal, of all keys and values of the LMDB ``path`` in order."""
    digest = hashlib.sha256()
    with lmdb.open(str(path), readonly=True, lock=False) as database:
        with database.begin(buffers=True) as transaction:
            for key, value in transaction.cursor():
                digest.update(key)
                digest.update(value)
    return digest.hexdigest()
