"""A data set folder: its manifest, which says what it holds and proves that it is whole, how it comes to be over
several runs, and what it was made with."""
import contextlib
import fcntl
import json
import platform
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import check_new, reading, whole_file, whole_folder

FORMAT = 1
_MANIFEST = "manifest.json"
_SETTINGS = "settings.json"    # of a folder that is not whole yet


# ---- The manifest

def database_path(folder, split):
    """The LMDB folder of ``split``, "train" or "test"."""
    return Path(folder) / f"{split}_lmdb"


def database_bytes(folder, split):
    """The size of its file, 0 where there is none."""
    file = database_path(folder, split) / "data.mdb"
    return file.stat().st_size if file.is_file() else 0


def write_manifest(folder, content):
    """Writes the dictionary ``content`` and the format's version. Raises UserError where that fails."""
    with whole_file(Path(folder) / _MANIFEST) as file:
        json.dump({"format": FORMAT, **content}, file, indent=2)
        file.write("\n")


def check_manifest(folder):
    """The manifest of the data set in ``folder``, a dictionary (see create.py for its entries).

    Raises UserError where the folder is no whole data set: no manifest, another format's, one without images or their
    shape, or a database that is missing or has another size than when it was written, as after an interrupted copy.
    """
    remedy = f"make it with acu data, --output {folder}"
    try:
        manifest = json.loads((Path(folder) / _MANIFEST).read_text())
        if manifest["format"] != FORMAT:
            raise UserError(f"{folder} has format {manifest['format']}, this version needs {FORMAT}: {remedy}")
        recorded = {split: _entries(manifest[split]) for split in ("train", "test")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is no data set, its {_MANIFEST} is missing or damaged: {remedy}") from error
    for split, (images, size) in recorded.items():
        if images < 1:
            raise UserError(f"{database_path(folder, split)} holds no images, by its {_MANIFEST}: remove {folder} and {remedy}")
        if database_bytes(folder, split) != size:
            raise UserError(f"{database_path(folder, split)} is missing or not whole: remove {folder} and {remedy}")
    return manifest


def _entries(part):
    """(images, bytes) of a split's part of a manifest. KeyError, TypeError or ValueError where it is not whole."""
    channels, height, width = map(int, part["shape"])
    return int(part["images"]), int(part["bytes"])


# ---- A folder that several runs fill, one after the other, until it is whole

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
    with reading(folder / _SETTINGS, "is damaged", f"remove {folder} to start over"):
        begun = json.load(file)
        different = [name for name in settings if begun.get(name) != settings[name]]
    if different:
        name = different[0]
        raise UserError(f"{folder} was begun with {name} {begun.get(name)}, not {settings[name]}: give that again, or "
                        "remove the folder to start over")


# ---- What it was made with

def versions():
    """Of Python and of the libraries on which a data set's content depends: {name: version}."""
    import cv2              # these here, for those who only read a manifest: they take seconds
    import google.protobuf
    import lmdb
    import sklearn
    modules = {"numpy": np, "scikit-learn": sklearn, "opencv": cv2, "lmdb": lmdb, "protobuf": google.protobuf}
    return {"python": platform.python_version(), **{name: module.__version__ for name, module in modules.items()}}
