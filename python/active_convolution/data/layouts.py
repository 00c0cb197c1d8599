"""Which image belongs to which class and to which part, in the ways in which people keep classified images:

- a folder for each class: ``train/<class>/...`` and ``test/<class>/...`` (or ``val``, ``valid``, ``validation``), or only
  ``<class>/...``;
- a table (CSV) with a column of files and one of classes, as Kaggle's ``trainLabels.csv`` beside ``train/1.png``;
- Tiny ImageNet's ``val/val_annotations.txt``;
- the class in the file's name, as darknet has it: ``train/0_frog.png``.
"""

import collections
import re
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from . import annotations

SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".pnm",
)
_PARTS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "eval": "val",
}
_NUMBERED = re.compile(r"\d+_(.+)\.\w+$")
_LOOKED_AT = 100  # rows of a table, to see whether images are listed there
_DIGITS = 2**8  # a folder's name has fewer letters; Python refuses to read a number of thousands
_IMAGES = ("images", "image", "imgs", "img", "jpegimages")  # folders that are no class


class Listing(NamedTuple):
    """What lies below ``root`` in a source: ``kind`` says in words how. ``train`` and ``test`` are lists of (name, class),
    the class a text, or a number where a table numbers them; ``left`` is {why: how many images were passed over}."""

    root: str
    kind: str
    train: list
    test: list
    left: dict


def is_image(name):
    return name.lower().endswith(SUFFIXES)


def find(source):
    """The Listings in ``source`` (see sources.py): one for each set of images, none where there are no classes."""
    images = sorted(filter(is_image, source.names))
    sets, others = collections.defaultdict(lambda: collections.defaultdict(list)), []
    for name in images:
        place = _part_of(name)
        (sets[place[0]][place[1]] if place else others).append(name)
    found = [_parted(source, root, parts) for root, parts in sorted(sets.items())]
    found = [listing for listing in found if listing]
    if not found:
        single = _single(source, images)
        return [single] if single else []
    outside = len(images) - sum(
        len(listing.train) + len(listing.test) + sum(listing.left.values()) for listing in found
    )
    return [
        found[0]._replace(
            left={**found[0].left, **_without_none({"outside of train and test": outside})}
        ),
        *found[1:],
    ]


def _part_of(name):
    """(the root, the folder of a part) in which an image lies, or None: ("set", "TRAIN") for set/TRAIN/cat/1.png."""
    parts = name.split("/")
    place = next((place for place, part in enumerate(parts[:-1]) if part.lower() in _PARTS), None)
    return None if place is None else ("/".join(parts[:place]), parts[place])


def _parted(source, root, parts):
    """The Listing of a set whose images lie in ``parts``, {folder: names}; None where no part for training has classes."""
    labelled, kinds, left = {}, [], collections.Counter()
    rows = _tables(source, root)
    for folder, names in parts.items():
        part = _PARTS[folder.lower()]
        prefix = f"{root}/{folder}/".lstrip("/")
        if all(
            name.startswith(f"{prefix}{folder}/") for name in names
        ):  # as archives unpack, into a folder of their name
            prefix = f"{prefix}{folder}/"
        kind, entries = _classes(source, prefix, names, rows.get(part) or {})
        if not entries:
            left[f"in {prefix[:-1]}, which says nothing of their classes"] += len(names)
        elif part in labelled:
            raise UserError(
                f"{source.path} has two folders for {part}, {prefix[:-1]} being one: leave one"
            )
        else:
            labelled[part] = folder, entries
            kinds.append(kind)
            left[f"in {prefix[:-1]}, without a class"] += len(names) - len(entries)
    if "train" not in labelled:
        return None
    test = labelled.get("test") or labelled.get("val") or ("", [])
    if "test" in labelled and "val" in labelled:
        left[f"in {labelled['val'][0]}, beside {test[0]}"] += len(labelled["val"][1])
    kind = " and ".join(dict.fromkeys(kinds))
    return Listing(root, kind, labelled["train"][1], test[1], _without_none(left))


def _classes(source, prefix, names, table):
    """(the way in words, [(name, class)]) for the images ``names`` of a part's folder ``prefix``."""
    inside = {name: name[len(prefix) :].split("/") for name in names}
    if all(len(parts) > 1 and parts[0].lower() not in _IMAGES for parts in inside.values()):
        return "images in a folder per class", [(name, parts[0]) for name, parts in inside.items()]
    annotated = _annotated(source, prefix)
    if annotated:
        return "annotated images", [
            (name, annotated[parts[-1]]) for name, parts in inside.items() if parts[-1] in annotated
        ]
    numbered = {name: _NUMBERED.match(parts[-1]) for name, parts in inside.items()}
    if all(numbered.values()):
        return "images with the class in their names", [
            (name, match[1]) for name, match in numbered.items()
        ]
    if table:
        return "images and a table of classes", [
            (name, table[name]) for name in names if name in table
        ]
    folders = [
        (name, parts[0])
        for name, parts in inside.items()
        if len(parts) > 1 and parts[0].lower() not in _IMAGES
    ]
    return "images in a folder per class", folders


def _annotated(source, prefix):
    """{file: class} of Tiny ImageNet's annotations: a file, its class, and a box a line, with tabs between."""
    file = next(
        (
            name
            for name in source.names
            if name.startswith(prefix)
            and name.endswith("annotations.txt")
            and "/" not in name[len(prefix) :]
        ),
        None,
    )
    if file is None:
        return {}
    ((_, data),) = source.read([file])
    rows = [line.split("\t") for line in annotations.text(data).splitlines() if line.strip()]
    wrong = next((row for row in rows if len(row) < 2 or "\0" in row[0] + row[1]), None)
    if wrong:
        raise UserError(
            f"{source.path}: {file} has the line {wrong[0]!r:.60}, and should have an image and its class, "
            "with a tab between"
        )
    return {row[0]: row[1].strip() for row in rows}


def _single(source, images):
    """The Listing of one tree without parts, or of images and a table; None where there are no classes."""
    rows = _tables(source, "").get("train")
    if rows:
        return Listing(
            "",
            "images and a table of classes",
            sorted(rows.items()),
            [],
            _without_none({"that the table does not list": len(images) - len(rows)}),
        )
    split = [name.split("/") for name in images]
    common = 0
    while split and all(
        len(parts) > common + 2 and parts[common] == split[0][common] for parts in split
    ):
        common += 1
    folders = [
        (name, parts[common]) for name, parts in zip(images, split) if len(parts) > common + 1
    ]
    if len({label for _, label in folders}) > 1:
        return Listing(
            "/".join(split[0][:common]),
            "images in a folder per class",
            folders,
            [],
            _without_none({"in no class's folder": len(images) - len(folders)}),
        )
    known = _annotated(source, "")
    annotated = [
        (name, known[parts[-1]]) for name, parts in zip(images, split) if parts[-1] in known
    ]
    if annotated:
        return Listing(
            "",
            "annotated images",
            annotated,
            [],
            _without_none({"without a class": len(images) - len(annotated)}),
        )
    numbered = [
        (name, match[1]) for name in images if (match := _NUMBERED.match(name.rsplit("/", 1)[-1]))
    ]
    if images and len(numbered) == len(images):
        return Listing("", "images with the class in their names", numbered, [], {})
    return None


def _without_none(counts):
    return {why: count for why, count in counts.items() if count}


# ---- Tables


def _tables(source, root):
    """{part: {name: class}} of the tables that lie in the folder ``root`` of ``source``; of several for one part the first
    that lists images which are there. Kaggle's example of a submission is none of them."""
    prefix = f"{root}/" if root else ""
    tables = sorted(
        name
        for name in source.names
        if name.startswith(prefix)
        and name.lower().endswith((".csv", ".tsv"))
        and name[len(prefix) :].count("/") <= 1
    )
    ends = (
        {end for name in source.names if is_image(name) for end in _ends(name)}
        if tables
        else frozenset()
    )
    found = {}
    for name in tables:
        stem = name[len(prefix) :].lower()
        if "sample" in stem or "submission" in stem:
            continue
        part = next((part for word, part in _PARTS.items() if word in stem), "train")
        if part in found:
            continue
        ((_, data),) = source.read([name])
        try:
            rows = annotations.read_rows(data, f"{source.path}: {name}")
        except UserError:
            continue  # of something else
        if ends.isdisjoint(_plain(file).rpartition("/")[2] for file, _ in rows[:_LOOKED_AT]):
            continue  # and of no image: resolved, which looks at all of them, would find none
        known = (
            resolved(rows, source.names, name.rpartition("/")[0], part)[0]
            or resolved(rows, source.names, root, part)[0]
        )
        if known:
            found[part] = dict(known)
    return found


def _ends(name):
    """The last part of an image's path, with its ending and without."""
    end = name.rpartition("/")[2]
    return end, end.rpartition(".")[0]


def resolved(rows, names, folder, part="train"):
    """([(name, class)] of what is there, the same of what is not) for the ``rows`` of a table in ``folder``: a file may be named without
    its ending, in Windows' way, and from a folder beside the table, such as that of its ``part``."""
    rows = [(_plain(file), label) for file, label in rows]
    prefix = f"{folder}/" if folder else ""
    images = [name for name in names if name.startswith(prefix) and is_image(name)]
    best, known = 0, {}
    for start in _starts(images, [file for file, _ in rows[:10]], prefix, part):
        inside = {name[len(start) :]: name for name in images if name.startswith(start)}
        short = {key.rsplit(".", 1)[0]: name for key, name in inside.items()}
        hits = sum(file in inside or file in short for file, _ in rows[:_LOOKED_AT])
        if hits > best:
            best, known = hits, {**short, **inside}
    classes = classes_of([label for _, label in rows])
    return (
        [(known[file], label) for (file, _), label in zip(rows, classes) if file in known],
        [(file, label) for (file, _), label in zip(rows, classes) if file not in known],
    )


def _starts(images, files, prefix, part):
    """The folders from which some of ``files`` lead to ``images``, those first that are called as the ``part`` is."""
    ends = tuple(f"/{file}" for file in files)
    found = {prefix}
    for name in images:
        for whole in (f"/{name}", f"/{name.rsplit('.', 1)[0]}"):
            found.update(whole[1 : -len(end) + 1] for end in ends if whole.endswith(end))

    def order(start):
        inside = [_PARTS.get(folder.lower()) for folder in start[len(prefix) :].split("/")]
        return start != prefix, part not in inside, start.count("/"), start

    return sorted((start for start in found if start.startswith(prefix)), key=order)


def _plain(file):
    """A file as sources name it: without "./", and with slashes."""
    return file.replace("\\", "/").removeprefix("./").lstrip("/")


# ---- Classes and labels


def classes_of(labels):
    """The texts ``labels`` as numbers, where all of them are."""
    return (
        [int(label) for label in labels]
        if all(label.isdecimal() and len(label) < 6 for label in labels)
        else labels
    )


def in_order(classes):
    """The ``classes`` of a set in the order of their labels: alphabetical, or by number where all are numbers."""
    numbers = all(str(name).isdecimal() and len(str(name)) < _DIGITS for name in classes)
    return sorted(classes, key=(lambda name: (int(name), str(name))) if numbers else str)


def drawn(labels, share, seed):
    """The mask of a part of ``labels`` (N,), a ``share`` of each class drawn by ``seed``: at least one image, and not all."""
    mask, random = np.zeros(len(labels), bool), np.random.RandomState(seed)
    for label in np.unique(labels):
        places = random.permutation(np.flatnonzero(labels == label))
        if len(places) > 1:
            mask[places[: min(max(round(share * len(places)), 1), len(places) - 1)]] = True
    return mask
