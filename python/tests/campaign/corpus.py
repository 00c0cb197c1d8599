"""Whole files of every kind, made by the programs themselves: what the campaign damages, and works on."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
WEIGHTS, DEPLOY = "run/weights.caffemodel", "run/deploy.prototxt"
ORDINARY_WEIGHTS, ORDINARY_DEPLOY = "ordinary/weights.caffemodel", "ordinary/deploy.prototxt"    # which can be converted


def make(folder):
    """Fills the new ``folder``: ``data`` (digits), ``model`` (a tiny network), ``run`` and ``ordinary`` (trainings of
    it, with an active convolution and without), and ``images`` with ``images.tar``, ``train.txt`` and ``test.txt``."""
    from data_samples import packed, write_tree
    from training_runs import write_model
    folder.mkdir(parents=True)
    write_model(folder / "model", test_iter=[1], test_interval=10, snapshot=10, display=5)
    acu("data digits --output data", folder)
    for variant, run, weights in (("acu", "run", WEIGHTS), ("baseline", "ordinary", ORDINARY_WEIGHTS)):
        acu(f"train model --variant {variant} --data data --max-iter 20 --output {run}", folder)
        shutil.copy(next(folder.glob(f"{run}/snapshots/*_20.caffemodel")), folder / weights)
    write_tree(folder / "images", "cifar10")
    packed(folder / "images", ".tar")
    for split in ("train", "test"):
        names = sorted(path.relative_to(folder / "images") for path in folder.glob(f"images/{split}/*/*.png"))
        (folder / f"{split}.txt").write_text("".join(f"{name} {index % 10}\n" for index, name in enumerate(names)))


def acu(arguments, folder):
    done = subprocess.run([*ACU, *arguments.split()], cwd=folder, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: the campaign cannot begin, `acu {arguments}` ends with {done.returncode}: {done.stderr[-500:]}")


ACU = (sys.executable, "-m", "active_convolution")


def environment(**more):
    """Of a program: one thread, no folder of the package's cache in the way."""
    paths = [str(ROOT / "python"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths), **more}
