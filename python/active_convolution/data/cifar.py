"""CIFAR-10 and CIFAR-100 from whatever people have: the python or binary archive or images in one of layouts.py's ways,
packed or not, or arrays."""

import functools
import io
import os
import pickle
import re
import sys
from pathlib import PurePosixPath
from typing import Callable, NamedTuple, Optional

import numpy as np
from tqdm import tqdm

from ..arrays import Array, read_npz
from ..errors import UserError
from . import layouts
from .datum import decode
from .sources import Dataset, Split, open_source

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_SIDE = 32
_SHAPE = (3, _SIDE, _SIDE)
_PIXELS = 3 * _SIDE * _SIDE
_ALIASES = {
    "plane": "airplane",
    "aeroplane": "airplane",
    "auto": "automobile",
    "car": "automobile",
}  # CIFAR-10's
_COARSE = 20  # CIFAR-100's superclasses, which some have as folders above the classes'
_TEST_SHARE = 0.2  # of a set without labelled test images: Kaggle's 50,000 leave the usual 10,000

# All that a pickled NumPy array needs, under the names that NumPy 1 and 2 give it. ``_codecs.encode`` is how
# Python 3 writes bytes for Python 2. None of them runs anything that the file chooses.
_ALLOWED = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")} | {
    (f"numpy.{core}.{module}", name)
    for core in ("core", "_core")
    for module, name in (("multiarray", "_reconstruct"), ("numeric", "_frombuffer"))
}
_CORE = (
    np.empty(0).__reduce__()[0].__module__.rpartition(".")[0]
)  # numpy.core, or numpy._core since NumPy 2


# ---- The batch files in which CIFAR is distributed (Krizhevsky, 2009): python pickles and plain binary
#
# Both hold an image as 3072 bytes: the red, the green, then the blue plane, each 32 rows of 32 pixels.


class _ArrayUnpickler(pickle.Unpickler):
    """Loads containers and NumPy arrays only: a pickle may otherwise run any code."""

    def find_class(self, module, name):
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which image data does not need"
            )
        return super().find_class(re.sub(r"numpy\._?core", _CORE, module), name)


def _read_python(data, name, classes, label_key):
    """The images in ``data``, the bytes of a python batch, as a Split with images (N, 3, 32, 32) uint8, RGB.

    ``label_key`` is the entry that holds the labels, ``classes`` how many there may be, ``name`` what errors call the
    file. Raises UserError for a damaged or malicious file, missing entries, wrong counts and labels out of range.
    """
    try:
        batch = _ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
        entries = {
            key if isinstance(key, str) else key.decode(): value for key, value in batch.items()
        }
        pixels, labels = (_array(entries[key], len(data)) for key in ("data", label_key))
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise UserError(
            f"{name} is not a whole python batch of CIFAR ({type(error).__name__}: {error}): "
            "fetch the archive again"
        ) from error
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise UserError(
            f"{name} holds {pixels.dtype} data of shape {pixels.shape}, not uint8 (N, {_PIXELS}): "
            "fetch the archive again"
        )
    if labels.dtype.kind not in "iu" or labels.shape != pixels.shape[:1]:
        raise UserError(
            f"{name} holds {len(pixels)} images but {labels.size} integer labels in shape {labels.shape}: "
            "fetch the archive again"
        )
    return _checked(pixels, labels, name, classes)


def _array(value, most):
    """An array, or a list of numbers, as an array. Raises ValueError where it is something else, or takes more than the ``most``
    bytes that its file has: arrays of no strides, or lists of the same list, grow as they are copied."""
    if not isinstance(value, np.ndarray):
        if not all(isinstance(number, (int, float)) for number in value):
            raise ValueError("it holds lists of other things than numbers")
        return np.asarray(value)
    if value.nbytes > most:
        raise ValueError(f"it asks for {value.nbytes} bytes and has {most}")
    return value


def _read_binary(data, name, classes, label_bytes):
    """The images in ``data``, the bytes of a binary batch: rows of ``label_bytes`` labels, the last of which counts,
    and 3072 pixels. Result and errors as for ``_read_python``.
    """
    row = label_bytes + _PIXELS
    if len(data) % row:
        raise UserError(
            f"{name} is {len(data)} bytes long, not a multiple of {row}: it is truncated or another "
            "set's; fetch the archive again"
        )
    rows = np.frombuffer(data, np.uint8).reshape(-1, row)
    return _checked(rows[:, label_bytes:], rows[:, label_bytes - 1], name, classes)


def _checked(pixels, labels, name, classes):
    if not len(labels):
        raise UserError(f"{name} holds no images: fetch the archive again")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise UserError(
            f"{name}: image {wrong[0]} has label {labels[wrong[0]]}, but there are only {classes} "
            f"classes, from 0; fetch the archive again"
        )
    return Split(pixels.reshape(-1, *_SHAPE), labels.astype(np.int64))


# ---- Images in one of the ways of layouts.py


def _read_images(source, listing, class_names, classes):
    """Decodes the images of a Listing (see layouts.py) of ``source``, with a progress bar.

    Class i is ``class_names[i]``, or without names the i-th of ``classes`` in alphabetical order. Returns two Splits,
    train and test, with images (N, 3, 32, 32) uint8, RGB, in the order of their names, however they are packed. Raises
    UserError for missing or unknown classes and for images that cannot be read or are not 32x32.
    """
    train, test = (
        dict(_fine(part) if classes > len(CIFAR10_CLASSES) else part)
        for part in (listing.train, listing.test)
    )
    class_names = class_names or _alphabetical(train, test, classes, source.path)
    labels = {
        split: _labels(part, class_names, split, source.path)
        for split, part in (("train", train), ("test", test))
        if part
    }
    names = sorted([*train, *test])
    images, place = _decode_all(source, names), {name: index for index, name in enumerate(names)}
    splits = {
        split: Split(
            images[[place[name] for name in sorted(labels[split])]],
            np.array([labels[split][name] for name in sorted(labels[split])]),
        )
        for split in labels
    }
    return (splits["train"], splits["test"]) if test else _drawn(splits["train"], source.path)


def _fine(entries):
    """``entries``, (name, class), with the class's folder in the place of its superclass's, where CIFAR-100 has both."""
    nested = all(
        isinstance(label, str) and f"/{label}/" in f"/{os.path.dirname(os.path.dirname(name))}/"
        for name, label in entries
    )
    if nested and len({label for _, label in entries}) == _COARSE:
        return [(name, name.split("/")[-2]) for name, _ in entries]
    return entries


def _alphabetical(train, test, classes, path):
    found = layouts.in_order({*train.values(), *test.values()})
    if len(found) != classes:
        raise UserError(
            f"{path} holds images of {len(found)} classes, not {classes}: "
            "add the missing ones, or remove those that do not belong"
        )
    return found


def _labels(part, class_names, split, path):
    """{name: label} for ``part``, {name: class}."""
    index = {name: label for label, name in enumerate(class_names)}
    if class_names == CIFAR10_CLASSES:
        index.update({short: index[name] for short, name in _ALIASES.items()})
        index.update(
            {key: label for label in range(len(class_names)) for key in (label, str(label))}
        )
    found = {label if label in index else str(label).lower().strip() for label in part.values()}
    unknown = sorted(map(str, found - set(index)))
    missing = sorted(
        set(range(len(class_names))) - {index[label] for label in found - set(unknown)}
    )
    if unknown:
        raise UserError(
            f"{path} has images of {split}/{unknown[0]}, which is no class of this set: "
            f"rename it to one of {', '.join(class_names)}, or remove it"
        )
    if missing:
        raise UserError(
            f"{path} has no images of {split}/{class_names[missing[0]]}: every class needs some"
        )
    return {
        name: index[label if label in index else str(label).lower().strip()]
        for name, label in part.items()
    }


def _drawn(split, path):
    """A Split as two, for a set that says nothing of its test images' classes."""
    print(
        f"{path} has no test images with classes: a fifth of each class's images, drawn, are the test set",
        file=sys.stderr,
    )
    test = layouts.drawn(split.labels, _TEST_SHARE, seed=0)
    return tuple(Split(split.images[mask], split.labels[mask]) for mask in (~test, test))


def _decode_all(source, names):
    images = np.empty((len(names), 3, _SIDE, _SIDE), np.uint8)
    place = {name: index for index, name in enumerate(names)}
    with tqdm(source.read(names), desc="reading images", total=len(names), unit="image") as bar:
        for name, data in bar:
            images[place[name]] = _decoded(data, f"{source.path}: {name}")
    return images


def _decoded(data, name):
    """(3, 32, 32) uint8, RGB."""
    image = decode(data)
    if image is None:
        raise UserError(f"{name} is not a readable image: replace or remove it")
    height, width = image.shape[:2]
    if (height, width) != (_SIDE, _SIDE):
        raise UserError(
            f"{name} is {width}x{height} pixels, not {_SIDE}x{_SIDE}: resize or remove it"
        )
    return image[:, :, ::-1].transpose(2, 0, 1)  # BGR to RGB, then planes


# ---- Arrays in one .npz file: X, Y for training and xt, yt for testing


def _read_arrays(path, classes):
    """The training and the test Split in the file ``path``: X, xt (N, 3, 32, 32) uint8 RGB and Y, yt (N,) labels.

    Every class occurs among the training images. Raises UserError where the file cannot be read or holds something
    else, such as another set.
    """
    images, labels = Array("u1", (None, *_SHAPE)), Array("iu", (None,))
    arrays = read_npz(
        path, {"X": images, "Y": labels, "xt": images, "yt": labels}, "fetch it again"
    )
    train, test = (
        _checked_arrays(path, arrays, *names, classes) for names in (("X", "Y"), ("xt", "yt"))
    )
    missing = np.setdiff1d(np.arange(classes), train.labels)
    if len(missing):
        raise UserError(
            f"{path}: Y has no training images of {len(missing)} of the {classes} classes, {missing[0]} first: "
            "every class needs some; give the set that the file is of, or a file with all classes"
        )
    return train, test


def _checked_arrays(path, arrays, images_name, labels_name, classes):
    images, labels = arrays[images_name], arrays[labels_name]
    if not len(images) or len(labels) != len(images):
        raise UserError(
            f"{path}: {images_name} holds {len(images)} images and {labels_name} {len(labels)} labels: "
            "fetch it again"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise UserError(
            f"{path}: {labels_name} holds labels from {labels.min()} to {labels.max()}, and should hold 0 to "
            f"{classes - 1}"
        )
    return Split(images, labels.astype(np.int64))


# ---- What they have in common, and which there are


class _Batches(NamedTuple):
    """Batch files in one folder. ``decode(data, name, classes)`` gives the Split in the bytes of one file."""

    kind: str
    train: tuple
    test: tuple
    decode: Callable

    def roots(self, names):
        """The folders that hold one of the files."""
        return {
            str(PurePosixPath(name).parent)
            for name in names
            if name.rpartition("/")[2] in self.train + self.test
        }

    def read(self, source, folder, classes):
        files = {file: str(PurePosixPath(folder, file)) for file in self.train + self.test}
        missing = [name for name in files.values() if name not in source.names]
        if missing:
            raise UserError(f"{source.path} lacks {missing[0]}: fetch the whole archive again")
        return tuple(
            self._join(source, [files[file] for file in part], classes)
            for part in (self.train, self.test)
        )

    def _join(self, source, names, classes):
        data = dict(source.read(names))
        parts = [self.decode(data[name], f"{source.path}: {name}", classes) for name in names]
        return Split(*(np.concatenate(arrays) for arrays in zip(*parts)))


class _Set(NamedTuple):
    """``batches`` are the forms in which it is distributed; without ``class_names`` they are in alphabetical order."""

    title: str
    classes: int
    batches: tuple
    class_names: Optional[tuple] = None


_BATCHES_10 = tuple(f"data_batch_{number}" for number in range(1, 6))
_SETS = {
    "cifar10": _Set(
        "CIFAR-10",
        10,
        (
            _Batches(
                "python batches",
                _BATCHES_10,
                ("test_batch",),
                functools.partial(_read_python, label_key="labels"),
            ),
            _Batches(
                "binary batches",
                tuple(f"{name}.bin" for name in _BATCHES_10),
                ("test_batch.bin",),
                functools.partial(_read_binary, label_bytes=1),
            ),
        ),
        CIFAR10_CLASSES,
    ),
    "cifar100": _Set(
        "CIFAR-100",
        100,
        (
            _Batches(
                "python batches",
                ("train",),
                ("test",),
                functools.partial(_read_python, label_key="fine_labels"),
            ),
            _Batches(
                "binary batches",
                ("train.bin",),
                ("test.bin",),
                functools.partial(_read_binary, label_bytes=2),
            ),
        ),
    ),
}


def read(dataset, path):
    """Reads ``dataset``, "cifar10" or "cifar100", from ``path``: a folder, one above it, a tar archive or zip of it, or an
    .npz.

    Returns a Dataset with images (N, 3, 32, 32) uint8, RGB, and labels in the sets' usual order; CIFAR-100's are the
    100 fine ones. Images may be fewer than the original's; where no test images have classes, a fifth of the training
    images, drawn by class, are the test set. Raises UserError for anything missing, damaged or contradictory, and where
    ``path`` holds nothing of the set.
    """
    known = _SETS[dataset]
    if str(path).endswith(".npz"):
        return Dataset(known.classes, "arrays in a .npz file", *_read_arrays(path, known.classes))
    with open_source(path) as source:
        batches = [
            (form, root) for form in known.batches for root in sorted(form.roots(source.names))
        ]
        listings = [listing for listing in layouts.find(source) if listing.test or not batches]
        _check_one(
            dataset,
            source,
            [f"{form.kind} in {root}" for form, root in batches]
            + [f"{listing.kind} in {listing.root or '.'}" for listing in listings],
        )
        if batches:
            ((form, root),) = batches
            train, test = form.read(source, root, known.classes)
            return Dataset(known.classes, f"{form.kind} in a {source.kind}", train, test)
        train, test = _read_images(source, listings[0], known.class_names, known.classes)
        return Dataset(known.classes, f"{listings[0].kind} in a {source.kind}", train, test)


def accepted(dataset):
    """What ``path`` may be for ``dataset``, in words."""
    number = dataset.removeprefix("cifar")
    return (
        f"cifar-{number}-python.tar.gz, cifar-{number}-binary.tar.gz, a folder unpacked from one of them, a folder, "
        "tar archive or zip of images (train/<class>/*.png and test/<class>/*.png, or train/*.png and "
        "trainLabels.csv), or an .npz file with the arrays X, Y, xt, yt"
    )


def _check_one(dataset, source, found):
    """Raises UserError unless ``found``, in words, is one set."""
    title = _SETS[dataset].title
    if not found:
        raise UserError(f"{source.path} holds no {title}: give {accepted(dataset)}")
    if len(found) > 1:
        raise UserError(
            f"{source.path} holds more than one {title} ({'; '.join(sorted(found))}): name the one to read"
        )
