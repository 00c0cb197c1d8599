"""Runs what is tried, and judges it by what docs/reliability.md promises: None, or what was wrong, in a line."""

import dataclasses
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

from .corpus import ACU, environment
from .surroundings import ODD, SURROUNDINGS, Surrounding

_BAR = re.compile(r"\d+%\||\d+\S* ?\[\d\d:\d\d|^\s*$")  # tqdm's
_FATAL = re.compile(r"^error: .+")
_WITHOUT_ERRORS = (
    "eigenvectors of ",
    "going on from ",
    "no whole snapshot: ",
    "warning: ",
)  # how progress may begin


# ---- Readers


class Readers:
    """The process that tries readers, renewed where it dies."""

    def __init__(self, patience):
        self._process, self._patience = None, patience

    def judge(self, trial, folder):
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "campaign.readers"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment(),
                text=True,
            )
        self._process.stdin.write(f"{trial.reader} {folder / trial.path}\n")
        self._process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            told = selector.select(2 * self._patience)  # the first one also waits for the imports
        outcome = self._process.stdout.readline().strip() if told else "hangs"
        if outcome in ("read", "refused"):
            return None
        status = self.close()
        return outcome or f"the reader died of {status}"

    def close(self):
        if self._process:
            self._process.kill()
            self._process.stdin.close()
            status = self._process.wait()
            self._process.stdout.close()
            self._process = None
            return status


# ---- Programs


def run(command, folder, patience, killed_after=None, around=Surrounding(), **variables):
    """(exit status, stderr) of acu; the status is None where it takes more than ``patience`` seconds."""
    process = subprocess.Popen(
        ["sh", "-c", around.shell, "sh", *ACU, *command.split()],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment(**dict(around.variables), **variables),
        start_new_session=True,
    )
    try:
        return (lambda _, said: (process.returncode, said))(
            *process.communicate(timeout=killed_after or patience)
        )
    except subprocess.TimeoutExpired:
        if not killed_after:
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        said = process.communicate()[1]
        return (process.returncode if killed_after else None), said


def judge(command, folder, patience, around=Surrounding()):
    """Runs a program."""
    before = _state(folder)
    status, said = run(command, folder, patience, around=around)
    if status is None and _trains(folder):
        return None
    wrong = _ended_badly(status, said if around.heard or not status else "error: unheard")
    touched = [
        name
        for name, state in _state(folder).items()
        if before.get(name) != state and not _may_change(name)
    ]
    if not wrong and touched:
        wrong = f"touches {touched[0]}"
    if not wrong and status and (hidden := _hidden(folder)):
        wrong = f"leaves {hidden[0]}"
    if not wrong and status and not around.finished and _looks_whole(folder, command):
        wrong = "leaves an output"
    return wrong


def _trains(folder):
    """Whether what was stopped had a training at work, as a damaged prototxt may ask for 10⁹ iterations."""
    return any(time.time() - log.stat().st_mtime < 5 for log in folder.glob("*/train.log"))


def _ended_badly(status, said):
    lines = [
        line
        for line in said.replace("\r", "\n").split("\n")
        if not _BAR.search(line) and not line.startswith(_WITHOUT_ERRORS)
    ]
    if status is None:
        return "hangs"
    if status not in (0, 1, 2):
        return f"ends with {status}: {lines[-1:]}"
    if status and (len(lines) != 1 or not _FATAL.match(lines[0])):
        return f"says {len(lines)} lines: {lines[-1:]}"
    return None


def _looks_whole(folder, command):
    """Whether there is an output, which is there when it is whole: but for a training's, and of databases that are adopted the
    manifest."""
    name = next((word for word in command.split() if re.fullmatch(r"out(\.\w+)?", word)), None)
    path = folder / "out/manifest.json" if " adopt " in command else name and folder / name
    return path is not None and path.exists() and not command.startswith("train")


def _may_change(name):
    return name.startswith("out") or name.endswith(
        "lock.mdb"
    )  # which whoever reads an LMDB writes into


def _state(folder):
    """{name: what would change with a write} of all in ``folder``."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if not path.is_dir()
    }


def _hidden(folder):
    return [str(path.relative_to(folder)) for path in folder.rglob(".*")]


def judge_odd(command, name, odd, folder, patience):
    """Runs a program that meets what is no file, ``odd`` of ODD, as the file ``name``."""
    ODD[odd](folder / name)
    return judge(command, folder, patience)


def judge_around(command, name, folder, patience):
    """Runs a program in the surrounding ``name``."""
    around = SURROUNDINGS[name]
    if not around.folder:
        return judge(command, folder, patience, around)
    moved = folder.with_name(around.folder)
    folder.rename(moved)
    try:
        return judge(command, moved, patience, around)
    finally:
        moved.rename(folder)


# ---- Kills


def kill(command, folder, random, library, totals, patience):
    """Kills a program at a random moment, or at a random one of its writes; then the same command must go on."""
    if random.random() < 0.5:
        seconds = random.uniform(0.05, 1.1) * totals[command].seconds
        status, said = run(command, folder, patience, killed_after=seconds)
        moment = f"killed after {seconds:.2f} s"
    else:
        number = random.randrange(1, max(2, totals[command].writes + 1))
        status, said = run(
            command, folder, patience, LD_PRELOAD=library, CAMPAIGN_COUNT=str(number)
        )
        moment = f"killed at write {number}"
    if status not in (0, -signal.SIGKILL) and (wrong := _ended_badly(status, said)):
        return f"{moment}: {wrong}"
    return (
        wrong := _goes_on(command, folder, totals[command].names, patience)
    ) and f"{moment}: {wrong}"


def _goes_on(command, folder, names, patience):
    """What is wrong after the kill, or after the same command once more."""
    whole = _names(folder)
    if _looks_whole(folder, command) and not names <= whole:
        return f"left an output that lacks {min(names - whole)}"
    if not _looks_whole(folder, command):
        resumed = command + " --resume" if (folder / "out/solver.prototxt").exists() else command
        again, said = run(resumed, folder, patience)
        if again != 0:
            return f"the same command ends with {again}: {said[-200:]}"
    if _names(folder) != names:
        return f"other files than without the kill: {sorted(_names(folder) ^ names)[:3]}"
    return None


def _names(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@dataclasses.dataclass(frozen=True)
class Undisturbed:
    """A program that nobody kills: how long it takes, how often it writes, and what is there then."""

    seconds: float
    writes: int
    names: frozenset


def undisturbed(command, folder, library, patience):
    begun, total = time.monotonic(), Path(f"{folder}.total")
    status, said = run(command, folder, patience, LD_PRELOAD=library, CAMPAIGN_TOTAL=str(total))
    if status != 0:
        raise SystemExit(
            f"error: the campaign cannot begin, `acu {command}` ends with {status}: {said[-500:]}"
        )
    return Undisturbed(time.monotonic() - begun, int(total.read_text()), frozenset(_names(folder)))
