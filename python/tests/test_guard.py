"""The one guard: what ends the child of a command becomes one line, and signals, statuses and pipes
are passed on."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT


def start(body, **environment):
    """A program whose guarded ``main`` is ``body``; a Popen."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    code = (
        "import ctypes, os, signal, sys, time\nfrom active_convolution.caffe import guard\n"
        f"from active_convolution.caffe.guard import doing\ndef main():\n{lines}guard.run(main)"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "python"), **environment},
    )


def ended(body, **environment):
    """(exit status, stdout, stderr)"""
    process = start(body, **environment)
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


FATAL = (
    r"os.write(2, b'F1201 11:33:24.123456  1 net.cpp:12] Check failed: it is wrong \n"
    r"*** Check failure stack trace: ***\n')"
)


@pytest.mark.parametrize(
    "body, said",
    [
        (f"{FATAL}\nos.abort()", "Caffe: Check failed: it is wrong"),
        (
            f"with doing('reading a'):\n    {FATAL}\n    os.abort()",
            "reading a: Caffe: Check failed: it is wrong",
        ),
        (
            "with doing('a'):\n    with doing('b'):\n        pass\n    os.abort()",
            "a: a fault in Caffe or a library ended it .SIGABRT.",
        ),
        (
            "with doing('a'):\n    pass\nctypes.string_at(0)",
            "a fault in Caffe or a library ended it .SIGSEGV.",
        ),
        ("with doing('a'):\n    os.kill(os.getpid(), 9)", "a: there is not enough memory .*"),
        (
            r"os.write(2, b'terminate called after throwing an instance of \'std::bad_alloc\'\n')"
            "\nos.abort()",
            "there is not enough memory .*",
        ),
        (
            r"os.write(2, b'terminate called after throwing\n  what():  a reason\n')"
            "\nos.abort()",
            "Caffe: a reason",
        ),
        (
            r"os.write(2, b'double free or corruption\n')" "\nos.abort()",
            "a fault in Caffe or a library ended it .SIGABRT.",
        ),
    ],
)
def test_what_ends_the_child_is_one_line(body, said):
    status, stdout, stderr = ended(body)
    assert (status, stdout) == (1, "") and re.fullmatch(f"error: {said}\n", stderr), stderr


def test_the_line_follows_a_progress_bar():
    body = "import tqdm\nbar = tqdm.tqdm(total=3)\nbar.update(1)\nos.abort()"
    assert ended(body)[2].endswith("\nerror: a fault in Caffe or a library ended it (SIGABRT)\n")


def test_a_log_elsewhere_is_read(tmp_path):
    path = str(tmp_path / "log")
    (tmp_path / "log").write_text("F1201 11:33:24.123456  1 net.cpp:12] of a former run\n")
    log = f"os.open({path!r}, os.O_WRONLY | os.O_APPEND)"
    dies = "\n".join(f"    {line}" for line in f"{FATAL}\nos.abort()".splitlines())
    body = f"with guard.log_to({log}, {path!r}):\n{dies}"
    words = "Check failed: it is wrong"
    assert ended(body)[2] == (f"error: Caffe: {words} (the log: {tmp_path}/log)\n")
    assert words in (tmp_path / "log").read_text()


def test_exceptions_say_what_was_done():
    assert ended("with doing('a'):\n    raise MemoryError")[2].startswith(
        "error: a: there is not enough"
    )


def test_a_failed_check_may_be_an_exception(tmp_path):
    """... of pycaffe's, which says so in one line; a user's own exception keeps its traceback."""
    (tmp_path / "caffe").mkdir()
    for name in ("caffe/library.py", "layers.py"):
        (tmp_path / name).write_text(
            "class Error(RuntimeError):\n    pass\ndef fail():\n    raise Error('it is wrong')\n"
        )
    path = f"{tmp_path}:{tmp_path}/caffe"
    body = f"sys.path[:0] = {path!r}.split(':')\nimport {{0}}\nwith doing('a'):\n    {{0}}.fail()"
    assert ended(body.format("library")) == (1, "", "error: a: Caffe: it is wrong\n")
    assert ended(body.format("layers"))[2].endswith("layers.Error: it is wrong\n")


def test_status_and_output_are_passed_on():
    body = (
        "print(sys.stdin.read())\nos.write(2, b'chatter')\nprint('said', file=sys.stderr)\nreturn 7"
    )
    process = start(body)
    assert process.communicate("given", timeout=60) == ("given\n", "said\n")
    assert process.returncode == 7


def test_libraries_may_fill_a_disk_with_what_they_say():
    assert ended("os.write(2, b'x' * 10_000_000)") == (0, "", "")


WAITING = """\
from active_convolution import command
signal.signal(signal.SIGHUP, signal.SIG_DFL)
command._let_stops_clean_up()
try:
    print('begun', flush=True)
    time.sleep(60)
finally:
    time.sleep(0.3)
    print('cleaned')"""


@pytest.mark.parametrize("send", [os.kill, os.killpg])
@pytest.mark.parametrize(
    "number, said", [(signal.SIGINT, "interrupted\n"), (signal.SIGTERM, ""), (signal.SIGHUP, "")]
)
def test_stops_clean_up(number, said, send):
    """Whether the process alone hears of it (kill), or its child, too (a terminal, timeout)."""
    process = start(WAITING)
    assert process.stdout.readline() == "begun\n"
    send(process.pid, number)
    assert process.communicate(timeout=60) == ("cleaned\n", said)
    assert process.returncode == 128 + number


def test_the_child_ends_with_its_parent():
    process = start("print(os.getpid(), flush=True)\ntime.sleep(60)")
    child = int(process.stdout.readline())
    process.kill()
    process.wait(60)
    for _ in range(100):
        if not os.path.exists(f"/proc/{child}"):
            return
        time.sleep(0.02)
    with open(f"/proc/{child}/stat") as file:
        assert file.read().split()[2] == "Z"


def test_a_pipe_that_nobody_reads_ends_it_quietly():
    process = start("sys.stdin.read()\nprint('a' * 1_000_000)")
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == "" and process.wait(60) == 128 + signal.SIGPIPE
