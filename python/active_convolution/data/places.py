"""Places365 (Zhou et al., 2017) from its own archives and lists to a data set folder: a preset of building.py.

Caffe's networks take it from there: they crop, mirror and subtract the mean themselves.
"""

from pathlib import Path
from typing import NamedTuple, Optional

from ..errors import UserError
from ..files import check_new
from . import building
from .datum import Recipe
from .listed_images import read_list
from .sources import Folder

CLASSES = 365
SIZE = 256  # pixels on each side


class PlacesPart(NamedTuple):
    """The files of one split: ``source``, the folder of images, and ``list``, which names and labels them, as given
    with the options ``prefix``source and ``prefix``list."""

    source: Path
    list: Path
    prefix: str = "--"


class Options(NamedTuple):
    """As building.BuildOptions; and ``raw`` stores pixels in the place of files (see datum.Recipe)."""

    seed: int = 0
    raw: bool = False
    jobs: Optional[int] = None
    max_unreadable: int = building.MAX_UNREADABLE


def create(output, train, val, options=Options()):
    """Makes the folder ``output``, which must not exist yet, out of two PlacesParts: ``val`` becomes the split "test".

    There are as many classes as the lists have, 365 at most. Otherwise as building.build, which says what it raises, too;
    and UserError for bad lists and folders.
    """
    shared = building.BuildOptions(options.seed, options.jobs, options.max_unreadable)
    building.check_options(shared)
    check_new(output)  # now, not after the lists
    parts = {
        "train": _read_part(train, options.max_unreadable),
        "test": _read_part(val._replace(prefix="--val-"), options.max_unreadable),
    }
    if parts["train"].images.sha256 == parts["test"].images.sha256:
        raise UserError(
            f"--list {train.list} and --val-list {val.list} are the same: give the training and the "
            "validation list"
        )
    content = {"dataset": "places365", "source": f"{train.list.name} and {val.list.name}"}
    settings = {
        "--source": str(train.source.resolve()),
        "--list of SHA-256": parts["train"].images.sha256,
        "--val-source": str(val.source.resolve()),
        "--val-list of SHA-256": parts["test"].images.sha256,
        "--raw": options.raw,
    }
    recipe = Recipe(SIZE, SIZE, encode="raw" if options.raw else "jpeg")
    return building.build(output, parts, recipe, content, settings, shared)


def _read_part(part, max_unreadable):
    """The building.ImagePart of a PlacesPart: its images are found to be in its folder but for what may be missing."""
    if not part.source.is_dir():
        raise UserError(
            f"{part.prefix}source {part.source} is no folder: give the one with the unpacked images"
        )
    read = building.ImagePart(
        Folder(part.source), read_list(part.list, CLASSES), f"{part.prefix}source"
    )
    building.check_there(read, max_unreadable)
    return read
