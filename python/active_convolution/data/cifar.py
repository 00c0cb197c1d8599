"""CIFAR-10 and CIFAR-100 from whatever people have: the python or binary archive or a tree of images, packed or not."""
import functools
from typing import Callable, NamedTuple, Optional

import numpy as np

from ..errors import UserError
from . import arrays, image_tree
from .cifar_batches import read_binary, read_python
from .dataset import Dataset, Split
from .source import open_source

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


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
        return image_tree.root(name)

    def read(self, source, folder, classes):
        return image_tree.read(source, folder, self.class_names, classes)


class _Set(NamedTuple):
    title: str
    classes: int
    layouts: tuple


_BATCHES_10 = tuple(f"data_batch_{number}" for number in range(1, 6))
_SETS = {
    "cifar10": _Set("CIFAR-10", 10, (
        _Batches("python batches", _BATCHES_10, ("test_batch",), functools.partial(read_python, label_key="labels")),
        _Batches("binary batches", tuple(f"{name}.bin" for name in _BATCHES_10), ("test_batch.bin",),
                 functools.partial(read_binary, label_bytes=1)),
        _Tree(CIFAR10_CLASSES))),
    "cifar100": _Set("CIFAR-100", 100, (
        _Batches("python batches", ("train",), ("test",), functools.partial(read_python, label_key="fine_labels")),
        _Batches("binary batches", ("train.bin",), ("test.bin",), functools.partial(read_binary, label_bytes=2)),
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
        return Dataset(classes, "arrays in a .npz file", *arrays.read(path, classes))
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
