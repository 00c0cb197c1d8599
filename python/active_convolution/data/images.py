"""Anybody's own images, in folders of classes or in lists, to a data set folder."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple, Optional

import cv2
import numpy as np

from ..caffe import reading
from ..caffe.locate import caffe_pb2
from ..errors import BadValue, UserError
from ..files import check_new, whole_file, whole_folder
from . import database, preprocess
from .classes import find, of_folders, read_list, read_names
from .datum import Recipe, decode
from .manifest import Manifest, Preprocessing, database_path

_MOST_CLASSES = 2**16
_WHITENED = 64  # pixels: the covariance of larger images takes gigabytes, its eigenvectors hours


class Files(NamedTuple):
    """Where images come from: the folder ``source``, or ``list``, which names and labels images
    below it (see classes.py)."""

    source: Path
    list: Optional[Path] = None


class Options(NamedTuple):
    """``size`` (width, height) in pixels, None for that of the images; ``resize``, ``encode`` and
    ``smooth`` as in datum.Recipe; ``mean`` computes the training images' mean; ``whiten``
    preprocesses as section 3.1 does; ``label_names`` is a file of names, one a line, by label;
    ``test_fraction`` of each class's images are drawn for testing, where there are none. ``seed``
    shuffles; ``jobs`` threads, by default one for each core; more than ``max_unreadable`` images of
    a split that cannot be read are an error. ``columns`` are the two of a table that count."""

    size: Optional[tuple] = None
    resize: str = "stretch"
    encode: str = "jpeg"
    smooth: bool = True
    mean: bool = False
    whiten: bool = False
    label_names: Optional[Path] = None
    test_fraction: Optional[float] = None
    seed: int = 0
    jobs: Optional[int] = None
    max_unreadable: int = 10
    columns: Optional[tuple] = None


def create(output, files, val_files=None, options=None, dataset="images"):
    """Makes the folder ``output`` out of the images of ``files`` (Files), with those of
    ``val_files``, where they are given, for testing.

    The same call goes on with what an earlier one, however it ended, left beside ``output``, and
    comes to the same. Images that cannot be read are named, with the reasons, in
    <split>_unreadable.txt. Returns (the Manifest, notes in words). Raises UserError where the
    images are in no known layout or of unknown classes, or too many cannot be read.
    """
    options = options or Options()
    check_new(output)
    if options.mean and options.whiten:
        raise BadValue("--mean and --whiten exclude each other: whitened images have no mean")
    lines = read_names(options.label_names) if options.label_names else []
    found, notes = _found(files, val_files, lines, options)
    parts, classes, names = _labelled(found, files.list is not None, lines, options)
    parts = _divided(parts, options)
    notes += _without_images(parts, classes, names)
    recipe = _recipe(parts, options)
    manifest = Manifest(dataset, classes, names, channel_order="BGR", value_range=[0, 255])
    manifest.seed, manifest.versions = options.seed, database.VERSIONS
    manifest.source = str(files.list or files.source)
    manifest.preprocessing = Preprocessing(recipe.resize, recipe.smooth)
    if options.whiten:
        with whole_folder(output) as folder:
            notes += _write_whitened(folder, manifest, parts, recipe, options)
        return manifest, notes
    folder = _begun(output, parts, recipe)
    for split, part in parts.items():
        path, limit = database_path(folder, split), options.max_unreadable
        labels, unreadable = database.write_images(path, part, recipe, options.jobs, limit)
        notes += _left_out(folder, split, part, unreadable, options)
        shape = 3, recipe.height, recipe.width
        setattr(manifest, split, database.part_of(path, labels, shape, classes))
    if options.mean:
        manifest.preprocessing.mean_value = _write_mean(folder, manifest.train.images)
    manifest.write(folder)
    folder.rename(output)
    return manifest, notes


# ---- Which image has which label


def _found(files, val_files, names, options):
    """({"train": [(path, class)], "test": ...}, notes)."""
    names = {*names, *(name.split()[0] for name in names)}
    if files.list:
        train, test, notes = _listed(files, options), [], []
    else:
        train, test, notes = find(files.source, names, test=val_files is None)
    if val_files:
        test = (
            _listed(val_files, options) if val_files.list else of_folders(val_files.source, names)
        )
    if test and options.test_fraction:
        raise BadValue("--test-fraction is for images without others to test on: leave it out")
    if not test and not options.test_fraction:
        raise UserError(
            f"{files.list or files.source} has no images to test on: give --val-source or "
            "--val-list, or --test-fraction 0.2 to draw some of each class"
        )
    both = {path for path, _ in train}.intersection(path for path, _ in test)
    if both:
        raise UserError(f"{min(both)} is there to train on and to test on: give each image once")
    return {"train": train, "test": test}, notes


def _listed(files, options):
    return read_list(files.list, files.source, options.columns, options.max_unreadable)


def _labelled(found, listed, lines, options):
    """({split: [(path, label)]}, how many classes, their names or None): the integers in lists are
    the labels; other classes are in the order of ``lines``, or in their own."""
    present = sorted({name for _, name in found["train"]})
    names = {name for part in found.values() for _, name in part}
    if all(map(str.isdecimal, present)):
        present.sort(key=int)
    if listed and all(map(str.isdecimal, names)):
        given, labels = lines or None, {name: int(name) for name in names}
    else:
        order, given = (
            _ordered(lines, present, options.label_names) if lines else (present, present)
        )
        labels = {name: label for label, name in enumerate(order)}
    unknown = next((entry for entry in found["test"] if entry[1] not in labels), None)
    if unknown:
        raise UserError(
            f"{unknown[0]} is of the class {unknown[1]}, and the classes to train on are "
            f"{', '.join(present[:10])}: add images of it, or leave it out"
        )
    most, count = max(labels.values()), len(given or ()) or 1 + max(labels.values())
    if most >= min(count, _MOST_CLASSES) or count < 2:
        raise UserError(
            f"there are labels up to {most}, of {min(count, _MOST_CLASSES)} classes: give 2 to "
            f"{_MOST_CLASSES} classes, and name all or none with --label-names"
        )
    parts = {split: [(path, labels[name]) for path, name in part] for split, part in found.items()}
    return parts, count, given


def _ordered(lines, present, file):
    """(the classes ``present`` in the order of ``lines``, their names there). A line is a class, or
    begins with it, as in "n02119789 kit fox"."""
    known = set(present)
    order = [line if line in known else line.split()[0] for line in lines]
    lacking = known.difference(order)
    if lacking:
        raise UserError(f"{file} names no class {min(lacking)}: begin a line with it")
    return order, [line[len(key) :].strip() or key for key, line in zip(order, lines)]


def _divided(parts, options):
    """``parts`` with images drawn for testing where there are none, both shuffled by the seed."""
    if not parts["test"]:
        labels = np.array([label for _, label in parts["train"]])
        drawn, random = [], np.random.RandomState(options.seed)
        for label in np.unique(labels):
            places = random.permutation(np.flatnonzero(labels == label)).tolist()
            count = max(round(options.test_fraction * len(places)), 1)
            drawn += places[: min(count, len(places) - 1)]
        if not drawn:
            raise UserError("there is one image of each class, and none to test on: add some")
        chosen = set(drawn)
        train = [entry for place, entry in enumerate(parts["train"]) if place not in chosen]
        parts = {"train": train, "test": [parts["train"][place] for place in sorted(drawn)]}
    return {
        split: [part[index] for index in database.permutation(len(part), options.seed)]
        for split, part in parts.items()
    }


def _without_images(parts, classes, names):
    """Notes on classes that have no images."""
    for split, part in parts.items():
        labels = sorted(set(range(classes)) - {label for _, label in part})
        if labels:
            named = f" ({names[labels[0]]})" if names else ""
            more = f", and {len(labels) - 1} more" if len(labels) > 1 else ""
            yield f"no {split} image has the label {labels[0]}{named}{more}"


# ---- What is made of them


def _recipe(parts, options):
    encode = "raw" if options.whiten else options.encode
    if options.size:
        return Recipe(*options.size, options.resize, encode, options.smooth)
    for path, _ in parts["train"]:
        image = decode(Path(path).read_bytes()) if Path(path).is_file() else None
        if image is not None:
            return Recipe(*image.shape[1::-1], None, encode)
    raise UserError(f"none of the images can be read, {path} last: mend them")


def _begun(output, parts, recipe):
    """The folder beside ``output`` that is filled, whose name says with what: an interrupted run of
    the same command has left it."""
    content = json.dumps([parts, recipe, cv2.__version__])
    folder = Path(f"{output}.{hashlib.sha256(content.encode()).hexdigest()[:12]}.partial")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _left_out(folder, split, images, unreadable, options):
    """Names the ``unreadable`` of ``images`` in a file; a note on them. Raises UserError where they
    are too many."""
    report = folder / f"{split}_unreadable.txt"
    report.unlink(missing_ok=True)
    if not unreadable:
        return []
    with whole_file(report) as file:
        file.writelines(f"{name}\t{reason}\n" for name, reason in sorted(unreadable.items()))
    name, reason = min(unreadable.items())
    said = f"{len(unreadable)} {split} images cannot be used ({name}: {reason}, ...)"
    if len(unreadable) > options.max_unreadable or len(unreadable) == len(images):
        raise UserError(f"{said}: mend them, or allow more with --max-unreadable")
    return [f"{said}: {report.name} names them"]


def _write_mean(folder, count):
    """Writes the mean training image as mean.binaryproto; returns its mean of each channel."""
    total = 0
    for tops in reading.batches(reading.layer(database_path(folder, "train"))):
        total = total + tops["data"].sum(axis=0, dtype=np.float64)
    mean = total / count
    shape = dict(zip(("num", "channels", "height", "width"), (1, *mean.shape)))
    blob = caffe_pb2().BlobProto(data=mean.ravel().tolist(), **shape)
    with whole_file(folder / "mean.binaryproto", "wb") as file:
        file.write(blob.SerializeToString())
    return [round(float(value), 4) for value in mean.mean(axis=(1, 2))]


def _write_whitened(folder, manifest, parts, recipe, options):
    """Writes whitened images, which are in memory together; returns notes."""
    if max(recipe.width, recipe.height) > _WHITENED:
        raise UserError(f"--whiten takes images of up to {_WHITENED}x{_WHITENED}: give a --size")
    arrays, notes = {}, []
    for split, part in parts.items():
        arrays[split], unreadable = database.pixels(part, recipe, options.jobs)
        notes += _left_out(folder, split, part, unreadable, options)
    preprocess.write_whitened(folder, manifest, arrays)
    return notes
