"""Where images come from: what every reader returns, scikit-learn's digits, and the files of a folder or of a tar
archive, packed or not, behind one interface."""
import contextlib
import lzma
import os
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ..errors import UserError

_DEPTH = 4  # <any folder>/train/<class>/<image>: what lies deeper in a folder belongs to something else
_DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError)
DIGITS_TRAIN, DIGITS_TEST = 1500, 297
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

def read_digits(split_seed=0):
    """The handwritten digits that come with scikit-learn, 1797 real images of 8x8 pixels (Alpaydin and Kaynak, 1998), as
    a Dataset: images (N, 1, 8, 8) float32 in [0, 1], 1500 to train and 297 to test.

    The set has no test part of its own, so one is drawn, with every digit in proportion. ``split_seed`` chooses
    which; leave it alone to test on the same images everywhere.
    """
    from sklearn.datasets import load_digits            # here, for those who read other data: it takes seconds
    from sklearn.model_selection import train_test_split
    digits = load_digits()
    images = (digits.images / _DIGITS_MAXIMUM).astype(np.float32)[:, None]
    train, test, train_labels, test_labels = train_test_split(
        images, digits.target, train_size=DIGITS_TRAIN, test_size=DIGITS_TEST, stratify=digits.target,
        random_state=split_seed)
    return Dataset(10, "scikit-learn's load_digits", Split(train, train_labels), Split(test, test_labels))


# ---- Files, packed or not

def open_source(path):
    """A context manager that yields the Folder or Tar at ``path``. Raises UserError where there is neither.

    Both have ``path``, ``kind`` (in words), ``names`` (a list of PurePosixPath, hidden files left out) and
    ``read(names)``, which yields (name, bytes) in the order that is cheapest.
    """
    path = Path(path)
    if path.is_dir():
        return contextlib.nullcontext(Folder(path))
    if path.exists():
        return contextlib.closing(Tar(path))
    raise UserError(f"{path} does not exist: give the path of a folder or a tar archive")


class Folder:
    """The files up to four levels deep in a folder."""
    kind = "folder"

    def __init__(self, path):
        self.path = path
        self.names = sorted(self._walk())

    def _walk(self):
        for folder, subfolders, files in os.walk(self.path, followlinks=True):
            inside = PurePosixPath(Path(folder).relative_to(self.path))
            if len(inside.parts) == _DEPTH - 1:
                subfolders.clear()
            yield from (inside / file for file in files if not _hidden(file))

    def read(self, names):
        for name in names:
            try:
                data = (self.path / name).read_bytes()
            except OSError as error:
                raise UserError(f"cannot read {self.path / name}: {error.strerror}") from error
            yield name, data


class Tar:
    """The regular files in a tar archive, read without unpacking it. Any damage raises UserError."""
    kind = "tar archive"

    def __init__(self, path):
        self.path = path
        with self._damage_reported():
            self._tar = tarfile.open(path)
            self._members = {PurePosixPath(member.name): member for member in self._tar.getmembers()
                             if member.isfile() and not _hidden(member.name)}
            self._check_end()
        self.names = list(self._members)

    def close(self):
        self._tar.close()

    def read(self, names):
        for name in sorted(names, key=lambda name: self._members[name].offset):
            with self._damage_reported():
                data = self._tar.extractfile(self._members[name]).read()
            yield name, data

    def _check_end(self):
        """tarfile takes a broken header for the end of the archive; the true end is zeros, at least one block.

        Reading up to it also makes gzip and xz check their checksums.
        """
        self._tar.fileobj.seek(self._tar.offset)
        end = self._tar.fileobj.read()
        if len(end) < tarfile.BLOCKSIZE or any(end):
            raise tarfile.ReadError("no end-of-archive mark")

    @contextlib.contextmanager
    def _damage_reported(self):
        try:
            yield
        except _DAMAGE as error:
            reason = str(error).splitlines()[0].rstrip(":")  # tarfile lists on further lines all that it tried
            raise UserError(f"cannot read {self.path} as a tar archive ({reason}): it is truncated, damaged or "
                            "something else; fetch it again") from error


def _hidden(name):
    return PurePosixPath(name).name.startswith(".")
