"""How many Python processes a command is: two, the guard and its child, whatever it verifies."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow

COUNTING = """\
import os
def note():
    with open(os.environ["COUNTED"], "a") as file:
        file.write("x")
note()
os.register_at_fork(after_in_child=note)
"""


@pytest.fixture(scope="module")
def acu(tmp_path_factory):
    """Runs ``acu`` in a folder of its own; gives how many Python processes that were."""
    folder = tmp_path_factory.mktemp("acu")
    (folder / "site").mkdir()
    (folder / "site/sitecustomize.py").write_text(COUNTING)
    paths = [str(folder / "site"), str(ROOT / "python"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": ":".join(paths), "OMP_NUM_THREADS": "1"}

    def run(arguments):
        counted = folder / "counted"
        counted.write_text("")
        done = subprocess.run(
            [sys.executable, "-m", "active_convolution", *arguments.split()],
            cwd=folder,
            capture_output=True,
            text=True,
            env={**environment, "COUNTED": str(counted)},
        )
        assert done.returncode == 0, done.stderr
        return len(counted.read_text())

    return run


def test_a_command_is_two_processes(acu, tiny, digits_data):
    trained = f"train {tiny} --data {digits_data} --max-iter 2"
    assert acu(f"{trained} --variant acu --output run") == 2
    assert acu(f"{trained} --variant baseline --output plain") == 2
    for command in (
        "evaluate run",
        "export run --output dense",
        "plot run --output picture.png",
        "report run --output page.html",
        "convert plain --output active",
    ):
        assert acu(command) <= 2, command
