"""What is tried: a damaged file in a copy of the corpus, and a reader or a program on it; a program killed, and called again.

A trial is judged by what docs/reliability.md promises, and gives None, or what was wrong with it in a line.
"""
import dataclasses
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from . import mutations
from .corpus import ACU, DEPLOY, ORDINARY_DEPLOY, ORDINARY_WEIGHTS, WEIGHTS, environment

_BAR = re.compile(r"\d+%\||\d+\S* ?\[\d\d:\d\d|^\s*$")       # tqdm's
_FATAL = re.compile(r"^error: .+")


@dataclasses.dataclass(frozen=True)
class Trial:
    """The file ``path`` of the corpus, of a ``kind`` of mutations.py, and what meets it: ``reader``, or ``command`` of acu."""
    kind: str
    path: str
    reader: str = None
    command: str = None

    @property
    def name(self):
        return f"{self.kind}, {self.reader or 'acu ' + self.command.split()[0]}"


_EVALUATE = f"evaluate --model {DEPLOY} --weights {WEIGHTS} --data data"
_EXPORT = f"export --model {DEPLOY} --weights {WEIGHTS} --output out"
_CONVERT = f"convert --model {ORDINARY_DEPLOY} --weights {ORDINARY_WEIGHTS} --output out"
_PLACES = "data places365 --source images --list train.txt --val-source images --val-list test.txt --jobs 1 --output out"
_TRAIN = "train model --variant acu --data data --max-iter 4 --output out"
_PLOT, _REPORT = "plot run --output out.png", "report run --output out.html"

READERS = [Trial("protobuf", WEIGHTS, "weights"), Trial("prototxt", "run/train_val.prototxt", "net"),
           Trial("prototxt", "run/solver.prototxt", "solver"), Trial("npz", "run/positions.npz", "positions"),
           Trial("csv", "run/metrics.csv", "metrics"), Trial("json", "data/manifest.json", "manifest"),
           Trial("tar", "images.tar", "archive"), Trial("png", "images/train/bird/0004.png", "image")]
PROGRAMS = [Trial("npz", "run/positions.npz", command=_PLOT), Trial("npz", "run/positions.npz", command=_REPORT),
            Trial("csv", "run/metrics.csv", command=_REPORT), Trial("prototxt", "run/solver.prototxt", command=_REPORT),
            Trial("protobuf", WEIGHTS, command=f"plot {WEIGHTS} --output out.png"), Trial("protobuf", WEIGHTS, command=_EXPORT),
            Trial("protobuf", ORDINARY_WEIGHTS, command=_CONVERT), Trial("protobuf", WEIGHTS, command=_EVALUATE),
            Trial("prototxt", DEPLOY, command=_EXPORT), Trial("prototxt", ORDINARY_DEPLOY, command=_CONVERT),
            Trial("prototxt", DEPLOY, command=_EVALUATE), Trial("prototxt", "model/acu/train_val.prototxt", command=_TRAIN),
            Trial("lmdb", "data/test_lmdb/data.mdb", command=_EVALUATE), Trial("lmdb", "data/train_lmdb/data.mdb", command=_TRAIN),
            Trial("json", "data/manifest.json", command=_EVALUATE), Trial("csv", "train.txt", command=_PLACES),
            Trial("png", "images/train/bird/0004.png", command=_PLACES)]
KILLED = [_PLOT, _REPORT, _EXPORT, _CONVERT, "data digits --output out", _PLACES, _TRAIN]


def copy(corpus, folder):
    """A copy of the corpus that costs no space: nobody writes into its files."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(corpus, folder, copy_function=os.link)


def damage(folder, trial, random):
    path = folder / trial.path
    content = mutations.mutate(trial.kind, path.read_bytes(), random)
    path.unlink()
    path.write_bytes(content)


# ---- Readers

class Readers:
    """The process that tries readers, renewed where it dies."""

    def __init__(self, patience):
        self._process, self._patience = None, patience

    def judge(self, trial, folder):
        if self._process is None:
            self._process = subprocess.Popen([sys.executable, "-m", "campaign.readers"], stdin=subprocess.PIPE,
                                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(), text=True)
        self._process.stdin.write(f"{trial.reader} {folder / trial.path}\n")
        self._process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            told = selector.select(2 * self._patience)     # the first one also waits for the imports
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

def run(command, folder, patience, killed_after=None, **variables):
    """(exit status, stderr) of acu; the status is None where it takes more than ``patience`` seconds."""
    process = subprocess.Popen([*ACU, *command.split()], cwd=folder, env=environment(**variables), text=True,
                               errors="replace", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    try:
        return (lambda _, said: (process.returncode, said))(*process.communicate(timeout=killed_after or patience))
    except subprocess.TimeoutExpired:
        if not killed_after:
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        said = process.communicate()[1]
        return (process.returncode if killed_after else None), said


def judge(trial, folder, patience):
    """Runs the trial's program."""
    before = _state(folder)
    status, said = run(trial.command, folder, patience)
    wrong = _ended_badly(status, said)
    touched = [name for name, state in _state(folder).items() if before.get(name) != state and not name.startswith("out")]
    if not wrong and touched:
        wrong = f"touches {touched[0]}"
    if not wrong and status and (hidden := _hidden(folder)):
        wrong = f"leaves {hidden[0]}"
    if not wrong and status and _looks_whole(folder, trial.command):
        wrong = "leaves an output"
    return wrong


def _ended_badly(status, said):
    lines = [line for line in said.replace("\r", "\n").split("\n") if not _BAR.search(line)]
    if status is None:
        return "hangs"
    if status not in (0, 1, 2):
        return f"ends with {status}: {lines[-1:]}"
    if status and (len(lines) != 1 or not _FATAL.match(lines[0])):
        return f"says {len(lines)} lines: {lines[-1:]}"
    return None


def _looks_whole(folder, command):
    output = folder / command.split()[-1]
    return "--output" in command and output.exists() and not command.startswith("train")


def _state(folder):
    """{name: what would change with a write} of all in ``folder``."""
    return {str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
            for path in folder.rglob("*") if not path.is_dir()}


def _hidden(folder):
    return [str(path.relative_to(folder)) for path in folder.rglob(".*")]


# ---- Kills

def kill(command, folder, random, library, totals, patience):
    """Kills a program at a random moment, or at a random one of its writes; then the same command must go on."""
    if random.random() < 0.5:
        seconds = random.uniform(0.05, 1.1) * totals[command].seconds
        status, said = run(command, folder, patience, killed_after=seconds)
        moment = f"killed after {seconds:.2f} s"
    else:
        number = random.randrange(1, max(2, totals[command].writes + 1))
        status, said = run(command, folder, patience, LD_PRELOAD=library, CAMPAIGN_COUNT=str(number))
        moment = f"killed at write {number}"
    if status not in (0, -signal.SIGKILL) and (wrong := _ended_badly(status, said)):
        return f"{moment}: {wrong}"
    return (wrong := _goes_on(command, folder, totals[command].names, patience)) and f"{moment}: {wrong}"


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
        raise SystemExit(f"error: the campaign cannot begin, `acu {command}` ends with {status}: {said[-500:]}")
    return Undisturbed(time.monotonic() - begun, int(total.read_text()), frozenset(_names(folder)))
