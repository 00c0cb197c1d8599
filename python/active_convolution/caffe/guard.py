"""The one guard: ``acu`` runs its sub-command in a child; what ends that child becomes one line.

A failed check inside Caffe ends a process, as do a fault in a C library and a lack of memory, and
only a parent can say so. So nothing asks Caffe first: call it, and say with ``doing`` what for.
"""

import contextlib
import ctypes
import mmap
import os
import re
import signal
import sys
from pathlib import Path

from .. import command
from ..errors import NO_MEMORY, plain

# SIGUSR1 is what mpirun passes on. A closed terminal sends SIGHUP, unless nohup had it ignored.
STOPS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGUSR1,
    *([] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]),
)
_PR_SET_PDEATHSIG = 1  # of Linux's prctl
_DOING, _LOG = "\x1e", "\x1f"  # begin the lines in the log that are the guard's own
_told = None  # in the child: the log that the parent reads
_at = ""  # what it is doing


def run(main):
    """Calls ``main()`` in a child and exits as it does: with what it returns, or as ``command.run``
    says.

    The child's file descriptor 2, where Caffe and C libraries write, is a file in memory: of what
    they say, only the last words of a child that dies of them are shown, with exit status 1.
    """
    log, shared = os.memfd_create("log"), mmap.mmap(-1, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {*STOPS, signal.SIGCHLD})
    parent, child = os.getpid(), os.fork()
    if child == 0:
        _enter(parent, log, shared)
        command.run(main)
    status = _wait(child)
    if status < 0 and -status not in (*STOPS, signal.SIGPIPE):
        with open(log, "rb") as file:
            file.seek(0)
            line = _epitaph(-status, file.read().decode(errors="replace"))
        command.say(f"{chr(10) if shared[0] else ''}error: {line}")
        status = 1
    sys.exit(status if status >= 0 else 128 - status)


def _enter(parent, log, shared):
    """Makes this process the child."""
    global _told
    end_with(parent)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin take cores from others
    _told = log
    sys.stderr = command.outliving(os.dup(2), shared)
    os.dup2(log, 2)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*STOPS, signal.SIGCHLD})


def _wait(child):
    """The exit status of ``child``, negative for a signal; passes STOPS on to it.

    The terminal's own (Ctrl-C) reach the child by themselves: only a process's are passed on.
    """
    while True:
        info = signal.sigwaitinfo({*STOPS, signal.SIGCHLD})
        if info.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
        elif info.si_code <= 0:
            os.kill(child, info.si_signo)


def end_with(parent):
    """Lets this process be killed when the process ``parent``, its parent, ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os.kill(os.getpid(), signal.SIGKILL)


# ---- What a process was at, and what it died of


@contextlib.contextmanager
def doing(text):
    """Says what the code inside is at: "reading weights.caffemodel". A line on its end begins
    so."""
    global _at
    outer, _at = _at, text
    _note(_DOING, _at)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        error.doing = getattr(error, "doing", text)
        raise
    finally:
        _at = outer
        _note(_DOING, _at)


@contextlib.contextmanager
def log_to(descriptor, path):
    """Inside, what goes to file descriptor 2 is appended to the file ``path``, open at
    ``descriptor``, where the parent looks for last words, too; sys.stderr stays where it was."""
    _note(_LOG, f"{os.fstat(descriptor).st_size} {path}")
    kept, said = os.dup(2), sys.stderr
    if said is sys.__stderr__:  # which writes to 2: nobody's who captures it
        sys.stderr = command.outliving(kept)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        sys.stderr = said


def _note(mark, text):
    if _told is not None:
        with contextlib.suppress(OSError):  # no room
            os.write(_told, f"{mark}{' '.join(text.split())}\n".encode(errors="replace"))


def _epitaph(number, log):
    """What to say of a child that signal ``number`` ended and that wrote ``log``."""
    doing = (re.findall(f"^{_DOING}(.*)$", log, re.MULTILINE) or [""])[-1]
    elsewhere = re.findall(f"^{_LOG}(\\d+) (.*)$", log, re.MULTILINE)
    with contextlib.suppress(OSError):
        for size, path in elsewhere[-1:]:
            log += Path(path).read_bytes()[int(size) :].decode(errors="replace")
    doing = f"{doing}: " if doing else ""
    where = f" (the log: {elsewhere[-1][1]})" if elsewhere else ""
    if number == signal.SIGKILL or "std::bad_alloc" in log:
        return f"{doing}{NO_MEMORY}{where}"
    words, name = last_words(log), signal.Signals(number).name
    said = f"Caffe: {words}" if words else f"a fault in Caffe or a library ended it ({name})"
    return f"{doing}{said}{where}"


def last_words(log):
    """What a failed check of Caffe, or an exception of C++, said at the end of the process that
    wrote ``log``; None where there is neither."""
    said = re.findall(r"^(?:F\d+ \S+ +\d+ [\w.]+:\d+\]|  what\(\): ) (.*)$", log, re.MULTILINE)
    return plain(said[-1].strip()) if said else None
