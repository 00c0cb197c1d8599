"""The README's first command, with the build there is."""

import os
import re
import subprocess

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow


def test_the_demo_shows_that_active_convolutions_are_better(tmp_path):
    done = subprocess.run(
        [ROOT / "scripts/demo.sh"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    parts = re.findall(r"part \d of 6: ordinary ([\d.]+) %, active ([\d.]+) %", done.stdout)
    ordinary, active = (sum(map(float, errors)) / 6 for errors in zip(*parts, strict=True))
    assert len(parts) == 6 and active < ordinary < 15
    said = dict(re.findall(r"^  (\S+ \S+) +([\d.]+) ± [\d.]+ %$", done.stdout, re.MULTILINE))
    assert float(said["ordinary convolutions"]) == pytest.approx(ordinary, abs=0.01)
    assert float(said["active convolutions"]) == pytest.approx(active, abs=0.01)
    difference, error = map(
        float, re.search(r"the difference +([\d.]+) ± ([\d.]+) %", done.stdout).groups()
    )
    assert difference == pytest.approx(ordinary - active, abs=0.01) and difference > 2 * error
    picture = re.search(r"^Learned positions: (.+)$", done.stdout, re.MULTILINE)[1]
    assert picture == str(tmp_path / "runs/demo/positions.png") and os.path.getsize(picture) > 10000
    assert done.stdout.endswith("Demo finished.\n")


def test_a_training_that_fails_ends_the_demo_with_its_words(tmp_path):
    (tmp_path / "data/digits16/1").mkdir(parents=True)  # a folder, but no data set
    done = subprocess.run([ROOT / "scripts/demo.sh"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "Demo finished" not in done.stdout
    assert done.stderr.startswith("error: ") and "data/digits16/1" in done.stderr
