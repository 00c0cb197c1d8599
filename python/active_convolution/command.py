"""How every command line ends, that it says one thing on stderr, and its tables of text."""

import contextlib
import io
import logging
import os
import signal
import sys
import warnings

from .errors import BadValue, explained


def run(main):
    """Calls ``main()`` in this process and exits with what it returns; what ``explained`` knows
    becomes one line on stderr and exit status 1, a BadValue 2, as of what a parser refuses.

    An interrupt (Ctrl-C) ends with the shell's customary status 130, SIGTERM (``kill``) with 143,
    and a pipe that nobody reads any more (``| head``) with 141, each after the clean-up.
    """
    if sys.stderr is sys.__stderr__:  # nobody's who captures it
        sys.stderr = outliving(sys.stderr.fileno())
    sys.stdout.reconfigure(errors="replace")  # a terminal of another encoding gets a ?
    if not sys.warnoptions:  # what libraries warn of
        warnings.simplefilter("ignore")
        logging.lastResort.setLevel(logging.CRITICAL)
    _let_stops_clean_up()
    status = _status(main)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # it ends: a second stop must not change how
    try:
        sys.stdout.flush()
    except OSError as error:
        status = _without_output(status, error)
    sys.exit(status)


def _status(main):
    try:
        return main()
    except KeyboardInterrupt:
        say("interrupted")
        return 128 + signal.SIGINT
    except SystemExit as end:  # argparse's, too
        return end.code
    except Exception as error:
        if isinstance(error, BrokenPipeError):
            return _without_output(0, error)
        line = explained(error)
        if line is None:
            raise
        say(f"error: {line}")
        return 2 if isinstance(error, BadValue) else 1


def _let_stops_clean_up():
    """Lets SIGINT, SIGTERM and SIGHUP, unless they are ignored, end ``main`` by an exception, once:
    a second one would stop the clean-up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number, _):
    signal.signal(number, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _without_output(status, error):
    """The exit status where ``error`` keeps stdout from being written; Python's end writes
    nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return 128 + signal.SIGPIPE
    if not status:
        say(f"error: cannot write to the standard output: {error.strerror}")
    return status or 1


def say(line):
    with contextlib.suppress(OSError):  # nobody can hear it
        print(line, file=sys.stderr, flush=True)


def outliving(descriptor, shared=None):
    """A text file that writes to ``descriptor`` and drops what cannot be written, as on a full
    disk: no work ends because of a message or a progress bar, but it does for a pipe that nobody
    reads any more. ``shared[0]``, where it is given, says whether an unfinished line stands
    there."""
    raw = _MaybeFull(descriptor, "w", closefd=False)
    raw.shared = shared or [0]
    return io.TextIOWrapper(
        io.BufferedWriter(raw), sys.stderr.encoding, "backslashreplace", line_buffering=True
    )


class _MaybeFull(io.FileIO):
    def write(self, data):
        self.shared[0] = bytes(data[-1:]) not in (b"\n", b"")
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError:
            return len(data)


def aligned(rows, right=False):
    """The ``rows``, lists of equally many cells (str), with every cell as wide as the widest of its
    column. ``right`` moves all but the first column's cells to the right, as numbers want it."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        [
            cell.rjust(width) if right and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ]
        for row in rows
    ]
