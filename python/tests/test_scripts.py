"""What all scripts have in common."""

import os
import re
import subprocess

import pytest
from conftest import ROOT

SCRIPTS = sorted(
    path.relative_to(ROOT)
    for path in [*ROOT.glob("scripts/*"), ROOT / "docker/check.sh"]
    if path.is_file() and os.access(path, os.X_OK)
)  # others are for scripts to read


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_every_script_tells_its_use_from_any_folder(script):
    for name in ("-h", "--help"):
        done = subprocess.run(
            [f"./{script.name}", name], cwd=(ROOT / script).parent, capture_output=True, text=True
        )
        assert done.returncode == 0 and script.name in done.stdout and not done.stderr


SHELL = [
    path
    for path in [*ROOT.glob("scripts/*"), *ROOT.glob("docker/*"), *ROOT.glob(".ci/*")]
    if path.is_file() and "set -euo pipefail" in path.read_text()
]


@pytest.mark.parametrize("script", SHELL, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_script_is_ended_by_a_reader_that_stops_early(script):
    # Under pipefail the writer's SIGPIPE is the script's end (141), and only on some machines and
    # some days.
    early = re.compile(r"\|\s*(head\b|grep -(?!v)\w*[qm]|awk [^|]*\bexit\b|sed [^|]*\dq\b)")
    assert not [line for line in script.read_text().splitlines() if early.search(line)]
