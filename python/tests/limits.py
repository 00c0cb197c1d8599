"""Little time and memory for what hostile files must not take."""

import contextlib
import os
import resource
import signal
import subprocess
import sys

from conftest import ROOT

SECONDS = 60  # of the promise in docs/reliability.md


@contextlib.contextmanager
def at_once():
    """Fails what does not end, such as the wait for a pipe's writer."""

    def late(number, frame):
        raise AssertionError(f"takes more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def limited(code, *arguments, memory=2**31):
    """The last line that ``code`` prints in a process of its own, with ``memory`` bytes of addresses and SECONDS of a core."""

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))

    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'python'}:{os.environ.get('PYTHONPATH', '')}",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        },
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return done.stdout.splitlines()[-1]
