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
_LOOKED_AT = 100  # lines of a table
_LIST = "say with --list which image is of which class"
_NAMED = "name all classes in a file with --label-names where they are classes"
TABLES = (".csv", ".tsv")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)


# ---- Folders


def find(source, names=(), test=True):
    """(training images, test images), [(path, class)] each, and notes, texts, on the folder
    ``source``. ``names`` are classes because the user says so, whatever they look like; without
    ``test`` only training images are looked for. Raises UserError for any other layout.
    """
    tree = _tree(source)
    folders = {name.lower(): name for name, images in tree.items() if images}
    if "train" not in folders or "train" in names:
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
            f"{parts[0]} has no folders of classes: say with --val-list which of its images is of "
            f"which class, or give --source {train} and --test-fraction"
        )
    others = sorted(set(folders) - {"train", *_TESTS})
    if others:
        raise UserError(
            f"{source} has images in {folders[others[0]] or 'no folder'} beside {folders['train']}: "
            f"move them, or give --source {train} and --val-source"
        )
    left = [f"{part} is left out, beside {labelled[0]}" for part in parts if part != labelled[0]]
    return found[0], found[1] if labelled else [], left + _empty(train, trees[train])


def of_folders(folder, names=(), tree=None):
    """[(path, class)] of the images in ``folder``/<class>/..., as ``find``."""
    tree = tree or _tree(folder)
    _check_tables(folder, {folder: tree})
    found = {name: images for name, images in tree.items() if name and images}
    if tree[""]:
        raise UserError(
            f"{folder} has {len(tree[''])} images in no class's folder, {tree[''][0]} first: {_LIST}"
        )
    if len(found) < 2:
        seen = f"one folder of images, {next(iter(found))}" if found else "no images in folders"
        raise UserError(
            f"{folder} has {seen}: give the folder that holds a folder for each class, or {_LIST}"
        )
    if not set(found) <= set(names):
        _check_names(folder, sorted(set(found) - set(names)), len(found))
        _check_below(folder, found)
    return [(path, name) for name, images in found.items() for path in images]


def _empty(folder, tree):
    return [
        f"{os.path.join(folder, name)} has no images" for name in tree if name and not tree[name]
    ]


def _tree(folder):
    """{subfolder: sorted paths of all images below it}, those in no subfolder under ""."""
    folder = Path(folder)
    if not folder.is_dir():
        lacks = "is no folder: unpack it, and" if folder.exists() else "does not exist:"
        raise UserError(f"{folder} {lacks} give the folder of the images")
    tree = {"": []}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir() and not _is_hidden(entry.name):
            tree[entry.name] = _images(entry.path)
        elif is_image(entry.name):
            tree[""].append(entry.path)
    return tree


def _images(folder):
    found = []
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        found += [os.path.join(path, name) for name in sorted(filter(is_image, names))]
    return found


def _is_hidden(name):
    return name.startswith(".") or name == "__MACOSX"


# ---- What may mean something else


def _check_names(folder, names, count):
    """Refuses names such as test1 or query; and such as seg_train, unless they are few of many."""
    exact = [name for name in names if _is_part(name)]
    alike = [name for name in names if _PARTS.intersection(_words(name))]
    if exact or 4 * len(alike) >= count:
        first, *others = exact + [name for name in alike if name not in exact]
        more = f" and {os.path.join(folder, others[0])} as --val-source" if others else ""
        raise UserError(
            f"{folder} has folders that look like parts of a data set, not like classes "
            f"({', '.join([first, *others][:3])}): give {os.path.join(folder, first)} as "
            f"--source{more}, or {_NAMED}"
        )


def _is_part(name):
    return len(_words(name)) == 1 and _words(name)[0] in _PARTS


def _words(name):
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]


def _check_below(folder, found):
    """Refuses parts below classes, and the same subfolders below several: either may be the
    class."""
    below = {
        name: {
            path[len(os.path.join(folder, name)) + 1 :].split(os.sep)[0]
            for path in images
            if path.count(os.sep) > os.path.join(folder, name).count(os.sep) + 1
        }
        for name, images in found.items()
    }
    part = next(
        (f"{name}/{sub}" for name in below for sub in sorted(below[name]) if _is_part(sub)), None
    )
    if part:
        raise UserError(
            f"{folder} has parts of a data set below its folders ({part}): give "
            f"train/<class>/... and test/<class>/..., or {_LIST}"
        )
    counts = collections.Counter(sub for subs in below.values() for sub in subs)
    same = sorted(sub for sub, count in counts.items() if count > 1)
    if len(same) > 1:
        raise UserError(
            f"{folder} has the same folders ({', '.join(same[:3])}) below {', '.join(list(found)[:3])}: "
            f"either may be the classes; {_LIST}, or {_NAMED}"
        )


def _check_tables(folder, trees):
    """Refuses a table in ``folder`` that lists images of ``trees``, {folder: tree}: it may say
    other classes than the folders' names."""
    names = {
        os.path.basename(path) for tree in trees.values() for some in tree.values() for path in some
    }
    stems = {Path(name).stem for name in names}
    for path in sorted(path for path in Path(folder).iterdir() if path.is_file()):
        if path.suffix.lower() not in (*TABLES, ".txt", ".lst"):
            continue
        known = names | stems if path.suffix.lower() in TABLES else names
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line, _ in zip(file, range(_LOOKED_AT)) if line.strip()]
        rows = [{cell.strip('"') for cell in re.split(r"[,;\t /\\]", line)} for line in lines]
        if 2 * sum(not row.isdisjoint(known) for row in rows) > len(rows) - 1 > 0:
            raise UserError(
                f"{path} lists the images in {folder}: give it as --list (or --val-list) where it says "
                "their classes, else move it away"
            )


# ---- Lists


def is_image(name):
    """Whether a file of this name may be an image, and is none that an editor or a system hid."""
    return Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")


def read_list(file, root, columns=None, max_missing=0):
    """[(path, label)] of the images that ``file`` lists, labels being texts.

    Paths start from the folder ``root``, with a slash or without; their endings may be left out.
    A CSV (or TSV) has a heading, and two columns, or those two that ``columns`` names. Raises
    UserError for rows that are none, an image in several rows, labels that are numbers but no
    integers from 0 on, and where all images or more than ``max_missing`` are not there.
    """
    table = columns is not None or Path(file).suffix.lower() in TABLES
    rows = _table(file, root, columns) if table else _lines(file)
    if not rows:
        raise UserError(f"{file} lists no images: give an image and its label a line")
    rows = [
        (os.path.join(root, name.replace("\\", "/").lstrip("/")), label) for name, label in rows
    ]
    rows = _with_endings(rows, root)
    _check_there(rows, file, root, max_missing)
    (path, count), *_ = collections.Counter(path for path, _ in rows).most_common(1)
    if count > 1:
        raise UserError(
            f"{file} has {count} rows for {path}: give one for each image, with one label for all of it"
        )
    for path, label in rows:
        if _NUMBER.fullmatch(label) and not label.isdecimal():
            raise UserError(
                f"{file} gives {path} the label {label}: labels are integers from 0 on, or names"
            )
    return rows


def read_names(file):
    """The classes' names in ``file``, one a line, in the order of the labels."""
    names = [line for line in map(str.strip, _text(file).splitlines()) if line]
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if not names or twice:
        raise UserError(
            f"{file} names {f'{twice[0]} twice' if twice else 'no class'}: give one class a line, in "
            "the order of the labels"
        )
    return names


def _text(file):
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is no text in UTF-8: store it so, or give a list") from error


def _lines(file):
    rows = []
    for number, line in enumerate(_text(file).splitlines(), 1):
        if line.strip():
            name, _, label = line.strip().rpartition(" " if "\t" not in line else "\t")
            if not name:
                raise UserError(
                    f"{file} line {number} is {line.strip()!r:.60}, and should be an image and its "
                    "label, such as '/a/airfield/00000001.jpg 0'"
                )
            rows.append((name.strip(), label))
    return rows


def _table(file, root, columns):
    lines = _text(file).splitlines() or [""]
    separator = max(",;\t", key=lines[0].count)
    heading, *rows = [
        [cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator) if row
    ] or [[]]
    if columns is None and len(heading) != 2:
        raise UserError(
            f"{file} has the columns {', '.join(heading)}: name the two of the images and the labels, "
            "such as --columns filename,class"
        )
    missing = [name for name in columns or () if name not in heading]
    if missing:
        raise BadValue(
            f"--columns {missing[0]} is not in {file}, which has {', '.join(heading)}: give two of these"
        )
    image, label = map(heading.index, columns or heading)
    if os.path.isfile(os.path.join(root, heading[image])):
        raise UserError(f"{file} has no heading: add one as its first line, such as image,label")
    for number, row in enumerate(rows, 2):
        if len(row) != len(heading) or not row[image] or not row[label]:
            raise UserError(
                f"{file} row {number} is {','.join(row)!r:.60}, and should have {len(heading)} cells: "
                f"{', '.join(heading)}"
            )
    return [(row[image], row[label]) for row in rows]


def _with_endings(rows, root):
    """``rows`` with the ending that the one image of such a name has, where none is given."""
    if all(is_image(path) or os.path.isfile(path) for path, _ in rows):
        return rows
    known = collections.defaultdict(list)
    for folder, _, names in os.walk(root):
        for name in filter(is_image, names):
            known[os.path.join(folder, Path(name).stem)].append(os.path.join(folder, name))
    return [(known[path][0] if len(known[path]) == 1 else path, label) for path, label in rows]


def _check_there(rows, file, root, max_missing):
    missing = [path for path, _ in rows if not os.path.isfile(path)]
    if missing and re.search(r"\s\S+$", missing[0]) and os.path.isfile(missing[0].split()[0]):
        raise UserError(
            f"{file} gives {missing[0].split()[0]} several labels: give each image one, an integer "
            "from 0 on or a name"
        )
    if len(missing) > max_missing or len(missing) == len(rows):
        raise UserError(
            f"{root} lacks {len(missing)} of the {len(rows)} images in {file}, {missing[0]} first: "
            "give the folder that the list's paths start from"
        )
