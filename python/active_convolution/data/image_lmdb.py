"""Listed image files to an LMDB of Datum, by several processes, over as many runs as it takes.

A record's key is its image's place in the list, so the result depends neither on the number of processes nor on when
they were stopped. An image that cannot be read leaves its key out; the next run tries it again.
"""
import collections
import contextlib
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import lmdb
import numpy as np
from tqdm import tqdm

from ..cv import cv2
from ..errors import UserError
from ..fork import caffe_pb2
from ..training.guard import end_with_parent
from . import datum

_CHUNK = 16  # images that a process takes at a time
_AHEAD = 3  # chunks for each process that may be on the way: this bounds the memory
_TRANSACTION = 2 ** 26  # bytes of records between two commits: all that a kill can lose
_FIRST_MAP = 2 ** 30  # bytes


class Recipe(NamedTuple):
    """What is made of each file: see datum.from_file."""
    size: int
    raw: bool


class Result(NamedTuple):
    """Which images of the list have a record, a mask, and which of those tried now have none, {name: reason}."""
    written: np.ndarray
    unreadable: dict


class Workers:
    """``jobs`` processes that turn the files in the folder ``source`` into Datum."""

    def __init__(self, jobs):
        caffe_pb2()  # imported once, before the processes are forked
        self._ahead = _AHEAD * jobs
        self._pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("fork"), _start_worker)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._pool.shutdown(cancel_futures=True)

    def convert(self, images, source, indices, recipe):
        """Yields (indices, records) for parts of ``indices`` into ``images``, an ImageList, in their order.

        A record is the bytes of a Datum, or a str that says why there is none. Raises UserError where a process dies.
        """
        waiting = collections.deque()
        try:
            for start in range(0, len(indices), _CHUNK):
                part = indices[start:start + _CHUNK]
                waiting.append((part, self._pool.submit(_convert, os.fsencode(source), images.names[part].tolist(),
                                                        images.labels[part].tolist(), recipe)))
                if len(waiting) > self._ahead:
                    yield _finished(waiting)
            while waiting:
                yield _finished(waiting)
        except BrokenProcessPool as error:
            raise UserError("a worker process was killed, perhaps for want of memory: run the same command again, "
                            "with fewer --jobs") from error


def write_images(path, images, source, recipe, workers, max_unreadable):
    """Puts into the LMDB folder ``path`` what it lacks of ``images``, an ImageList of files in ``source``, in the
    list's order. Returns the Result.

    It gives up early once more than ``max_unreadable`` images cannot be read. Every transaction reaches the disk whole
    or not at all, a power cut included. Raises UserError where the disk is full or fails.
    """
    unreadable = {}
    with _opened(path) as database:
        written = _written(database, len(images.names))
        bar = tqdm(desc=f"writing {Path(path).name}", total=len(written), initial=int(written.sum()), unit="image")
        with bar, _Writer(database) as writer:
            for indices, records in workers.convert(images, source, np.flatnonzero(~written), recipe):
                for index, record in zip(indices, records):
                    if isinstance(record, str):
                        unreadable[os.fsdecode(images.names[index])] = record
                    else:
                        writer.put(index, record)
                        written[index] = True
                bar.update(len(indices))
                if len(unreadable) > max_unreadable:
                    break
    return Result(written, unreadable)


class _Writer:
    """Collects records and puts them into the database 64 MiB at a time, and the rest at the end, after errors too."""

    def __init__(self, database):
        self._database, self._records, self._bytes = database, [], 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._commit()

    def put(self, index, record):
        self._records.append((b"%08d" % index, record))
        self._bytes += len(record)
        if self._bytes >= _TRANSACTION:
            self._commit()

    def _commit(self):
        while not self._committed():  # the map is an upper bound for the file: let it grow
            self._database.set_mapsize(2 * self._database.info()["map_size"])
        self._records.clear()
        self._bytes = 0

    def _committed(self):
        try:
            with self._database.begin(write=True) as transaction:
                for key, record in self._records:
                    transaction.put(key, record)
        except lmdb.MapFullError:
            return False
        return True


@contextlib.contextmanager
def _opened(path):
    try:
        Path(path).mkdir(exist_ok=True)  # LMDB would give the folder the mode of its files
        with lmdb.open(str(path), map_size=_FIRST_MAP, mode=0o666) as database:
            yield database
    except (lmdb.Error, OSError) as error:
        raise UserError(f"cannot write {path} ({error}): free some space, and run the same command again to go "
                        "on") from error


def _written(database, count):
    """The mask of the records that are there: (count,) bool."""
    written = np.zeros(count, bool)
    with database.begin() as transaction:
        for key in transaction.cursor().iternext(values=False):
            written[int(key)] = True
    return written


def _finished(waiting):
    part, future = waiting.popleft()
    return part, future.result()


def _start_worker():
    end_with_parent(multiprocessing.parent_process().pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent sees to the end
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent's would clean up here, too
    cv2.setNumThreads(1)


def _convert(source, names, labels, recipe):
    return [_record(os.path.join(source, name), label, recipe) for name, label in zip(names, labels)]


def _record(path, label, recipe):
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        return error.strerror
    return datum.from_file(data, label, *recipe) or "no whole image"
