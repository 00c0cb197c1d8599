"""metrics.csv: what a run measured, iteration by iteration."""
import csv
import os

from ..files import reading, whole_file

COLUMNS = ("iteration", "loss", "learning_rate", "test_loss", "test_error", "seconds")


class Metrics:
    """Rows of ``iteration``, training ``loss`` (mean since the row before), ``learning_rate``, ``test_loss`` and
    ``test_error`` (a fraction; both empty where no test was run) and ``seconds`` of training so far."""

    def __init__(self):
        self.rows = []

    @classmethod
    def load(cls, path):
        """Reads what ``save`` wrote; a missing file has no rows."""
        metrics = cls()
        if not os.path.exists(path):
            return metrics
        with reading(path, "is damaged", "remove it, or name another run", reason=True):
            with open(path, newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                if reader.fieldnames != list(COLUMNS):
                    raise ValueError("other columns")
                for row in reader:
                    values = {name: None if row[name] == "" else float(row[name]) for name in COLUMNS}
                    metrics.rows.append({**values, "iteration": int(row["iteration"])})
        return metrics

    def truncate(self, after_iteration):
        """Drops rows of iterations > ``after_iteration``, as a resumed run must."""
        self.rows = [row for row in self.rows if row["iteration"] <= after_iteration]

    def append(self, iteration, **values):
        """Adds a row, or values to the newest row where that is of this ``iteration``."""
        if not self.rows or self.rows[-1]["iteration"] != iteration:
            self.rows.append({**dict.fromkeys(COLUMNS), "iteration": iteration})
        self.rows[-1].update(values)

    def tested(self):
        """The iteration of the newest test, or None."""
        return next((row["iteration"] for row in reversed(self.rows) if row["test_error"] is not None), None)

    def last(self, column):
        """The newest value of a column, or None."""
        return next((row[column] for row in reversed(self.rows) if row[column] is not None), None)

    def save(self, path):
        """Writes the file, whole or not at all."""
        with whole_file(path, newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for row in self.rows:
                writer.writerow({name: "" if value is None else value if name == "iteration" else f"{value:.6g}"
                                 for name, value in row.items()})
