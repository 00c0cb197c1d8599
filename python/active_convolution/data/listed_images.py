"""Lists of labelled images, such as files of one ``IMAGE LABEL`` a line, as Places365 has them and convert_imageset takes
them, to an LMDB of Datum, by several processes, over as many runs as it takes.

A record's key is its image's place in the list, so the result depends neither on the number of processes nor on when
they were stopped. An image that cannot be read leaves its key out; the next run tries it again.
"""

import collections
import contextlib
import errno
import hashlib
import io
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

from ..caffe.locate import caffe_pb2
from ..caffe.process import end_with_parent
from ..errors import UserError
from ..files import open_regular
from . import datum
from .annotations import UTF16, text
from .database import permutation
from .sources import Folder, read_file

MOST_CLASSES = 2**16
_LINES = (
    100_000  # at a time: as Python objects the 1.8 million of Places365 would take half a gigabyte
)
_CHUNK, _CHUNK_BYTES = (
    16,
    2**24,
)  # the most images that a process takes at a time, and where it gives back pixels, of those
_LINE = 2**16  # bytes
_PATH = 4096  # bytes: Linux's PATH_MAX
_AT_MOST = f"and one has at most {_PATH}: mend it, or take it from the list"
_NAMES = 2**30  # bytes of all names: those of ImageNet's 14 million take half of it
_DIGITS = 9  # of a label: Python refuses to read a number of thousands
_UTF16 = 2**28  # bytes of a list that is turned into UTF-8 at once
_AHEAD = 3  # chunks for each process that may be on the way: this bounds the memory
_TRANSACTION = 2**26  # bytes of records between two commits: all that a kill can lose
_FIRST_MAP = 2**30  # bytes
_NO_LMDB = (
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
)
_BOM = b"\xef\xbb\xbf"  # a byte-order mark, which editors of Windows put first


# ---- The lists


class ImageList(NamedTuple):
    """``names`` (N,), the images' paths as NumPy bytes, relative to the folder of images; ``labels`` (N,) uint16;
    ``file``, where they come from, and its ``sha256``."""

    file: Path
    sha256: str
    names: np.ndarray
    labels: np.ndarray

    def shuffled(self, seed):
        return self.part(permutation(len(self.names), seed))

    def part(self, chosen):
        """Those of the images that ``chosen``, indices or a mask, names."""
        return self._replace(names=self.names[chosen], labels=self.labels[chosen])


def read_list(file, classes=MOST_CLASSES):
    """The ImageList in ``file``; "./" or a slash before an image's path means nothing, as in Places365's training list.

    Raises UserError for an empty list, a line that is none, a label that is not below ``classes``, and an image that is
    listed twice.
    """
    digest, names, labels, first = hashlib.sha256(), [], [], 1
    try:
        with open_regular(file) as opened:
            lines = _as_utf8(opened, file) if opened.peek(2)[:2] in UTF16 else opened
            while part := list(itertools.islice(iter(lambda: _line(lines, file), b""), _LINES)):
                digest.update(b"".join(part))
                if first == 1:
                    part[0] = part[0].removeprefix(_BOM)
                entries = [
                    _entry(line, file, number, classes)
                    for number, line in enumerate(part, first)
                    if line.strip()
                ]
                names.append(np.array([name for name, _ in entries], np.bytes_))
                _check_memory(sum(map(len, names)), max(part.itemsize for part in names), file)
                labels.append(np.array([label for _, label in entries], np.uint16))
                first += len(part)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    if not sum(map(len, names)):
        raise UserError(
            f"{file} lists no images: give a list with an image and its label a line, such as Places365's "
            "places365_train_standard.txt"
        )
    result = ImageList(
        Path(file), digest.hexdigest(), np.concatenate(names), np.concatenate(labels)
    )
    _check_unique(result)
    return result


def image_list(file, entries):
    """The ImageList of ``entries``, (name, label) with names as os.fsdecode gives them; ``file`` is what messages call it.

    Raises UserError for a name that leads out of the folder of images or is none, and for an image that is listed twice."""
    outside = next((name for name, _ in entries if ".." in name.split("/")), None)
    if outside is not None:
        raise UserError(
            f"{file} lists {outside!r:.60}, which leads out of the folder of images: list images below it"
        )
    names = [os.fsencode(name) for name, _ in entries]
    longest = max(names, key=len, default=b"")
    if len(longest) > _PATH:
        raise UserError(
            f"{file} lists {os.fsdecode(longest)!r:.60}, a path of {len(longest)} bytes, {_AT_MOST}"
        )
    _check_memory(len(names), len(longest), file)
    names = np.array(names, np.bytes_)
    labels = np.array([label for _, label in entries], np.uint16)
    digest = hashlib.sha256(
        b"\n".join(b"%s %d" % entry for entry in zip(names.tolist(), labels.tolist()))
    )
    result = ImageList(Path(file), digest.hexdigest(), names, labels)
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


def _as_utf8(opened, file):
    stored = opened.read(_UTF16 + 1)
    if len(stored) > _UTF16:
        raise UserError(
            f"{file} is a text in UTF-16 of more than {_UTF16 // 2**20} MiB: store it as UTF-8"
        )
    return io.BytesIO(os.fsencode(text(stored)))


def _line(lines, file):
    line = lines.readline(_LINE)
    if len(line) == _LINE:
        raise UserError(
            f"{file} has a line of {_LINE} bytes and more, {_shown(line)}, and should have an image and its label a line"
        )
    return line


def _entry(line, file, number, classes):
    """(name, label) in one line."""
    name, label = [b"", *line.rsplit(None, 1)][-2:]
    name = name.strip().lstrip(b"/")
    while name.startswith(b"./"):
        name = name[2:].lstrip(b"/")
    if not name or not label.isdigit() or b"\0" in name:
        raise UserError(
            f"{file} line {number} is {_shown(line)}, and should be an image and its label, such as "
            "'/a/airfield/00000001.jpg 0'"
        )
    label = label.lstrip(b"0") or b"0"
    if len(label) > _DIGITS or int(label) >= classes:
        raise UserError(
            f"{file} line {number} has the label {label.decode():.{_DIGITS}}, and should have one from 0 to "
            f"{classes - 1}"
        )
    if len(name) > _PATH:
        raise UserError(
            f"{file} line {number} is {_shown(line)}, with a path of {len(name)} bytes, {_AT_MOST}"
        )
    if b".." in name.split(b"/"):
        raise UserError(
            f"{file} line {number} is {_shown(line)}, which leads out of the folder of images: "
            "list images below it"
        )
    return name, int(label)


def _check_memory(count, width, file):
    """NumPy keeps every name in the ``width`` of the longest."""
    if count * width > _NAMES:
        raise UserError(
            f"{file} lists {count} images, with paths of up to {width} bytes, more than fits into "
            f"{_NAMES // 2**20} MiB: shorten the longest, or list fewer images"
        )


def _shown(line):
    text = line.strip().decode(errors="replace")
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def _check_unique(images):
    names = np.sort(images.names)
    repeated = names[1:][names[1:] == names[:-1]]
    if len(repeated):
        raise UserError(
            f"{images.file} lists {len(repeated)} images twice, {os.fsdecode(repeated[0])} among them: "
            "fetch the list again"
        )


def _names_in(folder):
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise UserError(f"cannot read {os.fsdecode(folder)}: {error.strerror}") from error


# ---- The LMDB


class Result(NamedTuple):
    """Which images of the list have a record, a mask, and which of those tried now have none, {name: reason}."""

    written: np.ndarray
    unreadable: dict


class Workers:
    """``jobs`` processes that turn image files into Datum."""

    def __init__(self, jobs):
        caffe_pb2()  # imported once, before the processes are forked
        self._ahead = _AHEAD * jobs
        self._pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("fork"), _start_worker)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._pool.shutdown(cancel_futures=True)

    def written(self, path, count):
        """As ``_written``, by one of the processes: what reads a damaged LMDB can end it. Raises UserError then, too."""
        try:
            return self._pool.submit(_written, path, count).result()
        except BrokenProcessPool as error:
            raise UserError(_damaged(path, "what reads it ends of it")) from error

    def convert(self, images, source, indices, recipe):
        """Yields (indices, records) for parts of ``indices`` into ``images``, an ImageList, of files in ``source`` (see
        sources.py), in the order that is cheapest.

        A record is the bytes of a Datum, or a str that says why there is none. Raises UserError where a process dies.
        """
        waiting = collections.deque()
        try:
            read = _from_folder if isinstance(source, Folder) else _from_archive
            for part, files in read(images, source, indices, _chunk(recipe)):
                waiting.append(
                    (part, self._pool.submit(_convert, files, images.labels[part].tolist(), recipe))
                )
                if len(waiting) > self._ahead:
                    yield _finished(waiting)
            while waiting:
                yield _finished(waiting)
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed, perhaps for want of memory: run the same command again, "
                "with fewer --jobs"
            ) from error


def _chunk(recipe):
    """How many images a process takes at a time."""
    raw = _CHUNK_BYTES // (3 * recipe.width * recipe.height) if recipe.encode == "raw" else _CHUNK
    return max(1, min(_CHUNK, raw))


def _from_folder(images, source, indices, chunk):
    """(indices, paths) for a process at a time: the processes read the files themselves."""
    folder = os.fsencode(source.path)
    for start in range(0, len(indices), chunk):
        part = indices[start : start + chunk]
        yield part, [os.path.join(folder, name) for name in images.names[part].tolist()]


def _from_archive(images, source, indices, chunk):
    """(indices, contents) for a process at a time."""
    there = set(source.names)
    wanted = {
        os.fsdecode(name): index for name, index in zip(images.names[indices].tolist(), indices)
    }
    missing = np.array([index for name, index in wanted.items() if name not in there], int)
    if len(missing):
        yield missing, [None] * len(missing)
    contents = source.read([name for name in wanted if name in there])
    while part := list(itertools.islice(contents, chunk)):
        yield np.array([wanted[name] for name, _ in part]), [io.BytesIO(data) for _, data in part]


def write_images(path, images, source, recipe, workers, max_unreadable):
    """Puts into the LMDB folder ``path`` what it lacks of ``images``, an ImageList of files in ``source`` (see
    sources.py), in the list's order. Returns the Result.

    It gives up early once more than ``max_unreadable`` images cannot be read. Every transaction reaches the disk whole
    or not at all, a power cut included. Raises UserError where the disk is full or fails, and where what is there already
    is damaged.
    """
    unreadable = {}
    begun = (Path(path) / "data.mdb").exists()
    written = (
        workers.written(path, len(images.names)) if begun else np.zeros(len(images.names), bool)
    )
    with _opened(path) as database:
        bar = tqdm(
            desc=f"writing {Path(path).name}",
            total=len(written),
            initial=int(written.sum()),
            unit="image",
        )
        with bar, _Writer(database) as writer:
            for indices, records in workers.convert(
                images, source, np.flatnonzero(~written), recipe
            ):
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
        self._records.append((_key(index), record))
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
        with lmdb.open(os.fsencode(path), map_size=_FIRST_MAP, mode=0o666) as database:
            yield database
    except _NO_LMDB as error:
        raise UserError(_damaged(path, f"LMDB says {error}")) from error
    except (lmdb.Error, OSError) as error:
        raise UserError(
            f"cannot write {path} ({error}): free some space, and run the same command again to go "
            "on"
        ) from error


def _written(path, count):
    """The mask of the records that the LMDB folder ``path`` holds: (count,) bool. Raises UserError for keys of another list.

    It reads the end of the record that lies last in the file, and begins to write one, which reads what LMDB knows of free
    pages: where the file was cut off, that ends this process, and no other later.
    """
    written, last = np.zeros(count, bool), (0, b"")
    with _opened(path) as database:
        transaction = database.begin(
            write=True, buffers=True
        )  # without an end, so that it comes to nothing
        for key, value in transaction.cursor():
            key, place = (
                bytes(key),
                np.frombuffer(value, np.uint8).__array_interface__["data"][0] if len(value) else 0,
            )
            last = max(last, (place, value), key=lambda record: record[0])
            if (
                not key.isdigit()
                or len(key) != len(_key(0))
                or int(key) >= count
                or written[int(key)]
            ):
                raise UserError(_damaged(path, f"it has the key {key!r:.40}"))
            written[int(key)] = True
        bytes(last[1][-1:])
        with contextlib.suppress(lmdb.MapFullError):
            transaction.put(_key(count), b"")
    return written


def _key(index):
    return b"%08d" % index


def _damaged(path, reason):
    return f"{path} is damaged, {reason}: remove {Path(path).parent} to start over"


def _finished(waiting):
    part, future = waiting.popleft()
    return part, future.result()


def _start_worker():
    end_with_parent(multiprocessing.parent_process().pid)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches every process; the parent sees to the end
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent's would clean up here, too
    cv2.setNumThreads(1)


def _convert(files, labels, recipe):
    return [_record(file, label, recipe) for file, label in zip(files, labels)]


def _record(file, label, recipe):
    """``file``: a path, a BytesIO, or None for one that is not there."""
    if file is None:
        return os.strerror(errno.ENOENT)
    try:
        data = file.getvalue() if isinstance(file, io.BytesIO) else read_file(file)
    except OSError as error:
        return error.strerror
    except UserError:
        return "no regular file, or larger than any image"
    return datum.from_file(data, label, recipe)
