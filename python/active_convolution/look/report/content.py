"""What a report shows of its runs, as plain lists and dictionaries that become JSON."""

import math
import os
from pathlib import Path

import numpy as np

from ...caffe.positions import History
from ...errors import BadValue, UserError
from ...geometry import grid
from ...training import run_folder, schedule
from ...training.metrics import Metrics
from ...training.run_folder import RunFolder
from .. import confusion

UNITS = 1000  # a position is kept as a whole number of thousandths of a pixel
LOST = 1e5  # a synapse farther out, in pixels, is one of a training that diverged, as NaN is
FAR = 8  # how far a panel may show, in pixels from the base pixel, whatever the start


def read(folders):
    """The content of a report about the run folders ``folders``: ``runs``, and ``units``, in a pixel.

    Raises UserError where a folder is no run, or one of its files is damaged.
    """
    folders = [Path(folder) for folder in folders]
    return {
        "runs": [_run(name, folder) for name, folder in zip(_names(folders), folders)],
        "units": UNITS,
    }


def _names(folders):
    """As many of the last parts of each path as tell the folders apart."""
    paths = [Path(os.path.realpath(folder)) for folder in folders]
    for path in paths:
        if paths.count(path) > 1:
            raise BadValue(f"{path} is named twice: name each run once")
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = [str(Path(*path.parts[-length:])) for path in paths]
        if len(set(names)) == len(names):
            break
    return [os.fsencode(name).decode(errors="replace") for name in names]


def _run(name, folder):
    run = RunFolder(folder)
    if not run.solver.is_file():
        raise UserError(f"{folder} is no run: name folders that acu train filled, its --output")
    solver, net = run_folder.load(run)
    rows = Metrics.load(run.metrics).rows
    history = History.load(run.positions) if run.positions.exists() else History()
    training = [row for row in rows if row["loss"] is not None]
    tests = [row for row in rows if row["test_loss"] is not None]
    return {
        "name": name,
        "network": net.name,
        "warmup": schedule.warmup_iter(net),
        "summary": _summary(rows, tests, training, solver.max_iter),
        "training": _columns(training, "iteration", "loss"),
        "test": _columns(tests, "iteration", "test_loss", "test_error"),
        "evaluation": confusion.load(run.path / confusion.FILE),
        "positions": _positions(history),
    }


# ---- Metrics


def _columns(rows, *names):
    """{name: its values}; None for what JSON has no number for."""
    return {name: [_number(row[name]) for row in rows] for name in names}


def _number(value):
    """Six digits of a float, as metrics.csv has them; None for None, NaN and the infinities."""
    if isinstance(value, int) or value is None:
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _summary(rows, tests, training, max_iter):
    """The run's line in the table of errors. None stands for what was not measured, or is no number."""
    finite = [
        row for row in tests if row["test_error"] is not None and math.isfinite(row["test_error"])
    ]
    best = min(
        finite,
        key=lambda row: row["test_error"],
        default=dict.fromkeys(("iteration", "test_error")),
    )
    broken = (row["iteration"] for row in training if not math.isfinite(row["loss"]))
    return {
        "iteration": rows[-1]["iteration"] if rows else 0,
        "max_iter": max_iter,
        "seconds": _last(rows, "seconds"),
        "test_error": _last(tests, "test_error"),
        "test_iteration": _last(tests, "iteration"),
        "best_error": _number(best["test_error"]),
        "best_iteration": best["iteration"],
        "test_loss": _last(tests, "test_loss"),
        "loss": _last(training, "loss"),
        "diverged": next(broken, None),
    }


def _last(rows, name):
    return _number(rows[-1][name]) if rows else None


# ---- Positions


def _positions(history):
    """{``iterations``: [...], ``panels``: [...]}, a panel for each set of positions of more than one synapse.

    None where no positions were recorded.
    """
    panels = [
        _panel(layer, group, path)
        for layer in history.layers()
        if layer.xy.shape[1] > 1
        for group, path in enumerate(np.moveaxis(history.positions(layer.name), 1, 0))
    ]
    return {"iterations": history.iterations.tolist(), "panels": panels} if panels else None


def _panel(layer, group, path):
    """One set of positions of a layer. ``path`` is (T, K, 2), in pixels.

    ``start`` is where the synapses began, (K, 2), or the kernel's grid where that is not ``known``. ``steps`` holds the
    path in units as differences from one record to the next, (T, K, 2) flattened; the first record is one from 0.
    ``reach`` is how far the panel should show.
    """
    known = layer.start is not None and bool(
        (np.abs(layer.start[group]) < LOST).all()
    )  # not NaN either
    start = layer.start[group] if known else grid(layer.kernel)
    title = (
        layer.name if len(layer.xy) == 1 else f"{layer.name}, set {group + 1} of {len(layer.xy)}"
    )
    return {
        "title": title,
        "synapses": path.shape[1],
        "known": known,
        "start": np.round(start, 3).astype(float).tolist(),
        "steps": _steps(path),
        "reach": _reach(start, path),
    }


def _steps(path):
    """The differences of ``path`` along its first axis, as whole units, flattened; None where a position is lost, and
    the difference after that is from the last position that was not."""
    lost = ~(np.abs(path) < LOST)  # NaN, too
    units = np.rint(np.where(lost, 0, path) * np.float64(UNITS)).astype(int)
    for record in range(1, len(units)):
        units[record][lost[record]] = units[record - 1][lost[record]]
    steps = np.diff(units, axis=0, prepend=0).astype(object)
    steps[lost] = None
    return steps.ravel().tolist()


def _reach(start, path):
    """How far a panel shows, in pixels from the base pixel: past every synapse at any time, unless some went so far
    that the others would shrink to a dot."""
    start, farthest = (
        float(np.abs(points[np.abs(points) < LOST]).max(initial=0)) for points in (start, path)
    )
    return round(max(1.5, 0.4 + max(start, min(farthest, max(FAR, 2 * start)))), 2)
