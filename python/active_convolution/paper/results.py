"""What the runs of a table measured, beside the paper's figures.

The error of a run is that of its last test, of the network after its last iteration: not the best
one on the way, which would be chosen by the test images. An unfinished run counts nowhere. A table
whose figures are taken on ten crops (Places365) evaluates each finished run's last snapshot once,
and keeps what came out in the run's folder.

Over the seeds, a cell of a side is the mean ± the sample standard deviation (with n − 1). The
improvement is baseline − acu of errors, acu − baseline of accuracies, in per cent points, run by
run of the same seed (those begin with the same weights): the mean ± its standard error, and the
interval in which the true mean lies with 95 %, by Student's t.
"""

import csv
import dataclasses
import statistics

from ..command import aligned
from ..errors import UserError
from ..files import json_object, reading, whole_file
from ..look import evaluation
from ..networks.models import VARIANTS
from ..training.run_folder import write_json
from ..training.trained import Trained
from .runs import duration
from .tables import Comparison

_TEN_CROPS = "ten_crop.json"  # in a run's folder: the errors of its last snapshot, per cent


@dataclasses.dataclass(frozen=True)
class Cell:
    """``mean`` ± ``spread`` of ``n`` numbers, those that are None left out; both None where there
    are too few. ``interval``: of the mean, where the spread is its standard error."""

    n: int
    mean: float = None
    spread: float = None
    interval: tuple = None

    @classmethod
    def of(cls, numbers):
        """``spread`` is the sample standard deviation."""
        numbers = [number for number in numbers if number is not None]
        mean = statistics.mean(numbers) if numbers else None
        return cls(len(numbers), mean, statistics.stdev(numbers) if len(numbers) > 1 else None)

    @classmethod
    def of_differences(cls, numbers):
        """``spread`` is the mean's standard error."""
        from scipy.stats import t  # here: it takes a while

        cell = cls.of(numbers)
        if cell.spread is None:
            return cell
        error = cell.spread / cell.n**0.5
        reach = float(t.ppf(0.975, cell.n - 1)) * error
        return cls(cell.n, cell.mean, error, (cell.mean - reach, cell.mean + reach))

    def __str__(self):
        if self.n == 0:
            return "–"
        told = f"{self.mean:.2f}" + ("" if self.spread is None else f" ± {self.spread:.2f}")
        return told + (
            f" ({self.interval[0]:.2f} to {self.interval[1]:.2f})" if self.interval else ""
        )


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a table: ``side`` is a variant, or "improvement" (of acu) or "… by" an ablation;
    ``paper`` (numbers, None where it has none) and ``cells`` (Cell) have an entry per measure, per
    cent; ``seconds`` is a Cell of the training times, None for the improvement."""

    comparison: Comparison
    max_iter: int
    side: str
    paper: tuple
    cells: tuple
    seconds: Cell = None


# ---- What was measured


def measure(table, runs, gpu=None):
    """{run: its figures, per cent, a tuple with an entry per measure of ``table``} of those
    ``runs`` that are finished. What must be evaluated is, on device ``gpu``, None for the CPU."""
    errors = {
        run: _on_ten_crops(run, gpu) if table.ten_crop else _of_last_test(run)
        for run in runs
        if run.finished()
    }
    if table.accuracies:
        return {run: tuple(100 - error for error in each) for run, each in errors.items()}
    return errors


def _of_last_test(run):
    error = run.error()
    if error is None:
        raise UserError(
            f"the last test of {run.folder.path} has no test_error: give its network an Accuracy"
        )
    return (100 * error,)


def _on_ten_crops(run, gpu):
    path = run.folder.path / _TEN_CROPS
    if not path.exists():
        trained = Trained.of_run(run.folder.path, run.max_iter)
        top1, top5, _ = evaluation.evaluate(trained, ten_crop=True, gpu=gpu)
        write_json(path, {"top1": top1, "top5": top5})
    with reading(path, "is damaged", "remove it, and the network is evaluated again"):
        kept = json_object(path)
        return float(kept["top1"]), float(kept["top5"])


# ---- The table


def lines(table, figures):
    """The lines of ``table``: for each comparison and length those of its sides, and each one's
    improvement; ``figures`` is what measure gave."""
    result = []
    for comparison, max_iter in sorted(
        {run.pair for run in figures}, key=lambda pair: (table.comparisons.index(pair[0]), -pair[1])
    ):
        runs = [run for run in figures if run.pair == (comparison, max_iter)]
        sides = {variant: {} for variant in VARIANTS}
        for run in runs:
            sides.setdefault(run.variant, {})[run.seed] = run
        for variant, side in sides.items():
            paper = comparison.paper.get(variant, (None,) * len(table.measures))
            cells = _cells(table, Cell.of, [figures[run] for run in side.values()])
            seconds = Cell.of(run.metrics().last("seconds") for run in side.values())
            result.append(Line(comparison, max_iter, variant, paper, cells, seconds))
        for variant in list(sides)[1:]:
            result.append(_improvement(table, (comparison, max_iter), figures, sides, variant))
    return result


def _improvement(table, pair, figures, sides, variant):
    sign = 1 if table.accuracies else -1
    baseline, other = sides[VARIANTS[0]], sides[variant]

    def gain(before, after):
        return tuple(sign * (new - old) for old, new in zip(before, after))

    gains = [
        gain(figures[baseline[seed]], figures[other[seed]]) for seed in baseline.keys() & other
    ]
    known = variant == VARIANTS[1]
    paper = gain(pair[0].baseline, pair[0].acu) if known else (None,) * len(table.measures)
    name = "improvement" if known else f"improvement by {variant}"
    return Line(*pair, name, paper, _cells(table, Cell.of_differences, gains))


def _cells(table, cell, figures):
    return tuple(cell(each[index] for each in figures) for index in range(len(table.measures)))


def text(table, lines):
    """The table as Markdown, readable as it is."""
    heads = ["data", "network", "iterations", ""]
    for name in table.measures:
        heads += [f"{name}, paper", "measured"]
    rows = [heads + ["runs", "time each"]]
    for line in lines:
        first = [line.comparison.dataset, line.comparison.network, f"{line.max_iter:,}"]
        row = [*(first if line.side == VARIANTS[0] else [""] * 3), line.side]
        for paper, cell in zip(line.paper, line.cells):
            row += ["" if paper is None else f"{paper:.2f}", str(cell)]
        time = duration(line.seconds.mean) if line.seconds and line.seconds.n else ""
        rows.append(row + [str(line.cells[0].n), time])
    heads, *rows = aligned(rows)
    return "\n".join(
        f"| {' | '.join(row)} |" for row in [heads, ["-" * len(head) for head in heads], *rows]
    )


def caption(table):
    """What the numbers of the table are, in a sentence or two."""
    return (
        f"Table {table.number}, {table.title}: {'accuracies' if table.accuracies else 'errors'} in "
        "%, mean ± standard deviation over the seeds; improvements run by run, mean ± standard "
        "error (95 % interval)."
    )


def save(path, table, figures):
    """Writes a row for every finished run as CSV, whole or not at all. All figures are per cent."""
    with whole_file(path, newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = "dataset", "network", "variant", "seed", "iterations", *table.measures
        writer.writerow([*names, "seconds", "commit", "cpu", "threads"])
        for run in sorted(figures, key=lambda run: (run.max_iter, run.name)):
            said, measured = run.folder.said or {}, (f"{each:.6g}" for each in figures[run])
            machine = said.get("machine", {})
            writer.writerow(
                [
                    *(run.comparison.dataset, run.comparison.network, run.variant, run.seed),
                    *(run.max_iter, *measured, run.metrics().last("seconds")),
                    *(said.get("code", {}).get("commit"), machine.get("cpu")),
                    machine.get("threads"),
                ]
            )
