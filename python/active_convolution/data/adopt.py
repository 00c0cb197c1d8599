"""Databases that other tools made, such as Caffe's convert_imageset or DIGITS: read once, whole, and described by a manifest
beside them. Nothing is copied."""

import re
from pathlib import Path

from ..errors import BadValue, UserError
from ..files import content, reading, whole_file
from . import annotations, backends
from .backends import Database
from .folder import MANIFEST, SPLITS, source_bytes, write_manifest

_TRAIN, _TEST = re.compile(r"train"), re.compile(r"val|test")
_LISTED = "{}_hdf5.txt"  # what is written for one HDF5 file: the list that HDF5Data takes
_ORDER = ("LMDB", "LEVELDB", "HDF5", "IMAGES")  # where several are there for one part


def adopt(folder, source=None, val_source=None, output=None, label_names=None, size=None):
    """Writes a manifest into ``output``, by default ``folder``, about the databases in ``folder``; returns it.

    The one for training and the one for testing are told by their names, or are ``source`` and ``val_source``: LMDB or
    LevelDB folders, HDF5 files or lists of them, or lists of images, whose paths start from ``folder`` where they are not
    absolute, and which Caffe is to resize to ``size`` (width, height). One of the two may be missing. ``label_names`` is a
    file, one class a line. Raises UserError where nothing can be told or read, or a record is damaged.
    """
    folder, output = Path(folder), Path(output or folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give the one in which the databases lie")
    if backend_of(folder) and not (source or val_source):
        raise UserError(
            f"{folder} is itself a database: give the folder that holds it, {folder.absolute().parent}"
        )
    _check_new(output)
    paths = {"train": source, "test": val_source} if source or val_source else _found(folder)
    sources = {split: _source(Path(path), folder, size) for split, path in paths.items() if path}
    found = {
        split: backends.inspected(source) for split, source in sources.items()
    }  # before anything is written
    classes = max(len(inspection.images_per_class) for inspection in found.values())
    names = label_names and annotations.read_names(label_names)
    if names and len(names) < classes:
        raise UserError(
            f"{label_names} names {len(names)} classes, and there are labels up to {classes - 1}: name all"
        )
    classes = len(names or ()) or classes
    parts = {
        split: _described(source, found[split], classes, output, split)
        for split, source in sources.items()
    }
    manifest = {
        "dataset": folder.absolute().name,
        "adopted": True,
        "classes": classes,
        **({"label_names": names} if names else {}),
        "preprocessing": {"steps": []},
        **parts,
    }
    output.mkdir(parents=True, exist_ok=True)
    write_manifest(output, manifest)
    return manifest


def _check_new(output):
    """Raises UserError where a manifest of ours, or another's file, would be replaced."""
    path = output / MANIFEST
    if path.exists():
        with reading(path, "is no manifest", "remove it, or name another --output"):
            adopted = b'"adopted": true' in content(path)
        if not adopted:
            raise UserError(
                f"{path} is there already, and none of acu data adopt: {output} is a data set as it is, or remove "
                "the file"
            )


def backend_of(path):
    """Which kind of database lies at ``path``, a key of _ORDER, or None."""
    path = Path(path)
    if path.is_dir():
        kinds = {"LMDB": (path / "data.mdb").is_file(), "LEVELDB": (path / "CURRENT").is_file()}
        return next((kind for kind, there in kinds.items() if there), None)
    if not path.is_file():
        return None
    if backends.is_hdf5(path):
        return "HDF5"
    return _kind_of_list(path) if path.suffix.lower() in (".txt", ".list", ".lst") else None


def _kind_of_list(path):
    """HDF5 or IMAGES by the first line of a list, or None."""
    with open(path, "rb") as file:
        words = annotations.text(file.readline(2**12)).split()
    if not words:
        return None
    if backends.is_hdf5(words[-1]):
        return "HDF5"
    return "IMAGES" if len(words) > 1 and words[-1].isdecimal() else None


def _found(folder):
    """{split: path} of the databases in ``folder``, by their names."""
    there = {
        path: kind
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".")
        and path.name not in map(_LISTED.format, SPLITS)
        and (kind := backend_of(path))
    }
    if not there:
        raise UserError(
            f"{folder} holds no database of Caffe's: give the folder of LMDBs, LevelDBs, HDF5 files or lists of "
            "images, or name them with --source and --val-source"
        )
    found = {}
    for split, other, option, name in (
        ("train", _TEST, "--source", _TRAIN),
        ("test", _TRAIN, "--val-source", _TEST),
    ):
        fitting = [
            path
            for path in there
            if name.search(path.name.lower()) and not other.search(path.name.lower())
        ]
        best = min((_ORDER.index(there[path]) for path in fitting), default=None)
        fitting = [path for path in fitting if _ORDER.index(there[path]) == best]
        if len(fitting) > 1:
            raise UserError(
                f"{folder} holds several databases for one part, {fitting[0].name} and {fitting[1].name}: name the "
                f"ones to take with --source and --val-source"
            )
        if fitting:
            found[split] = fitting[0]
    if not found:
        raise UserError(
            f"{folder} holds {next(iter(there)).name}, whose name says neither train nor val or test: name the "
            "databases with --source and --val-source"
        )
    return found


def _source(path, folder, size):
    """The Database at ``path``."""
    backend = backend_of(path)
    if backend is None:
        raise UserError(
            f"{path} is no database of Caffe's: give an LMDB, a LevelDB, an HDF5 file, or a list of HDF5 files or "
            "of images and labels"
        )
    if size and backend != "IMAGES":
        raise BadValue(f"--size is for lists of images, and {path} is a database: leave it out")
    root = "" if backend != "IMAGES" or _absolute(path) else f"{folder.absolute()}/"
    return Database(str(path.absolute()), backend, root, size)


def _described(source, found, classes, output, split):
    """A part of the manifest: the Database ``source``, in which there is ``found``."""
    path = Path(source.path)
    if source.backend == "HDF5" and backends.is_hdf5(path):
        path = _listed(path, output, split)
    extra = {"root_folder": source.root} if source.root else {}
    if source.size:
        extra.update(new_width=source.size[0], new_height=source.size[1])
    counts = found.images_per_class + [0] * (classes - len(found.images_per_class))
    return {
        **found._asdict(),
        "images_per_class": counts,
        "backend": source.backend,
        "path": _from(path, output),
        "bytes": source_bytes(path, source.backend),
        **extra,
    }


def _listed(path, output, split):
    """A list of the one HDF5 file ``path``, which an HDF5Data layer wants."""
    output.mkdir(parents=True, exist_ok=True)
    listed = output / _LISTED.format(split)
    with whole_file(listed, encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"{path.absolute()}\n")
    return listed


def _absolute(path):
    with open(path, "rb") as file:
        return annotations.text(file.readline(2**12)).startswith("/")


def _from(path, output):
    """``path`` from the folder ``output``, where it lies in it; else absolute."""
    path, output = path.absolute(), output.absolute()
    return str(path.relative_to(output) if path.is_relative_to(output) else path)
