"""Tables of images and their classes as people keep them: CSV with a heading or none, and Tiny ImageNet's annotations;
and the files that name classes."""

import collections
import csv
import os
from pathlib import PurePath

from ..errors import UserError
from .sources import read_file

_FILE = (
    "file",
    "filename",
    "file_name",
    "fname",
    "filenames",
    "image",
    "images",
    "image_id",
    "imageid",
    "image_name",
    "img",
    "id",
    "path",
    "filepath",
    "file_path",
    "image_path",
    "img_path",
    "name",
    "x",
)
_CLASS = (
    "label",
    "labels",
    "class",
    "classname",
    "class_name",
    "category",
    "target",
    "breed",
    "species",
    "label_name",
    "fine_label",
    "fine_label_name",
    "fine_label_names",
    "class_id",
    "label_id",
    "category_id",
    "y",
)
_SEPARATORS = ",;\t"
UTF16 = (b"\xff\xfe", b"\xfe\xff")  # how a file begins that spreadsheets and Windows call Unicode


def read_rows(data, name):
    """[(file, class)], both texts, in ``data``, the bytes of a table; its columns are found by their headings, or, where
    it has none, are the first two. Raises UserError, which calls the table ``name``, where it is none."""
    lines = text(data).splitlines()
    first = lines[0] if lines else ""
    separator = max(_SEPARATORS, key=first.count)
    try:
        rows = [
            row
            for row in csv.reader(lines, delimiter=separator)
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise UserError(
            f"{name} is no table ({error}): give one with a column of files and a column of classes"
        ) from error
    heading = [cell.strip().lower() for cell in rows[0]] if rows else []
    file, label = _column(heading, _FILE), _column(heading, _CLASS)
    if file is None or label is None:
        file, label = 0, 1
        if len(heading) < 2 or set(heading) & {*_FILE, *_CLASS}:
            raise UserError(
                f"{name} has the columns {', '.join(heading) or '(none)'}: give one of files, headed "
                f"{_FILE[0]}, and one of classes, headed {_CLASS[0]}"
            )
        rows = rows[1:] if _is_heading(rows, file, label) else rows
    else:
        rows = rows[1:]
    for number, row in enumerate(rows, 1):
        if (
            len(row) <= max(file, label)
            or not row[file].strip()
            or not row[label].strip()
            or "\0" in row[file] + row[label]
        ):
            raise UserError(
                f"{name} row {number} is {row!r:.60}, and should have a file and its class"
            )
    return [(row[file].strip(), row[label].strip()) for row in rows]


def _is_heading(rows, file, label):
    """Whether the first row, which has no heading that is known, is one of another kind than all others."""
    if len(rows) < 2 or any(len(row) <= max(file, label) for row in rows):
        return False
    kinds = [
        (
            PurePath(row[file].strip()).suffix != "",
            row[file].strip().isdecimal(),
            row[label].strip().isdecimal(),
        )
        for row in rows
    ]
    return any(all(kind[index] for kind in kinds[1:]) and not kinds[0][index] for index in range(3))


def _column(heading, names):
    return next((heading.index(name) for name in names if name in heading), None)


def read_names(file):
    """The lines of a file that names one class a line. Raises UserError where it names none, or one twice."""
    try:
        names = [line.strip() for line in text(read_file(file)).splitlines() if line.strip()]
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    if any("\0" in name for name in names):
        raise UserError(f"{file} is no text: give one class a line, in the order of the labels")
    return named_once(names, file)


def named_once(names, file):
    """The classes ``names``, from ``file``. Raises UserError where there are none, or one comes twice."""
    repeated = next((name for name, count in collections.Counter(names).items() if count > 1), None)
    if not names or repeated:
        raise UserError(
            f"{file} names {f'{repeated} twice' if repeated else 'no class'}: give one class a line, in the "
            "order of the labels"
        )
    return names


def text(data):
    """``data``, bytes, as text, whatever its encoding, without a byte-order mark: bytes that are not UTF-8 become what
    os.fsdecode makes of them, as in the names of files."""
    if data.startswith(UTF16):
        return data.decode("utf-16", errors="replace")
    return os.fsdecode(data.removeprefix(b"\xef\xbb\xbf"))
