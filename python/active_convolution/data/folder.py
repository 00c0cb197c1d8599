"""A data set folder: its manifest, which says what it holds and proves that it is whole, how it comes to be over
several runs, and what it was made with."""

import contextlib
import fcntl
import json
import math
import platform
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import (
    DAMAGE,
    TEXT_BYTES,
    check_new,
    json_object,
    object_in,
    open_regular,
    reading,
    whole_file,
    whole_folder,
)

FORMAT = 1
MANIFEST = "manifest.json"
SPLITS = ("train", "test")
BACKENDS = ("LMDB", "LEVELDB", "HDF5", "IMAGES")
_SETTINGS = "settings.json"  # what a folder that several runs filled was begun with


# ---- The manifest


def database_path(folder, split):
    """The LMDB folder of ``split``, "train" or "test", in a data set folder of our own."""
    return Path(folder) / f"{split}_lmdb"


def database_bytes(folder, split):
    """The size of its file, 0 where there is none."""
    return source_bytes(database_path(folder, split), "LMDB")


def source_bytes(path, backend):
    """The size of what a layer's source names: an LMDB's file, a LevelDB's tables, the list of another; 0 where there is
    nothing."""
    path = Path(path)
    files = {
        "LMDB": [path / "data.mdb"],
        "LEVELDB": [*path.glob("*.ldb"), *path.glob("*.sst")],
    }.get(backend, [path])
    return sum(file.stat().st_size for file in files if file.is_file())


def write_manifest(folder, content):
    """Writes the dictionary ``content`` and the format's version. Raises UserError where that fails."""
    with whole_file(Path(folder) / MANIFEST) as file:
        json.dump({"format": FORMAT, **content}, file, indent=2)
        file.write("\n")


def check_manifest(folder, splits=SPLITS):
    """The manifest of the data set in ``folder``, a dictionary: docs/data.md says what it holds.

    Raises UserError where the folder is no whole data set: no manifest, another format's, one of other content than it
    should have, without images or one of ``splits``, or a database that is missing or has another size than when the
    manifest was written, as after an interrupted copy.
    """
    folder = Path(folder)
    remedy = f"make it with acu data, --output {folder}"
    content = _content(folder, remedy)
    if content.get("adopted"):
        remedy = f"run acu data adopt {folder} again"
    try:
        manifest = _checked(content, folder)
    except DAMAGE as error:
        raise UserError(
            f"{folder} is no data set, its {MANIFEST} is damaged ({_reason(error)}): {remedy}"
        ) from error
    for split in splits:
        if split not in manifest:
            raise UserError(
                f'{folder} has no part "{split}", by its {MANIFEST}: {remedy}, with both databases'
            )
        part = manifest[split]
        if part["images"] < 1:
            raise UserError(
                f"{part['path']} holds no images, by its {MANIFEST}: remove {folder} and {remedy}"
            )
        if source_bytes(part["path"], part["backend"]) != part["bytes"]:
            before = "" if content.get("adopted") else f"remove {folder} and "
            raise UserError(f"{part['path']} is missing or not whole: {before}{remedy}")
    return manifest


def has_classes(manifest, number):
    """Whether a network that knows so many classes fits a data set with this manifest. Where another tool made it and nobody
    named its classes, there may be more of them than its images show."""
    known = manifest["classes"] or number
    return (
        known <= number
        if manifest.get("adopted") and not manifest["label_names"]
        else known == number
    )


def _content(folder, remedy):
    """The dictionary in the file."""
    try:
        content = json_object(folder / MANIFEST)
        number = content["format"]
    except (OSError, UserError, *DAMAGE) as error:
        adopt = (
            f", or acu data adopt {folder} where another tool made its databases"
            if folder.is_dir()
            else ""
        )
        raise UserError(
            f"{folder} is no data set, its {MANIFEST} is missing or damaged: {remedy}{adopt}"
        ) from error
    if number != FORMAT:
        raise UserError(f"{folder} has format {number}, this version needs {FORMAT}: {remedy}")
    return content


def _checked(content, folder):
    """``content`` with what it may leave out. Raises one of DAMAGE where it is not as docs/data.md says."""
    _text(content, "dataset")
    mean = content.get("preprocessing", {}).get("mean_value", [])
    for channel in range(len(mean)):
        _number(mean, channel)
    names, parts = (
        content.get("label_names"),
        {split: content[split] for split in SPLITS if split in content},
    )
    if not parts:
        raise KeyError("train")
    listed = [
        len(part["images_per_class"]) for part in parts.values() if part.get("images_per_class")
    ]
    classes = content.get("classes", max(listed, default=None))
    if classes is not None:
        _whole({"classes": classes}, "classes", 1)
        if any(number != classes for number in listed):
            raise ValueError(f"images_per_class has {listed[0]} entries for {classes} classes")
    if names is not None and (
        not all(isinstance(name, str) for name in names) or len(names) != classes
    ):
        raise ValueError(f"label_names are not {classes} texts")
    return {
        **content,
        "classes": classes,
        "label_names": names,
        **{split: _checked_part(part, split, folder) for split, part in parts.items()},
    }


def _checked_part(part, split, folder):
    _whole(part, "images", 0)
    _whole(part, "bytes", 0, 2**63)
    shape = part["shape"]
    if (
        len(shape) != 3
        or not all(type(side) is int and side > 0 for side in shape)
        or math.prod(shape) >= 2**31
    ):
        raise ValueError(f"shape is {shape!r:.40}, and should be channels, height, width")
    for label in range(len(part.get("images_per_class") or ())):
        _whole(part["images_per_class"], label, 0)
    backend = part.get("backend", "LMDB")
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}")
    for side, name in zip(shape[1:], ("new_height", "new_width")):
        if part.get(name, side) != side:
            raise ValueError(f"{name} is {part[name]!r:.40} for images of shape {shape}")
    for name in ("path", "root_folder", "sha256"):
        if name in part:
            _text(part, name)
    return {
        **part,
        "backend": backend,
        "path": str(folder.absolute() / part.get("path", f"{split}_lmdb")),
    }


def _whole(entries, name, least, most=2**31):
    """The whole number ``entries[name]``, from ``least`` and below ``most``."""
    value = entries[name]
    if type(value) is not int or not least <= value < most:
        raise ValueError(
            f"{name} is {value!r:.40}, and should be a whole number from {least} and below {most}"
        )
    return value


def _number(entries, name):
    """A number ``entries[name]`` that a float32 can be."""
    value = entries[name]
    if type(value) not in (int, float) or not abs(value) < 1e38:
        raise ValueError(f"{name} is {value!r:.40}, and should be a number")


def _text(entries, name):
    if not isinstance(entries[name], str):
        raise ValueError(f"{name} is {entries[name]!r}, and should be a text")


def _reason(error):
    return (
        f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:120]
    )


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
            folder.rename(
                path
            )  # with the settings: whatever is removed before or after it, a kill may come between
        except OSError as error:
            raise UserError(f"cannot rename {folder} to {path}: {error.strerror}") from error


def _locked(folder):
    """The settings file, open and locked until it is closed: unlike flock's, this lock is no child's."""
    try:
        open_regular(folder / _SETTINGS).close()  # of a pipe there would be no end
        file = open(folder / _SETTINGS, "r+")
    except OSError as error:
        raise UserError(
            f"{folder} is in the way, it is no begun data set ({error.strerror}): remove it or name "
            "another --output"
        ) from error
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise UserError(
            f"another process is writing {folder} ({error.strerror}): wait for its end, or stop it"
        ) from error
    return file


def _check_settings(folder, file, settings):
    with reading(folder / _SETTINGS, "is damaged", f"remove {folder} to start over"):
        begun = object_in(
            file.read(TEXT_BYTES)
        )  # not by its name: to close it would release the lock
        different = [name for name in settings if begun.get(name) != settings[name]]
    if different:
        name = different[0]
        raise UserError(
            f"{folder} was begun with {name} {begun.get(name)}, not {settings[name]}: give that again, or "
            "remove the folder to start over"
        )


# ---- What it was made with


def versions():
    """Of Python and of the libraries on which a data set's content depends: {name: version}."""
    import cv2  # these here, for those who only read a manifest: they take seconds
    import google.protobuf
    import lmdb
    import sklearn

    modules = {
        "numpy": np,
        "scikit-learn": sklearn,
        "opencv": cv2,
        "lmdb": lmdb,
        "protobuf": google.protobuf,
    }
    return {
        "python": platform.python_version(),
        **{name: module.__version__ for name, module in modules.items()},
    }
