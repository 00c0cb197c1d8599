"""Small made CIFAR sets, written in every form that the readers accept."""

import io
import pickle
import struct
import tarfile
from pathlib import Path

import cv2
import numpy as np
from active_convolution.data.cifar import CIFAR10_CLASSES

CLASSES = {"cifar10": 10, "cifar100": 100}
TREE_CLASSES = {
    "cifar10": CIFAR10_CLASSES,
    "cifar100": [f"kind_{label:02d}" for label in range(100)],
}
_TRAIN_FILES = {
    "cifar10": [f"data_batch_{number}" for number in range(1, 6)],
    "cifar100": ["train"],
}
_TEST_FILES = {"cifar10": ["test_batch"], "cifar100": ["test"]}
_LABEL_KEY = {"cifar10": "labels", "cifar100": "fine_labels"}


def sample(dataset):
    """((train images, labels), (test images, labels)): two training images and one test image per class, of noise.

    Labels are in order, so that a tree of images, which has no order but that of its names, comes back the same.
    """
    random = np.random.RandomState(CLASSES[dataset])
    labels = np.arange(CLASSES[dataset])
    return tuple(
        (random.randint(0, 256, (len(part), 3, 32, 32), np.uint8), part)
        for part in (labels.repeat(2), labels)
    )


def write_python(folder, dataset, dump=None):
    """The python batches, by default as Python 2 wrote the original ones."""
    for name, images, labels in _batches(dataset):
        batch = {
            "data": images.reshape(len(images), -1),
            _LABEL_KEY[dataset]: labels.tolist(),
            "coarse_labels": [0] * len(labels),
            "batch_label": name,
        }
        (folder / name).write_bytes((dump or dump_as_python2)(batch))


def write_binary(folder, dataset):
    """The binary batches; CIFAR-100's have a coarse label (here 7) before the fine one."""
    for name, images, labels in _batches(dataset):
        columns = [labels[:, None], images.reshape(len(images), -1)]
        if dataset == "cifar100":
            columns.insert(0, np.full((len(labels), 1), 7))
        (folder / f"{name}.bin").write_bytes(np.hstack(columns).astype(np.uint8).tobytes())


def write_tree(folder, dataset, suffix=".png"):
    for split, (images, labels) in zip(("train", "test"), sample(dataset)):
        for index, (image, label) in enumerate(zip(images, labels)):
            write_image(
                folder / split / TREE_CLASSES[dataset][label] / f"{index:04d}{suffix}", image
            )


def write_image(path, image):
    """``image`` (3, H, W) uint8, RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image.transpose(1, 2, 0)[:, :, ::-1])


def packed(folder, suffix):
    """A tar archive of ``folder``, beside it; "" leaves the folder as it is."""
    if not suffix:
        return folder
    path = Path(f"{folder}{suffix}")
    with tarfile.open(path, f"w:{suffix.removeprefix('.tar').removeprefix('.')}") as archive:
        archive.add(folder, folder.name)
    return path


def dump_as_python2(content):
    """Python 2 had one type for text and bytes, which ``encoding="bytes"`` gives back as bytes."""
    file = io.BytesIO()
    _Python2Pickler(file, protocol=2).dump(content)
    return file.getvalue()


class _Python2Pickler(pickle._Pickler):
    dispatch = dict(pickle._Pickler.dispatch)

    def _save_string(self, string):
        data = string.encode() if isinstance(string, str) else string
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)

    dispatch[str] = dispatch[bytes] = _save_string


def _batches(dataset):
    """(file name, images, labels) of every batch."""
    for names, (images, labels) in zip(
        (_TRAIN_FILES[dataset], _TEST_FILES[dataset]), sample(dataset)
    ):
        for name, *part in zip(
            names, np.array_split(images, len(names)), np.array_split(labels, len(names))
        ):
            yield name, *part
