"""A tree of images, one folder per class: ``train/<class>/*.png`` and ``test/<class>/*.png``, or .jpg."""
import numpy as np
from tqdm import tqdm

from ..errors import UserError
from .dataset import Split
from .image_file import decode

SIZE = 32
_SUFFIXES = (".jpg", ".jpeg", ".png")


def root(name):
    """The folder that holds the tree ``name`` (a PurePosixPath) belongs to, or None for any other file."""
    is_image = name.suffix.lower() in _SUFFIXES and len(name.parts) >= 3 and name.parts[-3] in ("train", "test")
    return name.parents[2] if is_image else None


def read(source, tree, class_names=None, classes=None):
    """Decodes the tree in the folder ``tree`` of ``source`` (see source.py), with a progress bar.

    Class i is the folder ``class_names[i]``, or without names the i-th of ``classes`` folders in alphabetical order.
    Returns two Splits, train and test, with images (N, 3, 32, 32) uint8, RGB, in the order of their names, however
    they are packed. Raises UserError for missing or unknown classes and for images that cannot be read or are
    not 32x32.
    """
    names = sorted(name for name in source.names if root(name) == tree)
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
    images = np.empty((len(names), 3, SIZE, SIZE), np.uint8)
    place = {name: index for index, name in enumerate(names)}
    with tqdm(source.read(names), desc="reading images", total=len(names), unit="image") as bar:
        for name, data in bar:
            images[place[name]] = _decode(data, f"{source.path}: {name}")
    return images


def _decode(data, name):
    """(3, 32, 32) uint8, RGB."""
    image = decode(data)
    if image is None:
        raise UserError(f"{name} is not a readable image: replace or remove it")
    height, width = image.shape[:2]
    if (height, width) != (SIZE, SIZE):
        raise UserError(f"{name} is {width}x{height} pixels, not {SIZE}x{SIZE}: resize or remove it")
    return image[:, :, ::-1].transpose(2, 0, 1)  # BGR to RGB, then planes
