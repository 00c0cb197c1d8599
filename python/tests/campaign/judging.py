"""Runs acu in a copy of the corpus and says what of docs/reliability.md it breaks: None, or a
line."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_BAR = re.compile(r"\d+%\||\d+\S* ?\[\d\d:\d\d|^\s*$")  # tqdm's
_PROGRESS = "going on from ", "no complete snapshot: ", "warning: ", "eigenvectors of ", "training "
# What may change beside the outputs: LMDB's lock, and what LevelDB writes when it is opened.
# What Caffe was writing when a check ended it stays in a hidden folder; the same command clears it.
_MAY_CHANGE = re.compile(r"out|\.out\.partial/|.*lock\.mdb$|.*_leveldb/")


def start(command, folder, prefix=()):
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "active_convolution", *command.split()],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def run(command, folder, patience, prefix=()):
    """(exit status, stderr); the status is None where it takes more than ``patience`` seconds."""
    process = start(command, folder, prefix)
    try:
        said = process.communicate(timeout=patience)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return None, process.communicate()[1]
    return process.returncode, said


def judge(command, folder, patience, prefix=()):
    """Runs a program that may fail, in its one line, and must leave nothing half done."""
    before = state(folder)
    status, said = run(command, folder, patience, prefix)
    if status is None and _trains(folder):
        return None
    wrong = ended_badly(status, said)
    changed = [name for name, found in state(folder).items() if before.get(name) != found]
    touched = [name for name in changed if not _MAY_CHANGE.match(name)]
    if not wrong and touched:
        return f"touches {touched[0]}"
    if not wrong and status and (left := half_done(folder, command)):
        return f"leaves {left}"
    return wrong


def ended_badly(status, said):
    if status is None:
        return "hangs"
    lines = [
        line
        for line in re.split("[\r\n]", said)
        if not _BAR.search(line) and not line.startswith(_PROGRESS)
    ]
    if status not in (0, 1, 2):
        return f"ends with {status}: {lines[-1:]}"
    if status and not (len(lines) == 1 and re.match(r"error: .+", lines[0])):
        return f"says {len(lines)} lines: {lines[-1:]}"
    return None


def half_done(folder, command):
    """What a program that failed left: a hidden file, or an output, but for a training's own, one
    of two pictures, and what the same command goes on with."""
    hidden = (str(path.relative_to(folder)) for path in folder.rglob(".*"))
    left = [name for name in hidden if name != ".out.partial"]
    if command.split()[0] not in ("train", "plot"):
        names = (path.name for path in folder.glob("out*"))
        left += [name for name in names if not re.match(r"out_run|out\..*\.partial$", name)]
    return left[0] if left else None


def state(folder):
    """{name: what would change with a write} of all in ``folder``."""
    found = {}
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            with contextlib.suppress(FileNotFoundError):  # of a program at work
                stat = path.stat()
                found[str(path.relative_to(folder))] = stat.st_size, stat.st_mtime_ns
    return found


def _trains(folder):
    """Whether a training was at work, since a damaged prototxt may ask for 10⁹ iterations."""
    return any(time.time() - log.stat().st_mtime < 5 for log in folder.glob("*/train.log"))


def kill(command, folder, draw, names, patience):
    """Kills a program at a random moment, mostly once it has begun to write; then the same command
    must go on, and end with the files ``names``."""
    process, before, begun = start(command, folder), state(folder), time.monotonic()
    if draw.random() < 0.8:
        while process.poll() is None and state(folder).keys() <= before.keys():
            time.sleep(0.002)
    time.sleep(draw.random() ** 2)
    process.kill()
    process.communicate()  # returns when its child is gone, too
    moment = f"killed after {time.monotonic() - begun:.2f} s"
    done = (folder / "out").exists() and not command.startswith("train")
    if not done:
        resumed = f"{command} --resume" if (folder / "out/solver.prototxt").exists() else command
        status, said = run(resumed, folder, patience)
        if status != 0:
            return f"{moment}: the same command ends with {status}: {said[-200:]}"
    if state(folder).keys() != names:
        return f"{moment}: other files: {sorted(state(folder).keys() ^ names)[:3]}"
    return None
