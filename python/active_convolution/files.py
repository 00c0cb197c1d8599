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
    ``options`` go to ``open``; text is UTF-8. Raises UserError where the folder cannot be written.
    """
    if "b" not in mode:
        options = {"encoding": "utf-8", "errors": "surrogateescape", **options}
    with _written(path):
        if Path(path).exists() and not Path(path).is_file():
            with open(path, mode, **options) as file:
                yield file
            return
        path = Path(os.path.realpath(path))
        with _parents(path), _neighbour(path, _open_file) as made:
            try:
                with open(made, mode, **options) as file:
                    yield file
                os.replace(made, path)
            except BaseException:
                made.unlink()
                raise


def _open_file(name):
    return os.open(name, os.O_RDWR | os.O_CREAT, 0o666)


@contextlib.contextmanager
def whole_folder(path):
    """Yields a temporary neighbour of the folder ``path``; on success it becomes ``path``, which
    must not exist yet.

    After an exception (an interrupt too) nothing is left; errors name ``path``, which the user
    knows.
    """
    path = Path(path)
    check_new(path)
    with contextlib.ExitStack() as stack:
        with _written(path):
            stack.enter_context(_parents(path))
            made = stack.enter_context(_neighbour(path, _open_folder))
        try:
            for entry in made.iterdir():  # of a process that was killed
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            with _known_as(path, made):
                yield made
            with _written(path):
                made.rename(path)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise


def _open_folder(name):
    os.makedirs(name, exist_ok=True)
    return os.open(name, os.O_RDONLY)


@contextlib.contextmanager
def _neighbour(path, make):
    """Yields the one temporary neighbour of ``path``, which ``make(name)`` opens. Its lock says
    whether a process writes there, or a killed one left it. Raises UserError for the former."""
    made = path.with_name(f".{path.stem[:60]}.partial{path.suffix[:20]}")
    while True:
        descriptor, found = make(made), False
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another process is writing {path}: wait for its end") from None
            with contextlib.suppress(FileNotFoundError):  # renamed meanwhile
                found = os.path.samestat(os.fstat(descriptor), made.stat())
            if found:
                yield made
                return
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _parents(path):
    """Makes the folders above ``path``; afterwards those go again that nothing has come into."""
    missing = [parent for parent in Path(os.path.abspath(path)).parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for parent in missing:
            with contextlib.suppress(OSError):  # not empty
                parent.rmdir()


def check_new(path):
    """Raises UserError where the folder ``path``, an --output, exists already; a link that leads
    nowhere does, too."""
    if os.path.lexists(path):
        raise UserError(f"{path} exists already: remove it or name another --output")


@contextlib.contextmanager
def _known_as(path, made):
    """Errors that tell of ``made`` tell of ``path``."""
    try:
        yield
    except UserError as error:
        raise type(error)(str(error).replace(str(made), str(path))) from error
    except OSError as error:
        if not os.fsdecode(error.filename or "").startswith(str(made)):
            raise
        raise UserError(f"cannot write {path}: {error.strerror}") from error


@contextlib.contextmanager
def _written(path):
    """OSError becomes UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


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
        raise UserError(f"{path} is no regular file: give the path of one")
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
