"""What the runs of a table measured, beside the paper's figures.

The error of a run is that of its last test, of the network after its last iteration: not the best one on the way, which
would be chosen by the test images. An unfinished run counts nowhere. A table whose figures are taken on ten crops
(Places365) evaluates each finished run's last snapshot once, and keeps what came out in the run's folder.

Over the seeds, a cell is the mean and the sample standard deviation (with n − 1), the latter from two runs on. The
improvement is baseline − acu of errors, acu − baseline of accuracies, in per cent points, run by run of the same seed:
those begin with the same weights.
"""

import contextlib
import dataclasses
import json
import statistics

from ..caffe import messages
from ..columns import aligned
from ..errors import UserError
from ..files import DAMAGE, json_object, reading, whole_file
from ..look import confusion, evaluation
from ..networks.models import VARIANTS
from .runs import duration
from .tables import Comparison

_TEN_CROPS = (
    "ten_crop.json"  # in a run's folder: the errors of its last snapshot on ten crops, per cent
)


@dataclasses.dataclass(frozen=True)
class Cell:
    """``mean`` ± ``spread`` of ``n`` numbers, those that are None left out; both None where there are too few."""

    n: int
    mean: float = None
    spread: float = None

    @classmethod
    def of(cls, numbers):
        numbers = [number for number in numbers if number is not None]
        return cls(
            len(numbers),
            statistics.mean(numbers) if numbers else None,
            statistics.stdev(numbers) if len(numbers) > 1 else None,
        )

    def __str__(self):
        if self.n == 0:
            return "–"
        return f"{self.mean:.2f}" + ("" if self.spread is None else f" ± {self.spread:.2f}")


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a table: ``side`` is a variant or "improvement"; ``paper`` (numbers) and ``cells`` (Cell) have
    an entry per measure, per cent; ``seconds`` is a Cell of the runs' training times, None for the improvement."""

    comparison: Comparison
    side: str
    paper: tuple
    cells: tuple
    seconds: Cell = None


# ---- What was measured


def measure(table, runs, gpu=None):
    """{run: its figures, per cent, a tuple with an entry per measure of ``table``} of those ``runs`` that are finished.

    What must be evaluated is evaluated on device ``gpu``, None for the CPU. Raises UserError where a run is not of the
    length that is asked for.
    """
    for run in runs:
        if run.started():
            length = messages.read_solver(run.folder.solver).max_iter
            if length != run.max_iter:
                raise UserError(
                    f"{run.folder.path} is a run of {length} iterations, not of {run.max_iter}: give the "
                    "--scale that it was started with, or another --output"
                )
    errors = {
        run: _on_ten_crops(run, gpu) if table.ten_crop else _of_last_test(run)
        for run in runs
        if run.finished()
    }
    return (
        {run: tuple(100 - error for error in each) for run, each in errors.items()}
        if table.accuracies
        else errors
    )


def _of_last_test(run):
    error = run.error()
    if error is None:
        raise UserError(
            f"the last test of {run.folder.path} has no test_error: give its network an Accuracy layer"
        )
    return (100 * error,)


def _on_ten_crops(run, gpu):
    folder, path = run.folder, _kept(run.folder.path)
    if not path.exists():
        weights = (
            folder.snapshots
            / f"{messages.read_net(folder.train_val).name}_iter_{run.max_iter}.caffemodel"
        )
        top1, top5, _ = evaluation.evaluate(
            folder.deploy, weights, run.data, ten_crop=True, gpu=gpu
        )
        with whole_file(path) as file:
            json.dump({"top1": 100 * top1, "top5": 100 * top5}, file)
    with reading(path, "is damaged", "remove it, and the network is evaluated again"):
        kept = json_object(path)
        return _percent(kept["top1"]), _percent(kept["top5"])


def _kept(folder):
    """Where the errors on ten crops are kept: where a former version did, if it did so."""
    former = folder / confusion.FILE
    with contextlib.suppress(OSError, UserError, *DAMAGE):
        if json_object(former).keys() == confusion.FORMER:
            return former
    return folder / _TEN_CROPS


def _percent(value):
    if type(value) not in (int, float) or not 0 <= value <= 100:
        raise ValueError(f"{value!r} is no percentage")
    return value


# ---- The table


def lines(table, runs, figures):
    """The lines of ``table``, three for each comparison that ``runs`` belong to; ``figures`` is what measure gave."""
    result = []
    for comparison in dict.fromkeys(run.comparison for run in runs):
        sides = {
            variant: {
                run.seed: run
                for run in figures
                if (run.comparison, run.variant) == (comparison, variant)
            }
            for variant in VARIANTS
        }
        for variant, side in sides.items():
            result.append(
                Line(
                    comparison,
                    variant,
                    comparison.paper[variant],
                    _cells(table, [figures[run] for run in side.values()]),
                    Cell.of(run.metrics().last("seconds") for run in side.values()),
                )
            )
        result.append(_improvement(table, comparison, figures, *sides.values()))
    return result


def _improvement(table, comparison, figures, baseline, acu):
    """The line of the differences; ``baseline`` and ``acu`` map seeds to runs."""

    def gain(before, after):
        return tuple(
            (new - old) if table.accuracies else (old - new) for old, new in zip(before, after)
        )

    gains = [gain(figures[baseline[seed]], figures[acu[seed]]) for seed in baseline if seed in acu]
    return Line(
        comparison, "improvement", gain(comparison.baseline, comparison.acu), _cells(table, gains)
    )


def _cells(table, figures):
    return tuple(Cell.of(each[index] for each in figures) for index in range(len(table.measures)))


def text(table, lines):
    """The table as Markdown, readable as it is."""
    heads = ["data", "network", ""]
    for name in table.measures:
        heads += [f"{name}, paper", "measured"]
    rows = [heads + ["runs", "time each"]]
    for line in lines:
        first = line.side == VARIANTS[0]
        row = [
            line.comparison.dataset if first else "",
            line.comparison.network if first else "",
            line.side,
        ]
        for paper, cell in zip(line.paper, line.cells):
            row += [f"{paper:.2f}", str(cell)]
        time = duration(line.seconds.mean) if line.seconds and line.seconds.n else ""
        rows.append(row + [str(line.cells[0].n), time])
    heads, *rows = aligned(rows)
    return "\n".join(
        f"| {' | '.join(row)} |" for row in [heads, ["-" * len(head) for head in heads], *rows]
    )


def caption(table, runs, scale):
    """What the numbers of the table are, in a sentence or two."""
    lengths = " and ".join(f"{length:,}" for length in sorted({run.max_iter for run in runs}))
    seeds = len({run.seed for run in runs})
    spread = f"mean ± standard deviation of {seeds} seeds" if seeds > 1 else "one seed"
    figures = "accuracies" if table.accuracies else "errors"
    return (
        f"Table {table.number}, {table.title}: {figures} in %, {spread}, after {lengths} iterations"
        + ("." if scale == 1 else f", {100 * scale:g} % of the paper's.")
    )


# ---- All numbers


def save(path, table, runs, figures):
    """Writes every number of the table and of its runs as JSON, whole or not at all. All figures are in per cent."""
    content = {
        "table": table.number,
        "title": table.title,
        "measures": table.measures,
        "lines": [
            {
                "dataset": line.comparison.dataset,
                "network": line.comparison.network,
                "side": line.side,
                "paper": line.paper,
                "measured": [dataclasses.asdict(cell) for cell in line.cells],
            }
            for line in lines(table, runs, figures)
        ],
        "runs": [
            {
                "folder": str(run.folder.path),
                "dataset": run.comparison.dataset,
                "network": run.comparison.network,
                "variant": run.variant,
                "seed": run.seed,
                "max_iter": run.max_iter,
                "iteration": run.iteration(),
                "figures": figures.get(run),
                "seconds": run.metrics().last("seconds"),
            }
            for run in runs
        ],
    }
    with whole_file(path, encoding="utf-8") as file:
        json.dump(content, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")
