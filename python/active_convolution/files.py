"""Files and folders that appear whole: written beside their place, then renamed into it. And what
is said of those that cannot be read."""

import contextlib
import csv
import fcntl
import io
import json
import os
import shutil
import zipfile
import zlib
from pathlib import Path

from .errors import UserError

# What json, csv, NumPy and protocol buffers raise for content that is not theirs, and what comes of
# other content than expected. ValueError is the parent of UnicodeDecodeError and JSONDecodeError.
DAMAGE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    csv.Error,
)


# ---- Writing


@contextlib.contextmanager
def whole_file(path, mode="w", **options):
    """Opens a temporary neighbour of ``path`` for writing; on success it takes the place of
    ``path``.

    After an exception nothing is left and an older ``path`` is untouched. Where ``path`` is a link,
    that is true of what it leads to. A device or a pipe, such as /dev/stdout, is written itself.
    ``options`` go to ``open``; text is UTF-8. Raises UserError where it cannot be written.
    """
    if "b" not in mode:
        options = {"encoding": "utf-8", "errors": "surrogateescape", **options}
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, mode, **options) as file:
                yield file
        else:
            with _replacing(Path(os.path.realpath(path)), _open_file, os.unlink) as made:
                with open(made, mode, **options) as file:
                    yield file
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


@contextlib.contextmanager
def whole_folder(path):
    """Yields a temporary neighbour of the folder ``path``; on success it becomes ``path``, which
    must not exist yet. After an exception nothing is left; errors name ``path``."""
    path, made = Path(path), None
    check_new(path)
    try:
        with _replacing(path, _open_folder, shutil.rmtree) as made:
            for entry in made.iterdir():  # of a process that was killed
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            yield made
    except UserError as error:
        raise type(error)(str(error).replace(str(made), str(path))) from error
    except OSError as error:
        if made and not os.fsdecode(error.filename or "").startswith(str(made)):
            raise
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def check_new(path):
    """Raises UserError where the folder ``path``, an --output, exists already; a link that leads
    nowhere does, too."""
    if os.path.lexists(path):
        raise UserError(f"{path} exists already: remove it or name another --output")


def _open_file(name):
    return os.open(name, os.O_RDWR | os.O_CREAT, 0o666)


def _open_folder(name):
    os.makedirs(name, exist_ok=True)
    return os.open(name, os.O_RDONLY)


@contextlib.contextmanager
def _replacing(path, make, remove):
    """Yields the one temporary neighbour of ``path``, which ``make(name)`` opens and which becomes
    ``path``, or is removed. Makes the folders above, which go again where nothing comes into
    them."""
    made = path.with_name(f".{path.stem[:60]}.partial{path.suffix[:20]}")
    missing = [parent for parent in Path(os.path.abspath(path)).parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path, made, make):
            try:
                yield made
                made.rename(path)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):  # stopped just after the rename
                    remove(made)
                raise
    finally:
        for parent in missing:
            with contextlib.suppress(OSError):  # not empty
                parent.rmdir()


@contextlib.contextmanager
def _locked(path, made, make):
    """Locks ``made``, so that another process can tell whether a killed one left it, or one is
    writing there: then it raises UserError. Some disks, such as NFS, lock no folders."""
    while True:
        descriptor, found = make(made), False
        try:
            _lock(descriptor, path)
            with contextlib.suppress(FileNotFoundError):  # renamed meanwhile
                found = os.path.samestat(os.fstat(descriptor), made.stat())
            if found:
                yield
                return
        finally:
            os.close(descriptor)


def _lock(descriptor, path):
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"another process is writing {path}: wait for its end") from None
    except OSError:
        pass


# ---- Reading


@contextlib.contextmanager
def reading(path, wrong, remedy, damage=DAMAGE, reason=False):
    """Lets what reading the file ``path`` raises become UserError, in one line.

    For an OSError that is "cannot read <path>: …"; for content that makes the reader raise one of
    ``damage``, "<path> <wrong>: <remedy>", with the error in parentheses where ``reason`` asks for
    it.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except damage as error:
        raise UserError(f"{path} {wrong}{f' ({error})' if reason else ''}: {remedy}") from error


def content(path):
    """The bytes of a regular file: a pipe may never end, or never begin. Raises UserError for
    one."""
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise UserError(f"{path} is not a regular file: give the path of one")
    return Path(path).read_bytes()


def json_object(path):
    """The dictionary in a JSON file; ValueError where there is something else."""
    found = json.loads(content(path))
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


# ---- Arrays


def save_npz(path, /, **arrays):
    """Writes the .npz ``path``, whole or not at all. Raises UserError where that fails."""
    import numpy as np

    packed = io.BytesIO()  # since zipfile, stopped by a full disk, prints more than the error
    np.savez(packed, **arrays)
    with whole_file(path, "wb") as file:
        file.write(packed.getbuffer())


def load_npz(path, remedy):
    """{name: array} of the .npz ``path``. Raises UserError, which ends with ``remedy``, where it
    cannot be read, or is damaged."""
    import numpy as np

    with reading(path, "is damaged or no .npz", remedy, reason=True):
        stored = io.BytesIO(content(path))
        with np.load(stored, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
