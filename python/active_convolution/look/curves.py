"""Pictures of how networks learned, after the paper's Fig. 4, 8 and 10: loss and error over the iterations."""

import numpy as np
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter, StrMethodFormatter

from ..errors import UserError
from .common import GROUP_COLOURS
from .style import (
    FAINT,
    INK,
    PANEL,
    PIXEL,
    add_legend,
    name_axes,
    new_figure,
    style_axes,
)

_POINTS = 100  # drawn of a curve, at most: each is the mean of the rows around it, so that noise does not hide it

_FEW = 12  # points that are marked


def draw_curves(sides, warmup_iter=0):
    """A Figure with the training loss and the test error (%) of networks, over the iterations.

    ``sides`` maps a name for the legend to a list of Metrics, one per run. Several runs of a side are thin lines around
    their mean, which goes as far as all of them. ``warmup_iter`` is where positions begin to move (§2.6); 0: nowhere.
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
            _draw_side(
                axes,
                name,
                [_curve(metrics, column, factor) for metrics in runs],
                GROUP_COLOURS[index],
            )
        if 0 < warmup_iter <= last:
            axes.axvline(
                warmup_iter, color=FAINT, linestyle="--", linewidth=1, label="end of warm-up"
            )
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
    """(iterations, values) of the rows that have a value in ``column``, thinned to _POINTS means."""
    rows = [
        (row["iteration"], factor * row[column]) for row in metrics.rows if row[column] is not None
    ]
    parts = np.array_split(np.array(rows).reshape(-1, 2), max(1, min(_POINTS, len(rows))))
    return np.array([part.mean(axis=0) for part in parts if len(part)]).reshape(-1, 2).T


def _draw_side(axes, name, curves, colour):
    curves = [curve for curve in curves if curve.size]
    if not curves:
        return
    if len(curves) > 1:
        for curve in curves:
            axes.plot(*curve, color=colour, linewidth=0.6, alpha=0.4)
        iterations = np.unique(np.concatenate([curve[0] for curve in curves]))
        iterations = iterations[iterations <= min(curve[0][-1] for curve in curves)]
        curves = [
            (iterations, np.mean([np.interp(iterations, *curve) for curve in curves], axis=0))
        ]
    axes.plot(
        *curves[0],
        color=colour,
        linewidth=1.4,
        label=name,
        clip_on=False,
        marker="o" if len(curves[0][0]) <= _FEW else None,
        markersize=3,
    )


def _make_logarithmic(axes):
    """Names the powers of ten, and what lies between where there is but one of them to see."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    plain = StrMethodFormatter("{x:g}")
    axes.yaxis.set_major_formatter(plain)
    axes.yaxis.set_minor_formatter(plain if high < 10 * low else NullFormatter())
    axes.tick_params(which="minor", labelsize=7, colors=INK, length=2, width=0.6)
