"""Where images come from: what every reader returns, scikit-learn's digits, and the files of a folder, of a tar archive,
packed or not, or of a zip, behind one interface."""

import bz2
import contextlib
import functools
import gzip
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from ..files import DAMAGE, open_regular

MOST = 2**28  # bytes of a file: CIFAR-100's training batch has 2^27
_DEPTH = 6  # <any folder>/<set>/train/<class>/images/<image>: what lies deeper in a folder belongs to something else
_DAMAGE = (
    *DAMAGE,
    MemoryError,
    tarfile.TarError,
    OSError,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
)
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_COMPRESSIONS = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
_RATIO, _LEAST_LIMIT = (
    100,
    2**30,
)  # files that are compressed already hardly shrink; but a small archive may hold bitmaps
_PIECE = 2**20
_PADDING = (
    2**26
)  # bytes of zeros at the end of a tar archive: of tar's blocking factors the largest
DIGITS_TRAIN, DIGITS_TEST = 1500, 297
DIGITS_FOLDS = 6
_DIGITS_MAXIMUM = 16  # the set's pixels count the set dots of a 4x4 block


class Split(NamedTuple):
    """One part of a data set: ``images`` (N, C, H, W) and their ``labels`` (N,), integers from 0."""

    images: np.ndarray
    labels: np.ndarray


class Dataset(NamedTuple):
    """A data set as it was read, before any preprocessing. ``source`` says in words what it was read from."""

    classes: int
    source: str
    train: Split
    test: Split


# ---- The digits


def read_digits(split_seed=0, fold=None, size=None):
    """The handwritten digits that come with scikit-learn, 1797 real images of 8x8 pixels (Alpaydin and Kaynak, 1998), as
    a Dataset: images (N, 1, 8, 8) float32 in [0, 1], 1500 to train and 297 to test.

    The set has no test part of its own, so one is drawn, with every digit in proportion. ``split_seed`` chooses
    which; leave it alone to test on the same images everywhere. With a ``fold`` from 1 to DIGITS_FOLDS the test images
    are the 299 of that part, which share none with another part's: for a cross-validation. ``size``, (width, height) in
    pixels, enlarges the images bilinearly.
    """
    from sklearn.datasets import (
        load_digits,  # here, for those who read other data: it takes seconds
    )

    digits = load_digits()
    images = (digits.images / _DIGITS_MAXIMUM).astype(np.float32)
    if size is not None:
        import cv2

        images = np.stack(
            [cv2.resize(image, size, interpolation=cv2.INTER_LINEAR) for image in images]
        )
    train, test = _split_digits(digits.target, split_seed, fold)
    return Dataset(
        10,
        "scikit-learn's load_digits",
        *(Split(images[chosen, None], digits.target[chosen]) for chosen in (train, test)),
    )


def _split_digits(labels, seed, fold):
    """Returns the numbers of the training images and of the test images."""
    from sklearn.model_selection import StratifiedKFold, train_test_split

    if fold is None:
        return train_test_split(
            np.arange(len(labels)),
            train_size=DIGITS_TRAIN,
            test_size=DIGITS_TEST,
            stratify=labels,
            random_state=seed,
        )
    folds = StratifiedKFold(DIGITS_FOLDS, shuffle=True, random_state=seed)
    train, test = list(folds.split(labels, labels))[fold - 1]
    size = (
        len(labels) // DIGITS_FOLDS
    )  # the same for every part: the images left over are trained on
    return np.concatenate((train, test[size:])), test[:size]


# ---- Files, packed or not


def open_source(path):
    """A context manager that yields the Folder, Zip or Tar at ``path``. Raises UserError where there is none of them.

    All have ``path``, ``kind`` (in words), ``names`` (texts such as "train/cat/1.png", in no order; bytes that are not
    UTF-8 as os.fsdecode gives them), ``hidden`` (how many files and folders were passed over as hidden), ``special``
    (how many as no regular files) and ``read(names)``, which yields (name, bytes) in the order that is cheapest.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return contextlib.nullcontext(Folder(path))
        with open_regular(path) as file:
            start = file.read(len(_ZIP[0]))
    except FileNotFoundError as error:
        raise UserError(
            f"{path} does not exist: give the path of a folder, a tar archive or a zip"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return contextlib.closing(Zip(path) if start in _ZIP else Tar(path))


def read_file(path):
    """The bytes of a file. Raises OSError, and UserError where it is no regular one, or larger than an image or a batch of
    them can be."""
    with open_regular(path) as file:
        return _bounded(os.fstat(file.fileno()).st_size, os.fsdecode(path)) and file.read(MOST)


class Folder:
    """The regular files up to six levels deep in a folder."""

    kind = "folder"

    def __init__(self, path):
        self.path, self.hidden, self.special = Path(path), 0, 0

    @functools.cached_property
    def names(self):
        self.hidden = self.special = 0
        return list(self._walk(self.path, "", 1))

    def _walk(self, folder, prefix, depth):
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            raise UserError(f"cannot read {os.fsdecode(folder)}: {error.strerror}") from error
        for entry in entries:
            if is_hidden(entry.name):
                self.hidden += 1
            elif entry.is_dir():
                if depth < _DEPTH:
                    yield from self._walk(entry.path, f"{prefix}{entry.name}/", depth + 1)
            elif entry.is_file():
                yield prefix + entry.name
            else:
                self.special += 1

    def read(self, names):
        for name in names:
            try:
                data = read_file(self.path / name)
            except OSError as error:
                raise UserError(f"cannot read {self.path / name}: {error.strerror}") from error
            yield name, data


class _Archive:
    """What a Tar and a Zip share. ``_members`` maps names to what ``_read_member`` takes."""

    def _keep(self, members):
        """Takes (name, member) of all regular files, but for the hidden ones; what is none has None for a member, and is
        counted. Raises ValueError for one without a name."""
        self._members, self.hidden, self.special = {}, 0, 0
        for name, member in members:
            if not name:
                raise ValueError("a file in it has no name")
            name = str(PurePosixPath(name)).lstrip("/")
            if any(map(is_hidden, name.split("/"))):
                self.hidden += 1
            elif member is None:
                self.special += 1
            else:
                self._members[name] = member
        self.names = list(self._members)

    def read(self, names):
        member = data = None
        for name in sorted(names, key=lambda name: self._offset(self._members[name])):
            if (
                self._members[name] is not member
            ):  # a hard link's, for which a packed archive would begin anew
                member = self._members[name]
                with self._damage_reported():
                    data = self._read_member(member, f"{self.path}: {name}")
            yield name, data

    @contextlib.contextmanager
    def _damage_reported(self):
        try:
            yield
        except _DAMAGE as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(
                ":"
            )  # tarfile lists all that it tried
            raise UserError(
                f"cannot read {self.path} as a {self.kind} ({reason}): it is truncated, damaged or "
                "something else; fetch it again"
            ) from error


class Tar(_Archive):
    """The regular files in a tar archive, read without unpacking it. Any damage raises UserError."""

    kind = "tar archive"

    def __init__(self, path):
        self.path = path
        with self._damage_reported():
            self._file = _Unpacked(path)
            try:
                self._tar = tarfile.open(fileobj=self._file, mode="r:", errors="surrogateescape")
                self._keep(self._files())
                self._check_end()
            except BaseException:
                self._file.close()
                raise

    def close(self):
        self._tar.close()
        self._file.close()

    def _files(self):
        """(name, member) of all but folders. A hard link is the file before it to which it leads; it may be hidden."""
        before = {}
        for member in self._tar.getmembers():
            if not member.isdir():
                before[member.name] = (
                    member
                    if member.isfile()
                    else before.get(member.linkname)
                    if member.islnk()
                    else None
                )
                yield member.name, before[member.name]

    @staticmethod
    def _offset(member):
        return member.offset

    def _read_member(self, member, name):
        return _bounded(member.size, name) and self._tar.extractfile(member).read()

    def _check_end(self):
        """tarfile takes a broken header for the end of the archive; the true end is zeros, at least one block.

        Reading up to it also makes gzip and xz check their checksums.
        """
        self._file.seek(self._tar.offset)
        length = 0
        while piece := self._file.read(_PIECE):
            length += len(piece)
            if piece.strip(b"\0") or length > _PADDING:
                raise tarfile.ReadError("no end-of-archive mark")
        if length < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("no end-of-archive mark")


class _Unpacked:
    """The file ``path`` as it unpacks, by whichever of tar's compressions. Raises UserError where it unpacks to more than
    images could: a file of 1 MB may stand for 8 GB of zeros."""

    def __init__(self, path):
        self._path, self._limit = path, max(_LEAST_LIMIT, _RATIO * os.path.getsize(path))
        self._raw = open_regular(path)
        start = self._raw.read(6)
        self._raw.seek(0)
        opener = next(
            (opener for magic, opener in _COMPRESSIONS.items() if start.startswith(magic)), None
        )
        self._file = opener(self._raw) if opener else self._raw
        self._limit = self._limit if opener else float("inf")

    def read(self, size=-1):
        data = self._file.read(size)
        self._check(self._file.tell())
        return data

    def seek(self, place, whence=os.SEEK_SET):
        self._check(place)
        return self._file.seek(place, whence)

    def tell(self):
        return self._file.tell()

    def close(self):
        self._file.close()
        self._raw.close()

    def _check(self, place):
        if place > self._limit:
            raise UserError(
                f"{self._path} unpacks to more than {_RATIO} times its size, which is no archive of images: "
                "fetch it again, or unpack it and give the folder"
            )


class Zip(_Archive):
    """The files in a zip. Any damage raises UserError."""

    kind = "zip"

    def __init__(self, path):
        self.path = path
        with self._damage_reported():
            self._zip = zipfile.ZipFile(path)
            try:
                infos = [
                    info for info in self._zip.infolist() if not info.filename.endswith("/")
                ]  # is_dir fails without a name
                if any(info.flag_bits & 1 for info in infos):
                    raise UserError(f"{path} is encrypted: unpack it, and give the folder")
                self._keep(
                    (info.filename, None if stat.S_ISLNK(info.external_attr >> 16) else info)
                    for info in infos
                )
            except BaseException:
                self.close()
                raise

    def close(self):
        self._zip.close()

    @staticmethod
    def _offset(info):
        return info.header_offset

    def _read_member(self, info, name):
        return _bounded(info.file_size, name) and self._zip.read(info)


def _bounded(size, name):
    if size > MOST:
        raise UserError(
            f"{name} is {size / 2**20:,.0f} MiB, more than an image or a batch of images takes: remove it"
        )
    return True


def is_hidden(name):
    """Whether what is called so in a folder is none of the user's: hidden, or what macOS adds to a zip."""
    return name.startswith(".") and name != "." or name == "__MACOSX"
