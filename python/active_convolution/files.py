"""Files that appear whole: written beside their place, then renamed into it."""
import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from .errors import UserError


@contextlib.contextmanager
def whole_file(path, mode="w", **options):
    """Opens a temporary neighbour of ``path`` for writing; on success it takes the place of ``path``.

    After an exception nothing is left and an older ``path`` is untouched.
    ``options`` go to ``open``. Raises UserError where the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, mode, **options) as file:
            yield file
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


@contextlib.contextmanager
def whole_folder(path):
    """Yields a temporary neighbour of the folder ``path``; on success it becomes ``path``, which must not exist yet.

    After an exception (an interrupt too) nothing is left.
    """
    path = Path(path)
    if path.exists():
        raise UserError(f"{path} exists already: remove it or name another --output")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
