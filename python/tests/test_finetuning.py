"""The way from an ordinary network to a finetuned active one, by the commands of
docs/training.md."""

import os
import subprocess

import numpy as np
import pytest
from active_convolution.caffe import positions
from conftest import ROOT
from test_docs import blocks, marked
from training_runs import column, rows

pytestmark = pytest.mark.slow


def test_the_manuals_commands_lose_nothing_and_learn(tmp_path):
    """The active network begins with the ordinary one's error, to the last image, and ends with
    less than half of it: on these digits some 10 % instead of 90 %."""
    (block,) = marked(ROOT / "docs/training.md", "runs in python/tests/test_finetuning.py")
    path = os.pathsep.join([f"{ROOT}/scripts", os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    for command in blocks(block):
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert "weights.caffemodel: weights of 25 layers copied\n" in done.stderr
    ordinary, tuned = (rows(tmp_path / f"runs/{name}") for name in ("ordinary", "finetuned"))
    first, last = tuned[0], tuned[-1]
    assert first["iteration"] == 0
    assert first["test_error"] == pytest.approx(ordinary[-1]["test_error"], abs=1e-6)
    assert last["test_error"] < 0.5 * first["test_error"]
    assert last["test_loss"] < 0.5 * first["test_loss"]
    assert len(column(tmp_path / "runs/finetuned", "loss")) > 60
    moved = [
        np.abs(layer.xy - layer.start).max()
        for layer in positions.load_run(tmp_path / "runs/finetuned").layers()
    ]
    assert len(moved) == 6 and min(moved) > 0
