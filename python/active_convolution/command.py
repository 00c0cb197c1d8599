"""What every command line of ``scripts/`` shares: how it ends."""
import signal
import sys

from .errors import UserError


def run(main):
    """Calls ``main()`` and exits with what it returns; a UserError becomes one line on stderr and exit status 1.

    An interrupt (Ctrl-C) that ``main`` does not handle itself ends with the shell's customary status 130.
    """
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
