"""What a data set folder says of itself: ``manifest.json``, written last, so that where it is all
else is."""

import dataclasses
import json
from pathlib import Path
from typing import Optional

from ..errors import UserError
from ..files import whole_file

MANIFEST = "manifest.json"
SPLITS = ("train", "test")


@dataclasses.dataclass
class Part:
    """One split: how many ``images``, all of ``shape`` (channels, height, width) in pixels;
    ``images_per_class``, by label.

    ``path`` is what the source of a Caffe layer names, absolute once it is read, and ``backend``
    says which layer: LMDB or LEVELDB (Data), HDF5 (HDF5Data, a list) or IMAGES (ImageData, a list,
    with its ``root_folder``, ``new_height`` and ``new_width``). ``bytes`` is its size, ``sha256``
    the checksum of all keys and values of an LMDB of ours.
    """

    images: int
    shape: list
    images_per_class: list
    path: str = ""
    backend: str = "LMDB"
    bytes: int = 0
    sha256: str = ""
    root_folder: str = ""
    new_height: int = 0
    new_width: int = 0

    @property
    def image_data(self):
        """The fields of image_data_param that ImageData needs besides its source, a dictionary."""
        names = ("root_folder", "new_height", "new_width")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


@dataclasses.dataclass
class Preprocessing:
    """What was done to the stored images, to be done to another one, in this order:

    - ``resize``: "stretch", "crop" or "pad" to the shape of the test images, None: they had it;
      ``smooth``: averaging areas where an image shrinks, else bilinear (see datum.resized);
    - ``scale``: values, as ``value_range`` has them, times this;
    - ``mean_file``: an .npy in the data set folder, (C, H, W), subtracted;
    - ``contrast_scale``: the L2 norm after global contrast normalisation, and ``whitening``: an
      .npz in the folder for preprocess.Whitening.

    ``mean_value``, a number for each channel, is not subtracted yet: it is what a network's
    transform_param may subtract. Training images may be padded with zeros besides.
    """

    resize: Optional[str] = None
    smooth: bool = False
    scale: float = 1.0
    mean_file: Optional[str] = None
    contrast_scale: Optional[float] = None
    whitening: Optional[str] = None
    mean_value: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Manifest:
    """A data set: what its splits are, and what an image has to become before a network that
    trained on it may see it.

    ``dataset`` is a name, which decides nothing. ``classes``: labels are 0 to ``classes`` − 1;
    ``label_names`` has their names in that order, or is None. Adopted databases may lack ``train``
    or ``test`` (None). ``channel_order``: "BGR", "RGB" or "grey", None where nobody said.
    ``value_range``: to what the values of an 8-bit image file, 0 to 255, have to be brought before
    ``preprocessing``, [0, 255] for most, None where nobody knows. ``adopted``: another tool made
    the databases. ``source``, ``seed`` and ``versions`` say what it was made from and with.
    ``folder`` is where it was read, absolute.
    """

    dataset: str
    classes: int
    label_names: Optional[list] = None
    train: Optional[Part] = None
    test: Optional[Part] = None
    channel_order: Optional[str] = None
    value_range: Optional[list] = None
    preprocessing: Preprocessing = dataclasses.field(default_factory=Preprocessing)
    adopted: bool = False
    source: str = ""
    seed: int = 0
    versions: dict = dataclasses.field(default_factory=dict)
    folder: str = ""
    format: int = 1

    @property
    def parts(self):
        """{split: Part} of those that there are."""
        return {split: getattr(self, split) for split in SPLITS if getattr(self, split)}

    @classmethod
    def of(cls, entries):
        """That of a dictionary such as ``as_dict`` gives; what else is in it is passed over."""
        parts = {split: _of(Part, entries[split]) for split in SPLITS if entries.get(split)}
        said = _of(Preprocessing, entries.get("preprocessing", {}))
        return _of(cls, {**entries, **parts, "preprocessing": said})

    def as_dict(self):
        """What JSON holds."""
        return dataclasses.asdict(self)

    def write(self, folder):
        """Writes it into ``folder``. Raises UserError where that fails."""
        stored = {**self.as_dict(), "folder": ""}
        with whole_file(Path(folder) / MANIFEST) as file:
            json.dump(stored, file, indent=2)
            file.write("\n")


def _of(kind, entries):
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in entries.items() if name in known})


def read_manifest(folder, splits=SPLITS):
    """The Manifest of the data set in ``folder``.

    Raises UserError where that is not a complete data set: no manifest, one of ``splits`` is
    missing, or a database has another size than when the manifest was written, as after an
    interrupted copy.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    try:
        manifest = Manifest.of(json.loads(path.read_bytes()))
    except OSError as error:
        raise UserError(
            f"{folder} is not a data set, {path} cannot be read ({error.strerror}): make it with "
            f"acu data, or, where another tool made its databases, with acu data adopt {folder}"
        ) from error
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}): make {folder} anew") from error
    manifest.folder = str(folder.absolute())
    remedy = f"run acu data adopt {folder} again" if manifest.adopted else f"make {folder} anew"
    for split in splits:
        if not getattr(manifest, split):
            raise UserError(f"{folder} has no {split} images, by its {MANIFEST}: {remedy}")
    for split, part in manifest.parts.items():
        part.path = str(folder.absolute() / (part.path or f"{split}_lmdb"))
        if source_bytes(part.path, part.backend) != part.bytes:
            raise UserError(f"{part.path} is missing or not whole: {remedy}")
    return manifest


def database_path(folder, split):
    """The LMDB folder of ``split``, "train" or "test", in a data set folder of our own."""
    return Path(folder) / f"{split}_lmdb"


def source_bytes(path, backend):
    """The size of what a layer's source names: an LMDB's file, a LevelDB's tables, the list of
    another; 0 where there is nothing."""
    names = {"LMDB": ["data.mdb"], "LEVELDB": ["*.ldb", "*.sst"]}.get(backend)
    files = [file for name in names for file in Path(path).glob(name)] if names else [Path(path)]
    return sum(file.stat().st_size for file in files if file.is_file())
