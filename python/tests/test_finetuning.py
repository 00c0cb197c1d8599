"""The three commands of docs/training.md that finetune an ordinary network as an active one, on real images."""

import subprocess
import sys

import numpy as np
import pytest
from active_convolution.caffe import positions, process
from active_convolution.training.metrics import Metrics

pytestmark = pytest.mark.slow

LENGTH = 60


@pytest.fixture
def acu(tmp_path):
    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "active_convolution", *map(str, arguments)],
            cwd=tmp_path,
            text=True,
            capture_output=True,
            env={**process.environment(), "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return done

    return run


def test_three_commands_end_better_than_they_began(acu, shared_data, tmp_path):
    """1,000 of CIFAR-10's training images, and 200 for testing, 16×16 pixels of each at a time."""
    with np.load(shared_data / "cifar10-lossless-part.npz") as images:
        np.savez(
            tmp_path / "part.npz",
            X=images["X"][:1000],
            Y=images["Y"][:1000],
            xt=images["xt"][:200],
            yt=images["yt"][:200],
        )
    acu("data", "cifar10", "--source", "part.npz", "--output", "data")
    acu("models", "new", "small", "--like", "cifar10/plain", "--data", "data", "--size", 16)

    acu(
        "train",
        "small",
        "--variant",
        "baseline",
        "--data",
        "data",
        "--output",
        "runs/ordinary",
        "--max-iter",
        LENGTH,
        "--batch",
        16,
    )
    acu(
        "convert",
        "--model",
        "runs/ordinary/train_val.prototxt",
        "--output",
        "acu",
        "--warmup-iter",
        10,
        "--weights",
        f"runs/ordinary/snapshots/small_plain_baseline_iter_{LENGTH}.caffemodel",
    )
    done = acu(
        "train",
        "acu",
        "--solver",
        "runs/ordinary/solver.prototxt",
        "--weights",
        "acu/weights.caffemodel",
        "--lr",
        0.01,
        "--max-iter",
        40,
        "--set",
        "solver.test_initialization=true",
        "--data",
        "data",
        "--output",
        "runs/finetuned",
    )

    assert "weights.caffemodel: weights of 25 layers copied\n" in done.stderr
    ordinary, tuned = (
        Metrics.load(tmp_path / f"runs/{name}/metrics.csv") for name in ("ordinary", "finetuned")
    )
    first, last = tuned.rows[0], tuned.rows[-1]
    assert first["iteration"] == 0 and first["test_error"] == pytest.approx(
        ordinary.last("test_error"), abs=1e-6
    )
    assert last["test_error"] <= first["test_error"] and last["test_loss"] < first["test_loss"]
    moved = [
        np.abs(layer.xy - layer.start).max()
        for layer in positions.load_run(tmp_path / "runs/finetuned").layers()
        if layer.xy.shape[1] > 1
    ]
    assert len(moved) == 6 and min(moved) > 0
    acu(
        "evaluate",
        "--model",
        "runs/finetuned/deploy.prototxt",
        "--data",
        "data",
        "--weights",
        "runs/finetuned/snapshots/small_plain_baseline_iter_40.caffemodel",
    )  # the deploy that nobody wrote
