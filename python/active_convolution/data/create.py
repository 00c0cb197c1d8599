"""A data set folder, ready to train on: ``train_lmdb``, ``test_lmdb`` and ``manifest.json``.

What maps a new image to the network's input lies beside them: ``whitening.npz`` (CIFAR) or ``mean.npy`` (digits).
"""

import math
import shutil

import numpy as np

from ..caffe import locate
from ..errors import BadValue, UserError
from ..files import whole_file, whole_folder
from . import cifar, database, preprocess, sources
from .folder import database_bytes, database_path, versions, write_manifest

_PADDING = {"digits": 1, "cifar10": 4, "cifar100": 4}  # pixels on each side of a training image
DATASETS = tuple(_PADDING)


def create(dataset, output, source=None, seed=0, fold=None, size=None):
    """Makes the folder ``output``, which must not exist yet, out of ``dataset`` ("digits", "cifar10", "cifar100").

    ``source`` is where CIFAR lies (see cifar.read); the digits come with scikit-learn. ``seed`` shuffles the images.
    ``fold`` and ``size`` are the digits' (see sources.read_digits).
    Training images are padded, for Caffe's random crop and mirror to give the augmentation of section 3.1; test images
    are not. CIFAR takes about 2 GB of memory.

    Returns the manifest, a dictionary (see docs/data.md). ``output`` appears whole or not at all.
    Raises UserError for a bad source or seed, too little space and a fork that is not built.
    """
    _check_arguments(dataset, source, seed, fold, size)
    with whole_folder(output) as folder:
        locate.caffe_pb2()  # a fork that is not built should be said now, not after minutes of whitening
        data = (
            sources.read_digits(fold=fold, size=size)
            if dataset == "digits"
            else cifar.read(dataset, source)
        )
        padding = _PADDING[dataset]
        _check_space(folder, output, data, padding)
        train, test, preprocessing = (_prepare_digits if dataset == "digits" else _prepare_cifar)(
            data, folder
        )
        train = train._replace(images=preprocess.pad(train.images, padding))
        preprocessing["steps"].append(f"training images padded with zeros, {padding} on each side")
        manifest = {
            "dataset": dataset,
            "source": data.source,
            "seed": seed,
            "classes": data.classes,
            **({"label_names": list(cifar.CIFAR10_CLASSES)} if dataset == "cifar10" else {}),
            "channel_order": "grey" if dataset == "digits" else "RGB",
            "value_range": [0, 16] if dataset == "digits" else [0, 255],
            "preprocessing": {**preprocessing, "train_padding": padding},
            "train": _write(folder, "train", train, data.classes, seed),
            "test": _write(folder, "test", test, data.classes, seed),
            "versions": versions(),
        }
        write_manifest(folder, manifest)
    return manifest


def _check_arguments(dataset, source, seed, fold, size):
    if dataset == "digits" and source is not None:
        raise BadValue("digits come with scikit-learn: leave --source out")
    if dataset != "digits" and source is None:
        raise BadValue(f"{dataset} needs --download, or --source: {cifar.accepted(dataset)}")
    if dataset != "digits" and (fold, size) != (None, None):
        raise BadValue("--fold and --size are the digits': leave them out")
    if fold is not None and fold not in range(1, sources.DIGITS_FOLDS + 1):
        raise BadValue(
            f"--fold {fold} is out of range: the digits have the folds 1 to {sources.DIGITS_FOLDS}"
        )
    if size is not None and not all(8 <= side <= 64 for side in size):
        raise BadValue(
            f"--size {size[0]}x{size[1]} is out of range: digits of 8x8 pixels can be enlarged up to 64x64"
        )
    database.check_seed(seed)


def _check_space(folder, output, data, padding):
    channels, height, width = data.train.images.shape[1:]
    padded = channels, height + 2 * padding, width + 2 * padding
    needed = (
        database.space_needed(len(data.train.labels), padded)
        + database.space_needed(len(data.test.labels), data.test.images.shape[1:])
        + 4 * math.prod((channels, height, width)) ** 2
    )  # the whitening matrix, float32
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{output} needs {needed / 1e9:.2f} GB, its disk has {free / 1e9:.2f} GB free: "
            "free some space or name another --output"
        )


def _prepare_digits(data, folder):
    mean = data.train.images.mean(axis=0)
    with whole_file(folder / "mean.npy", "wb") as file:
        np.save(file, mean)
    train, test = (part._replace(images=part.images - mean) for part in (data.train, data.test))
    return (
        train,
        test,
        {
            "steps": ["pixels divided by 16", "mean training image (mean.npy) subtracted"],
            "scale": 1 / 16,
            "mean_file": "mean.npy",
        },
    )


def _prepare_cifar(data, folder):
    train, test, preprocessing = preprocess.whitened(data.train.images, data.test.images, folder)
    return data.train._replace(images=train), data.test._replace(images=test), preprocessing


def _write(folder, split, part, classes, seed):
    """Writes one LMDB; returns its entry in the manifest."""
    path = database_path(folder, split)
    database.write(path, part.images, part.labels, seed)
    return {
        "images": len(part.labels),
        "images_per_class": np.bincount(part.labels, minlength=classes).tolist(),
        "shape": list(part.images.shape[1:]),
        "bytes": database_bytes(folder, split),
        "sha256": database.checksum(path),
    }
