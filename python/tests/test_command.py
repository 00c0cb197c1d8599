"""How the command lines end: full disks, closed pipes, folders of somebody else, odd terminals."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import ROOT, skip_where_others_cannot_look

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "python")}


def program(body):
    """A Python program whose ``main`` is ``body``."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    imports = "import os, signal, sys, time\nfrom active_convolution import command\n"
    return f"{imports}def main():\n{lines}command.run(main)"


def ended(body, **options):
    """(exit status, stdout, stderr)"""
    done = subprocess.run(
        [sys.executable, "-c", program(body)],
        text=True,
        timeout=60,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRONMENT, **options},
    )
    return done.returncode, done.stdout, done.stderr


def test_what_the_terminal_cannot_show_becomes_a_question_mark():
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii"}
    assert ended("print('3×3')", env=environment) == (0, "3?3\n", "")


@pytest.mark.parametrize(
    "error, said",
    [
        ("MemoryError()", "there is not enough memory for this"),
        ("OSError(28, 'No space left on device')", "cannot read or write: No space left on device"),
        ("PermissionError(13, 'Permission denied', 'a/b')", "cannot use a/b: Permission denied"),
        ("OSError(28, 'No space', b'a', None, 'b')", "cannot use a and b: No space"),
        ("UserError('one\\ntwo')", "one two"),
    ],
)
def test_what_the_machine_raises_is_one_line(error, said):
    status, stdout, stderr = ended(
        f"from active_convolution.errors import UserError\nraise {error}"
    )
    assert (status, stdout) == (1, "") and re.fullmatch(f"error: {said}.*\n", stderr)


@pytest.mark.parametrize(
    "body", ["print('a')", "print('a' * 1_000_000)", "print('a')\nsys.exit(0)"]
)
def test_a_pipe_that_nobody_reads_ends_it_quietly(body):
    process = subprocess.Popen(
        [sys.executable, "-c", program(f"sys.stdin.read()\n{body}")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == b"" and process.wait(timeout=60) == 128 + signal.SIGPIPE


@pytest.mark.parametrize(
    "body", ["print('a')", "print('a' * 1_000_000)", "print('a')\nsys.exit(0)"]
)
def test_a_full_device_for_stdout_is_one_line(body):
    with open("/dev/full", "w") as full:
        status, _, stderr = ended(body, stdout=full)
    assert status == 1 and re.fullmatch("error: .*No space left on device\n", stderr)


@pytest.mark.parametrize("body, status", [("return 0", 0), ("raise OSError(28, 'a')", 1)])
def test_work_goes_on_with_a_full_stderr(body, status):
    told = "import tqdm\nfor _ in tqdm.tqdm(range(3)):\n    print('b' * 100_000, file=sys.stderr)\n"
    with open("/dev/full", "w") as full:
        assert ended(f"{told}print('done')\n{body}", stderr=full)[:2] == (status, "done\n")


def test_libraries_warn_nobody_unless_python_was_told_to():
    body = "import logging, warnings\nwarnings.warn('w')\nlogging.getLogger('lib').warning('l')"
    assert ended(body) == (0, "", "")
    assert "Warning: w" in ended(body, env={**ENVIRONMENT, "PYTHONWARNINGS": "default"})[2]


@pytest.mark.skipif(
    os.geteuid() == 0 and not shutil.which("setpriv"),
    reason="root may enter any folder, without setpriv",
)
@pytest.mark.parametrize(
    "arguments",
    [
        "train {0}/model --variant acu --data {0}/data --output {0}/run",
        "data digits --output {0}/data",
        "evaluate --model {0}/a.prototxt --weights {0}/b.caffemodel --data {0}/data",
        "plot {0}/run --output {0}/picture.png",
        "export --model {0}/a.prototxt --weights {0}/b.caffemodel --output {0}/out",
        "report {0}/run --output {0}/page.html",
        "convert --model {0}/a.prototxt --output {0}/out",
        "reproduce --table 2 --data {0}/data --runs {0}/out",
    ],
)
def test_every_command_says_so_of_a_folder_of_somebody_else(tmp_path, arguments):
    skip_where_others_cannot_look()
    (tmp_path / "theirs").mkdir(mode=0o700)
    for each in (tmp_path, *list(tmp_path.parents)[:2]):
        each.chmod(0o755)
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if os.geteuid() != 0:
        (tmp_path / "theirs").chmod(0)
    program = [sys.executable, "-m", "active_convolution"]
    done = subprocess.run(
        [*(as_nobody if os.geteuid() == 0 else []), *program]
        + arguments.format(tmp_path / "theirs/x").split(),
        capture_output=True,
        text=True,
        timeout=300,
        env={**ENVIRONMENT, "HOME": "/nonexistent"},
    )
    assert done.returncode in (1, 2) and re.fullmatch("error: .*\n", done.stderr), done.stderr
    assert "theirs" in done.stderr
