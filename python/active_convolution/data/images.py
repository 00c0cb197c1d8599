"""Anybody's own images, classified in one of the ways of layouts.py or in a list, to a data set folder."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from ..caffe.locate import caffe_pb2
from ..errors import BadValue, UserError
from ..files import check_new, whole_file
from . import annotations, building, database, layouts, preprocess
from .datum import ENCODE, RESIZE, Recipe, decode
from .folder import SPLITS, database_bytes, database_path
from .listed_images import MOST_CLASSES, image_list, read_list
from .sources import Folder, open_source, read_file

PADDING = 4  # pixels on each side of whitened training images, as section 3.1 has it
_SAMPLE = 64  # images, to see whether all have one size
_WHITENED = (
    3 * 64 * 64
)  # values of an image: the covariance of more takes gigabytes, and its eigenvectors hours
_ACCEPTED = (
    "train/<class>/... and test/<class>/... (or val), <class>/... alone, a CSV of files and classes, or name a list "
    "with --list"
)


class Files(NamedTuple):
    """Where the images of a part come from: ``source``, a folder, tar archive or zip, and ``list``, a file that names and
    labels them (a CSV, or an image and its label a line), or None to find out by layouts.py."""

    source: Path
    list: Optional[Path] = None


class ImageOptions(NamedTuple):
    """``size`` (width, height) in pixels, None for that of the images; ``resize`` and ``encode`` as in datum.Recipe;
    ``mean`` computes the training images' mean; ``gcn_zca`` preprocesses as section 3.1 does; ``label_names`` is a file of
    names, one a line, in the order of the labels; ``test_share`` of the images are drawn by class for testing, where they
    have no test part. The rest as building.BuildOptions."""

    size: Optional[tuple] = None
    resize: str = "stretch"
    encode: str = "jpeg"
    mean: bool = False
    gcn_zca: bool = False
    label_names: Optional[Path] = None
    test_share: Optional[float] = None
    seed: int = 0
    jobs: Optional[int] = None
    max_unreadable: int = building.MAX_UNREADABLE


class _Found(NamedTuple):
    """(name, class) of the images for training and for testing, empty where there are none; ``file`` is what messages call
    the lot, ``left`` counts what was passed over, in words."""

    train: list
    test: list
    file: str
    kind: str
    left: dict


def create(output, files, val_files=None, options=ImageOptions()):
    """Makes the folder ``output`` out of the images of ``files`` (Files), with those of ``val_files``, where they are
    given, as its test part; building.build says how, what it returns, and what it raises.

    Also returns {words: count} of what was passed over. Raises UserError besides where the images are in no known layout,
    in several, or of unknown classes, and BadValue where options exclude each other.
    """
    shared = building.BuildOptions(options.seed, options.jobs, options.max_unreadable)
    building.check_options(shared)
    _check_options(options)
    check_new(output)
    with (
        open_source(files.source) as source,
        open_source((val_files or files).source) as val_source,
    ):
        found = _find(source, files, "--list")
        if val_files:
            found = _with_val(found, _find(val_source, val_files, "--val-list"))
        parts, names = _labelled(found, options)
        sources = {"train": source, "test": val_source}
        parts = {
            split: building.ImagePart(sources[split], part, _option(split, val_files))
            for split, part in parts.items()
        }
        if (
            found.test
            and parts["train"].images.sha256 == parts["test"].images.sha256
            and source.path == val_source.path
        ):
            raise UserError(
                f"{found.file} has the same images for training and for testing: give others with --val-source"
            )
        for part in parts.values():
            building.check_there(part, options.max_unreadable)
        recipe = _recipe(parts, options)
        content = {"dataset": "images", "source": f"{found.kind} in a {source.kind}"}
        manifest = building.build(
            output,
            parts,
            recipe,
            content,
            _settings(files, val_files, parts, options),
            shared,
            names,
            lambda folder, manifest: _finish(folder, manifest, options),
            _pixels_path if options.gcn_zca else database_path,
        )
        return manifest, {**found.left, **({} if files.list else _passed_over(source))}


def _check_options(options):
    if options.test_share is not None and not 0 < options.test_share < 1:
        raise BadValue(
            f"--test-share {options.test_share} is out of range: give one between 0 and 1"
        )
    if options.resize not in RESIZE or options.encode not in ENCODE:
        raise BadValue(
            f"--resize {options.resize} or --encode {options.encode} is none: give one of {', '.join(RESIZE)}, and "
            f"of {', '.join(ENCODE)}"
        )
    if options.gcn_zca and options.mean:
        raise BadValue(
            "--mean and --gcn-zca exclude each other: whitened images have no mean, leave one out"
        )
    if options.size and not all(1 <= side <= 4096 for side in options.size):
        raise BadValue(
            f"--size {options.size[0]}x{options.size[1]} is out of range: give 1x1 to 4096x4096"
        )


def _option(split, val_files):
    return "--val-source" if split == "test" and val_files else "--source"


def _settings(files, val_files, parts, options):
    """What a record depends on, besides what building.py knows."""
    return {
        "--source": str(files.source.resolve()),
        "--val-source": str(val_files and val_files.source.resolve()),
        **{f"{split} images of SHA-256": part.images.sha256 for split, part in parts.items()},
        "--size": str(options.size and f"{options.size[0]}x{options.size[1]}"),
        "--resize": options.resize,
        "--encode": options.encode,
        "--gcn-zca": options.gcn_zca,
        "--test-share": options.test_share,
    }


def _passed_over(source):
    others = sum(not layouts.is_image(name) for name in source.names)
    counts = {
        "hidden": source.hidden,
        "that are no regular files": source.special,
        "that are no images": others,
    }
    return {why: count for why, count in counts.items() if count}


# ---- Which image has which label


def _find(source, files, option):
    """The _Found of Files, opened as ``source``."""
    if files.list is None:
        return _by_layout(source)
    if files.list.suffix.lower() in (".csv", ".tsv"):
        return _by_table(source, files.list, option)
    images = read_list(files.list)
    names = _below(source, map(os.fsdecode, images.names.tolist()))
    entries = list(zip(names, images.labels.tolist()))
    return _Found(entries, [], str(files.list), f"{files.list.name} and images", {})


def _below(source, names):
    """The ``names`` of files as ``source`` has them: absolute ones begin in its folder, and Windows' have backslashes."""
    for folder in {source.path.absolute(), source.path.resolve()}:
        names = [name.removeprefix(f"{folder}/".lstrip("/")) for name in names]
    foreign = next((name for name in names if "\\" in name), None)
    if foreign is None or _has(source, [foreign]):
        return names
    return [name.replace("\\", "/").removeprefix("./") for name in names]


def _has(source, names):
    """Those of ``names`` that are in ``source``. A list is of a few files in a folder that may hold any number."""
    if isinstance(source, Folder):
        return [name for name in names if (source.path / name).is_file()]
    there = set(source.names)
    return [name for name in names if name in there]


def _by_layout(source):
    listings = layouts.find(source)
    if not listings:
        raise UserError(f"{source.path} holds no images of known classes: give {_ACCEPTED}")
    if len(listings) > 1:
        raise UserError(
            f"{source.path} holds more than one set of images (in {', '.join(each.root or '.' for each in listings)}"
            "): give one of them"
        )
    listing = listings[0]
    return _Found(listing.train, listing.test, str(source.path), listing.kind, listing.left)


def _by_table(source, file, option):
    try:
        rows = annotations.read_rows(read_file(file), file)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    rows = list(
        zip(_below(source, (name.lstrip("/") for name, _ in rows)), (label for _, label in rows))
    )
    known, missing = layouts.resolved(rows, source.names, "")
    if not known:
        raise UserError(
            f"{option} {file} lists {len(rows)} images, and none is in {source.path}: give the folder that its "
            "names start from"
        )
    return _Found([*known, *missing], [], str(file), f"{file.name} and images", {})


def _with_val(found, val):
    """``found`` with the images of ``val`` for testing: its test part, or else all."""
    left = (
        {"for testing, in place of which --val-source is taken": len(found.test)}
        if found.test
        else {}
    )
    if val.test:
        left["for training, in --val-source"] = len(val.train)
    return found._replace(test=val.test or val.train, left={**found.left, **val.left, **left})


def _labelled(found, options):
    """({split: ImageList}, the classes' names or None)."""
    if found.test and options.test_share is not None:
        raise BadValue(
            "--test-share is for images without a test part, and these have one: leave it out"
        )
    if not found.test and options.test_share is None:
        raise UserError(
            f"{found.file} has no images to test on: give --val-source, or --test-share 0.2 to draw some of each "
            "class"
        )
    numbered = all(isinstance(label, int) for _, label in (*found.train, *found.test))
    names = _names(found, numbered, options.label_names)
    index = None if numbered else {name: label for label, name in enumerate(names)}
    parts = {
        split: image_list(
            found.file, [(name, label if numbered else index[label]) for name, label in part]
        )
        for split, part in (("train", found.train), ("test", found.test))
        if part
    }
    if not found.test:
        chosen = layouts.drawn(parts["train"].labels, options.test_share, options.seed)
        if not chosen.any():
            raise UserError(
                f"{found.file} has one image of each class, and none to test on: give --val-source"
            )
        parts = {"train": parts["train"].part(~chosen), "test": parts["train"].part(chosen)}
    return parts, _described(names, options.label_names)


def _names(found, numbered, file):
    """The classes in the order of their labels, as the images have them; or None where they have numbers and no names."""
    classes = layouts.in_order({label for _, label in found.train})
    given = file and annotations.read_names(file)
    if len(classes) < 2 or len(classes) > MOST_CLASSES:
        raise UserError(
            f"{found.file} has images of {len(classes)} {'class' if len(classes) == 1 else 'classes'}: give 2 to "
            f"{MOST_CLASSES}"
        )
    if numbered:
        most = max(label for _, label in (*found.train, *found.test))
        if given and most >= len(given):
            raise UserError(
                f"{file} names {len(given)} classes, and {found.file} has the label {most}: name all"
            )
        if most >= MOST_CLASSES:
            raise UserError(
                f"{found.file} has the label {most}: give labels from 0 to {MOST_CLASSES - 1}"
            )
        return given
    order = annotations.named_once(_ordered(given, set(classes)), file) if given else classes
    known = set(order)
    unknown = next((label for _, label in (*found.train, *found.test) if label not in known), None)
    if unknown is not None:
        where = f"{file} does not name it" if given else "there are no training images of it"
        raise UserError(
            f"{found.file} has images of the class {unknown}, and {where}: add it, or remove them"
        )
    without = sorted(known - set(classes))
    if without:
        raise UserError(
            f"{found.file} has no training images of the class {without[0]}, which {file} names: remove it there"
        )
    return order


def _ordered(lines, classes):
    """The classes that the lines of --label-names are about, in their order. A file that describes them by their folders, as
    words.txt of Tiny ImageNet does, may describe others, too."""
    order = [_folder(line, classes) for line in lines]
    describes = any(name != line for name, line in zip(order, lines))
    return [name for name in order if name in classes] if describes else order


def _folder(line, classes):
    """The class that a line of --label-names is about: the line itself, or its first word, as in n02119789 kit fox."""
    return line if line in classes or line.split()[0] not in classes else line.split()[0]


def _described(names, file):
    """The names to keep: of "n02119789 kit fox", where n02119789 is the class, the rest."""
    if names is None or file is None:
        return names
    lines = {_folder(line, set(names)): line for line in annotations.read_names(file)}
    return [
        lines[name] if lines[name] == name else lines[name][len(name) :].strip() for name in names
    ]


# ---- What is made of them


def _recipe(parts, options):
    encode = "raw" if options.gcn_zca else options.encode
    if options.size:
        return Recipe(*options.size, options.resize, encode, smooth=True)
    sizes = {size for part in parts.values() for size in _sizes(part)}
    if len(sizes) != 1:
        seen = ", ".join(f"{width}x{height}" for width, height in sorted(sizes)[:3])
        raise UserError(
            f"the images have several sizes ({seen}, ...): give --size, such as --size 64x64"
            if sizes
            else f"{_SAMPLE} of the images in {parts['train'].source.path}, and none of them can be read: mend them"
        )
    return Recipe(*sizes.pop(), None, encode)


def _sizes(part):
    """(width, height) of a few images that can be read."""
    chosen = part.images.names[
        np.unique(np.linspace(0, len(part.images.names) - 1, _SAMPLE).astype(int))
    ]
    names = _has(part.source, map(os.fsdecode, chosen.tolist()))
    return {
        (image.shape[1], image.shape[0])
        for _, data in part.source.read(names)
        if (image := decode(data)) is not None
    }


def _finish(folder, manifest, options):
    if options.mean:
        _write_mean(folder, manifest)
    if options.gcn_zca:
        _whiten(folder, manifest, options.seed)


def _write_mean(folder, manifest):
    """The mean training image as mean.binaryproto, and its mean per channel as ``mean_value`` in the manifest."""
    part, total = manifest["train"], 0
    for images, _ in database.batches(
        database_path(folder, "train"), tuple(part["shape"]), part["images"], 256
    ):
        total = total + images.sum(axis=0, dtype=np.float64)
    mean = total / part["images"]
    blob = caffe_pb2().BlobProto(
        num=1,
        data=mean.astype(np.float32).ravel(),
        **dict(zip(("channels", "height", "width"), mean.shape)),
    )
    with whole_file(folder / "mean.binaryproto", "wb") as file:
        file.write(blob.SerializeToString())
    manifest["preprocessing"]["mean_value"] = [
        round(float(value), 4) for value in mean.mean(axis=(1, 2))
    ]


def _pixels_path(folder, split):
    """Where the pixels lie until they are whitened."""
    return folder / f"{split}_pixels"


def _whiten(folder, manifest, seed):
    """Makes the databases out of the pixels, preprocessed and red, green, blue, as create.py does for CIFAR."""
    height, width = manifest["train"]["shape"][1:]
    if 3 * height * width > _WHITENED:
        raise UserError(
            f"--gcn-zca whitens images of up to 64x64 pixels, and these have {width}x{height}: give a --size"
        )
    _check_memory(sum(manifest[split]["images"] for split in SPLITS) * 12 * height * width * 3)
    pixels = {split: _pixels(folder, split, manifest[split]) for split in SPLITS}
    train, test, said = preprocess.whitened(pixels["train"][0], pixels["test"][0], folder)
    for split, images in (("train", preprocess.pad(train, PADDING)), ("test", test)):
        path = database_path(folder, split)
        shutil.rmtree(path, ignore_errors=True)  # an interrupted run's
        database.write(path, images, pixels[split][1], seed)
        manifest[split].update(
            shape=list(images.shape[1:]),
            sha256=database.checksum(path),
            bytes=database_bytes(folder, split),
        )
    for split in SPLITS:
        shutil.rmtree(_pixels_path(folder, split))
    said["steps"] = [
        *manifest["preprocessing"]["steps"][1:2],
        *said["steps"],
        f"training images padded with zeros, {PADDING} on each side",
    ]
    manifest["preprocessing"].update(said, train_padding=PADDING)
    manifest["channel_order"] = "RGB"


def _pixels(folder, split, part):
    """(images (N, 3, H, W) uint8, red, green, blue; labels) of a database."""
    images, labels, count = np.empty((part["images"], *part["shape"]), np.uint8), [], 0
    for some, their in database.batches(
        _pixels_path(folder, split), tuple(part["shape"]), part["images"], 256
    ):
        images[count : count + len(some)] = some[:, ::-1]
        labels.append(their)
        count += len(some)
    return images, np.concatenate(labels)


def _check_memory(needed):
    with open("/proc/meminfo") as file:
        there = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in file}.get(
            "MemAvailable", needed
        )
    if there < needed:
        raise UserError(
            f"--gcn-zca needs {needed / 1e9:.1f} GB of memory, and {there / 1e9:.1f} GB are free: give a smaller "
            "--size, or leave it out"
        )
