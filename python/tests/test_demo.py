"""acu demo, which is the README's first command after the build."""

import os
import re
import subprocess

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow


def demo(folder):
    return subprocess.run(
        [ROOT / "scripts/acu", "demo"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_the_demo_shows_that_active_convolutions_are_better_and_goes_on_where_it_stopped(tmp_path):
    done = demo(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^  (\S+ \S+) +(-?[\d.]+) ± ([\d.]+) %$", done.stdout, re.MULTILINE)
    mean = {name: float(value) for name, value, _ in rows}
    ordinary, active = mean["ordinary convolutions"], mean["active convolutions"]
    assert active < ordinary < 15
    assert mean["the difference"] == pytest.approx(ordinary - active, abs=0.02)
    assert mean["the difference"] > 2 * float(rows[-1][2])
    picture = tmp_path / "runs/demo/positions.png"
    assert f"Learned positions: {picture}\n" in done.stdout and picture.stat().st_size > 10000
    assert re.search(r"^next: acu report ", done.stdout, re.MULTILINE)

    again = demo(tmp_path)
    assert again.returncode == 0  # without the lines that tell how each training ended
    assert again.stdout.split("Test error")[1] == done.stdout.split("Test error")[1]


def test_a_training_that_fails_ends_the_demo_with_its_words(tmp_path):
    (tmp_path / "runs/demo/data/1").mkdir(parents=True)  # a folder, but no data set
    done = demo(tmp_path)
    assert done.returncode == 1 and "Learned" not in done.stdout
    assert done.stderr.splitlines()[-1].startswith("error: ") and "data/1" in done.stderr
