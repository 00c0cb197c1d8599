"""What all scripts have in common."""
import os
import subprocess

import pytest

from conftest import ROOT

SCRIPTS = sorted(path.relative_to(ROOT) for path in [*ROOT.glob("scripts/*"), ROOT / "docker/check.sh"]
                 if path.is_file() and os.access(path, os.X_OK))     # others are for scripts to read


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_every_script_tells_its_use_from_any_folder(script):
    for name in ("-h", "--help"):
        done = subprocess.run([f"./{script.name}", name], cwd=(ROOT / script).parent, capture_output=True, text=True)
        assert done.returncode == 0 and script.name in done.stdout and not done.stderr
