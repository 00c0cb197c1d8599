"""metrics.csv: what a run measured, iteration by iteration."""

import csv
import io
import math
import os

from ..files import content, reading, whole_file

COLUMNS = ("iteration", "loss", "learning_rate", "test_loss", "test_error", "seconds")


class Metrics:
    """Rows of ``iteration``, training ``loss`` (mean since the row before), ``learning_rate``, ``test_loss`` and
    ``test_error`` (a fraction; both empty where no test was run, the error where the network has no accuracy) and
    ``seconds`` of training so far; and by name what else the network gives: see outputs.py."""

    def __init__(self, names=()):
        self.columns, self.rows = [*COLUMNS, *names], []

    @property
    def more(self):
        """The columns by name."""
        return self.columns[len(COLUMNS) :]

    @classmethod
    def load(cls, path, columns=COLUMNS):
        """Reads what ``save`` wrote; ``columns`` are there in any case, and a missing file has no rows."""
        metrics = cls(columns[len(COLUMNS) :])
        if not os.path.exists(path):
            return metrics
        with reading(path, "is damaged", "remove it, or name another run", reason=True):
            reader = csv.DictReader(io.StringIO(content(path).decode(), newline=""), strict=True)
            if (reader.fieldnames or [])[: len(COLUMNS)] != list(COLUMNS):
                raise ValueError("other columns")
            metrics.columns = list(dict.fromkeys([*reader.fieldnames, *columns]))
            for row in reader:
                row = _checked(row, metrics.rows[-1]["iteration"] if metrics.rows else -1)
                metrics.rows.append({**dict.fromkeys(metrics.columns), **row})
        return metrics

    def truncate(self, after_iteration):
        """Drops rows of iterations > ``after_iteration``, as a resumed run must."""
        self.rows = [row for row in self.rows if row["iteration"] <= after_iteration]

    def append(self, iteration, **values):
        """Adds a row, or values to the newest row where that is of this ``iteration``."""
        if not self.rows or self.rows[-1]["iteration"] != iteration:
            self.rows.append({**dict.fromkeys(self.columns), "iteration": iteration})
        self.rows[-1].update(values)

    def tested(self):
        """The iteration of the newest test, or None."""
        return self.newest_test()["iteration"]

    def newest_test(self):
        """Its row; one of None where no test was run."""
        names = [name for name in self.columns if name.startswith("test")]
        return next(
            (row for row in reversed(self.rows) if any(row[name] is not None for name in names)),
            dict.fromkeys(self.columns),
        )

    def last(self, column):
        """The newest value of a column, or None."""
        return next((row[column] for row in reversed(self.rows) if row[column] is not None), None)

    def save(self, path):
        """Writes the file, whole or not at all."""
        with whole_file(path, newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            for row in self.rows:
                writer.writerow(
                    {
                        name: ""
                        if value is None
                        else value
                        if name == "iteration"
                        else f"{value:.6g}"
                        for name, value in row.items()
                    }
                )


def _checked(row, before):
    """A row of the file with its numbers: a loss need not be finite, as of a training that diverged, and an error that is no
    fraction, as of somebody's layer that counts in per cent, is none."""
    if None in row or None in row.values():
        raise ValueError("a row of other length")
    values = {name: None if text == "" else float(text) for name, text in row.items()}
    iteration, seconds = int(row["iteration"]), values["seconds"]
    if not before < iteration < 2**31:
        raise ValueError(f"iteration {iteration} after {before}")
    if seconds is not None and not (seconds >= 0 and math.isfinite(seconds)):
        raise ValueError(f"{seconds} seconds")
    if values["test_error"] is not None and not 0 <= values["test_error"] <= 1:
        values["test_error"] = None
    return {**values, "iteration": iteration}
