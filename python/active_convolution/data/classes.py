"""Which image is of which class: by the folders in which it lies, or by a list.

Two layouts of folders are taken: ``SOURCE/<class>/...``, and ``SOURCE/train/<class>/...`` with
``val``, ``valid``, ``validation`` or ``test`` beside ``train``, in any case. Whatever may mean
something else is refused, with what was seen and what to give: a wrong guess would train on wrong
classes.
"""

import collections
import csv
import os
import re
from pathlib import Path

from ..errors import BadValue, UserError
from .datum import SUFFIXES

_TESTS = ("test", "val", "valid", "validation")  # of several with classes the first is taken
_PARTS = set(
    "train training trainset test testing testset val valid validation eval evaluation dev fold "
    "folds split splits query gallery probe holdout pred predict prediction predictions unlabeled "
    "unlabelled submission".split()
)
_LIST = "say with --list which image is of which class"
_NAMED = "where they are classes, name all classes in a file with --label-names"
_TABLES, _LISTS, _LOOKED_AT = (".csv", ".tsv"), (".txt", ".lst"), 100  # lines of a table
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)


# ---- Folders


def find(source, names=(), test=True):
    """(training images, test images), [(path, class)] each, and notes, texts, on the folder
    ``source``. ``names`` are classes because the user says so, whatever they look like; without
    ``test`` only training images are looked for. Raises UserError for any other layout.
    """
    tree = _tree(source)
    folders = {name.lower(): name for name, images in tree.items() if images}
    if "train" not in folders or set(folders.values()) <= set(names):
        return of_folders(source, names, tree), [], _empty(source, tree)
    train = os.path.join(source, folders["train"])
    parts = [os.path.join(source, folders[name]) for name in _TESTS if test and name in folders]
    trees = {part: _tree(part) for part in (train, *parts)}
    _check_tables(source, trees)
    labelled = [part for part in parts if len(trees[part]) > 2 and not trees[part][""]]
    # CIFAR-100 has a class "train": what both parts have is one, where others are beside it.
    both = set(trees[train]).intersection(trees[labelled[0]] if labelled else ()) - {""}
    known = {*names, *(both if not all(map(_is_part, both)) else ())}
    found = [of_folders(part, known, trees[part]) for part in (train, *labelled[:1])]
    if parts and not labelled:
        _check_tables(parts[0], trees)
        raise UserError(
            f"{parts[0]} has no folders of classes: say with --val-list which image is of which "
            f"class, or give --source {train} and --test-fraction"
        )
    known = {folders[name] for name in ("train", *_TESTS) if name in folders}
    others = [name or "no folder" for name in tree if tree[name] and name not in known]
    if others:
        raise UserError(
            f"{source} has images in {others[0]} beside {train}: move them, or give --source "
            f"{train} and --val-source"
        )
    left = [f"{part} is left out, beside {labelled[0]}" for part in parts if part != labelled[0]]
    return found[0], found[1] if labelled else [], left + _empty(train, trees[train])


def of_folders(folder, names=(), tree=None):
    """[(path, class)] of the images in ``folder``/<class>/..., as ``find``."""
    tree = tree or _tree(folder)
    _check_tables(folder, {folder: tree})
    found = {name: images for name, images in tree.items() if name and images}
    loose = tree[""]
    if loose or len(found) < 2:
        seen = f"one folder of images, {', '.join(found)}" if found else "no folders of images"
        if loose:
            seen = f"{len(loose)} images in no class's folder, {loose[0]} first"
        raise UserError(f"{folder} has {seen}: give the folder above the classes', or {_LIST}")
    if not set(found) <= set(names):
        _check_names(folder, sorted(set(found) - set(names)), len(found))
        _check_below(folder, found)
    return [(path, name) for name, images in found.items() for path in images]


def _empty(folder, tree):
    return [f"{folder}/{name} has no images" for name in tree if name and not tree[name]]


def _tree(folder):
    """{subfolder: sorted paths of all images below it}, those in no subfolder under ""."""
    folder = Path(folder)
    if not folder.is_dir():
        lacks = "is not a folder: unpack it, and" if folder.exists() else "does not exist:"
        raise UserError(f"{folder} {lacks} give the folder of the images")
    tree = {"": []}
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != "." and name != "__MACOSX")
        if path == str(folder):
            tree.update({name: [] for name in folders})
        images = [os.path.join(path, name) for name in sorted(filter(_is_image, names))]
        tree[(*Path(path).relative_to(folder).parts, "")[0]] += images
    return tree


def _is_image(name):
    return Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")


# ---- What may mean something else


def _check_names(folder, names, count):
    """Refuses names such as test1 or query; and such as seg_train, unless they are few of many."""
    alike = [name for name in names if _PARTS.intersection(_words(name))]
    if any(map(_is_part, names)) or 4 * len(alike) >= count:
        raise UserError(
            f"{folder} has folders that look like parts of a data set, not like classes "
            f"({', '.join(alike[:3])}): give one to train on as --source and one to test on as "
            f"--val-source; {_NAMED}"
        )


def _is_part(name):
    return len(_words(name)) == 1 and _words(name)[0] in _PARTS


def _words(name):
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]


def _check_below(folder, found):
    """Refuses parts below classes, and the same subfolders below several."""
    below = collections.defaultdict(set)  # {subfolder: classes}
    for name, images in found.items():
        for path in images:
            inside = Path(path).relative_to(folder).parts[1:-1]
            below[inside[0] if inside else ""].add(name)
    below.pop("", None)
    parts = sorted(filter(_is_part, below))
    same = sorted(name for name in below if len(below[name]) > 1)
    if parts or len(same) > 1:
        seen = parts or same
        raise UserError(
            f"{folder} has {', '.join(seen[:3])} below {', '.join(sorted(below[seen[0]])[:3])}: "
            f"these may be classes, or parts of the data set; {_LIST}; {_NAMED}"
        )


def _check_tables(folder, trees):
    """Refuses a table in ``folder`` that lists images of ``trees``, {folder: tree}: it may say
    other classes than the folders' names."""
    images = [path for tree in trees.values() for some in tree.values() for path in some]
    names = set(map(os.path.basename, images))
    stems = {Path(name).stem for name in names}
    for path in sorted(Path(folder).iterdir()):
        if path.suffix.lower() in (*_TABLES, *_LISTS) and path.is_file():
            known = names | stems if path.suffix.lower() in _TABLES else names
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = [line.strip() for line, _ in zip(file, range(_LOOKED_AT))]
            rows = [{cell.strip('"') for cell in re.split(r"[,;\t /\\]", line)} for line in lines]
            if 2 * sum(not row.isdisjoint(known) for row in rows) > len(rows) - 1 > 0:
                raise UserError(
                    f"{path} lists the images in {folder}: give it as --list (or --val-list) where "
                    "it says their classes, else move it away"
                )


# ---- Lists


def read_list(file, root, columns=None, max_missing=0):
    """[(path, label)] of the images that ``file`` lists, labels being texts.

    Paths start from the folder ``root``, with a slash or without; their endings may be left out.
    A CSV (or TSV) has a heading, and two columns, or those two that ``columns`` names. Raises
    UserError for rows that are none, an image in several rows, labels that are numbers but no
    integers from 0 on, and where all images or more than ``max_missing`` are not there.
    """
    table = columns is not None or Path(file).suffix.lower() in _TABLES
    rows = _table(file, root, columns) if table else _lines(file)
    if not rows:
        raise UserError(f"{file} lists no images: give an image and its label a line")
    rows = _with_endings([(_path(root, name), label) for name, label in rows], root)
    missing = [path for path, _ in rows if not os.path.isfile(path)]
    first = missing[0].split()[0] if missing else ""
    if os.path.isfile(first):
        raise UserError(f"{file} gives {first} several labels: give each image one")
    if len(missing) > max_missing or len(missing) == len(rows):
        raise UserError(
            f"{root} lacks {len(missing)} of the {len(rows)} images in {file}, {missing[0]} first: "
            "give the folder that the list's paths start from"
        )
    ((path, count),) = collections.Counter(path for path, _ in rows).most_common(1)
    if count > 1:
        raise UserError(f"{file} has {count} rows for {path}: give one for each image")
    for path, label in rows:
        if _NUMBER.fullmatch(label) and not label.isdecimal():
            raise UserError(
                f"{file} gives {path} the label {label}: labels are integers from 0 on, or names"
            )
    return rows


def read_names(file):
    """The classes' names in ``file``, one a line, in the order of the labels."""
    return [line for line in map(str.strip, _text(file).splitlines()) if line]


def _text(file):
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text: store it so") from error


def _lines(file):
    rows = [re.split(r"\s+(?=\S+$)", line.strip()) for line in _text(file).splitlines()]
    rows = [row for row in rows if row != [""]]
    wrong = next((row for row in rows if len(row) != 2), None)
    if wrong:
        raise UserError(f"{file} has the line {wrong[0]!r:.60}: give an image and its label a line")
    return rows


def _table(file, root, columns):
    lines = _text(file).splitlines() or [""]
    separator = max(",;\t", key=lines[0].count)
    rows = csv.DictReader(lines, delimiter=separator, skipinitialspace=True)
    heading = rows.fieldnames
    columns = columns or heading
    if len(columns) != 2 or not set(columns) <= set(heading):
        raise BadValue(
            f"{file} has the columns {', '.join(heading)}: name the one of the images and the one "
            "of the labels, such as --columns filename,class"
        )
    image, label = columns
    if os.path.isfile(_path(root, image)):
        raise UserError(f"{file} has no heading: add one as its first line, such as image,label")
    rows = list(rows)
    wrong = next((row for row in rows if None in row or not (row[image] and row[label])), None)
    if wrong:
        cells = ",".join(map(str, wrong.values()))
        raise UserError(f"{file} has the row {cells:.60}: give it {len(heading)} cells")
    return [(row[image].strip(), row[label].strip()) for row in rows]


def _path(root, name):
    return os.path.normpath(os.path.join(root, name.replace("\\", "/").lstrip("/")))


def _with_endings(rows, root):
    """``rows`` with the ending that the one image of such a name has, where none is given."""
    if all(_is_image(path) or os.path.isfile(path) for path, _ in rows):
        return rows
    known = collections.defaultdict(list)
    for path in (path for some in _tree(root).values() for path in some):
        known[os.path.normpath(os.path.splitext(path)[0])].append(path)
    return [(known[path][0] if len(known[path]) == 1 else path, label) for path, label in rows]
