"""Runs trials until the time is over, or Ctrl-C, then prints how many of each kind there were, and how many failed."""

import argparse
import collections
import contextlib
import itertools
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from active_convolution import command

from . import corpus, judge, surroundings, trials


def main():
    parser = argparse.ArgumentParser(
        prog="campaign.sh", description="Damages files and kills programs, at random."
    )
    parser.add_argument(
        "--minutes", type=float, default=60, metavar="N", help="how long (default: %(default)g)"
    )
    parser.add_argument(
        "--trials",
        type=int,
        metavar="N",
        help="no more than these (default: as many as the time allows)",
    )
    parser.add_argument(
        "--first",
        type=int,
        default=1,
        metavar="N",
        help="the trial to begin with (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="S",
        help="of all that is random (default: %(default)s)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=60,
        metavar="SECONDS",
        help="what takes longer hangs (default: %(default)g)",
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        metavar="DIR",
        help="where the whole files are, or are to be made and stay (default: made anew)",
    )
    parser.add_argument(
        "--failures",
        type=Path,
        default=Path("build/campaign"),
        metavar="DIR",
        help="where failing inputs go, each with its command (default: %(default)s)",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        campaign = Campaign(
            Path(scratch),
            arguments.failures / f"seed{arguments.seed}",
            arguments.seed,
            arguments.patience,
            arguments.corpus,
        )
        print(f"made the whole files in {campaign.prepared:.0f} s", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            campaign.run(
                time.monotonic() + 60 * arguments.minutes, arguments.first, arguments.trials
            )
    return campaign.report()


class Campaign:
    """Trials in the folder ``scratch``. Each has a number, and its own random numbers from that and the seed."""

    def __init__(self, scratch, failures, seed, patience, whole=None):
        begun = time.monotonic()
        self.corpus = (whole or scratch / "corpus").absolute()
        self.scratch, self.failures, self.seed, self.patience = scratch, failures, seed, patience
        self.tried, self.failed, self.number = collections.Counter(), collections.Counter(), 0
        self.readers, self.undisturbed = judge.Readers(patience), {}
        self.library = str(scratch / "killer.so")
        subprocess.run(
            [
                "gcc",
                "-shared",
                "-fPIC",
                "-O1",
                "-o",
                self.library,
                Path(__file__).with_name("killer.c"),
                "-ldl",
            ],
            check=True,
        )
        if not self.corpus.exists():
            corpus.make(self.corpus)
        self.prepared = time.monotonic() - begun

    def run(self, end, first=1, most=None):
        """Until the time ``end``, or for ``most`` trials, from the ``first`` on: the same ones with the same seed, however fast
        the machine."""
        steps = itertools.cycle(
            [
                *[self._reader] * 100,
                self._program,
                self._program,
                self._odd,
                self._program,
                self._program,
                self._around,
                self._kill,
            ]
        )
        for step in itertools.islice(steps, first - 1, None if most is None else first - 1 + most):
            if time.monotonic() > end:
                break
            self.number = first + sum(self.tried.values())
            step()
        self.readers.close()

    def _next(self):
        folder = self.scratch / "trial"
        corpus.copy(self.corpus, folder)
        return folder, random.Random(f"{self.seed} {self.number}")

    def _reader(self):
        folder, draw = self._next()
        trial = draw.choice(trials.READERS)
        trials.damage(folder, trial, draw)
        self._note(
            trial.name,
            self.readers.judge(trial, folder),
            f"campaign.readers <<< '{trial.reader} {trial.path}'",
        )

    def _program(self):
        folder, draw = self._next()
        trial = draw.choice(trials.PROGRAMS)
        trials.damage(folder, trial, draw)
        self._note(
            trial.name, judge.judge(trial.command, folder, self.patience), f"acu {trial.command}"
        )

    def _odd(self):
        folder, draw = self._next()
        trial, odd = draw.choice(trials.PROGRAMS), draw.choice(list(surroundings.ODD))
        wrong = judge.judge_odd(trial.command, trial.path, odd, folder, self.patience)
        self._note(f"{odd}, {trials.named(trial.command)}", wrong, f"acu {trial.command}")

    def _around(self):
        folder, draw = self._next()
        command, name = draw.choice(trials.COMMANDS), draw.choice(list(surroundings.SURROUNDINGS))
        wrong = judge.judge_around(command, name, folder, self.patience)
        self._note(f"{name}, {trials.named(command)}", wrong, f"acu {command}")

    def _kill(self):
        folder, draw = self._next()
        killed = draw.choice(trials.COMMANDS)
        if killed not in self.undisturbed:
            self.undisturbed[killed] = judge.undisturbed(
                killed, folder, self.library, self.patience
            )
            corpus.copy(self.corpus, folder)
        wrong = judge.kill(killed, folder, draw, self.library, self.undisturbed, self.patience)
        self._note(f"kill -9, {trials.named(killed)}", wrong, f"acu {killed}")

    def _note(self, name, wrong, said):
        self.tried[name] += 1
        if wrong:
            self.failed[name] += 1
            kept = self.failures / str(self.number)
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(self.scratch / "trial", kept, symlinks=True, ignore=_not_to_keep)
            (kept / "COMMAND").write_text(f"{said}\n{wrong}\n", errors="replace")
            print(f"trial {self.number} ({name}): {wrong}; in {kept}", flush=True)

    def report(self):
        width = max(map(len, self.tried), default=0)
        for name in sorted(self.tried):
            print(f"{name:{width}}  {self.tried[name]:6} trials  {self.failed[name]:4} failures")
        total, failed = sum(self.tried.values()), sum(self.failed.values())
        print(f"{'all':{width}}  {total:6} trials  {failed:4} failures, seed {self.seed}")
        return 1 if failed else 0


def _not_to_keep(folder, names):
    """Those of ``names`` that shutil cannot copy, or whose copy would fill the disk: pipes, and the terabyte of nothing."""
    paths = {name: Path(folder) / name for name in names}
    return [
        name
        for name, path in paths.items()
        if path.is_fifo() or path.lstat().st_size >= surroundings.SPARSE
    ]


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
command.run(main)
