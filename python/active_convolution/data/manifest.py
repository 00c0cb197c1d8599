"""The manifest of a data set folder: what the folder holds, and the proof that it is whole."""
import json
from pathlib import Path

from ..errors import UserError
from ..files import whole_file

FORMAT = 1
_NAME = "manifest.json"


def database(folder, split):
    """The LMDB folder of ``split``, "train" or "test"."""
    return Path(folder) / f"{split}_lmdb"


def database_bytes(folder, split):
    """The size of its file, 0 where there is none."""
    file = database(folder, split) / "data.mdb"
    return file.stat().st_size if file.is_file() else 0


def write_manifest(folder, content):
    """Writes the dictionary ``content`` and the format's version. Raises UserError where that fails."""
    with whole_file(Path(folder) / _NAME) as file:
        json.dump({"format": FORMAT, **content}, file, indent=2)
        file.write("\n")


def check_manifest(folder):
    """The manifest of the data set in ``folder``, a dictionary (see create.py for its entries).

    Raises UserError where the folder is no whole data set: no manifest, another format's, one without images or their
    shape, or a database that is missing or has another size than when it was written, as after an interrupted copy.
    """
    remedy = f"make it with ./scripts/create_lmdb.py, --output {folder}"
    try:
        manifest = json.loads((Path(folder) / _NAME).read_text())
        if manifest["format"] != FORMAT:
            raise UserError(f"{folder} has format {manifest['format']}, this version needs {FORMAT}: {remedy}")
        recorded = {split: _entries(manifest[split]) for split in ("train", "test")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is no data set, its {_NAME} is missing or damaged: {remedy}") from error
    for split, (images, size) in recorded.items():
        if images < 1:
            raise UserError(f"{database(folder, split)} holds no images, by its {_NAME}: remove {folder} and {remedy}")
        if database_bytes(folder, split) != size:
            raise UserError(f"{database(folder, split)} is missing or not whole: remove {folder} and {remedy}")
    return manifest


def _entries(part):
    """(images, bytes) of a split's part of a manifest. KeyError, TypeError or ValueError where it is not whole."""
    channels, height, width = map(int, part["shape"])
    return int(part["images"]), int(part["bytes"])
