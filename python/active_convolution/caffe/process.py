"""Processes that run Caffe, and their parent: a failed check inside Caffe ends a process, and only
a parent can say so.

``guarded`` runs a few that need each other; whoever supervises in another way has ``start``,
``stops_go_to`` and ``stops_held_back``, and the child ``end_with_parent`` and ``stop_at_once``. A
process is a new one, not a fork: OpenMP's threads, once in use, do not survive a fork.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from pathlib import Path

from .. import command
from ..errors import UserError
from . import guard, locate
from .guard import STOPS, last_words

_PACKAGES = Path(__file__).resolve().parents[2]
_PARENT = "ACTIVE_CONVOLUTION_PARENT"
INTERRUPTED = 128 + signal.SIGINT  # exit status of a training that stopped as it was asked to
_BAR = "ACTIVE_CONVOLUTION_BAR"  # the descriptor where a child says that a progress bar stands
_FULL = ": it cannot write a snapshot, the disk may be full"
_GRACE = 3  # seconds for the others to end where one process has failed


# ---- The parent of any


def start(module, arguments, environ=None, **options):
    """The Popen of ``python3 -m module arguments``; ``options`` go there, ``environ`` are defaults
    for its environment."""
    if guard.stderr is not None:
        options.setdefault("stderr", guard.stderr)
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        env={**(environ or {}), **environment()},
        **options,
    )


def environment():
    """This process's, with the package in reach, and modules that lie in the working directory out
    of it."""
    paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    # A thread that spins while it waits takes the core from one that works, wherever anything else
    # runs.
    return {
        "OMP_WAIT_POLICY": "passive",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONSAFEPATH": "1",
        _PARENT: str(os.getpid()),
    }


@contextlib.contextmanager
def stops_held_back():
    """Keeps STOPS waiting, in children that are started meanwhile, too, until they call
    ``stop_at_once``: a signal must not get lost while Python starts, or before there is a
    handler."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


@contextlib.contextmanager
def stops_go_to(handler):
    """Lets ``handler(number)`` hear of STOPS."""
    before = {number: signal.signal(number, lambda number, _: handler(number)) for number in STOPS}
    try:
        yield
    finally:
        for number, own in before.items():
            signal.signal(number, own)


# ---- Processes that need each other


@dataclasses.dataclass(frozen=True)
class Process:
    """One to be started as ``python3 -m module`` with ``arguments`` and ``--log``, the descriptor
    of the file where it lets Caffe log: ``log``, which is called ``log_path``, or None for one that
    is read only here. It inherits the file descriptors ``keep``, too; an error begins with
    ``name``."""

    module: str
    arguments: tuple
    log: int = None
    log_path: Path = None
    keep: tuple = ()
    name: str = ""


class _Child:
    """A Process that runs."""

    def __init__(self, process):
        self.process = process
        self._unnamed = tempfile.TemporaryFile() if process.log is None else None
        log = self._unnamed.fileno() if process.log is None else process.log
        self._log = process.log_path or Path(f"/dev/fd/{log}")
        self._written = os.fstat(log).st_size
        bar, childs = os.pipe()
        self._bar = open(bar, "rb", buffering=0)
        self.popen = start(
            process.module,
            [*process.arguments, "--log", log],
            {_BAR: str(childs)},
            pass_fds=(*process.keep, log, childs),
        )
        os.close(childs)

    def status(self):
        """The exit status, after the end. Raises UserError, or KeyboardInterrupt, as ``guarded``
        does."""
        status = self.popen.returncode
        if -status in STOPS:
            raise KeyboardInterrupt
        if status < 0:
            said = self._logged()
            if self._bar.read(1):
                print(file=sys.stderr)
            words = last_words(said) or signal.Signals(-status).name
            full = _FULL if "SerializeToOstream" in words else ""
            log = f" (the log: {self._log})" if self.process.log_path else ""
            raise UserError(f"{self.process.name}Caffe ended the training: {words}{full}{log}")
        return status

    def _logged(self):
        """What Caffe has logged since the start."""
        if not self._log.exists():
            return ""
        with open(self._log, "rb") as file:
            file.seek(self._written)
            return file.read().decode(errors="replace")


def guarded(processes):
    """Runs every Process to its end. Where one fails, it ends the others, and that one's exit
    status is returned.

    Raises UserError with Caffe's own last words where Caffe ended the process, and
    KeyboardInterrupt where Ctrl-C or SIGTERM did, before the process could handle them.
    """
    sys.stdout.flush()
    with contextlib.ExitStack() as stack:
        with stops_held_back():
            children = [_Child(process) for process in processes]
            stack.enter_context(
                stops_go_to(lambda number: [child.popen.send_signal(number) for child in children])
            )
        return _first_to_fail(children).status()


def _first_to_fail(children):
    """The child whose end counts, when all have ended. Where one fails, the others wait for it in
    vain."""
    with ThreadPoolExecutor(len(children)) as pool:
        waiting = {pool.submit(child.popen.wait): child for child in children}
        for done in as_completed(waiting):
            if done.result() not in (0, INTERRUPTED):
                for end in (subprocess.Popen.terminate, subprocess.Popen.kill):
                    for child in children:
                        end(child.popen)
                    wait(waiting, timeout=_GRACE)
                return waiting[done]
    return children[0]


# ---- The child


def stop_at_once():
    """Lets the signals in STOPS, held back since the parent started this process, end it without a
    word until somebody handles them."""
    for number in STOPS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def end_with_parent(parent=None):
    """Lets this process be killed when its parent ends: what ``kill -9`` takes away should not go
    on training.

    ``parent`` is that one's process number (default: as ``environment`` there told this process).
    """
    guard.end_with(parent or int(os.environ[_PARENT]))


@contextlib.contextmanager
def lock_log(log):
    """Yields the descriptor of the file ``log``, open for more to be written, which this process
    and those that inherit it have for themselves as long as one of them lives.

    Raises UserError where it cannot be written, or another process has it.
    """
    try:
        file = open(log, "a", opener=_without_waiting)
    except OSError as error:
        raise UserError(f"cannot write {log}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another process is training into {log.parent}: wait for its end, or stop it"
            ) from error
        except OSError as error:
            raise UserError(f"cannot lock {log}: {error.strerror}") from error
        yield file.fileno()


def _without_waiting(path, flags):
    """Opens ``path``, which for a pipe that nobody reads is an error."""
    return os.open(path, flags | os.O_NONBLOCK, 0o666)


def bar_stands():
    """Tells the parent that from now on a progress bar may stand in the line, where an error would
    follow it."""
    if _BAR in os.environ:
        os.write(int(os.environ[_BAR]), b"|")


def log_to(descriptor):
    """Appends what goes to file descriptor 2, Caffe's log, to the file open at ``descriptor``;
    sys.stderr stays where it was."""
    sys.stderr = command.outliving(os.dup(2))
    os.dup2(descriptor, 2)
    os.close(descriptor)


# ---- What a process may die of


def check_gpu(device):
    locate.use_gpu(device)


def failure(statement, given):
    """Why ``statement``, on ``caffe`` and ``given`` (what JSON can say), fails, in a line; None if
    it does not.

    It runs in a process of its own, which may die of it.
    """
    probe = (
        "import json, os, sys; from active_convolution.caffe import locate; caffe = locate.caffe(); "
        f"given = json.load(sys.stdin); {statement}"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe],
        input=json.dumps(given),
        env=environment(),
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode == 0:
        return None
    return (
        last_words(done.stderr)
        or (done.stderr.splitlines() or [f"exit status {done.returncode}"])[-1].strip()
    )
