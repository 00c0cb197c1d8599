"""Anybody's own images, in folders of classes or in lists, to a data set folder; and Places365."""

import contextlib
import hashlib
import json
import os
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
from .datum import QUALITY, Recipe, decode
from .manifest import Manifest, Preprocessing, database_path

MAX_UNREADABLE = 10
_SETTINGS = "settings.json"  # what a folder that several runs fill was begun with
_SAMPLE = 64  # images, to see whether all have one size
_MOST_CLASSES = 2**16
_WHITENED = 64  # pixels: the covariance of larger images takes gigabytes, its eigenvectors hours


class Files(NamedTuple):
    """Where images come from: the folder ``source``, in a layout of classes.py, or ``list``, which
    names and labels images below it."""

    source: Path
    list: Optional[Path] = None
    columns: Optional[tuple] = None


class Options(NamedTuple):
    """``size`` (width, height) in pixels, None for that of the images; ``resize``, ``encode`` and
    ``smooth`` as in datum.Recipe; ``mean`` computes the training images' mean; ``whiten``
    preprocesses as section 3.1 does; ``label_names`` is a file of names, one a line, in the order
    of the labels; ``test_fraction`` of each class's images are drawn for testing, where there are
    none. ``seed`` shuffles; ``jobs`` threads, by default one for each core; more than
    ``max_unreadable`` images of a split that cannot be read are an error."""

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
    max_unreadable: int = MAX_UNREADABLE


def create(output, files, val_files=None, options=Options(), dataset="images"):
    """Makes the folder ``output`` out of the images of ``files`` (Files), with those of
    ``val_files``, where they are given, for testing.

    The same call goes on with what an earlier one, however it ended, left in ``output``.partial,
    and comes to the same. Images that cannot be read are named, with the reasons, in
    <split>_unreadable.txt. Returns (the Manifest, notes in words). Raises UserError where the
    images are in no known layout or of unknown classes, or too many cannot be read.
    """
    check_new(output)
    if options.mean and options.whiten:
        raise BadValue("--mean and --whiten exclude each other: whitened images have no mean")
    found, notes = _found(files, val_files, options)
    parts, classes, names = _labelled(found, files.list is not None, options)
    parts = _divided(parts, options)
    notes += _without_images(parts, classes, names)
    recipe = _recipe(parts, options)
    manifest = Manifest(
        dataset,
        classes,
        names,
        channel_order="BGR",
        value_range=[0, 255],
        preprocessing=Preprocessing(_steps(recipe), recipe.resize, recipe.smooth),
        source=" and ".join(str(each.list or each.source) for each in (files, val_files) if each),
        seed=options.seed,
        versions=database.versions(),
    )
    if options.whiten:
        _whitened(output, manifest, parts, recipe, options)
        return manifest, notes
    with _partial_folder(output, _settings(parts, recipe, options)) as folder:
        for split, part in parts.items():
            setattr(manifest, split, _write(folder, split, part, recipe, classes, options))
        if options.mean:
            manifest.preprocessing.mean_value = _write_mean(folder, manifest.train)
        manifest.write(folder)
    return manifest, notes


# ---- Which image has which label


def _found(files, val_files, options):
    """({"train": [(path, class)], "test": ...}, notes)."""
    names = read_names(options.label_names) if options.label_names else []
    names = {*names, *(name.split()[0] for name in names)}
    if files.list:
        train, test, notes = _listed(files, options), [], []
    else:
        train, test, notes = find(files.source, names, test=val_files is None)
    if val_files:
        listed = val_files.list is not None
        test = _listed(val_files, options) if listed else of_folders(val_files.source, names)
    if test and options.test_fraction is not None:
        raise BadValue(
            "--test-fraction is for images without others to test on, and these have some: leave it out"
        )
    if not test and options.test_fraction is None:
        raise UserError(
            f"{files.list or files.source} has no images to test on: give --val-source or --val-list, "
            "or --test-fraction 0.2 to draw some of each class"
        )
    both = {path for path, _ in train}.intersection(path for path, _ in test)
    if both:
        raise UserError(f"{min(both)} is there to train on and to test on: give each image once")
    return {"train": train, "test": test}, notes


def _listed(files, options):
    return read_list(files.list, files.source, files.columns, options.max_unreadable)


def _labelled(found, numbers, options):
    """({split: [(path, label)]}, how many classes, their names or None). Classes are integers
    already where ``numbers`` says so, else they are numbered."""
    given = read_names(options.label_names) if options.label_names else None
    present = sorted({name for _, name in found["train"]})
    if all(map(str.isdecimal, present)):
        present.sort(key=int)
    if numbers and all(name.isdecimal() for part in found.values() for _, name in part):
        labels = {name: int(name) for part in found.values() for _, name in part}
        count = len(given) if given else 1 + max(labels.values())
        if max(labels.values()) >= min(count, _MOST_CLASSES):
            raise UserError(
                f"there is the label {max(labels.values())}, and there are {min(count, _MOST_CLASSES)} "
                "classes at most: mend the lists, or name all classes in --label-names"
            )
    else:
        order, given = (
            _ordered(given, present, options.label_names) if given else (present, present)
        )
        labels, count = {name: label for label, name in enumerate(order)}, len(order)
    unknown = next((entry for entry in found["test"] if entry[1] not in labels), None)
    if unknown:
        raise UserError(
            f"{unknown[0]} is of the class {unknown[1]}, and the classes to train on are "
            f"{', '.join(present[:10])}: add images of it, or leave it out"
        )
    if count < 2:
        raise UserError("there is one class, and nothing to tell it from: give images of 2 or more")
    parts = {split: [(path, labels[name]) for path, name in part] for split, part in found.items()}
    return parts, count, given


def _ordered(lines, present, file):
    """(the classes ``present`` in the order of ``lines``, their names there). A line is a class, or
    begins with it, as in "n02119789 kit fox"; such a file may describe others, too."""
    known = set(present)
    keyed = [(line if line in known else line.split()[0], line) for line in lines]
    if any(key in known and key != line for key, line in keyed):
        keyed = [
            (key, line.removeprefix(key).strip() or key) for key, line in keyed if key in known
        ]
    else:
        keyed = [(line, line) for line in lines]
    lacking = sorted(known - {key for key, _ in keyed})
    if lacking:
        raise UserError(f"{file} does not name the class {lacking[0]}: add it there")
    return [key for key, _ in keyed], [name for _, name in keyed]


def _divided(parts, options):
    """``parts`` with images drawn for testing where there are none, both shuffled by the seed."""
    if not parts["test"]:
        labels = np.array([label for _, label in parts["train"]])
        chosen, random = np.zeros(len(labels), bool), np.random.RandomState(options.seed)
        for label in np.unique(labels):
            places = random.permutation(np.flatnonzero(labels == label))
            count = max(round(options.test_fraction * len(places)), 1)
            chosen[places[: min(count, len(places) - 1)]] = True
        if not chosen.any():
            raise UserError(
                "there is one image of each class, and none to test on: give --val-source"
            )
        parts = {
            split: [
                entry for entry, drawn in zip(parts["train"], chosen) if drawn == (split == "test")
            ]
            for split in parts
        }
    return {
        split: [part[index] for index in database.permutation(len(part), options.seed)]
        for split, part in parts.items()
    }


def _without_images(parts, count, names):
    """Notes on classes that have no images."""
    notes = []
    for split, part in parts.items():
        absent = sorted(set(range(count)) - {label for _, label in part})
        shown = [f"{label} ({names[label]})" if names else str(label) for label in absent[:5]]
        if absent:
            more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
            notes.append(f"no {split} image has the label {', '.join(shown)}{more}")
    return notes


# ---- What is made of them


def _recipe(parts, options):
    encode = "raw" if options.whiten else options.encode
    if options.size:
        return Recipe(*options.size, options.resize, encode, options.smooth)
    every = [path for part in parts.values() for path, _ in part]
    some = [
        every[index] for index in np.unique(np.linspace(0, len(every) - 1, _SAMPLE).astype(int))
    ]
    images = [decode(Path(path).read_bytes()) for path in some if os.path.isfile(path)]
    sizes = sorted({image.shape[1::-1] for image in images if image is not None})
    if len(sizes) != 1:
        seen = ", ".join(f"{width}x{height}" for width, height in sizes[:3])
        raise UserError(
            f"the images have several sizes ({seen}, ...): give --size, such as --size 64x64"
            if sizes
            else f"{len(some)} of the images were tried, and none can be read, {some[0]} first: mend them"
        )
    return Recipe(*sizes[0], None, encode)


def _steps(recipe):
    size = f"{recipe.width}x{recipe.height}"
    how = "averaging areas where it shrinks" if recipe.smooth else "bilinear"
    kept = {
        "stretch": f"resized to {size}, {how}, the aspect ratio not kept",
        "crop": f"resized so as to cover {size}, {how}, and the middle taken",
        "pad": f"resized to fit into {size}, {how}, black around it",
        None: f"{size}, as they were",
    }[recipe.resize]
    new = {"jpeg": f"JPEG of quality {QUALITY}", "png": "PNG"}.get(recipe.encode)
    return [
        "channels in the order blue, green, red, grey images as three equal channels, upright",
        kept,
        f"stored as the file itself where that is {size} already, else as {new}"
        if new
        else "stored as pixels",
    ]


def _settings(parts, recipe, options):
    """What a record depends on, by what the user calls it."""
    digests = {
        f"{split} images of SHA-256": hashlib.sha256(json.dumps(part).encode()).hexdigest()
        for split, part in parts.items()
    }
    made = {
        "--size": f"{recipe.width}x{recipe.height}",
        "--resize": recipe.resize,
        "--encode": recipe.encode,
        "--seed": options.seed,
        "OpenCV": cv2.__version__,
    }
    return {**digests, **made}


@contextlib.contextmanager
def _partial_folder(path, settings):
    """Yields the folder ``path``.partial, which becomes ``path`` on success and stays to go on with
    otherwise. Raises UserError where it was begun with other ``settings``."""
    path = Path(path)
    folder = path.with_name(f"{path.name}.partial")
    if not folder.exists():
        with whole_folder(folder) as new, whole_file(new / _SETTINGS) as file:
            json.dump(settings, file, indent=2)
    try:
        begun = json.loads((folder / _SETTINGS).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is no begun data set ({error}): remove it") from error
    for name, value in settings.items():
        if begun.get(name) != value:
            raise UserError(
                f"{folder} was begun with {name} {begun.get(name)}, not {value}: give that again, or "
                "remove the folder to start over"
            )
    yield folder
    folder.rename(path)  # with the settings: before or after their removal, a kill may come


def _write(folder, split, images, recipe, classes, options):
    """Writes one LMDB; returns its Part."""
    path = database_path(folder, split)
    written, unreadable = database.write_images(
        path, images, recipe, options.jobs, options.max_unreadable
    )
    _check_readable(folder, split, images, unreadable, options)
    labels = np.array([label for _, label in images])[written]
    shape = 3, recipe.height, recipe.width
    part = database.part_of(path, labels, shape, classes)
    part.unreadable = len(unreadable)
    return part


def _check_readable(folder, split, images, unreadable, options):
    report = folder / f"{split}_unreadable.txt"
    report.unlink(missing_ok=True)
    if unreadable:
        with whole_file(report) as file:
            file.writelines(f"{name}\t{reason}\n" for name, reason in sorted(unreadable.items()))
    if len(unreadable) > options.max_unreadable or len(unreadable) == len(images):
        name, reason = min(unreadable.items())
        raise UserError(
            f"{len(unreadable)} {split} images cannot be read ({name}: {reason}, ...): mend them, or "
            "allow more with --max-unreadable, and run the same command again"
        )


def _write_mean(folder, part):
    """Writes the mean training image as mean.binaryproto; returns its mean of each channel."""
    total = 0
    for tops in reading.batches(reading.layer(database_path(folder, "train"))):
        total = total + tops["data"].sum(axis=0, dtype=np.float64)
    mean = total / part.images
    blob = caffe_pb2().BlobProto(num=1, data=mean.astype(np.float32).ravel())
    blob.channels, blob.height, blob.width = mean.shape
    with whole_file(folder / "mean.binaryproto", "wb") as file:
        file.write(blob.SerializeToString())
    return [round(float(value), 4) for value in mean.mean(axis=(1, 2))]


def _whitened(output, manifest, parts, recipe, options):
    """Makes ``output`` out of whitened images, which are in memory together."""
    if max(recipe.width, recipe.height) > _WHITENED:
        raise UserError(
            f"--whiten is for images of up to {_WHITENED}x{_WHITENED} pixels, and these have "
            f"{recipe.width}x{recipe.height}: give a --size"
        )
    arrays = {}
    with whole_folder(output) as folder:
        for split, part in parts.items():
            found, unreadable = database.pixels(part, recipe, options.jobs)
            _check_readable(folder, split, part, unreadable, options)
            arrays[split] = found
        preprocess.write_whitened(folder, manifest, arrays)
