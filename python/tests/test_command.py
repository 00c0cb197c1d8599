"""How the command lines end: signals, closed pipes, and terminals that cannot show everything."""
import os
import signal
import subprocess
import sys

import pytest

from conftest import ROOT


def program(body):
    """A Python program whose ``main`` is ``body``."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"import os, signal, sys, time\nfrom active_convolution import command\ndef main():\n{lines}"


def start(code, **environment):
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "PYTHONPATH": str(ROOT / "python"), **environment})


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


@pytest.mark.parametrize("before, status", [
    ("", 128 + signal.SIGTERM),
    ("signal.signal(signal.SIGINT, signal.SIG_IGN)", 128 + signal.SIGTERM),     # as a shell starts a job of a script
    ("from active_convolution.pycaffe.process import stop_at_once; stop_at_once()", -signal.SIGTERM)])
def test_sigterm_cleans_up_unless_the_process_is_to_end_at_once(tmp_path, before, status):
    process = start(f"{program(HALF_WRITTEN)}\nsys.argv = [{str(tmp_path / 'out')!r}]\n{before}\ncommand.run(main)")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (status, "", "")
    assert any(tmp_path.iterdir()) == (status < 0)


def test_sigterm_that_is_ignored_stays_so():
    code = program("os.kill(os.getpid(), signal.SIGTERM)\nprint('goes on')")
    assert ended(f"{code}\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ncommand.run(main)") == (0, "goes on\n", "")


def test_what_the_terminal_cannot_show_becomes_a_question_mark():
    assert ended(program("print('3×3')") + "command.run(main)", PYTHONIOENCODING="ascii") == (0, "3?3\n", "")


@pytest.mark.parametrize("body", ["print('a')", "print('a' * 1_000_000)", "print('a')\nsys.exit(0)"])
def test_a_pipe_that_nobody_reads_ends_it_quietly(body):
    process = start(program(f"sys.stdin.read()\n{body}") + "command.run(main)")
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(timeout=60) == 128 + signal.SIGPIPE


def test_another_broken_pipe_is_an_error():
    status, _, stderr = ended(program("raise BrokenPipeError('mine')") + "command.run(main)")
    assert status == 1 and stderr.endswith("BrokenPipeError: mine\n")


def test_a_closed_stdout_is_none():
    assert ended("import os; os.close(1)\nimport sys; sys.stdout = None\n"
                 + program("print('a')") + "command.run(main)") == (0, "", "")
