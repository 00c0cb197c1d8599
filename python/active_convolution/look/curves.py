"""Pictures of how networks learned, after the paper's Fig. 4, 8 and 10: loss and error over the
iterations."""

import numpy as np
from matplotlib.ticker import (
    EngFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    StrMethodFormatter,
)

from ..errors import UserError
from .common import colour
from .style import FAINT, PANEL, PIXEL, add_legend, name_axes, new_figure, style_axes

_POINTS = 100  # of a curve, at most: each is the mean of the rows around it, against noise
_FEW = 12  # points that are marked


def draw_curves(sides, warmup_iter=0):
    """A Figure with the training loss and the test error (%) of networks, over the iterations.

    ``sides`` maps a name for the legend to a list of Metrics, one per run. Several runs of a side
    are thin lines around their mean, which goes as far as all of them. ``warmup_iter`` is where
    positions begin to move (§2.6); 0: nowhere.
    """
    sides = {name: [metrics for metrics in runs if metrics.rows] for name, runs in sides.items()}
    if not any(sides.values()):
        raise UserError("no run has recorded anything yet: train first")
    figure = new_figure(4 * PANEL, 1.4 * PANEL)
    figure.get_layout_engine().set(wspace=0.06)
    loss, error = figure.subplots(1, 2)
    last = max(metrics.rows[-1]["iteration"] for runs in sides.values() for metrics in runs)
    for axes, column, factor, label in (
        (loss, "loss", 1, "training loss"),
        (error, "test_error", 100, "test error (%)"),
    ):
        for index, (name, runs) in enumerate(sides.items()):
            curves = [_curve(metrics, column, factor) for metrics in runs]
            _draw_side(axes, name, [curve for curve in curves if curve.size], colour(index))
        if 0 < warmup_iter <= last:
            dashed = dict(color=FAINT, linestyle="--", linewidth=1, label="end of warm-up")
            axes.axvline(warmup_iter, **dashed)
        axes.set_xlim(0, last)
        axes.grid(axis="y", which="both", color=PIXEL)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        style_axes(axes)
        name_axes(axes, "iterations", label)
    _make_logarithmic(loss)
    add_legend(figure)
    return figure


def _curve(metrics, column, factor):
    """(iterations, values) of the rows that have a value in ``column``, thinned to _POINTS
    means."""
    rows = [
        (row["iteration"], factor * row[column]) for row in metrics.rows if row[column] is not None
    ]
    parts = np.array_split(np.array(rows).reshape(-1, 2), max(1, min(_POINTS, len(rows))))
    return np.array([part.mean(axis=0) for part in parts if len(part)]).reshape(-1, 2).T


def _draw_side(axes, name, curves, colour):
    if not curves:
        return
    if len(curves) > 1:
        for curve in curves:
            axes.plot(*curve, color=colour, linewidth=0.6, alpha=0.4)
        iterations = np.unique(np.concatenate([curve[0] for curve in curves]))
        iterations = iterations[iterations <= min(curve[0][-1] for curve in curves)]
        mean = np.mean([np.interp(iterations, *curve) for curve in curves], axis=0)
        curves = [(iterations, mean)]
    mark = "o" if len(curves[0][0]) <= _FEW else None
    look = dict(color=colour, linewidth=1.4, marker=mark, markersize=3)
    axes.plot(*curves[0], label=name, clip_on=False, **look)


def _make_logarithmic(axes):
    """Labels 1, 2 and 5 of each power of ten, of many powers these alone, of few all digits."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    digits = range(1, 10) if high < 5 * low else (1, 2, 5) if high < 500 * low else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=digits))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
