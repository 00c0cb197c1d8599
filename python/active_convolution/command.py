"""What every command line shares: how it ends."""
import os
import select
import signal
import sys

from .errors import BadValue, UserError


def run(main):
    """Calls ``main()`` and exits with what it returns; a UserError becomes one line on stderr and exit status 1,
    a BadValue 2, as of what a parser refuses.

    An interrupt (Ctrl-C) that ``main`` does not handle itself ends with the shell's customary status 130, and so does
    SIGTERM (``kill``) with 143, and a pipe that nobody reads any more (``| head``) with 141, each after the clean-up.
    """
    sys.stdout = sys.stdout or open(os.devnull, "w")  # None where it is closed
    sys.stdout.reconfigure(errors="replace")  # a terminal of another encoding gets a ? rather than a traceback
    _let_sigterm_clean_up()
    try:
        status = _status(main)
        sys.stdout.flush()
    except BrokenPipeError:
        if not _unread(sys.stdout):  # some other pipe
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left to flush at the end
        status = 128 + signal.SIGPIPE
    sys.exit(status)


def _status(main):
    try:
        return main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadValue) else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except SystemExit as end:  # argparse's, too
        return end.code


def _unread(file):
    """Whether nobody reads the pipe any more that ``file`` is."""
    poll = select.poll()
    poll.register(file, 0)  # errors are told all the same
    return bool(poll.poll(0))


def _let_sigterm_clean_up():
    """Lets SIGTERM raise SystemExit, unless the process is to end at once, as it then does for SIGINT too (see
    process.stop_at_once), or to ignore it."""
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL != signal.getsignal(signal.SIGINT):
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
