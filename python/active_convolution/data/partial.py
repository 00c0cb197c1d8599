"""A folder that several runs fill, one after the other, until it is whole."""
import contextlib
import fcntl
import json
from pathlib import Path

from ..errors import UserError
from ..files import check_new, whole_file, whole_folder

_SETTINGS = "settings.json"


@contextlib.contextmanager
def partial_folder(path, settings):
    """Yields the folder ``path``.partial, which becomes ``path`` on success and stays to go on with otherwise.

    ``settings``, a dictionary of what JSON holds, is what the content depends on; the keys are what the user calls
    them. Raises UserError where ``path`` exists already, where the folder was begun with other settings, and where
    another process is filling it.
    """
    path = Path(path)
    check_new(path)  # first: . and / have no name
    folder = path.with_name(f"{path.name}.partial")
    if not folder.exists():
        with whole_folder(folder) as new, whole_file(new / _SETTINGS) as file:
            json.dump(settings, file, indent=2)
    with _locked(folder) as file:
        _check_settings(folder, file, settings)
        yield folder
        try:
            folder.rename(path)
            (path / _SETTINGS).unlink()
        except OSError as error:
            raise UserError(f"cannot rename {folder} to {path}: {error.strerror}") from error


def _locked(folder):
    """The settings file, open and locked until it is closed: unlike flock's, this lock is no child's."""
    try:
        file = open(folder / _SETTINGS, "r+")
    except OSError as error:
        raise UserError(f"{folder} is in the way, it is no begun data set ({error.strerror}): remove it or name "
                        "another --output") from error
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise UserError(f"another process is writing {folder} ({error.strerror}): wait for its end, or stop "
                        "it") from error
    return file


def _check_settings(folder, file, settings):
    try:
        begun = json.load(file)
        different = [name for name in settings if begun.get(name) != settings[name]]
    except (ValueError, AttributeError) as error:
        raise UserError(f"{folder / _SETTINGS} is damaged: remove {folder} to start over") from error
    if different:
        name = different[0]
        raise UserError(f"{folder} was begun with {name} {begun.get(name)}, not {settings[name]}: give that again, or "
                        "remove the folder to start over")
