"""The small data sets that a table of the paper or a first look trains on, in memory: the digits
that come with scikit-learn, and CIFAR (Krizhevsky, 2009)."""

import hashlib
import http.client
import io
import os
import pickle
import tarfile
import urllib.request
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ..errors import BadValue, UserError
from ..files import whole_file, whole_folder
from . import preprocess
from .manifest import Manifest, Preprocessing

CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
CLASSES = {"cifar10": 10, "cifar100": 100}
DIGITS_TRAIN, DIGITS_TEST, DIGITS_FOLDS = 1500, 297, 6
PAGE = "https://www.cs.toronto.edu/~kriz/"
_ARCHIVES = {  # on the data set's own page, with the MD5 that stands beside it there
    "cifar10": ("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
    "cifar100": ("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
}
_BATCHES = {  # for training, and for testing; the binary archive's end in .bin
    "cifar10": ([f"data_batch_{number}" for number in range(1, 6)], ["test_batch"]),
    "cifar100": (["train"], ["test"]),
}
_LABELS = {"cifar10": (1, b"labels"), "cifar100": (2, b"fine_labels")}  # bytes, and the entry
_SHAPE = (3, 32, 32)  # 3072 bytes: the red, the green, then the blue plane, each in rows
_MAXIMUM = 16  # the digits' pixels count the set dots of a 4x4 block


def create(dataset, output, source=None, seed=0, fold=None, size=None):
    """Makes the folder ``output``, which must not exist yet, out of ``dataset``, "digits",
    "cifar10" or "cifar100".

    ``source`` is where CIFAR lies (see read_cifar); its images are preprocessed as in section 3.1.
    ``fold`` and ``size`` are the digits' (see read_digits), whose mean image is subtracted.
    Training images are padded, for Caffe's random crop; ``seed`` shuffles them. CIFAR takes 2 GB
    of memory. ``output`` appears whole or not at all. Returns the Manifest.
    """
    manifest = Manifest(dataset, CLASSES.get(dataset, 10), source=str(source), seed=seed)
    with whole_folder(output) as folder:
        if dataset == "digits":
            _write_digits(folder, manifest, read_digits(fold, size))
        else:
            manifest.label_names = CIFAR10_CLASSES if dataset == "cifar10" else None
            manifest.value_range = [0, 255]
            preprocess.write_whitened(folder, manifest, read_cifar(dataset, source))
    return manifest


# ---- The digits


def _write_digits(folder, manifest, splits):
    mean = splits["train"][0].mean(axis=0)
    with whole_file(folder / "mean.npy", "wb") as file:
        np.save(file, mean)
    manifest.source, manifest.channel_order = "scikit-learn's load_digits", "grey"
    manifest.value_range = [0, _MAXIMUM]
    said = Preprocessing("stretch", scale=1 / _MAXIMUM, mean_file="mean.npy")
    manifest.preprocessing = said
    splits = {split: (images - mean, labels) for split, (images, labels) in splits.items()}
    preprocess.write(folder, manifest, splits, padding=1)


def read_digits(fold=None, size=None):
    """The handwritten digits that come with scikit-learn, 1797 real images of 8x8 pixels (Alpaydin
    and Kaynak, 1998): {"train": (images (N, 1, 8, 8) float32 in [0, 1], labels (N,)), "test": ...}.

    The set has no images to test on, so 297 are drawn, every digit in proportion, always the same.
    With a ``fold`` from 1 to DIGITS_FOLDS the test images are 299 that no other fold has: for a
    cross-validation. ``size``, (width, height) in pixels, enlarges the images bilinearly.
    """
    from sklearn import datasets, model_selection  # here: it takes seconds

    if size is not None and not 8 <= min(size) <= max(size) <= 64:
        raise BadValue(f"--size {size[0]}x{size[1]} is out of range: give 8x8 to 64x64")
    digits = datasets.load_digits()
    images, labels = (digits.images / _MAXIMUM).astype(np.float32), digits.target
    if size is not None:
        images = np.stack([cv2.resize(image, size) for image in images])
    if fold is None:
        sizes = dict(train_size=DIGITS_TRAIN, test_size=DIGITS_TEST)
        order = np.arange(len(labels))
        drawn = model_selection.train_test_split(order, **sizes, stratify=labels, random_state=0)
    else:
        folds = model_selection.StratifiedKFold(DIGITS_FOLDS, shuffle=True, random_state=0)
        train, test = list(folds.split(labels, labels))[fold - 1]
        count = len(labels) // DIGITS_FOLDS  # the same for every fold: the others are trained on
        drawn = np.concatenate((train, test[count:])), test[:count]
    return {
        split: (images[chosen, None], labels[chosen])
        for split, chosen in zip(("train", "test"), drawn)
    }


# ---- CIFAR


def read_cifar(dataset, path):
    """Reads ``dataset``, "cifar10" or "cifar100", from ``path``: the python or the binary archive,
    the folder that was unpacked from it, or an .npz with X, Y (the training images, uint8
    N×3×32×32, and their labels), xt and yt (for testing).

    Returns {"train": (images (N, 3, 32, 32) uint8 RGB, labels (N,)), "test": ...}; CIFAR-100's
    labels are the 100 fine ones. Raises UserError for anything else, and runs nothing in it.
    """
    name = dataset.replace("cifar", "cifar-")
    give = (
        f"give {name}-python.tar.gz or {name}-binary.tar.gz whole, the folder unpacked from it, or "
        "an .npz with X, Y, xt, yt; folders of images are for acu data images --whiten"
    )
    try:
        if str(path).endswith(".npz"):
            with np.load(path, allow_pickle=False) as arrays:
                pairs = [[(arrays["X"], arrays["Y"])], [(arrays["xt"], arrays["yt"])]]
        else:
            files = _files(Path(path), sum(_BATCHES[dataset], []))
            pairs = [[_batch(dataset, files, name) for name in part] for part in _BATCHES[dataset]]
        splits = [tuple(map(np.concatenate, zip(*part))) for part in pairs]
    except Exception as error:  # a damaged archive, pickle or zip can raise nearly anything
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} cannot be read ({reason}): {give}") from error
    for images, labels in splits:
        fits = images.dtype == np.uint8 and images.shape == (len(labels), *_SHAPE) and len(labels)
        if not fits or not 0 <= labels.min() <= labels.max() < CLASSES[dataset]:
            held = f"{images.dtype} images {images.shape}, labels {np.unique(labels)[[0, -1]]}"
            raise UserError(f"{path} holds {held}: {give}")
    return dict(zip(("train", "test"), splits))


def _files(path, names):
    """{name: bytes} of the files in an archive or a folder that are called as one of ``names``,
    with .bin or without."""
    if path.is_dir():
        found = {file.name: file for file in path.rglob("*") if file.is_file()}
        known = {name for name in found if name.removesuffix(".bin") in names}
        return {name: found[name].read_bytes() for name in known}
    with tarfile.open(path) as archive:
        found = {os.path.basename(member.name): member for member in archive if member.isfile()}
        known = {name for name in found if name.removesuffix(".bin") in names}
        return {name: archive.extractfile(found[name]).read() for name in known}


def _batch(dataset, files, name):
    """(images, labels) of a batch file: a pickle, or rows of labels, the last of which counts, and
    pixels."""
    count, entry = _LABELS[dataset]
    if f"{name}.bin" in files:
        rows = np.frombuffer(files[f"{name}.bin"], np.uint8).reshape(-1, count + np.prod(_SHAPE))
        return rows[:, count:].reshape(-1, *_SHAPE), rows[:, count - 1].astype(int)
    batch = _ArrayUnpickler(io.BytesIO(files[name]), encoding="bytes").load()
    return batch[b"data"].reshape(-1, *_SHAPE), np.array(batch[entry], int)


class _ArrayUnpickler(pickle.Unpickler):
    """Loads containers and NumPy arrays only: a pickle may otherwise run any code."""

    _allowed = {"ndarray": np.ndarray, "dtype": np.dtype}
    _allowed["_reconstruct"] = np.empty(0).__reduce__()[0]

    def find_class(self, module, name):
        if module.partition(".")[0] != "numpy" or name not in self._allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no image needs")
        return self._allowed[name]


def fetch(dataset, folder=None):
    """The path of the python archive of ``dataset`` in ``folder`` (default: active-convolution in
    $XDG_CACHE_HOME or ~/.cache), verified; fetched from PAGE where it is not there yet.

    What arrived before an interruption stays beside it as NAME.part, and the next call goes on
    from there. Proxies are those of the environment. Raises UserError, with what to do by hand,
    where the server cannot be reached, has no such file, or sends another one.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder, (name, known) = folder or cache / "active-convolution", _ARCHIVES[dataset]
    path, part = folder / name, folder / f"{name}.part"
    if path.exists():
        return path
    again = f"run the same command again, or give {name} from elsewhere as --source"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with open(part, "ab") as file:
            _receive(PAGE + name, file)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"cannot fetch {PAGE}{name} ({reason}): {again}") from error
    found = hashlib.md5(part.read_bytes()).hexdigest()
    if found != known:
        part.unlink()
        raise UserError(f"{PAGE}{name} has the MD5 {found}, not {known}: {again}")
    part.rename(path)
    return path


def _receive(url, file):
    """Appends to ``file`` what it lacks of ``url``."""
    begun = file.tell()
    request = urllib.request.Request(url, headers={"Range": f"bytes={begun}-"} if begun else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416 and begun:  # there is no more than what is here: the MD5 decides
            return
        raise
    with response:
        if response.status != 206:  # the server sends the whole file
            file.truncate(0)
            begun = 0
        total = begun + int(response.headers["Content-Length"])
        with tqdm(total=total, initial=begun, unit="B", unit_scale=True) as bar:
            while piece := response.read(2**20):
                file.write(piece)
                bar.update(len(piece))
        if bar.n < total:
            raise OSError(f"the connection ended {total - bar.n:,} bytes early")
