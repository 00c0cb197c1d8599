"""Places365 (Zhou et al., 2017) from its own archives and lists to a data set folder, as in create.py.

Caffe's networks take it from there: they crop, mirror and subtract the mean themselves.
"""
import math
import os
import shutil
from pathlib import Path
from typing import NamedTuple, Optional

import cv2
import numpy as np

from ..errors import BadValue, UserError
from ..files import check_new, whole_file
from . import database
from .datum import QUALITY
from .folder import database_bytes, database_path, partial_folder, versions, write_manifest
from .listed_images import Recipe, Workers, find_missing, read_list, write_images

CLASSES = 365
SIZE = 256  # pixels on each side
MAX_UNREADABLE = 10
_SAMPLE = 64  # images, for an estimate of the space
_PAGE = 4096  # bytes, LMDB's
_RECORD_OVERHEAD = 16  # bytes, a large record's page header


class Part(NamedTuple):
    """The files of one split: ``source``, the folder of images, and ``list``, which names and labels them, as given
    with the options ``prefix``source and ``prefix``list."""
    source: Path
    list: Path
    prefix: str = "--"


class Options(NamedTuple):
    """``seed`` shuffles the images; ``raw`` stores pixels in the place of files (see datum.from_file); ``jobs`` is the
    number of processes, by default one for each core; more than ``max_unreadable`` images of a list that cannot be
    read are an error."""
    seed: int = 0
    raw: bool = False
    jobs: Optional[int] = None
    max_unreadable: int = MAX_UNREADABLE


def create(output, train, val, options=Options()):
    """Makes the folder ``output``, which must not exist yet, out of two Parts: ``val`` becomes the split "test".

    The same call goes on with what an earlier one, however it ended, left in ``output``.partial; the records come out
    the same, whatever the interruptions and ``jobs``. Images that cannot be read are named, with the reasons, in
    <split>_unreadable.txt. Returns the manifest: create.py's entries, and ``unreadable``, how many, in each split.
    Raises UserError for bad options, lists and folders, for too many unreadable images or nothing else, and too
    little space.
    """
    _check_options(options)
    check_new(output)  # now, not after the lists
    parts = {"train": train, "test": val._replace(prefix="--val-")}
    lists = {split: _read_part(part, options.max_unreadable) for split, part in parts.items()}
    if lists["train"].sha256 == lists["test"].sha256:
        raise UserError(f"--list {train.list} and --val-list {val.list} are the same: give the training and the "
                        "validation list")
    settings = _settings(parts, lists, options)
    lists = {split: images.shuffled(options.seed) for split, images in lists.items()}
    jobs = options.jobs or len(os.sched_getaffinity(0))
    with Workers(jobs) as workers, partial_folder(output, settings) as folder:
        _check_space(folder, output, parts, lists, options, workers)
        entries = {split: _write(folder, split, part, lists[split], options, workers)
                   for split, part in parts.items()}
        manifest = {"dataset": "places365", "source": f"{train.list.name} and {val.list.name}", "seed": options.seed,
                    "preprocessing": {"steps": _steps(options.raw)}, **entries, "versions": versions()}
        write_manifest(folder, manifest)
    return manifest


def _check_options(options):
    database.check_seed(options.seed)
    if options.jobs is not None and not 1 <= options.jobs <= 1024:
        raise BadValue(f"--jobs {options.jobs} is out of range: give one from 1 to 1024")
    if options.max_unreadable < 0:
        raise BadValue(f"--max-unreadable {options.max_unreadable} is out of range: give 0 or more")


def _read_part(part, max_unreadable):
    """The ImageList of a Part, found to be in its folder but for what may be missing."""
    if not part.source.is_dir():
        raise UserError(f"{part.prefix}source {part.source} is no folder: give the one with the unpacked images")
    images = read_list(part.list, CLASSES)
    count, first = find_missing(images, part.source)
    if count > max_unreadable or count == len(images.names):
        raise UserError(f"{part.prefix}source {part.source} lacks {count} of the {len(images.names)} images in "
                        f"{part.list}, {first} first: {_remedy(part.source, first)}")
    return images


def _remedy(source, name):
    """Where the image may be: people give the folder above or below the right one."""
    near = [*source.resolve().parents[:3], *source.glob("*/"), *source.glob("*/*/")]
    found = [folder for folder in near if (folder / name).is_file()]
    return f"give {found[0]}" if found else ("give the folder that the list's paths start from, or unpack the archive "
                                             "again")


def _settings(parts, lists, options):
    """What a record depends on."""
    files = {}
    for split, part in parts.items():
        files[f"{part.prefix}source"] = str(part.source.resolve())
        files[f"{part.prefix}list of SHA-256"] = lists[split].sha256
    return {**files, "--seed": options.seed, "--raw": options.raw, "OpenCV": cv2.__version__}


def _check_space(folder, output, parts, lists, options, workers):
    needed = sum(_space(part, lists[split], Recipe(SIZE, options.raw), workers) - database_bytes(folder, split)
                 for split, part in parts.items())
    free = shutil.disk_usage(folder).free
    if free < needed:
        remedy = "leave --raw out, " if options.raw else ""
        raise UserError(f"{output} needs about {needed / 1e9:.1f} GB more, its disk has {free / 1e9:.1f} GB free: "
                        f"{remedy}free some space or name another --output")


def _space(part, images, recipe, workers):
    """Bytes for the whole LMDB, from the records of a few images."""
    sample = np.linspace(0, len(images.names) - 1, _SAMPLE).astype(int)
    records = [record for _, some in workers.convert(images, part.source, sample, recipe) for record in some]
    pages = [math.ceil((len(record) + _RECORD_OVERHEAD) / _PAGE) for record in records if isinstance(record, bytes)]
    return 1.02 * np.mean(pages or [0]) * _PAGE * len(images.names)  # and a little for the tree


def _write(folder, split, part, images, options, workers):
    """Writes one LMDB; returns its entry in the manifest."""
    path = database_path(folder, split)
    result = write_images(path, images, part.source, Recipe(SIZE, options.raw), workers, options.max_unreadable)
    report = folder / f"{split}_unreadable.txt"
    report.unlink(missing_ok=True)
    if result.unreadable:
        with whole_file(report) as file:
            file.writelines(f"{name}\t{reason}\n" for name, reason in sorted(result.unreadable.items()))
    if len(result.unreadable) > options.max_unreadable:
        raise UserError(f"{len(result.unreadable)} images in {part.source} cannot be read, listed in {report}: mend "
                        "them, or allow more with --max-unreadable, and run the same command again to go on")
    if not result.written.any():
        raise UserError(f"none of the {len(images.names)} images in {part.list} can be read, listed in {report}: mend "
                        "them, and run the same command again to go on")
    return {"images": int(result.written.sum()), "unreadable": len(result.unreadable),
            "images_per_class": np.bincount(images.labels[result.written], minlength=CLASSES).tolist(),
            "shape": [3, SIZE, SIZE], "bytes": database_bytes(folder, split), "sha256": database.checksum(path)}


def _steps(raw):
    stored = ("stored as pixels" if raw else
              f"stored as the file itself where that is {SIZE}x{SIZE} already, else as JPEG of quality {QUALITY}")
    return ["channels in the order blue, green, red, grey images as three equal channels, upright as their EXIF says",
            f"resized to {SIZE}x{SIZE}, bilinear, the aspect ratio not kept", stored]
