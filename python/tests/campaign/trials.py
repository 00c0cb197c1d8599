"""What is tried: a damaged file, or what is no file, in a copy of the corpus, and a reader or a program on it; a program in
hard surroundings; a program killed, and called again."""

import dataclasses

from . import mutations
from .corpus import (
    ADOPTED,
    DEPLOY,
    HDF5_WEIGHTS,
    LISTED,
    ORDINARY_DEPLOY,
    ORDINARY_WEIGHTS,
    SNAPSHOT,
    STATE,
    UNFINISHED,
    WEIGHTS,
)


@dataclasses.dataclass(frozen=True)
class Trial:
    """The file ``path`` of the corpus, of a ``kind`` of mutations.py, and what meets it: ``reader``, or ``command`` of acu."""

    kind: str
    path: str
    reader: str = None
    command: str = None

    @property
    def name(self):
        return f"{self.kind}, {self.reader or named(self.command)}"


def named(command):
    words = command.split()
    return " ".join(
        [
            "acu",
            *words[: 2 if words[0] == "data" else 1],
            *(["--resume"] if "--resume" in words else []),
        ]
    )


_EVALUATE = f"evaluate --model {DEPLOY} --weights {WEIGHTS} --data"
_EXPORT = f"export --model {DEPLOY} --weights {WEIGHTS} --output out"
_CONVERT = f"convert --model {ORDINARY_DEPLOY} --weights {ORDINARY_WEIGHTS} --output out"
_PLACES = "data places365 --source images --list train.txt --val-source images --val-list test.txt --jobs 1 --output out"
_IMAGES = "data images --jobs 1 --output out --source"
_LISTED = "data images --jobs 1 --output out --test-share 0.5 --source images --list train.csv"
_TRAIN = "train model --variant acu --max-iter 4 --output out --data"
_RESUME = f"train --resume --output {UNFINISHED}"
_PLOT, _REPORT = "plot run --output out.png", "report run --output out.html"
_PICTURE = "images/train/bird/0004.png"
_LEVELDB = sorted(
    f"{ADOPTED['leveldb']}/train/{name}" for name in ("000005.ldb", "CURRENT", "MANIFEST-000004")
)

READERS = [
    Trial("protobuf", WEIGHTS, "weights"),
    Trial("hdf5", HDF5_WEIGHTS, "weights"),
    Trial("prototxt", "run/train_val.prototxt", "net"),
    Trial("prototxt", "run/solver.prototxt", "solver"),
    Trial("npz", "run/positions.npz", "positions"),
    Trial("npz", "whitening.npz", "whitening"),
    Trial("csv", "run/metrics.csv", "metrics"),
    Trial("json", "data/manifest.json", "manifest"),
    Trial("json", "run/evaluation.json", "confusion"),
    Trial("tar", "images.tar", "archive"),
    Trial("tar.xz", "images.tar.xz", "archive"),
    Trial("zip", "images.zip", "archive"),
    Trial("png", _PICTURE, "image"),
]
PROGRAMS = [
    Trial("npz", "run/positions.npz", command=_PLOT),
    Trial("npz", "run/positions.npz", command=_REPORT),
    Trial("csv", "run/metrics.csv", command=_REPORT),
    Trial("prototxt", "run/solver.prototxt", command=_REPORT),
    Trial("json", "run/evaluation.json", command=_REPORT),
    Trial("protobuf", WEIGHTS, command=f"plot {WEIGHTS} --output out.png"),
    Trial("protobuf", WEIGHTS, command=_EXPORT),
    Trial("protobuf", ORDINARY_WEIGHTS, command=_CONVERT),
    Trial("protobuf", WEIGHTS, command=f"{_EVALUATE} data"),
    Trial("prototxt", DEPLOY, command=_EXPORT),
    Trial("prototxt", ORDINARY_DEPLOY, command=_CONVERT),
    Trial("prototxt", DEPLOY, command=f"{_EVALUATE} data"),
    Trial("prototxt", "model/acu/train_val.prototxt", command=f"{_TRAIN} data"),
    Trial("prototxt", "model/acu/solver.prototxt", command=f"{_TRAIN} data"),
    Trial("lmdb", "data/test_lmdb/data.mdb", command=f"{_EVALUATE} data"),
    Trial("lmdb", "data/train_lmdb/data.mdb", command=f"{_TRAIN} data"),
    Trial("json", "data/manifest.json", command=f"{_EVALUATE} data"),
    Trial("csv", "train.txt", command=_PLACES),
    Trial("json", "data/manifest.json", command="models new out --like digits/plain --data data"),
    Trial("json", f"{LISTED}/manifest.json", command=f"{_TRAIN} {LISTED}"),
    Trial("json", f"{ADOPTED['hdf5']}/manifest.json", command=f"{_EVALUATE} {ADOPTED['hdf5']}"),
    Trial("png", _PICTURE, command=_PLACES),
    Trial("csv", "train.csv", command=_LISTED),
    Trial("tar", "images.tar", command=f"{_IMAGES} images.tar"),
    Trial("tar.xz", "images.tar.xz", command=f"{_IMAGES} images.tar.xz"),
    Trial("zip", "images.zip", command=f"{_IMAGES} images.zip"),
    # Snapshots of a run that goes on, and its records
    Trial("protobuf", STATE, command=_RESUME),
    Trial("protobuf", SNAPSHOT, command=_RESUME),
    Trial("npz", f"{UNFINISHED}/positions.npz", command=_RESUME),
    Trial("csv", f"{UNFINISHED}/metrics.csv", command=_RESUME),
    Trial("prototxt", f"{UNFINISHED}/solver.prototxt", command=_RESUME),
    # Databases and weights of other tools
    Trial("hdf5", HDF5_WEIGHTS, command=f"plot {HDF5_WEIGHTS} --output out.png"),
    Trial(
        "hdf5",
        HDF5_WEIGHTS,
        command=f"evaluate --model {DEPLOY} --weights {HDF5_WEIGHTS} --data data",
    ),
    Trial("hdf5", HDF5_WEIGHTS, command=f"{_TRAIN} data --weights {HDF5_WEIGHTS}"),
    *(
        Trial(kind, path, command=command.format(ADOPTED[kind]))
        for kind, paths in (("lmdb", [f"{ADOPTED['lmdb']}/train/data.mdb"]), ("leveldb", _LEVELDB))
        for path in paths
        for command in ("data adopt {0} --output out", f"{_TRAIN} {{0}}")
    ),
    Trial(
        "hdf5", f"{ADOPTED['hdf5']}/train.h5", command=f"data adopt {ADOPTED['hdf5']} --output out"
    ),
    Trial("lmdb", f"{ADOPTED['lmdb']}/test/data.mdb", command=f"{_EVALUATE} {ADOPTED['lmdb']}"),
    Trial("hdf5", f"{ADOPTED['hdf5']}/test.h5", command=f"{_EVALUATE} {ADOPTED['hdf5']}"),
    *(
        Trial(
            "leveldb",
            path.replace("/train/", "/test/"),
            command=f"{_EVALUATE} {ADOPTED['leveldb']}",
        )
        for path in _LEVELDB
    ),
]
COMMANDS = [
    _PLOT,
    _REPORT,
    _EXPORT,
    _CONVERT,
    "data digits --output out",
    _PLACES,
    f"{_IMAGES} images",
    f"{_TRAIN} data",
    f"{_EVALUATE} data --json out",
    f"data adopt {ADOPTED['hdf5']} --output out",
    "models new out --like digits/plain --classes 10 --size 12",
]


def damage(folder, trial, random):
    path = folder / trial.path
    content = mutations.mutate(trial.kind, path.read_bytes(), random)
    path.unlink()
    path.write_bytes(content)
