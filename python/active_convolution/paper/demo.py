"""The demo: a small network cross-validated on real handwritten digits, with ordinary convolutions
and with active ones."""

from pathlib import Path

import numpy as np

from ..data.small import DIGITS_FOLDS, create
from ..networks import models
from ..training.run_folder import RunFolder
from .runs import Run, train_all
from .tables import NAMES, Comparison

_DIGITS = Comparison("digits", "shallow", (), ())
_SIZE = (16, 16)  # pixels: on 8x8 ordinary convolutions see the whole digit already


def plan(output):
    """{Run: the arguments of acu that train it, or go on with it}: both variants on each fold.
    Makes the data sets below the folder ``output`` that are not there yet."""
    commands = {}
    for fold in range(1, DIGITS_FOLDS + 1):
        data = Path(output) / "data" / str(fold)
        if not data.exists():
            data.parent.mkdir(parents=True, exist_ok=True)
            create("digits", data, fold=fold, size=_SIZE)
        for variant in models.VARIANTS:
            folder = RunFolder(Path(output) / f"{variant}-{fold}")
            run = Run(_DIGITS, variant, fold, _length(), folder)
            commands[run] = [
                *("train", _DIGITS.name, "--variant", variant, "--data", data),
                *("--output", folder.path),
                *(["--resume"] if folder.begun() else []),
            ]
    return commands


def _length():
    return models.named(_DIGITS.name).dataset.max_iter


def cross_validate(output, jobs=2):
    """Trains what is not trained yet below the folder ``output``; returns the exit status, and
    {variant: test errors in %, one of each fold} where that is 0."""
    commands = plan(output)
    status = train_all(commands, jobs)
    errors = {variant: [] for variant in models.VARIANTS}
    for run in commands if status == 0 else ():
        errors[run.variant].append(100 * run.error())
    return status, errors


def summary(errors):
    """The lines that compare both variants: mean and standard error over the folds."""
    rows = {NAMES[variant]: np.array(each) for variant, each in errors.items()}
    rows["the difference"] = np.subtract(*rows.values())
    return [
        f"  {name:22} {each.mean():5.2f} ± {each.std(ddof=1) / len(each) ** 0.5:.2f} %"
        for name, each in rows.items()
    ]
