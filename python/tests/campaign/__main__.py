"""Runs trials until the time is over, then prints how many of each kind there were, and how many
failed.

A trial works on a copy of a corpus of small whole files: it damages one of them (cuts it off, or
flips and blanks bytes) and runs a program that reads it; or fills the disk under a program; or
kills one, and runs it again.
"""

import argparse
import collections
import itertools
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from campaign import judging  # noqa: E402

MODEL = "--model run/deploy.prototxt --weights run/weights.caffemodel"
EVALUATE, EXPORT = f"evaluate {MODEL} --data", f"export {MODEL} --output out"
CONVERT = "convert --model plain/deploy.prototxt --weights plain/weights.caffemodel --output out"
IMAGE = "images/train/ant/0.png"
TRAIN, RESUME = "train model --variant acu --output out --data", "train --resume --output out_run"
DAMAGED = [  # a file, and what reads it
    ("run/weights.caffemodel", f"{EVALUATE} data"),
    ("run/weights.caffemodel", EXPORT),
    ("run/weights.caffemodel", "plot run/weights.caffemodel --output out.png"),
    ("run/weights.h5", "plot run/weights.h5 --output out.png"),
    ("plain/weights.caffemodel", CONVERT),
    ("run/deploy.prototxt", f"{EVALUATE} data"),
    ("model/acu/solver.prototxt", f"{TRAIN} data"),
    ("model/acu/train_val.prototxt", f"{TRAIN} data"),
    ("data/manifest.json", f"{TRAIN} data"),
    ("data/train_lmdb/data.mdb", f"{TRAIN} data"),
    ("data/test_lmdb/data.mdb", f"{EVALUATE} data"),
    ("run/positions.npz", "plot run --output out.png"),
    ("run/positions.npz", "report run --output out.html"),
    ("run/metrics.csv", "report run --output out.html"),
    (IMAGE, "data images --source images --output out"),
    *[
        (f"out_run/{name}", RESUME)
        for name in (
            "snapshots/digits_tiny_acu_iter_20.solverstate",
            "snapshots/digits_tiny_acu_iter_20.caffemodel",
            "positions.npz",
            "metrics.csv",
            "solver.prototxt",
        )
    ],
]
COMMANDS = [  # that are killed, and whose disk is full
    "data digits --output out",
    "data images --source images --output out",
    "models new out --like digits/plain --classes 10 --size 12",
    f"{TRAIN} data",
    f"{EVALUATE} data --json out",
    EXPORT,
    CONVERT,
    "plot run --output out.png",
    "report run --output out.html",
]


def make(folder):
    """Fills the new ``folder``: ``data`` (digits), ``model`` (a tiny network), ``run`` and
    ``plain`` (trainings of it, with an active convolution and without), ``out_run`` (one that has
    iterations to go) and ``images``."""
    from active_convolution.caffe import locate
    from data_samples import per_class
    from training_runs import write_model

    folder.mkdir(parents=True)
    write_model(
        folder / "model", test_iter=[1], test_interval=10, snapshot=10, display=5, max_iter=20
    )
    _acu("data digits --output data", folder)
    for variant, run in (("acu", "run"), ("baseline", "plain")):
        _acu(f"train model --variant {variant} --data data --output {run}", folder)
        weights = next(folder.glob(f"{run}/snapshots/*_20.caffemodel"))
        shutil.copy(weights, folder / run / "weights.caffemodel")
    shutil.copytree(folder / "run", folder / "out_run")
    solver = folder / "out_run/solver.prototxt"
    solver.write_text(solver.read_text().replace("max_iter: 20", "max_iter: 24"))
    caffe = locate.caffe()
    net = caffe.Net(str(folder / "run/deploy.prototxt"), caffe.TEST)
    net.copy_from(str(folder / "run/weights.caffemodel"))
    net.save_hdf5(str(folder / "run/weights.h5"))
    per_class(folder / "images")


def _acu(command, folder):
    status, said = judging.run(command, folder, 600)
    if status:
        raise SystemExit(
            f"error: the campaign cannot begin, `acu {command}` ends so: {said[-500:]}"
        )


def damaged(content, draw):
    """``content`` cut off, or with one to three ranges of it flipped, blanked or repeated."""
    if not content or draw.random() < 0.3:
        return content[: draw.randrange(len(content) + 1)]
    content = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 3))):
        at, length = draw.randrange(len(content)), draw.choice((1, 1, 4, 16, 300))
        part = content[at : at + length]
        how = draw.randrange(3)
        part = bytes(len(part)) if how == 1 else part + part if how == 2 else _flipped(part, draw)
        content[at : at + length] = part
    return bytes(content)


def _flipped(part, draw):
    return bytes(byte ^ 1 << draw.randrange(8) for byte in part)


class Campaign:
    """Trials in the folder ``scratch``. Each has a number, and its random numbers from that and the
    seed."""

    def __init__(self, scratch, arguments):
        self.corpus, self.folder, self.arguments = scratch / "corpus", scratch / "trial", arguments
        self.failures = arguments.failures / f"seed{arguments.seed}"
        self.tried, self.failed, self.undisturbed = collections.Counter(), collections.Counter(), {}
        make(self.corpus)

    def run(self):
        """The trials, the same ones with the same seed. Returns the exit status."""
        end = time.monotonic() + 60 * self.arguments.minutes
        first, most = self.arguments.first, self.arguments.trials
        for number in itertools.islice(itertools.count(first), most):
            if time.monotonic() > end:
                break
            draw = random.Random(f"{self.arguments.seed} {number}")
            self._fresh()
            kind = draw.choices((self._damage, self._fill, self._kill), (6, 2, 2))[0]
            name, wrong, said = kind(draw)
            self.tried[name] += 1
            if wrong:
                self._keep(number, name, wrong, said)
        for name, count in sorted(self.tried.items()):
            print(f"{name}: {count} trials, {self.failed[name]} failures")
        print(f"all: {self.tried.total()} trials, {self.failed.total()} failures")
        return 1 if self.failed else 0

    def _fresh(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.corpus, self.folder)

    def _damage(self, draw):
        name, command = draw.choice(DAMAGED)
        path = self.folder / name
        path.write_bytes(damaged(path.read_bytes(), draw))
        wrong = judging.judge(command, self.folder, self.arguments.patience)
        return f"a damaged {path.name}", wrong, command

    def _fill(self, draw):
        command, size = draw.choice(COMMANDS), draw.choice((0, 100, 5000, 30_000, 200_000))
        limit = "prlimit", f"--fsize={size}"  # no file grows larger: as on a full disk
        wrong = judging.judge(command, self.folder, self.arguments.patience, limit)
        return "a full disk", wrong, f"{' '.join(limit)} acu {command}"

    def _kill(self, draw):
        command = draw.choice(COMMANDS)
        if command not in self.undisturbed:
            _acu(command, self.folder)
            self.undisturbed[command] = judging.state(self.folder).keys()
            self._fresh()
        names = self.undisturbed[command]
        wrong = judging.kill(command, self.folder, draw, names, self.arguments.patience)
        return "kill -9, and again", wrong, command

    def _keep(self, number, name, wrong, said):
        self.failed[name] += 1
        kept = self.failures / str(number)
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(self.folder, kept, symlinks=True)
        (kept / "COMMAND").write_text(f"{said}\n{wrong}\n", errors="replace")
        print(f"trial {number} ({name}, acu {said}): {wrong}; in {kept}", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="campaign.sh", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, metavar="N")
    parser.add_argument("--trials", type=int, metavar="N", help="no more than these")
    parser.add_argument("--first", type=int, default=1, metavar="N", help="the trial to begin with")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--patience", type=float, default=60, help="seconds; what takes more hangs")
    parser.add_argument("--failures", type=Path, default=Path("build/campaign"), metavar="DIR")
    with tempfile.TemporaryDirectory() as scratch:
        return Campaign(Path(scratch), parser.parse_args()).run()


if __name__ == "__main__":
    sys.exit(main())
