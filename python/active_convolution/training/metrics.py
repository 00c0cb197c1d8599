"""What a run measured, iteration by iteration: metrics.csv, and TensorBoard's event files."""

import csv
import os
import time

import numpy as np

from ..errors import UserError
from ..files import reading, whole_file

COLUMNS = ("iteration", "loss", "learning_rate", "test_loss", "test_error", "seconds")
_BINS = 30


class Metrics:
    """Rows of ``iteration``, training ``loss`` (mean since the row before), ``learning_rate``,
    ``test_loss`` and ``test_error`` (a fraction; both empty where no test was run, the error where
    the network has no accuracy) and ``seconds`` of training so far; and by name what else the
    network gives: see testing.Outputs."""

    def __init__(self, names=()):
        self.columns, self.rows = [*COLUMNS, *names], []

    @property
    def more(self):
        """The columns by name."""
        return self.columns[len(COLUMNS) :]

    @classmethod
    def load(cls, path, columns=COLUMNS):
        """Reads what ``save`` wrote; ``columns`` are there in any case, and a missing file has no
        rows. Raises UserError where it is damaged."""
        metrics = cls(columns[len(COLUMNS) :])
        if not os.path.exists(path):
            return metrics
        with reading(path, "is damaged", "remove it, or name another run", reason=True):
            with open(path, encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file, strict=True)
                if tuple(reader.fieldnames or ())[: len(COLUMNS)] != COLUMNS:
                    raise ValueError("other columns")
                metrics.columns = list(dict.fromkeys([*reader.fieldnames, *columns]))
                for row in reader:
                    metrics.rows.append({**dict.fromkeys(metrics.columns), **_numbers(row)})
            iterations = [row["iteration"] for row in metrics.rows]
            if iterations != sorted(set(iterations)):
                raise ValueError("its iterations do not ascend")
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
        for row in reversed(self.rows):
            if any(row[name] is not None for name in names):
                return row
        return dict.fromkeys(self.columns)

    def last(self, column):
        """The newest value of a column, or None."""
        return next((row[column] for row in reversed(self.rows) if row[column] is not None), None)

    def save(self, path):
        """Writes the file, whole or not at all."""
        with whole_file(path, newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(self.columns)
            for row in self.rows:
                values = (
                    "" if row[name] is None else f"{row[name]:.6g}" for name in self.columns[1:]
                )
                writer.writerow([row["iteration"], *values])


def _numbers(row):
    """A row of the file: a loss need not be finite, and an error that is not a fraction, as of a
    layer that counts in per cent, is none."""
    if None in row or None in row.values():
        raise ValueError("a row of other length")
    values = {name: float(text) if text else None for name, text in row.items()}
    error = values["test_error"]
    values["test_error"] = error if error is not None and 0 <= error <= 1 else None
    return {**values, "iteration": int(row["iteration"])}


# ---- TensorBoard


def event_file_writer():
    """TensorBoard's writer. Raises UserError where that is not installed."""
    try:
        from tensorboard.summary.writer import event_file_writer
    except (ImportError, TypeError) as error:  # TypeError: files generated for another protobuf
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--tensorboard needs TensorBoard's writer ({reason}): pip install "
            "'active-convolution[tensorboard]', or leave it out"
        ) from error
    return event_file_writer.EventFileWriter


class Events:
    """The files in ``run``/tensorboard: a scalar for each column of metrics.csv, and for each layer
    the histograms of its synapses' x and y, in pixels, relative to the base pixel."""

    def __init__(self, run):
        self._writer = event_file_writer()(str(run.path / "tensorboard"))
        from tensorboard.compat.proto import event_pb2, summary_pb2

        self._event, self._summary = event_pb2, summary_pb2

    def truncate(self, after_iteration):
        """Has TensorBoard forget what came after an iteration, as a resumed run must."""
        start = self._event.SessionLog(status=self._event.SessionLog.START)
        self._add(after_iteration + 1, session_log=start)

    def write(self, row, history):
        """A row of metrics.csv, and the newest record of ``history`` (positions.History)."""
        value = self._summary.Summary.Value
        values = [
            value(tag=name, simple_value=number)
            for name, number in row.items()
            if name != "iteration" and number is not None
        ]
        values += [
            value(tag=f"positions/{layer.name}/{axis}", histo=self._histogram(xy))
            for layer in history.layers()
            for axis, xy in zip("xy", np.moveaxis(layer.xy, -1, 0))
        ]
        self._add(row["iteration"], summary=self._summary.Summary(value=values))
        self._writer.flush()

    def _add(self, step, **content):
        self._writer.add_event(self._event.Event(wall_time=time.time(), step=step, **content))

    def _histogram(self, values):
        values = np.float64(values[np.isfinite(values)])
        counts, edges = np.histogram(values, _BINS)
        return self._summary.HistogramProto(
            min=values.min(initial=0),
            max=values.max(initial=0),
            num=values.size,
            sum=values.sum(),
            sum_squares=(values**2).sum(),
            bucket_limit=edges[1:],
            bucket=counts,
        )

    def close(self):
        self._writer.close()
