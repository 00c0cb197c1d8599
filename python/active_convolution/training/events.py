"""TensorBoard's event files of a run, beside metrics.csv: what that holds, and how the positions are spread."""

import time

import numpy as np

from ..errors import UserError

_BINS = 30


def check():
    """Raises UserError unless TensorBoard's writer is installed."""
    try:
        from tensorboard.summary.writer import event_file_writer
    except (ImportError, TypeError) as error:  # TypeError: files generated for another protobuf
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--tensorboard needs TensorBoard's writer ({reason}): pip install tensorboard, in a virtual "
            "environment with --system-site-packages, or leave it out"
        ) from error
    return event_file_writer.EventFileWriter


class Events:
    """The files in ``run``/tensorboard: a scalar for each column of metrics.csv, and for each layer the histograms of its
    synapses' x and y, in pixels, relative to the base pixel."""

    def __init__(self, run):
        self._writer = check()(str(run.path / "tensorboard"))
        self._written = {}

    def truncate(self, after_iteration):
        """Has TensorBoard forget what came after an iteration, as a resumed run must."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self._writer.add_event(
            Event(
                wall_time=time.time(),
                step=after_iteration + 1,
                session_log=SessionLog(status=SessionLog.START),
            )
        )

    def write(self, row, history):
        """What is new in ``row``, of metrics.csv, and in the newest record of ``history`` (positions.History)."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        known = self._written if self._written.get("iteration") == row["iteration"] else {}
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in row.items()
            if name != "iteration" and value is not None and known.get(name) != value
        ]
        if not known:
            values += [
                Summary.Value(
                    tag=f"positions/{layer.name}/{axis}", histo=_histogram(layer.xy[..., index])
                )
                for layer in history.layers()
                for index, axis in enumerate("xy")
            ]
        self._written = dict(row)
        self._writer.add_event(
            Event(wall_time=time.time(), step=row["iteration"], summary=Summary(value=values))
        )
        self._writer.flush()

    def close(self):
        self._writer.close()


def _histogram(values):
    from tensorboard.compat.proto.summary_pb2 import HistogramProto

    values = np.float64(values[np.isfinite(values)])
    counts, edges = np.histogram(values, _BINS)
    return HistogramProto(
        min=values.min(initial=0),
        max=values.max(initial=0),
        num=values.size,
        sum=values.sum(),
        sum_squares=(values**2).sum(),
        bucket_limit=edges[1:],
        bucket=counts,
    )
