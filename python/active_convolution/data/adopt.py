"""Databases that other tools made, such as convert_imageset or DIGITS: read once, whole, by Caffe,
and described by a manifest beside them. Nothing is copied."""

import collections
import re
from pathlib import Path

from tqdm import tqdm

from ..caffe import reading
from ..errors import BadValue, UserError
from ..files import whole_file
from .classes import read_names
from .manifest import MANIFEST, Manifest, Part, source_bytes

_HDF5, _LISTS = (".h5", ".hdf5", ".hdf"), (".txt", ".list", ".lst")
_LISTED = "{}_hdf5.txt"  # what is written for one HDF5 file: the list that HDF5Data takes
_NAMES = {"train": "^(?!.*(val|test)).*train", "test": "^(?!.*train).*(val|test)"}
_BY = "by --source and --val-source"
_GIVE = "give an LMDB, a LevelDB, an HDF5 file, or a list of such files or of images and labels"


def adopt(folder, source=None, val_source=None, output=None, label_names=None, size=None):
    """Writes a manifest into ``output``, by default ``folder``, about the databases there.

    Which is to train on and which to test on is told by their names (train; val or test), or by
    ``source`` and ``val_source``, of which one may be missing: LMDB or LevelDB folders, HDF5 files
    or lists of them, or lists of images, whose paths start from ``folder``, and which Caffe is to
    resize to ``size`` (width, height). ``label_names`` is a file, one class a line. Returns the
    Manifest. Raises UserError where nothing can be told or read; a record that Caffe cannot read,
    such as one of 16 bits, ends the process.
    """
    folder, output = Path(folder), Path(output or folder)
    if not folder.is_dir() or _backend(folder):
        raise UserError(f"{folder} is not a folder of databases: give the one in which they lie")
    known = output / MANIFEST
    if known.exists() and '"adopted": true' not in known.read_text(errors="replace"):
        raise UserError(f"{output} is a data set already: give it as --data, or name an --output")
    given = {"train": source, "test": val_source} if source or val_source else _named(folder)
    manifest = Manifest(folder.absolute().name, 0, adopted=True)
    manifest.label_names = read_names(label_names) if label_names else None
    output.mkdir(parents=True, exist_ok=True)
    for split, path in given.items():
        if path is not None:
            setattr(manifest, split, _part(Path(path), split, folder, output, size, manifest))
    counts = [part.images_per_class for part in manifest.parts.values()]
    labels = max(map(len, counts))
    manifest.classes = len(manifest.label_names or ()) or labels
    if labels > manifest.classes:
        raise UserError(f"there are {labels} classes: name them all in {label_names}")
    for count in counts:
        count += [0] * (manifest.classes - len(count))
    manifest.write(output)
    return manifest


def _backend(path):
    """Which kind of source for a Caffe layer lies at ``path``, or None."""
    if (path / "data.mdb").is_file():
        return "LMDB"
    if (path / "CURRENT").is_file():
        return "LEVELDB"
    if path.suffix.lower() in _HDF5:
        return "HDF5"
    if path.suffix.lower() not in _LISTS or not path.is_file():
        return None
    with open(path, encoding="utf-8", errors="replace") as file:
        words = file.readline().split() or [""]
    if words[-1].endswith(_HDF5):
        return "HDF5"
    return "IMAGES" if len(words) > 1 and words[-1].isdecimal() else None


def _named(folder):
    """{split: path} of the databases in ``folder``, by their names."""
    own = [_LISTED.format(split) for split in _NAMES]
    there = [path for path in sorted(folder.iterdir()) if _backend(path) and path.name not in own]
    found = {}
    for split, name in _NAMES.items():
        fits = [path for path in there if re.search(name, path.name)]
        if len(fits) > 1:
            raise UserError(f"{folder} holds {fits[0].name} and {fits[1].name}: name one, {_BY}")
        found[split] = fits[0] if fits else None
    if not any(found.values()):
        seen = f"{there[0].name}, whose name says neither train nor val" if there else "none"
        raise UserError(f"{folder} holds {seen}: {_GIVE}, {_BY}")
    return found


def _part(path, split, folder, output, size, manifest):
    """The Part of the source at ``path``; ``manifest`` is told what its values are."""
    backend = _backend(path)
    if backend is None:
        raise UserError(f"{path} is not one of Caffe's databases: {_GIVE}")
    if size and backend != "IMAGES":
        raise BadValue(f"--size is for lists of images, and {path} is none: leave it out")
    if path.suffix.lower() in _HDF5:
        path, file = output / _LISTED.format(split), path
        with whole_file(path) as list_:
            list_.write(f"{file.absolute()}\n")
    part = Part(0, [], [], str(path.absolute()), backend)
    if backend == "IMAGES":
        absolute = path.read_text(encoding="utf-8", errors="replace").startswith("/")
        part.root_folder = "" if absolute else f"{folder.absolute()}/"
        part.new_width, part.new_height = size or (0, 0)
    counts, bytes_ = _read(part)
    part.bytes = source_bytes(path, backend)  # now: to read a LevelDB may write to it
    part.images = sum(counts.values())
    part.images_per_class = [counts[label] for label in range(1 + max(counts))]
    if path.absolute().is_relative_to(output.absolute()):  # so that both can be moved together
        part.path = str(path.absolute().relative_to(output.absolute()))
    if backend != "HDF5":
        manifest.channel_order = {1: "grey", 3: "BGR"}.get(part.shape[0])
        manifest.value_range = [0, 255] if bytes_ else None
    return part


def _read(part):
    """How often each label is there, and whether all values fit into bytes; enters the shape in
    ``part``."""
    layer = reading.layer(part.path, part.backend, **part.image_data)
    counts, bytes_ = collections.Counter(), True
    name, total = Path(part.path).name, reading.count(layer)
    with tqdm(desc=f"reading {name}", total=total, unit="image") as bar:
        for tops in reading.batches(layer):
            images, labels = tops["data"], tops["label"].reshape(len(tops["label"]), -1)
            if images.ndim != 4 or labels.shape[1] != 1 or (labels < 0).any() or (labels % 1).any():
                raise UserError(
                    f"{part.path} has data of shape {images.shape} and the label {labels.min()}: "
                    "give N×C×H×W, and a label for each, an integer from 0 on"
                )
            part.shape = list(images.shape[1:])
            counts.update(labels[:, 0].astype(int).tolist())
            bytes_ &= images.min() >= 0 and images.max() <= 255 and not (images % 1).any()
            bar.update(len(images))
    return counts, bytes_
