"""What every command line shares: how it ends, and that it says one thing on stderr."""

import contextlib
import io
import logging
import os
import select
import signal
import sys
import warnings

from .errors import BadValue, explained


def run(main):
    """Calls ``main()`` and exits with what it returns; what ``explained`` knows becomes one line on stderr and exit status 1,
    a BadValue 2, as of what a parser refuses.

    An interrupt (Ctrl-C) that ``main`` does not handle itself ends with the shell's customary status 130, and so does
    SIGTERM (``kill``) with 143, and a pipe that nobody reads any more (``| head``) with 141, each after the clean-up.
    """
    _take_descriptors()
    if sys.stderr is sys.__stderr__:  # nobody's who captures it
        sys.stderr = outliving(sys.stderr.fileno())
    sys.stdout.reconfigure(
        errors="replace"
    )  # a terminal of another encoding gets a ? rather than a traceback
    _quieten_libraries()
    _let_sigterm_clean_up()
    status = _status(main)
    try:
        sys.stdout.flush()
    except OSError as error:
        status = _without_output(status, error)
    sys.exit(status)


def _take_descriptors():
    """Lets 0, 1 and 2 lead nowhere where they are closed (``2>&-``), before a file gets such a number, and with it what is
    meant for the terminal."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))


def outliving(descriptor):
    """A text file that writes to ``descriptor``, and drops what cannot be written, as on a full disk: no work ends because
    of a message or a progress bar. A pipe that nobody reads any more still ends it."""
    return io.TextIOWrapper(
        io.BufferedWriter(_MaybeFull(descriptor, "w", closefd=False)),
        sys.stderr.encoding,
        "backslashreplace",
        line_buffering=True,
    )


class _MaybeFull(io.FileIO):
    def write(self, data):
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError:
            return len(data)


def _quieten_libraries():
    """Keeps what libraries warn of off stderr, unless Python was told (-W, PYTHONWARNINGS) what to do with that."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        logging.lastResort.setLevel(logging.CRITICAL)


# ---- How it ends


def _status(main):
    try:
        return main()
    except KeyboardInterrupt:
        _say("interrupted")
        return 128 + signal.SIGINT
    except SystemExit as end:  # argparse's, too
        return end.code
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _unread(sys.stdout):
            return _without_output(0, error)
        line = explained(error)
        if line is None:
            raise
        _say(f"error: {line}")
        return 2 if isinstance(error, BadValue) else 1


def _unread(file):
    """Whether nobody reads the pipe any more that ``file`` is."""
    poll = select.poll()
    poll.register(file, 0)  # errors are told all the same
    return bool(poll.poll(0))


def _without_output(status, error):
    """The exit status where ``error`` keeps stdout from being written; nothing is left to write when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return 128 + signal.SIGPIPE
    if not status:
        _say(f"error: cannot write to the standard output: {error.strerror}")
    return status or 1


def _say(line):
    with contextlib.suppress(OSError):  # nobody can hear it
        print(line, file=sys.stderr, flush=True)


def _let_sigterm_clean_up():
    """Lets SIGTERM raise SystemExit, unless the process is to end at once, as it then does for SIGINT too (see
    process.stop_at_once), or to ignore it."""
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL != signal.getsignal(signal.SIGINT):
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


# ---- What libraries say


@contextlib.contextmanager
def libraries_unheard():
    """Lets nothing through that a C library, such as libpng or libjpeg, writes to file descriptor 2 by itself; Python's
    own stderr writes there, too, so nothing else should happen meanwhile."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
