"""The three commands of docs/training.md that finetune an ordinary network as an active one."""

import os
import subprocess
import sys

import numpy as np
import pytest

from active_convolution.caffe import positions
from active_convolution.training.metrics import Metrics

pytestmark = pytest.mark.slow

BEGUN, TUNED = 100, 60  # iterations


@pytest.fixture
def acu(tmp_path):
    def run(arguments):
        done = subprocess.run(
            [sys.executable, "-m", "active_convolution", *arguments.split()],
            cwd=tmp_path,
            text=True,
            capture_output=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return done

    return run


def test_three_commands_end_better_than_they_began(acu, tmp_path):
    """On the digits: on any processor, whose last bits make another trajectory, by far."""
    acu("data digits --output data")
    acu("models new small --like digits/plain --data data")
    acu(
        "train small --variant baseline --data data --output runs/ordinary --lr 0.05 --batch 32 "
        f"--max-iter {BEGUN}"
    )
    weights = f"runs/ordinary/snapshots/small_plain_baseline_iter_{BEGUN}.caffemodel"
    acu(
        "convert --model runs/ordinary/train_val.prototxt --output acu --warmup-iter 10 "
        f"--weights {weights}"
    )
    done = acu(
        "train acu --solver runs/ordinary/solver.prototxt --weights acu/weights.caffemodel "
        f"--lr 0.01 --max-iter {TUNED} --set solver.test_initialization=true --data data --output runs/tuned"
    )
    assert "weights.caffemodel: weights of " in done.stderr
    ordinary, tuned = (
        Metrics.load(tmp_path / f"runs/{name}/metrics.csv") for name in ("ordinary", "tuned")
    )
    first, last = tuned.rows[0], tuned.rows[-1]
    assert first["iteration"] == 0
    assert first["test_error"] == pytest.approx(ordinary.last("test_error"), abs=1e-6)
    assert last["test_error"] < first["test_error"] < 0.7
    assert last["test_loss"] < 0.7 * first["test_loss"]
    moved = [
        np.abs(layer.xy - layer.start).max()
        for layer in positions.load_run(tmp_path / "runs/tuned").layers()
        if layer.xy.shape[1] > 1
    ]
    assert len(moved) >= 6 and min(moved) > 0
    snapshot = f"runs/tuned/snapshots/small_plain_baseline_iter_{TUNED}.caffemodel"
    acu(f"evaluate --model runs/tuned/deploy.prototxt --data data --weights {snapshot}")
