"""Small made data sets: CIFAR as its archives have it, and pictures of three classes in folders."""

import io
import pickle
import struct
import tarfile
from pathlib import Path

import cv2
import lmdb
import numpy as np
from active_convolution.caffe import locate
from active_convolution.cli import data

CLASSES = {"cifar10": 10, "cifar100": 100}
_TRAIN_FILES = {
    "cifar10": [f"data_batch_{number}" for number in range(1, 6)],
    "cifar100": ["train"],
}
_TEST_FILES = {"cifar10": ["test_batch"], "cifar100": ["test"]}
_LABEL_KEY = {"cifar10": "labels", "cifar100": "fine_labels"}


def sample(dataset):
    """((train images, labels), (test images, labels)): two training images and one test image per
    class, of noise."""
    random = np.random.RandomState(CLASSES[dataset])
    labels = np.arange(CLASSES[dataset])
    return tuple(
        (random.randint(0, 256, (len(part), 3, 32, 32), np.uint8), part)
        for part in (labels.repeat(2), labels)
    )


def write_python(folder, dataset, dump=None):
    """The python batches, by default as Python 2 wrote the original ones."""
    for name, images, labels in _batches(dataset):
        batch = {
            "data": images.reshape(len(images), -1),
            _LABEL_KEY[dataset]: labels.tolist(),
            "coarse_labels": [0] * len(labels),
            "batch_label": name,
        }
        (folder / name).write_bytes((dump or dump_as_python2)(batch))


def write_binary(folder, dataset):
    """The binary batches; CIFAR-100's have a coarse label (here 7) before the fine one."""
    for name, images, labels in _batches(dataset):
        columns = [labels[:, None], images.reshape(len(images), -1)]
        if dataset == "cifar100":
            columns.insert(0, np.full((len(labels), 1), 7))
        (folder / f"{name}.bin").write_bytes(np.hstack(columns).astype(np.uint8).tobytes())


def packed(folder, suffix=".tar.gz"):
    """An archive of ``folder``, beside it."""
    with tarfile.open(f"{folder}{suffix}", f"w:{suffix.rpartition('.')[2]}") as archive:
        archive.add(folder, folder.name)
    return Path(f"{folder}{suffix}")


def dump_as_python2(content):
    """Python 2 had one type for text and bytes, which ``encoding="bytes"`` gives back as bytes."""
    file = io.BytesIO()
    _Python2Pickler(file, protocol=2).dump(content)
    return file.getvalue()


class _Python2Pickler(pickle._Pickler):
    dispatch = dict(pickle._Pickler.dispatch)

    def _save_string(self, string):
        data = string.encode() if isinstance(string, str) else string
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)

    dispatch[str] = dispatch[bytes] = _save_string


def _batches(dataset):
    """(file name, images, labels) of every batch."""
    for names, (images, labels) in zip(
        (_TRAIN_FILES[dataset], _TEST_FILES[dataset]), sample(dataset)
    ):
        for name, *part in zip(
            names, np.array_split(images, len(names)), np.array_split(labels, len(names))
        ):
            yield name, *part


# ---- Pictures of three classes

KINDS = ["ant", "bee", "cat"]
TRAIN, TEST = 4, 2  # images of each


def picture(number, height=12, width=16):
    """(H, W, 3) uint8, BGR, another one for each number."""
    return np.random.RandomState(number).randint(0, 256, (height, width, 3), np.uint8)


def everything(split):
    """(class, the picture's number) of the made set."""
    count, first = {"train": (TRAIN, 0), "test": (TEST, 100)}[split]
    return [(KINDS[number % 3], first + number) for number in range(3 * count)]


def write(path, image, *parameters):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix.lower(), image, parameters)[1].tobytes())


def per_class(folder, train="train", test="test", suffix=".png", below=""):
    """Folders of classes; a part called None is left out."""
    for split, name in (("train", train), ("test", test)):
        for label, number in everything(split) if name is not None else ():
            write(folder / name / label / below / f"{number}{suffix}", picture(number))
    return folder


def tables(folder, ending=""):
    """train/ and test/ without classes, and train.csv and test.csv beside them."""
    for split in ("train", "test"):
        rows = ["id,label"]
        for label, number in everything(split):
            write(folder / split / f"{number}.png", picture(number))
            rows.append(f"{split}/{number}{ending},{label}")
        (folder / f"{split}.csv").write_text("\n".join(rows), encoding="utf-8-sig")
    return folder


# ---- What comes of it


def acu_data(*arguments):
    """``acu data``, in this process."""
    data.run(data.parser("acu data").parse_args([str(argument) for argument in arguments]))


def records(path):
    """[(key, Datum)] of an LMDB."""
    with lmdb.open(str(path), readonly=True, lock=False) as opened, opened.begin() as transaction:
        datum = locate.caffe_pb2().Datum
        return [(key, datum.FromString(value)) for key, value in transaction.cursor()]


def pixels(record):
    """(C, H, W) of a Datum."""
    if record.encoded:
        image = cv2.imdecode(np.frombuffer(record.data, np.uint8), cv2.IMREAD_UNCHANGED)
        return np.atleast_3d(image).transpose(2, 0, 1)
    values = np.array(record.float_data, np.float32)
    if not len(values):
        values = np.frombuffer(record.data, np.uint8)
    return values.reshape(record.channels, record.height, record.width)


def content(folder, split):
    """{pixels: label} of one split."""
    found = records(folder / f"{split}_lmdb")
    return {pixels(record).tobytes(): record.label for _, record in found}


def expected(split, kinds=KINDS):
    return {
        picture(number).transpose(2, 0, 1).tobytes(): kinds.index(label)
        for label, number in everything(split)
    }
