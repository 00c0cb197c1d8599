"""Lists of labelled images, one ``IMAGE LABEL`` a line, as Places365 has them and convert_imageset takes them."""
import hashlib
import itertools
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from . import shuffle

_LINES = 100_000  # at a time: as Python objects the 1.8 million of Places365 would take half a gigabyte


class ImageList(NamedTuple):
    """``names`` (N,), the images' paths as NumPy bytes, relative to the folder of images; ``labels`` (N,) uint16;
    ``file``, where they come from, and its ``sha256``."""
    file: Path
    sha256: str
    names: np.ndarray
    labels: np.ndarray

    def shuffled(self, seed):
        order = shuffle.order(len(self.names), seed)
        return self._replace(names=self.names[order], labels=self.labels[order])


def read_list(file, classes):
    """The ImageList in ``file``; a slash before an image's path means nothing, as in Places365's training list.

    Raises UserError for an empty list, a line that is none, a label that is not below ``classes``, and an image that is
    listed twice.
    """
    digest, names, labels, first = hashlib.sha256(), [], [], 1
    try:
        with open(file, "rb") as lines:
            while part := list(itertools.islice(lines, _LINES)):
                digest.update(b"".join(part))
                entries = [_entry(line, file, number, classes)
                           for number, line in enumerate(part, first) if line.strip()]
                names.append(np.array([name for name, _ in entries], np.bytes_))
                labels.append(np.array([label for _, label in entries], np.uint16))
                first += len(part)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    if not sum(map(len, names)):
        raise UserError(f"{file} lists no images: give one of Places365's lists, such as places365_train_standard.txt")
    result = ImageList(Path(file), digest.hexdigest(), np.concatenate(names), np.concatenate(labels))
    _check_unique(result)
    return result


def find_missing(images, folder):
    """How many of ``images``, an ImageList, are not in ``folder``, and the first of them in alphabetical order or None.

    Reads the folders, not the files: the 1.8 million of Places365 take seconds. Raises UserError for a folder that
    cannot be read.
    """
    count, first = 0, None
    for subfolder, names in itertools.groupby(np.sort(images.names), key=os.path.dirname):
        there = _names_in(os.path.join(os.fsencode(folder), subfolder))
        absent = [name for name in names if os.path.basename(name) not in there]
        count += len(absent)
        first = first or next(iter(absent), None)
    return count, first and os.fsdecode(first)


def _entry(line, file, number, classes):
    """(name, label) in one line."""
    name, label = [b"", *line.rsplit(None, 1)][-2:]
    name = name.strip().lstrip(b"/")
    if not name or not label.isdigit() or b"\0" in name:
        raise UserError(f"{file} line {number} is {_shown(line)}, and should be an image and its label, such as "
                        "'/a/airfield/00000001.jpg 0'")
    if int(label) >= classes:
        raise UserError(f"{file} line {number} has the label {int(label)}, and should have one from 0 to {classes - 1}")
    if b".." in name.split(b"/"):
        raise UserError(f"{file} line {number} is {_shown(line)}, which leads out of the folder of images: "
                        "list images below it")
    return name, int(label)


def _shown(line):
    text = line.strip().decode(errors="replace")
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def _check_unique(images):
    names = np.sort(images.names)
    repeated = names[1:][names[1:] == names[:-1]]
    if len(repeated):
        raise UserError(f"{images.file} lists {len(repeated)} images twice, {os.fsdecode(repeated[0])} among them: "
                        "fetch the list again")


def _names_in(folder):
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise UserError(f"cannot read {os.fsdecode(folder)}: {error.strerror}") from error
