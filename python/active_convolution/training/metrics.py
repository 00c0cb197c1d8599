"""metrics.csv: what a run measured, iteration by iteration."""
import csv

from ..errors import UserError
from ..files import whole_file

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
        try:
            with open(path, newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    values = {name: float(row[name]) if row[name] else None for name in COLUMNS}
                    metrics.rows.append({**values, "iteration": int(row["iteration"])})
        except FileNotFoundError:
            pass
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is damaged ({error}): remove it, or name another run") from error
        return metrics

    def truncate(self, after_iteration):
        """Drops rows of iterations > ``after_iteration``, as a resumed run must."""
        self.rows = [row for row in self.rows if row["iteration"] <= after_iteration]

    def append(self, **row):
        self.rows.append({**dict.fromkeys(COLUMNS), **row})

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
