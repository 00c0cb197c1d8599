"""docs/kernel.md: its one command compiles the three steps of the CPU's kernel, and they agree."""

import re
import subprocess

from conftest import ROOT
from test_docs import blocks, marked


def test_steps_agree(tmp_path):
    (block,) = marked(ROOT / "docs/kernel.md", "runs in python/tests/test_kernel_steps.py")
    (command,) = blocks(block)
    for folder in ("include", "tools"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = re.findall(r"^(plain loops|tiles|vectors of \d+) .*GFLOP/s", done.stdout, re.MULTILINE)
    assert len(steps) == 3, done.stdout
