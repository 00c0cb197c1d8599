"""Files that appear whole: written beside their place, then renamed into it. And those that are read, with a bound on what
they may take, and what is said where that fails."""

import contextlib
import csv
import errno
import hashlib
import json
import math
import os
import re
import shutil
import socket
import stat
import tempfile
import zipfile
from pathlib import Path

from .errors import UserError, no_text

# What json, csv, NumPy and protocol buffers raise for content that is not theirs, and what comes of other content than
# expected. ValueError is the parent of UnicodeDecodeError and of JSONDecodeError.
DAMAGE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    EOFError,
    zipfile.BadZipFile,
    csv.Error,
)
TEXT_BYTES = 2**26  # the most of a text, such as JSON or a prototxt
_LEVELDB_BYTES = (
    2**32
)  # the most of one of LevelDB's files: Caffe's logs are of 256 MiB, and tables of 2 MiB


@contextlib.contextmanager
def whole_file(path, mode="w", **options):
    """Opens a temporary neighbour of ``path`` for writing; on success it takes the place of ``path``.

    After an exception nothing is left and an older ``path`` is untouched. Where ``path`` is a link, that is true of
    what it leads to, and the link stays. A device or a pipe, such as /dev/stdout, is written itself.
    ``options`` go to ``open``; text is UTF-8, whatever the locale, in which a file's name keeps the bytes that it has.
    Raises UserError where the folder cannot be written.
    """
    if "b" not in mode:
        options = {"encoding": "utf-8", "errors": "surrogateescape", **options}
    with _written(path):
        special = Path(path).exists() and not Path(path).is_file()
        opened = (
            open(path, mode, **options)
            if special
            else _replacing(Path(os.path.realpath(path)), mode, options)
        )
        with opened as file:
            yield file


@contextlib.contextmanager
def _replacing(path, mode, options):
    with _parents(path):
        _remove_left_over(path)
        descriptor, temporary = tempfile.mkstemp(
            prefix=_prefix(path), suffix=path.suffix, dir=path.parent
        )
        try:
            with os.fdopen(descriptor, mode, **options) as file:
                yield file
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


@contextlib.contextmanager
def whole_folder(path):
    """Yields a temporary neighbour of the folder ``path``; on success it becomes ``path``, which must not exist yet.

    After an exception (an interrupt too) nothing is left; errors name ``path``, which the user knows.
    """
    path = Path(path)
    check_new(path)
    with contextlib.ExitStack() as stack:
        with _written(path):
            stack.enter_context(_parents(path))
            _remove_left_over(path)
            temporary = Path(tempfile.mkdtemp(prefix=_prefix(path), dir=path.parent))
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        with _known_as(path, temporary):
            yield temporary
        with _written(path):
            temporary.chmod(0o777 & ~_umask())
            temporary.rename(path)


@contextlib.contextmanager
def _parents(path):
    """Makes the folders above ``path``; afterwards those of them go again that nothing has come into."""
    missing = [parent for parent in Path(os.path.abspath(path)).parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for parent in missing:
            with contextlib.suppress(OSError):  # not empty
                parent.rmdir()


def _prefix(path):
    """How the temporary neighbours of ``path`` begin: with the process that writes them, for a later one to know whether it
    is still there."""
    return f"{_of(path)}{os.getpid()}-{_started(os.getpid())}."


def _of(path):
    """... and with whose they are: short enough for a name, and not another machine's on a shared disk."""
    machine = hashlib.sha256(socket.gethostname().encode(errors="surrogateescape")).hexdigest()[:8]
    return f".{path.name[:40]}.{machine}-"


def _started(process):
    """When a process of this machine began, in ticks since the machine did; None where there is none of this number."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def _remove_left_over(path):
    """Removes the temporary neighbours of ``path`` whose processes were killed (kill -9, a power cut) before they could."""
    mark = re.compile(re.escape(_of(path)) + r"(\d+)-(\d+)\.")
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            match = mark.match(entry.name)
            if match and _started(int(match[1])) != int(match[2]):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)


@contextlib.contextmanager
def reading(path, wrong, remedy, damage=DAMAGE, reason=False):
    """Lets what reading the file ``path`` raises become UserError, in one line.

    For an OSError that is "cannot read <path>: …"; for content that makes the reader raise one of ``damage``,
    "<path> <wrong>: <remedy>", with the error in parentheses where ``reason`` asks for it.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except damage as error:
        raise UserError(f"{path} {wrong}{f' ({error})' if reason else ''}: {remedy}") from error


def open_regular(path):
    """The file ``path``, opened to read bytes. Raises UserError for anything but a regular file, OSError for a folder: a pipe
    may never end, or never begin."""
    descriptor = os.open(
        path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    )  # O_NONBLOCK: do not wait for a pipe's writer
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        raise UserError(f"{os.fsdecode(path)} is no regular file: give the path of one")
    return open(descriptor, "rb")


def check_entries(folder):
    """Raises UserError where the folder of a database holds what is neither a file nor a folder, since LevelDB would wait for a
    pipe; or a file of it so large that reading it would take for ever."""
    for entry in os.scandir(folder):
        if entry.name != "lock.mdb" and not (entry.is_file() or entry.is_dir()):
            raise UserError(f"{os.fsdecode(entry.path)} is no regular file: make the database anew")
        if entry.name != "data.mdb" and entry.is_file() and entry.stat().st_size > _LEVELDB_BYTES:
            raise UserError(
                f"{os.fsdecode(entry.path)} has {entry.stat().st_size} bytes, and a file of LevelDB at most "
                f"{_LEVELDB_BYTES}: make the database anew"
            )


def content(path, most=TEXT_BYTES):
    """The bytes of the regular file ``path``; ValueError where they are more than ``most``."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"{size} bytes, and at most {most} make sense")
        return file.read(most)


def json_object(path):
    """The dictionary in a JSON file; ValueError where there is something else, or a number that is none (NaN, 1e999)."""
    return object_in(content(path))


def object_in(stored):
    """... and in its text or bytes."""
    found = json.loads(stored, parse_constant=_finite, parse_float=_finite)
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def _finite(text):
    if not math.isfinite(float(text)):
        raise ValueError(f"{text} is no number")
    return float(text)


def check_new(path):
    """Raises UserError where the folder ``path``, an --output, exists already; a link that leads nowhere does, too."""
    if os.path.lexists(path):
        raise UserError(f"{path} exists already: remove it or name another --output")


@contextlib.contextmanager
def _known_as(path, temporary):
    """Errors that tell of ``temporary`` tell of ``path``."""
    try:
        yield
    except UserError as error:
        if str(temporary) not in str(error):
            raise
        raise type(error)(str(error).replace(str(temporary), str(path))) from error
    except UnicodeEncodeError as error:
        raise UserError(no_text(error.object.replace(str(temporary), str(path)))) from error
    except OSError as error:
        if not os.fsdecode(error.filename or "").startswith(str(temporary)):
            raise
        raise UserError(f"cannot write {path}: {error.strerror}") from error


@contextlib.contextmanager
def _written(path):
    """OSError becomes UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
