"""Lists of labelled images, one ``IMAGE LABEL`` a line, as Places365 has them and convert_imageset takes them, to an LMDB
of Datum, by several processes, over as many runs as it takes.

A record's key is its image's place in the list, so the result depends neither on the number of processes nor on when
they were stopped. An image that cannot be read leaves its key out; the next run tries it again.
"""
import collections
import contextlib
import hashlib
import itertools
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import cv2
import lmdb
import numpy as np
from tqdm import tqdm

from ..errors import UserError
from ..pycaffe.locate import caffe_pb2
from ..pycaffe.process import end_with_parent
from . import datum
from .database import permutation

_LINES = 100_000  # at a time: as Python objects the 1.8 million of Places365 would take half a gigabyte
_CHUNK = 16  # images that a process takes at a time
_AHEAD = 3  # chunks for each process that may be on the way: this bounds the memory
_TRANSACTION = 2 ** 26  # bytes of records between two commits: all that a kill can lose
_FIRST_MAP = 2 ** 30  # bytes


# ---- The lists

class ImageList(NamedTuple):
    """``names`` (N,), the images' paths as NumPy bytes, relative to the folder of images; ``labels`` (N,) uint16;
    ``file``, where they come from, and its ``sha256``."""
    file: Path
    sha256: str
    names: np.ndarray
    labels: np.ndarray

    def shuffled(self, seed):
        order = permutation(len(self.names), seed)
        return self._replace(names=self.names[order], labels=self.labels[order])


def read_list(file, classes):
    """The ImageList in ``file``; a slash before an image's path means nothing, as in Places365's training list.

    Raises UserError for an empty list, a line that is none, a label that is not below ``classes``, and an image that is
    listed twice.
    """
    digest, names, labels, first = hashlib.sha256(), [], [], 1
    try:
        with open(file, "rb") as lines:
            while part := list(itertools.islice(lines, _LINES)):
                digest.update(b"".join(part))
                entries = [_entry(line, file, number, classes)
                           for number, line in enumerate(part, first) if line.strip()]
                names.append(np.array([name for name, _ in entries], np.bytes_))
                labels.append(np.array([label for _, label in entries], np.uint16))
                first += len(part)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    if not sum(map(len, names)):
        raise UserError(f"{file} lists no images: give one of Places365's lists, such as places365_train_standard.txt")
    result = ImageList(Path(file), digest.hexdigest(), np.concatenate(names), np.concatenate(labels))
    _check_unique(result)
    return result


def find_missing(images, folder):
    """How many of ``images``, an ImageList, are not in ``folder``, and the first of them in alphabetical order or None.

    Reads the folders, not the files: the 1.8 million of Places365 take seconds. Raises UserError for a folder that
    cannot be read.
    """
    count, first = 0, None
    for subfolder, names in itertools.groupby(np.sort(images.names), key=os.path.dirname):
        there = _names_in(os.path.join(os.fsencode(folder), subfolder))
        absent = [name for name in names if os.path.basename(name) not in there]
        count += len(absent)
        first = first or next(iter(absent), None)
    return count, first and os.fsdecode(first)


def _entry(line, file, number, classes):
    """(name, label) in one line."""
    name, label = [b"", *line.rsplit(None, 1)][-2:]
    name = name.strip().lstrip(b"/")
    if not name or not label.isdigit() or b"\0" in name:
        raise UserError(f"{file} line {number} is {_shown(line)}, and should be an image and its label, such as "
                        "'/a/airfield/00000001.jpg 0'")
    if int(label) >= classes:
        raise UserError(f"{file} line {number} has the label {int(label)}, and should have one from 0 to {classes - 1}")
    if b".." in name.split(b"/"):
        raise UserError(f"{file} line {number} is {_shown(line)}, which leads out of the folder of images: "
                        "list images below it")
    return name, int(label)


def _shown(line):
    text = line.strip().decode(errors="replace")
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def _check_unique(images):
    names = np.sort(images.names)
    repeated = names[1:][names[1:] == names[:-1]]
    if len(repeated):
        raise UserError(f"{images.file} lists {len(repeated)} images twice, {os.fsdecode(repeated[0])} among them: "
                        "fetch the list again")


def _names_in(folder):
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise UserError(f"cannot read {os.fsdecode(folder)}: {error.strerror}") from error


# ---- The LMDB

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
