"""A data set folder out of lists of labelled image files, by several processes, over as many runs as it takes."""

import math
import os
import shutil
from pathlib import Path
from typing import NamedTuple, Optional, Union

import cv2
import numpy as np

from ..errors import BadValue, UserError
from ..files import check_new, whole_file
from . import database
from .datum import QUALITY
from .folder import database_path, partial_folder, source_bytes, versions, write_manifest
from .listed_images import ImageList, Workers, find_missing, write_images
from .sources import Folder, Tar, Zip

MAX_UNREADABLE = 10
_SAMPLE = 64  # images, for an estimate of the space
_PAGE = 4096  # bytes, LMDB's
_RECORD_OVERHEAD = 16  # bytes, a large record's page header


class ImagePart(NamedTuple):
    """The files of one split: ``images`` in ``source``, which messages call ``option`` and its path."""

    source: Union[Folder, Tar, Zip]
    images: ImageList
    option: str = "--source"


class BuildOptions(NamedTuple):
    """``seed`` shuffles the images; ``jobs`` is the number of processes, by default one for each core; more than
    ``max_unreadable`` images of a list that cannot be read are an error."""

    seed: int = 0
    jobs: Optional[int] = None
    max_unreadable: int = MAX_UNREADABLE


def check_options(options):
    """Raises BadValue where one is out of its range."""
    database.check_seed(options.seed)
    if options.jobs is not None and not 1 <= options.jobs <= 1024:
        raise BadValue(f"--jobs {options.jobs} is out of range: give one from 1 to 1024")
    if options.max_unreadable < 0:
        raise BadValue(f"--max-unreadable {options.max_unreadable} is out of range: give 0 or more")


def build(
    output,
    parts,
    recipe,
    content,
    settings,
    options=BuildOptions(),
    label_names=None,
    finish=None,
    database_path=database_path,
):
    """Makes the folder ``output``, which must not exist yet, out of ``parts``, {"train": ImagePart, "test": ImagePart}.

    The same call goes on with what an earlier one, however it ended, left in ``output``.partial; the records come out
    the same, whatever the interruptions and ``options.jobs``. ``recipe`` is a datum.Recipe, ``content`` are first entries
    of the manifest, ``settings`` what the parts depend on, by the names of options. Images that cannot be read are named,
    with the reasons, in <split>_unreadable.txt. ``finish(folder, manifest)`` may add what is computed from the databases,
    or make others of them, which then lie at other places than ``database_path(folder, split)``.

    Returns the manifest (see docs/data.md). Raises UserError for bad options, for too many unreadable images or nothing
    else, and too little space.
    """
    check_options(options)
    check_new(output)
    classes = (
        len(label_names)
        if label_names
        else 1 + max(int(part.images.labels.max()) for part in parts.values())
    )
    parts = {
        split: part._replace(images=part.images.shuffled(options.seed))
        for split, part in parts.items()
    }
    settings = {**settings, "--seed": options.seed, "OpenCV": cv2.__version__}
    jobs = options.jobs or len(os.sched_getaffinity(0))
    with Workers(jobs) as workers, partial_folder(output, settings) as folder:
        paths = {split: database_path(folder, split) for split in parts}
        _check_space(output, paths, parts, recipe, workers)
        entries = {
            split: _write(paths[split], split, part, recipe, classes, options, workers)
            for split, part in parts.items()
        }
        manifest = {
            **content,
            "seed": options.seed,
            "classes": classes,
            **({"label_names": label_names} if label_names else {}),
            "channel_order": "BGR",
            "value_range": [0, 255],
            "preprocessing": {
                "steps": _steps(recipe),
                "resize": recipe.resize,
                "smooth": recipe.smooth,
            },
            **entries,
            "versions": versions(),
        }
        if finish:
            finish(folder, manifest)
        write_manifest(folder, manifest)
    return manifest


def check_there(part, max_unreadable):
    """Raises UserError where more images of an ImagePart than may be are not in its source, or all."""
    names, path = part.images.names, part.source.path
    count, first = (
        find_missing(part.images, path) if isinstance(part.source, Folder) else _absent(part)
    )
    if count > max_unreadable or count == len(names):
        raise UserError(
            f"{part.option} {path} lacks {count} of the {len(names)} images in {part.images.file}, "
            f"{first} first: {_remedy(path, first)}"
        )


def _absent(part):
    there = {os.fsencode(name) for name in part.source.names}
    absent = sorted(name for name in part.images.names.tolist() if name not in there)
    return len(absent), absent and os.fsdecode(absent[0])


def _remedy(source, name):
    """Where the image may be: people give the folder above or below the right one."""
    near = (
        [*source.resolve().parents[:3], Path("/"), *source.glob("*/"), *source.glob("*/*/")]
        if source.is_dir()
        else []
    )
    found = [folder for folder in near if (folder / name).is_file()]
    return (
        f"give {found[0]}"
        if found
        else ("give the folder that the list's paths start from, or unpack the archive again")
    )


def _check_space(output, paths, parts, recipe, workers):
    needed = sum(
        space(part, recipe, workers) - source_bytes(paths[split], "LMDB")
        for split, part in parts.items()
    )
    free = shutil.disk_usage(paths["train"].parent).free
    if free < needed:
        remedy = "store files in the place of pixels, " if recipe.encode == "raw" else ""
        raise UserError(
            f"{output} needs about {needed / 1e9:.1f} GB more, its disk has {free / 1e9:.1f} GB free: "
            f"{remedy}free some space or name another --output"
        )


def space(part, recipe, workers):
    """Bytes for the whole LMDB of an ImagePart, from the records of a few images."""
    images = part.images
    sample = np.unique(np.linspace(0, len(images.names) - 1, _SAMPLE).astype(int))
    records = [
        record
        for _, some in workers.convert(images, part.source, sample, recipe)
        for record in some
    ]
    pages = [
        math.ceil((len(record) + _RECORD_OVERHEAD) / _PAGE)
        for record in records
        if isinstance(record, bytes)
    ]
    return 1.02 * np.mean(pages or [0]) * _PAGE * len(images.names)  # and a little for the tree


def _write(path, split, part, recipe, classes, options, workers):
    """Writes one LMDB; returns its entry in the manifest."""
    images = part.images
    result = write_images(path, images, part.source, recipe, workers, options.max_unreadable)
    report = path.with_name(f"{split}_unreadable.txt")
    report.unlink(missing_ok=True)
    if result.unreadable:
        with whole_file(
            report, encoding="utf-8", errors="surrogateescape"
        ) as file:  # names are whatever bytes they are
            file.writelines(
                f"{name}\t{reason}\n" for name, reason in sorted(result.unreadable.items())
            )
    if len(result.unreadable) > options.max_unreadable:
        raise UserError(
            f"{len(result.unreadable)} images in {part.source.path} cannot be read, listed in {report}: mend "
            "them, or allow more with --max-unreadable, and run the same command again to go on"
        )
    if not result.written.any():
        raise UserError(
            f"none of the {len(images.names)} images in {images.file} can be read, listed in {report}: mend "
            "them, and run the same command again to go on"
        )
    return {
        "images": int(result.written.sum()),
        "unreadable": len(result.unreadable),
        "images_per_class": np.bincount(images.labels[result.written], minlength=classes).tolist(),
        "shape": [3, recipe.height, recipe.width],
        "bytes": source_bytes(path, "LMDB"),
        "sha256": database.checksum(path),
    }


def _steps(recipe):
    size, how = (
        f"{recipe.width}x{recipe.height}",
        "averaging areas where it shrinks" if recipe.smooth else "bilinear",
    )
    kept = {
        "stretch": f"resized to {size}, {how}, the aspect ratio not kept",
        "crop": f"resized so as to cover {size}, {how}, and the middle taken",
        "pad": f"resized to fit into {size}, {how}, black around it",
        None: f"{size}, as they were",
    }[recipe.resize]
    new = {"jpeg": f"JPEG of quality {QUALITY}", "png": "PNG"}.get(recipe.encode)
    return [
        "channels in the order blue, green, red, grey images as three equal channels, upright as their EXIF says",
        kept,
        f"stored as the file itself where that is {size} already, else as {new}"
        if new
        else "stored as pixels",
    ]
