"""Runs Caffe in a process of its own: a failed check inside Caffe ends the process, and only a parent can say so."""
import os
import re
import signal
import subprocess
import sys
import traceback
from pathlib import Path

from ..errors import UserError


def guarded(work, log):
    """Calls ``work(terminal)`` in a child process whose stderr, where Caffe logs, is appended to the file ``log``.

    ``terminal`` is a text stream to the real stderr. Returns what ``work`` returns, an exit status. Raises UserError
    with Caffe's own last words where Caffe ended the process. Ctrl-C and SIGTERM are the child's to handle.
    """
    sys.stdout.flush()
    written = log.stat().st_size if log.exists() else 0
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to both processes
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os._exit(_child(work, log))
    terminate = signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    try:
        status = os.waitpid(child, 0)[1]
    finally:
        signal.signal(signal.SIGTERM, terminate)
        signal.signal(signal.SIGINT, interrupt)
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    raise UserError(f"Caffe ended the training: {_last_words(log, written, os.WTERMSIG(status))} (the log: {log})")


def _child(work, log):
    """Runs ``work`` and turns its end into an exit status."""
    with os.fdopen(os.dup(2), "w", buffering=1) as terminal, open(log, "a") as file:
        os.dup2(file.fileno(), 2)
        try:
            return work(terminal)
        except UserError as error:
            print(f"error: {error}", file=terminal)
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        except Exception:
            traceback.print_exc(file=terminal)
        finally:
            sys.stdout.flush()
    return 1


def _last_words(log, start, number):
    """Caffe's fatal line in what was logged from byte ``start`` on, without its prefix."""
    with open(log, "rb") as file:
        file.seek(start)
        text = file.read().decode(errors="replace")
    fatal = re.findall(r"^F\d+ \S+ +\d+ ([\w.]+:\d+)\] (.*)$", text, re.MULTILINE)
    return fatal[-1][1] if fatal else signal.Signals(number).name


def check_gpu(device):
    """Raises UserError unless this build of Caffe can use GPU ``device``; asks in another process, which may die of it."""
    probe = ("import sys; sys.path.insert(0, sys.argv[1]); from active_convolution import fork; caffe = fork.caffe(); "
             "caffe.set_mode_gpu(); caffe.set_device(int(sys.argv[2]))")
    package = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", probe, package, str(device)], capture_output=True, text=True)
    if done.returncode != 0:
        fatal = re.findall(r"^F.*\] (.*)$", done.stderr, re.MULTILINE)
        raise UserError(f"cannot use GPU {device} ({fatal[-1] if fatal else done.stderr.strip()[-200:]}): "
                        "build with ./scripts/build.sh --gpu, source that build's env.sh, or leave --gpu out")
