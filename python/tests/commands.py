"""The command ``acu``, as a user runs it."""

import os
import subprocess

from conftest import ROOT


def acu(*arguments, folder=None, **environment):
    """Runs it to its end in ``folder``, with one thread; the CompletedProcess, its output as
    text."""
    return subprocess.run(
        [ROOT / "scripts/acu", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def refused(*arguments, status=1):
    """What it says in its one line, where it is to refuse something."""
    done = acu(*arguments)
    assert (done.returncode, done.stdout) == (status, ""), done
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr
