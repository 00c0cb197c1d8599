"""Whole files of every kind, made by the programs themselves: what the campaign damages, and works on."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
WEIGHTS, DEPLOY = "run/weights.caffemodel", "run/deploy.prototxt"
ORDINARY_WEIGHTS, ORDINARY_DEPLOY = (
    "ordinary/weights.caffemodel",
    "ordinary/deploy.prototxt",
)  # which can be converted
HDF5_WEIGHTS, UNFINISHED = (
    "run/weights.h5",
    "out_run",
)  # a run that has some iterations to go, and two snapshots
_SNAPSHOT = "snapshots/digits_tiny_acu_iter_20"
STATE, SNAPSHOT = f"{UNFINISHED}/{_SNAPSHOT}.solverstate", f"{UNFINISHED}/{_SNAPSHOT}.caffemodel"
ADOPTED = {
    "lmdb": "adopted/lmdb",
    "leveldb": "out_leveldb",
    "hdf5": "adopted/hdf5",
}  # to open a LevelDB writes into it
LISTED = "adopted/listed"  # a manifest about lists of images


def make(folder):
    """Fills the new ``folder``: ``data`` (digits), ``model`` (a tiny network), ``run`` and ``ordinary`` (trainings of it,
    with an active convolution and without), UNFINISHED; ``images``, the same as archives and as databases of other tools,
    and ``train.txt``, ``test.txt`` and ``train.csv``, which list them; LISTED, which makes a data set of the former."""
    from data_samples import packed, write_tree
    from training_runs import write_model

    folder.mkdir(parents=True)
    write_model(folder / "model", test_iter=[1], test_interval=10, snapshot=10, display=5)
    acu("data digits --output data", folder)
    for variant, run, weights in (
        ("acu", "run", WEIGHTS),
        ("baseline", "ordinary", ORDINARY_WEIGHTS),
    ):
        acu(f"train model --variant {variant} --data data --max-iter 20 --output {run}", folder)
        shutil.copy(next(folder.glob(f"{run}/snapshots/*_20.caffemodel")), folder / weights)
    acu(
        f"evaluate --model {DEPLOY} --weights {WEIGHTS} --data data --json run/evaluation.json",
        folder,
    )
    _unfinished(folder)
    write_tree(folder / "images", "cifar10")
    packed(folder / "images", ".tar")
    packed(folder / "images", ".tar.xz")
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for path in sorted(folder.glob("images/*/*/*.png")):
            archive.write(path, path.relative_to(folder))
    for split in ("train", "test"):
        names = sorted(
            path.relative_to(folder / "images") for path in folder.glob(f"images/{split}/*/*.png")
        )
        (folder / f"{split}.txt").write_text(
            "".join(f"{name} {index % 10}\n" for index, name in enumerate(names))
        )
    listed = (folder / "train.txt").read_text().replace(" ", ",")
    (folder / "train.csv").write_text(f"file,class\n{listed}")
    _of_other_tools(folder)


def _unfinished(folder):
    shutil.copytree(folder / "run", folder / UNFINISHED)
    solver = folder / UNFINISHED / "solver.prototxt"
    solver.write_text(solver.read_text().replace("max_iter: 20", "max_iter: 24"))


def _of_other_tools(folder):
    """Databases of ``images``, one of each kind, as the network reads the digits; and HDF5 weights."""
    import cv2
    import h5py
    import numpy as np
    from active_convolution.caffe import locate
    from active_convolution.data import preprocess

    for kind, adopted in ADOPTED.items():
        (folder / adopted).mkdir(parents=True)
        for split, size in (("train", 10), ("test", 8)):
            if kind == "hdf5":
                lines = [
                    line.split() for line in (folder / f"{split}.txt").read_text().splitlines()
                ]
                with h5py.File(folder / adopted / f"{split}.h5", "w") as file:
                    file["data"] = np.array(
                        [
                            cv2.resize(cv2.imread(str(folder / "images" / name), 0), (size, size))[
                                None
                            ]
                            for name, _ in lines
                        ],
                        np.float32,
                    )
                    file["label"] = np.array([int(label) for _, label in lines], np.float32)
            else:
                subprocess.run(
                    [
                        locate.BUILD / "out/tools/convert_imageset",
                        "--gray",
                        f"--resize_height={size}",
                        f"--resize_width={size}",
                        f"--backend={kind}",
                        "images/",
                        f"{split}.txt",
                        f"{adopted}/{split}",
                    ],
                    check=True,
                    cwd=folder,
                    capture_output=True,
                )
        acu(f"data adopt {adopted}", folder)
    acu(
        f"data adopt images --source train.txt --val-source test.txt --size 8x8 --output {LISTED}",
        folder,
    )
    preprocess.Whitening(np.zeros(3, np.float32), np.eye(3, dtype=np.float32)).save(
        folder / "whitening.npz"
    )
    net = locate.caffe().Net(
        str(folder / DEPLOY), locate.caffe().TEST, weights=str(folder / WEIGHTS)
    )
    net.save_hdf5(str(folder / HDF5_WEIGHTS))


def copy(corpus, folder):
    """A copy of the corpus that costs no space: nobody writes into its files, but for the logs."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(
        corpus,
        folder,
        copy_function=lambda old, new: (shutil.copy if old.endswith(".log") else os.link)(old, new),
    )


def acu(arguments, folder):
    done = subprocess.run(
        [*ACU, *arguments.split()], cwd=folder, env=environment(), capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(
            f"error: the campaign cannot begin, `acu {arguments}` ends with {done.returncode}: {done.stderr[-500:]}"
        )


ACU = (sys.executable, "-m", "active_convolution")


def environment(**more):
    """Of a program: one thread, no folder of the package's cache in the way."""
    paths = [str(ROOT / "python"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths), **more}
