"""How the command lines end: signals, closed pipes, and terminals that cannot show everything."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import ROOT, skip_where_others_cannot_look


def program(body):
    """A Python program whose ``main`` is ``body``."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    imports = "import os, signal, sys, time\nfrom active_convolution import command\n"
    return f"{imports}def main():\n{lines}"


def start(code, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "python"), **environment},
    )


def ended(code, **environment):
    """(exit status, stdout, stderr)"""
    process = start(code, **environment)
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


HALF_WRITTEN = """\
from active_convolution.files import whole_folder
with whole_folder(sys.argv[0]):
    print("begun", flush=True)
    time.sleep(60)"""


@pytest.mark.parametrize(
    "before, status",
    [
        ("", 128 + signal.SIGTERM),
        (
            "signal.signal(signal.SIGINT, signal.SIG_IGN)",
            128 + signal.SIGTERM,
        ),  # as a shell starts a job of a script
        (
            "from active_convolution.caffe.process import stop_at_once; stop_at_once()",
            -signal.SIGTERM,
        ),
    ],
)
def test_sigterm_cleans_up_unless_the_process_is_to_end_at_once(tmp_path, before, status):
    process = start(
        f"{program(HALF_WRITTEN)}\nsys.argv = [{str(tmp_path / 'out')!r}]\n{before}\ncommand.run(main)"
    )
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (status, "", "")
    assert any(tmp_path.iterdir()) == (status < 0)


def test_sigterm_that_is_ignored_stays_so():
    code = program("os.kill(os.getpid(), signal.SIGTERM)\nprint('goes on')")
    assert ended(f"{code}\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ncommand.run(main)") == (
        0,
        "goes on\n",
        "",
    )


def test_what_the_terminal_cannot_show_becomes_a_question_mark():
    assert ended(program("print('3×3')") + "command.run(main)", PYTHONIOENCODING="ascii") == (
        0,
        "3?3\n",
        "",
    )


@pytest.mark.parametrize(
    "body", ["print('a')", "print('a' * 1_000_000)", "print('a')\nsys.exit(0)"]
)
def test_a_pipe_that_nobody_reads_ends_it_quietly(body):
    process = start(program(f"sys.stdin.read()\n{body}") + "command.run(main)")
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(timeout=60) == 128 + signal.SIGPIPE


def test_another_broken_pipe_is_an_error():
    status, _, stderr = ended(program("raise BrokenPipeError('mine')") + "command.run(main)")
    assert status == 1 and stderr.endswith("BrokenPipeError: mine\n")


# ---- The surroundings


def test_a_folder_that_one_may_not_enter_is_one_line(tmp_path):
    body = f"import errno\nraise PermissionError(errno.EACCES, os.strerror(errno.EACCES), {str(tmp_path / 'deep/file')!r})"
    assert ended(program(body) + "command.run(main)") == (
        1,
        "",
        f"error: cannot use {tmp_path}/deep/file: Permission denied\n",
    )


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
        "reproduce --table 2 --data {0}/data --output {0}/out",
    ],
)
def test_every_command_says_so_of_a_folder_of_somebody_else(tmp_path, arguments):
    skip_where_others_cannot_look()
    (tmp_path / "theirs").mkdir(mode=0o700)
    for each in (tmp_path, *list(tmp_path.parents)[:2]):
        each.chmod(0o755)
    prefix = (
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    )
    if os.geteuid() != 0:
        (tmp_path / "theirs").chmod(0)
    done = subprocess.run(
        [
            *prefix,
            sys.executable,
            "-m",
            "active_convolution",
            *arguments.format(tmp_path / "theirs/x").split(),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT / "python"), "HOME": "/nonexistent"},
    )
    assert done.returncode in (1, 2) and re.fullmatch("error: .*\n", done.stderr), done.stderr
    assert "theirs" in done.stderr


@pytest.mark.parametrize(
    "error, said",
    [
        ("MemoryError()", "there is not enough memory for this"),
        ("OSError(28, 'No space left on device')", "cannot read or write: No space left on device"),
        (
            "OSError(28, 'No space left on device', b'a', None, 'b')",
            "cannot use a and b: No space left on device",
        ),
        ("UserError('one\\ntwo')", "one two"),
    ],
)
def test_what_the_machine_raises_is_one_line(error, said):
    status, stdout, stderr = ended(
        program(f"from active_convolution.errors import UserError\nraise {error}")
        + "command.run(main)"
    )
    assert (status, stdout) == (1, "") and re.fullmatch(f"error: {said}.*\n", stderr)


def test_a_name_that_is_not_utf_8_is_one_line():
    status, _, stderr = ended(program("'a\\udcff'.encode()") + "command.run(main)")
    assert status == 1 and re.fullmatch(
        r"error: the name 'a\\udcff' is no text in UTF-8.*\n", stderr
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "body", ["print('a')", "print('a' * 1_000_000)", "print('a')\nsys.exit(0)"]
)
def test_a_full_device_for_stdout_is_one_line(body, unbuffered):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program(body) + "command.run(main)"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "python"), "PYTHONUNBUFFERED": unbuffered},
        )
    assert done.returncode == 1 and re.fullmatch("error: .*No space left on device\n", done.stderr)


@pytest.mark.parametrize(
    "body, status", [("return 0", 0), ("sys.exit('error: a')", 1), ("raise OSError(28, 'a')", 1)]
)
def test_work_goes_on_with_a_full_stderr(body, status):
    told = "import tqdm\nfor _ in tqdm.tqdm(range(3)):\n    print('b' * 100_000, file=sys.stderr)\nprint('done')\n"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program(told + body) + "command.run(main)"],
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
        )
    assert (done.returncode, done.stdout) == (status, "done\n")


def test_libraries_warn_nobody_unless_python_was_told_to(tmp_path):
    code = (
        program(
            "import logging, warnings\nwarnings.warn('w')\nlogging.getLogger('lib').warning('l')"
        )
        + "command.run(main)"
    )
    assert ended(code) == (0, "", "")
    assert "UserWarning: w" in ended(code, PYTHONWARNINGS="default")[2]
