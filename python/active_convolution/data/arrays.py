"""CIFAR as arrays in one .npz file: X, Y for training and xt, yt for testing."""
import zipfile

import numpy as np

from ..errors import UserError
from .dataset import Split


def read(path, classes):
    """The training and the test Split in the file ``path``: X, xt (N, 3, 32, 32) uint8 RGB and Y, yt (N,) labels.

    Every class occurs among the training images. Raises UserError where the file cannot be read or holds something
    else, such as another set.
    """
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            train, test = (_split(path, arrays, *names, classes) for names in (("X", "Y"), ("xt", "yt")))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged or lacks one of the arrays X, Y, xt, yt ({error}): fetch it again") from error
    missing = np.setdiff1d(np.arange(classes), train.labels)
    if len(missing):
        raise UserError(f"{path}: Y has no training images of {len(missing)} of the {classes} classes, {missing[0]} first: "
                        "every class needs some; give the set that the file is of, or a file with all classes")
    return train, test


def _split(path, arrays, images_name, labels_name, classes):
    images, labels = arrays[images_name], arrays[labels_name]
    if images.dtype != np.uint8 or images.shape[1:] != (3, 32, 32) or not len(images):
        raise UserError(f"{path}: {images_name} is {images.dtype} {images.shape}, and should be uint8 (N, 3, 32, 32)")
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise UserError(f"{path}: {labels_name} is {labels.dtype} {labels.shape}, and should be {len(images)} labels")
    if labels.min() < 0 or labels.max() >= classes:
        raise UserError(f"{path}: {labels_name} holds labels from {labels.min()} to {labels.max()}, and should hold 0 to "
                        f"{classes - 1}")
    return Split(images, labels.astype(np.int64))
