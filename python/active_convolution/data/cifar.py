"""CIFAR-10 and CIFAR-100 from whatever people have: the python or binary archive or a tree of images, packed or not."""
import functools
import io
import pickle
from typing import Callable, NamedTuple, Optional

import numpy as np
from tqdm import tqdm

from ..errors import UserError
from ..files import reading
from .datum import decode
from .sources import Dataset, Split, open_source

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SIDE = 32
_SHAPE = (3, _SIDE, _SIDE)
_PIXELS = 3 * _SIDE * _SIDE
_SUFFIXES = (".jpg", ".jpeg", ".png")

# All that a pickled NumPy array needs, under the names that NumPy 1 and 2 give it. ``_codecs.encode`` is how
# Python 3 writes bytes for Python 2. None of them runs anything that the file chooses.
_ALLOWED = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")} | {
    (f"numpy.{core}.{module}", name)
    for core in ("core", "_core") for module, name in (("multiarray", "_reconstruct"), ("numeric", "_frombuffer"))}


# ---- The batch files in which CIFAR is distributed (Krizhevsky, 2009): python pickles and plain binary
#
# Both hold an image as 3072 bytes: the red, the green, then the blue plane, each 32 rows of 32 pixels.

class _ArrayUnpickler(pickle.Unpickler):
    """Loads containers and NumPy arrays only: a pickle may otherwise run any code."""

    def find_class(self, module, name):
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which image data does not need")
        return super().find_class(module.replace("numpy._core", "numpy.core"), name)


def _read_python(data, name, classes, label_key):
    """The images in ``data``, the bytes of a python batch, as a Split with images (N, 3, 32, 32) uint8, RGB.

    ``label_key`` is the entry that holds the labels, ``classes`` how many there may be, ``name`` what errors call the
    file. Raises UserError for a damaged or malicious file, missing entries, wrong counts and labels out of range.
    """
    try:
        batch = _ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
        entries = {key if isinstance(key, str) else key.decode(): value for key, value in batch.items()}
        pixels, labels = np.asarray(entries["data"]), np.asarray(entries[label_key])
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise UserError(f"{name} is not a whole python batch of CIFAR ({type(error).__name__}: {error}): "
                        "fetch the archive again") from error
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise UserError(f"{name} holds {pixels.dtype} data of shape {pixels.shape}, not uint8 (N, {_PIXELS}): "
                        "fetch the archive again")
    if labels.dtype.kind not in "iu" or labels.shape != pixels.shape[:1]:
        raise UserError(f"{name} holds {len(pixels)} images but {labels.size} integer labels in shape {labels.shape}: "
                        "fetch the archive again")
    return _checked(pixels, labels, name, classes)


def _read_binary(data, name, classes, label_bytes):
    """The images in ``data``, the bytes of a binary batch: rows of ``label_bytes`` labels, the last of which counts,
    and 3072 pixels. Result and errors as for ``_read_python``.
    """
    row = label_bytes + _PIXELS
    if len(data) % row:
        raise UserError(f"{name} is {len(data)} bytes long, not a multiple of {row}: it is truncated or another "
                        "set's; fetch the archive again")
    rows = np.frombuffer(data, np.uint8).reshape(-1, row)
    return _checked(rows[:, label_bytes:], rows[:, label_bytes - 1], name, classes)


def _checked(pixels, labels, name, classes):
    if not len(labels):
        raise UserError(f"{name} holds no images: fetch the archive again")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise UserError(f"{name}: image {wrong[0]} has label {labels[wrong[0]]}, but there are only {classes} "
                        f"classes, from 0; fetch the archive again")
    return Split(pixels.reshape(-1, *_SHAPE), labels.astype(np.int64))


# ---- A tree of images, one folder per class: train/<class>/*.png and test/<class>/*.png, or .jpg

def _tree_root(name):
    """The folder that holds the tree ``name`` (a PurePosixPath) belongs to, or None for any other file."""
    is_image = name.suffix.lower() in _SUFFIXES and len(name.parts) >= 3 and name.parts[-3] in ("train", "test")
    return name.parents[2] if is_image else None


def _read_tree(source, tree, class_names=None, classes=None):
    """Decodes the tree in the folder ``tree`` of ``source`` (see sources.py), with a progress bar.

    Class i is the folder ``class_names[i]``, or without names the i-th of ``classes`` folders in alphabetical order.
    Returns two Splits, train and test, with images (N, 3, 32, 32) uint8, RGB, in the order of their names, however
    they are packed. Raises UserError for missing or unknown classes and for images that cannot be read or are
    not 32x32.
    """
    names = sorted(name for name in source.names if _tree_root(name) == tree)
    class_names = class_names or _alphabetical(names, classes, source.path)
    _check_classes(names, class_names, source.path)
    images = _decode_all(source, names)
    index = {name: label for label, name in enumerate(class_names)}
    labels = np.array([index[name.parts[-2]] for name in names])
    train = np.array([name.parts[-3] == "train" for name in names])
    return Split(images[train], labels[train]), Split(images[~train], labels[~train])


def _alphabetical(names, classes, path):
    found = sorted({name.parts[-2] for name in names})
    if len(found) != classes:
        raise UserError(f"{path} holds folders of images for {len(found)} classes, not {classes}: "
                        "add the missing ones, or remove those that do not belong")
    return found


def _check_classes(names, class_names, path):
    for split in ("train", "test"):
        found = {name.parts[-2] for name in names if name.parts[-3] == split}
        missing, unknown = sorted(set(class_names) - found), sorted(found - set(class_names))
        if missing:
            raise UserError(f"{path} has no images in {split}/{missing[0]}: every class needs some")
        if unknown:
            raise UserError(f"{path} has a folder {split}/{unknown[0]}, which is no class of this set: "
                            f"rename it to one of {', '.join(class_names)}, or remove it")


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
        raise UserError(f"{name} is {width}x{height} pixels, not {_SIDE}x{_SIDE}: resize or remove it")
    return image[:, :, ::-1].transpose(2, 0, 1)  # BGR to RGB, then planes


# ---- Arrays in one .npz file: X, Y for training and xt, yt for testing

def _read_arrays(path, classes):
    """The training and the test Split in the file ``path``: X, xt (N, 3, 32, 32) uint8 RGB and Y, yt (N,) labels.

    Every class occurs among the training images. Raises UserError where the file cannot be read or holds something
    else, such as another set.
    """
    with reading(path, "is damaged or lacks one of the arrays X, Y, xt, yt", "fetch it again", reason=True):
        with open(path, "rb") as file, np.load(file) as arrays:
            train, test = (_checked_arrays(path, arrays, *names, classes) for names in (("X", "Y"), ("xt", "yt")))
    missing = np.setdiff1d(np.arange(classes), train.labels)
    if len(missing):
        raise UserError(f"{path}: Y has no training images of {len(missing)} of the {classes} classes, {missing[0]} first: "
                        "every class needs some; give the set that the file is of, or a file with all classes")
    return train, test


def _checked_arrays(path, arrays, images_name, labels_name, classes):
    images, labels = arrays[images_name], arrays[labels_name]
    if images.dtype != np.uint8 or images.shape[1:] != (3, 32, 32) or not len(images):
        raise UserError(f"{path}: {images_name} is {images.dtype} {images.shape}, and should be uint8 (N, 3, 32, 32)")
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise UserError(f"{path}: {labels_name} is {labels.dtype} {labels.shape}, and should be {len(images)} labels")
    if labels.min() < 0 or labels.max() >= classes:
        raise UserError(f"{path}: {labels_name} holds labels from {labels.min()} to {labels.max()}, and should hold 0 to "
                        f"{classes - 1}")
    return Split(images, labels.astype(np.int64))


# ---- What they have in common, and which there are

class _Batches(NamedTuple):
    """Batch files in one folder. ``decode(data, name, classes)`` gives the Split in the bytes of one file."""
    kind: str
    train: tuple
    test: tuple
    decode: Callable

    def root(self, name):
        return name.parent if name.name in self.train + self.test else None

    def read(self, source, folder, classes):
        missing = [file for file in self.train + self.test if folder / file not in source.names]
        if missing:
            raise UserError(f"{source.path} lacks {folder / missing[0]}: fetch the whole archive again")
        return tuple(self._join(source, [folder / file for file in files], classes)
                     for files in (self.train, self.test))

    def _join(self, source, names, classes):
        data = dict(source.read(names))
        parts = [self.decode(data[name], f"{source.path}: {name}", classes) for name in names]
        return Split(*(np.concatenate(arrays) for arrays in zip(*parts)))


class _Tree(NamedTuple):
    """A class-per-folder tree of images; without ``class_names`` the classes are in alphabetical order."""
    class_names: Optional[tuple] = None
    kind: str = "images in a folder per class"

    def root(self, name):
        return _tree_root(name)

    def read(self, source, folder, classes):
        return _read_tree(source, folder, self.class_names, classes)


class _Set(NamedTuple):
    title: str
    classes: int
    layouts: tuple


_BATCHES_10 = tuple(f"data_batch_{number}" for number in range(1, 6))
_SETS = {
    "cifar10": _Set("CIFAR-10", 10, (
        _Batches("python batches", _BATCHES_10, ("test_batch",), functools.partial(_read_python, label_key="labels")),
        _Batches("binary batches", tuple(f"{name}.bin" for name in _BATCHES_10), ("test_batch.bin",),
                 functools.partial(_read_binary, label_bytes=1)),
        _Tree(CIFAR10_CLASSES))),
    "cifar100": _Set("CIFAR-100", 100, (
        _Batches("python batches", ("train",), ("test",), functools.partial(_read_python, label_key="fine_labels")),
        _Batches("binary batches", ("train.bin",), ("test.bin",), functools.partial(_read_binary, label_bytes=2)),
        _Tree())),
}


def read(dataset, path):
    """Reads ``dataset``, "cifar10" or "cifar100", from ``path``: a folder, one above it, a tar archive of it, or an .npz.

    Returns a Dataset with images (N, 3, 32, 32) uint8, RGB, and labels in the sets' usual order; CIFAR-100's are the
    100 fine ones. A tree of images may hold fewer images than the original. Raises UserError for anything missing,
    damaged or contradictory, and where ``path`` holds nothing of the set.
    """
    classes = _SETS[dataset].classes
    if str(path).endswith(".npz"):
        return Dataset(classes, "arrays in a .npz file", *_read_arrays(path, classes))
    with open_source(path) as source:
        layout, folder = _find(dataset, source)
        train, test = layout.read(source, folder, classes)
        return Dataset(classes, f"{layout.kind} in a {source.kind}", train, test)


def accepted(dataset):
    """What ``path`` may be for ``dataset``, in words."""
    number = dataset.removeprefix("cifar")
    return (f"cifar-{number}-python.tar.gz, cifar-{number}-binary.tar.gz, a folder unpacked from one of them, or "
            "a folder or tar archive with train/<class>/*.png and test/<class>/*.png (or .jpg), or an .npz file with "
            "the arrays X, Y, xt, yt")


def _find(dataset, source):
    """The layout in ``source`` and the folder it lies in."""
    title, _, layouts = _SETS[dataset]
    found = {(layout, layout.root(name)) for name in source.names for layout in layouts if layout.root(name)}
    if not found:
        raise UserError(f"{source.path} holds no {title}: give {accepted(dataset)}")
    if len(found) > 1:
        places = sorted(f"{layout.kind} in {folder}" for layout, folder in found)
        raise UserError(f"{source.path} holds more than one {title} ({'; '.join(places)}): name the one to read")
    return found.pop()
