"""The records of a database, whichever of Caffe's layers reads it: LMDB and LevelDB of Datum (Data), HDF5 (HDF5Data), and
lists of image files (ImageData).

What reads a damaged LMDB, LevelDB or HDF5 file can end the process, so ``inspected`` lets another one read it.
"""

import contextlib
import ctypes
import ctypes.util
import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import lmdb
import numpy as np
from google.protobuf.message import DecodeError

from ..caffe import hdf5
from ..caffe.locate import caffe_pb2
from ..caffe.messages import by, parsed
from ..caffe.process import start
from ..errors import UserError
from ..files import DAMAGE, check_entries, open_regular
from . import database, datum
from .listed_images import MOST_CLASSES, read_list
from .sources import read_file

_MOST_LIST = 2**20  # bytes of a list of HDF5 files
_HDF5 = (".h5", ".hdf5", ".hdf")
_PROGRAM = "active_convolution.data.inspecting"


class Database(NamedTuple):
    """What a layer's source names: ``path`` and ``backend`` as in a manifest, or one HDF5 file itself; for a list of image
    files also the folder ``root`` that its paths start from, and the ``size`` (width, height) that the layer resizes to, or
    None."""

    path: str
    backend: str = "LMDB"
    root: str = ""
    size: tuple = None

    @classmethod
    def of(cls, part):
        """That of a manifest's part."""
        size = (
            (part["new_width"], part["new_height"])
            if part.get("new_width") and part.get("new_height")
            else None
        )
        return cls(part["path"], part["backend"], part.get("root_folder", ""), size)


def records(source):
    """Yields (name, bytes that tell this record from others, image (C, H, W), label) of a Database in its order.

    Raises UserError, which names the record, for one that Caffe's layer could not read.
    """
    readers = {
        "LMDB": _from_lmdb,
        "LEVELDB": _from_leveldb,
        "HDF5": _from_hdf5,
        "IMAGES": _from_list,
    }
    return readers[source.backend](source)


def batches(part, size):
    """As database.batches for a ``part`` of a manifest: (images (n, C, H, W) float32, labels (n,)), n <= ``size``."""
    source, shape, count = Database.of(part), tuple(part["shape"]), part["images"]
    if source.backend == "LMDB":
        yield from database.batches(source.path, shape, count, size)
        return
    images, labels, seen = np.empty((min(size, count), *shape), np.float32), [], 0
    for seen, (name, _, image, label) in enumerate(records(source), 1):
        if image.shape != shape:
            raise UserError(
                f"{name} is {by(image.shape)}, and the manifest says {by(shape)}: adopt the databases again"
            )
        images[len(labels)] = image
        labels.append(label)
        if len(labels) == len(images):
            yield images, np.array(labels)
            labels = []
    if seen != count:
        raise UserError(
            f"{source.path} holds {seen} images, and its manifest says {count}: adopt the databases again"
        )
    if labels:
        yield images[: len(labels)], np.array(labels)


# ---- One reader for each


def _from_lmdb(source):
    if not (Path(source.path) / "data.mdb").is_file():
        raise UserError(f"{source.path} is no LMDB, it has no data.mdb: give the folder of one")
    try:
        with (
            lmdb.open(os.fsencode(source.path), readonly=True, lock=False) as opened,
            opened.begin(buffers=True) as transaction,
        ):
            count = transaction.stat()["entries"]
            for number, (key, value) in enumerate(transaction.cursor()):
                if number >= count:  # damage may lead in a circle
                    raise UserError(
                        f"{source.path} is damaged, it holds more than its {count} records: make it anew"
                    )
                yield _datum_record(source, bytes(key), bytes(value))
    except lmdb.Error as error:
        raise UserError(f"cannot read {source.path} ({error}): make it anew") from error


def _datum_record(source, key, value):
    name = f"record {key.decode(errors='replace')} of {source.path}"
    try:
        record = parsed(caffe_pb2().Datum, value)
        image = datum.pixels(record)
    except (DecodeError, ValueError) as error:
        raise UserError(f"{name} is damaged, or no Datum of Caffe's: make it anew") from error
    return name, key + value, image, record.label


def _from_leveldb(source):
    check_entries(source.path)
    with _leveldb(source.path) as entries:
        for key, value in entries:
            yield _datum_record(source, key, value)


@contextlib.contextmanager
def _leveldb(path):
    """Yields an iterator of (key, value), both bytes, by LevelDB's own interface for C. To open one writes its log."""
    library = ctypes.CDLL(ctypes.util.find_library("leveldb") or "libleveldb.so.1d")
    for name in (
        "options_create",
        "open",
        "readoptions_create",
        "create_iterator",
        "iter_key",
        "iter_value",
    ):
        getattr(library, f"leveldb_{name}").restype = ctypes.c_void_p
    library.leveldb_iter_valid.restype = ctypes.c_ubyte

    def call(name, *arguments):
        error = ctypes.c_void_p()
        result = getattr(library, f"leveldb_{name}")(*arguments, ctypes.byref(error))
        if error.value:
            raise UserError(
                f"cannot read the LevelDB {path} ({ctypes.string_at(error.value).decode(errors='replace')}): make "
                "it anew, or convert it to LMDB"
            )
        return result

    def content(name, iterator):
        length = ctypes.c_size_t()
        return ctypes.string_at(
            getattr(library, f"leveldb_iter_{name}")(iterator, ctypes.byref(length)), length.value
        )

    def entries():
        iterator = ctypes.c_void_p(library.leveldb_create_iterator(opened, options))
        try:
            library.leveldb_iter_seek_to_first(iterator)
            while library.leveldb_iter_valid(iterator):
                yield content("key", iterator), content("value", iterator)
                library.leveldb_iter_next(iterator)
            call("iter_get_error", iterator)
        finally:
            library.leveldb_iter_destroy(iterator)

    options = ctypes.c_void_p(library.leveldb_readoptions_create())
    library.leveldb_readoptions_set_verify_checksums(options, ctypes.c_ubyte(1))
    opened = ctypes.c_void_p(
        call("open", ctypes.c_void_p(library.leveldb_options_create()), os.fsencode(path))
    )
    generator = entries()
    try:
        yield generator
    finally:
        generator.close()
        library.leveldb_close(opened)


def hdf5_files(path):
    """The files that the list ``path`` of an HDF5Data layer names, from its folder where they are not there as they stand."""
    try:
        with open_regular(path) as file:
            names = file.read(_MOST_LIST).decode(errors="surrogateescape").split("\n")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    names = [name.strip() for name in names if name.strip()]
    missing = next((name for name in names if not Path(name).is_file()), None)
    if missing or not names:
        raise UserError(
            f"{path} lists {missing or 'no HDF5 file'}, and Caffe finds its files from the working directory: "
            "give absolute paths, one a line"
        )
    return names


def is_hdf5(name):
    return str(name).lower().endswith(_HDF5)


def _from_hdf5(source):
    try:
        import h5py
    except ImportError as error:
        raise UserError(
            "to read HDF5 needs h5py: apt-get install python3-h5py, or pip install h5py"
        ) from error
    for name in [source.path] if is_hdf5(source.path) else hdf5_files(source.path):
        try:
            with h5py.File(name, "r") as file:
                data, labels = (hdf5.checked(hdf5.member(file, part)) for part in ("data", "label"))
                if (
                    data.ndim != 4
                    or data.dtype.kind not in "fiu"
                    or len(data) != len(labels)
                    or labels.size != len(labels)
                ):
                    raise UserError(
                        f"{name} has data {by(data.shape)} and label {by(labels.shape)}, not images (number, "
                        "channels, height, width) and a label for each"
                    )
                for index in range(len(data)):
                    image, label = data[index].astype(np.float32), float(np.ravel(labels[index])[0])
                    if not np.isfinite(image).all() or label != int(label):
                        raise UserError(
                            f"image {index} of {name} holds numbers that are none, or has the label {label}"
                        )
                    yield (
                        f"image {index} of {name}",
                        image.tobytes() + b"%d" % int(label),
                        image,
                        int(label),
                    )
        except (OSError, RuntimeError, *DAMAGE) as error:
            raise UserError(
                f"cannot read {name} ({' '.join(str(error).split())[:120]}): it needs the data sets data and label; "
                "make it anew"
            ) from error


def _from_list(source):
    images = read_list(source.path)
    root = os.fsencode(source.root)
    for name, label in zip(images.names.tolist(), images.labels.tolist()):
        path = root + name  # as Caffe joins them
        shown = os.fsdecode(path)
        try:
            data = read_file(path)
        except OSError as error:
            raise UserError(
                f"cannot read {shown}, which {source.path} lists: {error.strerror}"
            ) from error
        image = datum.decode(data)
        if image is None:
            raise UserError(
                f"{shown}, which {source.path} lists, is no whole image: mend it, or take it from the list"
            )
        if source.size:
            image = datum.resized(image, datum.Recipe(*source.size))
        yield shown, data + b"%d" % label, image.transpose(2, 0, 1), label


# ---- Every record read, by a process that may die of it


class Inspection(NamedTuple):
    """What a Database holds: how many ``images``, of ``shape`` (C, H, W), ``images_per_class``, and ``sha256``, which for an
    LMDB is database.checksum's."""

    images: int
    shape: list
    images_per_class: list
    sha256: str


def inspected(source, known=None):
    """The Inspection of a Database, of which every record has been read. With ``known``, the checksum that it should have,
    that is compared, and of an LMDB it is all that is found out. Raises UserError where a record cannot be read, or reading ends the process."""
    command = json.dumps([source._asdict(), known])
    with start(
        _PROGRAM,
        [],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        answer, _ = child.communicate(command)
    try:
        found = json.loads(answer)
    except ValueError:
        how = (
            f"signal {-child.returncode}" if child.returncode < 0 else f"status {child.returncode}"
        )
        raise UserError(
            f"{source.path} is damaged, what reads it ended with {how}: make the data set anew"
        ) from None
    if "error" in found:
        raise UserError(found["error"])
    if known not in (None, found["sha256"]):
        raise UserError(
            f"{source.path} is damaged, its content is not what its manifest says: make the data set anew"
        )
    return Inspection(**found)


def inspect(source):
    """As ``inspected``, in this process."""
    digest, counts, shape = hashlib.sha256(), [], None
    for name, content, image, label in records(source):
        digest.update(content)
        if shape not in (None, image.shape):
            raise UserError(
                f"{name} is {by(image.shape)}, and those before are {by(shape)}: images of one size are needed, as "
                "acu data images --size makes them"
            )
        if 0 in image.shape:
            raise UserError(f"{name} is {by(image.shape)}, which is no image: remove it")
        if not 0 <= label < MOST_CLASSES:
            raise UserError(
                f"{name} has the label {label}, and should have one from 0 to {MOST_CLASSES - 1}"
            )
        shape = image.shape
        counts += [0] * (label + 1 - len(counts))
        counts[label] += 1
    if shape is None:
        raise UserError(f"{source.path} holds no images: give another")
    return Inspection(sum(counts), list(shape), counts, digest.hexdigest())
