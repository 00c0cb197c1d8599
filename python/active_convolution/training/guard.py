"""Runs Caffe in a process of its own: a failed check inside Caffe ends the process, and only a parent can say so.

The process is a new one, not a fork: OpenMP's threads, once in use, do not survive a fork.
"""
import ctypes
import fcntl
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from ..errors import UserError

_PACKAGES = Path(__file__).resolve().parents[2]
_PR_SET_PDEATHSIG = 1  # of Linux's prctl
_STOPS = (signal.SIGINT, signal.SIGTERM)


def guarded(arguments, log):
    """Runs ``python3 -m active_convolution.training`` with ``arguments``; ``log`` is the file where it lets Caffe log.

    Returns its exit status. Raises UserError with Caffe's own last words where Caffe ended the process, and
    KeyboardInterrupt where Ctrl-C or SIGTERM did, before the process could handle them.
    """
    written = log.stat().st_size if log.exists() else 0
    sys.stdout.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)  # in the child, too: a signal must not get lost while Python starts
    child = subprocess.Popen([sys.executable, "-m", __package__, *map(str, arguments)], env=_environment())
    before = {number: signal.signal(number, lambda number, _: child.send_signal(number)) for number in _STOPS}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    try:
        status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if -status in _STOPS:
        raise KeyboardInterrupt
    if status < 0:
        raise UserError(f"Caffe ended the training: {_last_words(log, written, -status)} (the log: {log})")
    return status


def _environment():
    """This process's, with the package in reach, and modules that lie in the working directory out of it."""
    paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    # A thread that spins while it waits takes the core from one that works, wherever anything else runs.
    return {"OMP_WAIT_POLICY": "passive", **os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}


def _last_words(log, start, number):
    """Caffe's fatal line in what was logged from byte ``start`` on, without its prefix."""
    if log.exists():
        with open(log, "rb") as file:
            file.seek(start)
            fatal = re.findall(r"^F\d+ \S+ +\d+ [\w.]+:\d+\] (.*)$", file.read().decode(errors="replace"), re.MULTILINE)
        if fatal:
            return fatal[-1]
    return signal.Signals(number).name


def stop_at_once():
    """Lets SIGINT and SIGTERM, held back since the parent started this process, end it without a word until somebody
    handles them."""
    for number in _STOPS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)


def end_with_parent():
    """Lets this process be killed when its parent ends: what ``kill -9`` takes away should not go on training."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def log_to(log):
    """Appends what goes to file descriptor 2, Caffe's log, to the file ``log``; sys.stderr stays where it was.

    Raises UserError where ``log`` cannot be written, or another process has it in use in this way.
    """
    try:
        with open(log, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process ends: descriptor 2 keeps it
            sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
            os.dup2(file.fileno(), 2)
    except BlockingIOError as error:
        raise UserError(f"another process is training into {log.parent}: wait for its end, or stop it") from error
    except OSError as error:
        raise UserError(f"cannot write {log}: {error.strerror}") from error


def check_gpu(device):
    """Raises UserError unless this build of Caffe can use GPU ``device``: asks in a process that may die of it."""
    probe = ("import sys; from active_convolution import fork; caffe = fork.caffe(); "
             "caffe.set_mode_gpu(); caffe.set_device(int(sys.argv[1]))")
    done = subprocess.run([sys.executable, "-c", probe, str(device)], env=_environment(), capture_output=True,
                          text=True)
    if done.returncode != 0:
        fatal = re.findall(r"^F.*\] (.*)$", done.stderr, re.MULTILINE)
        reason = fatal or done.stderr.splitlines() or [f"exit status {done.returncode}"]
        raise UserError(f"cannot use GPU {device} ({reason[-1]}): "
                        "build with ./scripts/build.sh --gpu, source that build's env.sh, or leave --gpu out")
