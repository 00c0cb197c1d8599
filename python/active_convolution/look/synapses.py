"""Pictures of learned positions, after the paper's Fig. 5 (where synapses end) and Fig. 6 (how they move there).

Axes are in pixels, x to the right and y downwards as in an image, and one scale serves all panels of a picture. What is
drawn are LayerPositions and a History of positions.py, which shows itself in a notebook by these functions.
"""

import dataclasses
import math

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.ticker import EngFormatter, MaxNLocator

from ..errors import UserError
from ..geometry import grid
from .common import GROUP_COLOURS, LONGEST, plain, spread
from .style import (
    FAINT,
    INK,
    PANEL,
    PIXEL,
    TIME_COLOURS,
    add_legend,
    name_axes,
    new_figure,
    style_axes,
)

WIDTH = 4 * PANEL  # of a figure whose panels get smaller rather than it wider
PIXELS_DRAWN = (
    32  # a plane that reaches farther shows no single pixels, which nobody could tell apart
)
PANELS = 64  # at most, for the layers of a network and for all their sets of positions: each takes a tenth of a second
RECORDS_DRAWN = 120  # a path through more records looks the same, and makes a vector file heavy


# ---- Fig. 5: where the synapses are


def drawable(layers):
    """Those of ``layers`` (LayerPositions) that have a shape, more than one synapse; of more than PANELS, so many.

    Raises UserError where there is none, or where a position is no number.
    """
    for layer in layers:
        if not np.isfinite(layer.xy).all():
            raise UserError(
                f"layer {layer.name} has positions that are not numbers, so its training diverged: "
                "take an earlier snapshot, or train with a lower learning rate"
            )
    chosen = [layer for layer in layers if layer.xy.shape[1] > 1]
    if not chosen:
        raise UserError(
            "no active convolution here has more than one synapse, so there is no shape to draw: "
            "name a network or a run that has one"
        )
    return [chosen[index] for index in spread(len(chosen), PANELS)]


def draw_positions(layers):
    """A Figure with a panel per layer of more than one synapse: filled dots are learned positions.

    ``layers`` is a list of LayerPositions. Hollow markers are the starting positions, with a line from each to where it
    went; where no start is known they are the kernel's grid, without lines. Colours tell position groups apart; of a layer
    with more groups than there are colours, each has a panel, or a few share one.
    """
    chosen = drawable(layers)
    layers = [panel for layer in chosen for panel in _by_group(layer, PANELS // len(chosen))]
    _, columns = _arrange(len(layers))
    return _draw_rows([layers[first : first + columns] for first in range(0, len(layers), columns)])


def _by_group(layer, most):
    """A layer of many position groups as ``most`` layers or fewer, with some groups each; any other one as it is."""
    groups = len(layer.xy)
    if groups <= len(GROUP_COLOURS):
        return [layer]
    each = -(-groups // most)
    parts = [slice(first, first + each) for first in range(0, groups, each)]
    return [
        dataclasses.replace(
            layer,
            name=f"{plain(layer.name, LONGEST - 12)}, {_numbered(part, groups)}",
            xy=layer.xy[part],
            start=None if layer.start is None else layer.start[part],
        )
        for part in parts
    ]


def _numbered(part, groups):
    last = min(part.stop, groups)
    return f"group {last}" if last == part.start + 1 else f"groups {part.start + 1}–{last}"


def draw_stages(stages):
    """The same with a row per stage of the network: ``stages`` is what positions.by_stage gives."""
    rows = _rows(stages)
    return _draw_rows(rows, _head(rows))


def _rows(stages):
    """The layers to draw of each stage that has some."""
    chosen = drawable([layer for stage in stages for layer in stage])
    return [row for stage in stages if (row := [layer for layer in stage if layer in chosen])]


def _head(rows):
    return "stage {}\n\n" if len(rows) > 1 else ""


def _draw_rows(rows, head=""):
    figure, panels = _planes(rows, head)
    for layer, axes in panels:
        for group, (start, xy) in enumerate(zip(_start(layer), layer.xy)):
            if layer.start is not None:
                axes.add_collection(
                    LineCollection(
                        np.stack([start, xy], axis=1),
                        linewidths=1.3,
                        alpha=0.7,
                        colors=_colour(group),
                    )
                )
        _draw_dots(axes, layer, _dot(axes))
    add_legend(figure)
    return figure


def _planes(rows, head="", reach=None):
    """A Figure with the plane of each layer of ``rows``, lists of LayerPositions, and a list of (layer, its axes).

    ``head`` goes before the name of each row's y axis, with the row's number in it. The planes show ``reach`` pixels
    each way; without it, all that there is to see.
    """
    reach = reach or _reach(
        points for row in rows for layer in row for points in (layer.xy, _start(layer))
    )
    columns, panels = max(map(len, rows)), []
    panel = np.clip(WIDTH / columns, PANEL / 2, PANEL)
    figure = new_figure(columns * panel, len(rows) * (panel + 0.15))
    for row, layers in enumerate(rows):
        for column, layer in enumerate(layers):
            axes = figure.add_subplot(len(rows), columns, row * columns + column + 1)
            _draw_plane(axes, layer, reach)
            lowest = row + 1 == len(rows) or column >= len(rows[row + 1])
            name_axes(
                axes,
                "x (pixels)" if lowest else "",
                head.format(row + 1) + "y (pixels)" if column == 0 else "",
            )
            panels.append((layer, axes))
    return figure, panels


def _start(layer):
    return (
        np.broadcast_to(grid(layer.kernel), layer.xy.shape) if layer.start is None else layer.start
    )


def _draw_plane(axes, layer, reach):
    """The pixels around the base pixel, each a square around its centre, and the layer's starting positions."""
    axes.set(xlim=(-reach, reach), ylim=(reach, -reach), aspect="equal", facecolor=PIXEL)
    for edge in np.arange(-np.ceil(reach), reach) + 0.5 if reach <= PIXELS_DRAWN else ():
        axes.axvline(edge, color="white", linewidth=1.6, zorder=0)
        axes.axhline(edge, color="white", linewidth=1.6, zorder=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    style_axes(axes, layer.name)
    size = _dot(axes)
    axes.plot(
        *_start(layer).reshape(-1, 2).T,
        "o",
        markersize=1.5 * size,
        markerfacecolor="none",
        markeredgecolor=FAINT,
        markeredgewidth=0.8,
        label="kernel grid" if layer.start is None else "start",
    )
    axes.plot(
        0,
        0,
        "+",
        markersize=1.9 * size,
        color=INK,
        markeredgewidth=0.9,
        label="base pixel",
        zorder=4,
    )


def _draw_dots(axes, layer, size):
    """The learned positions, as dots of ``size`` points that fit into the hollow markers of the start: a Line2D for
    each position group. Where colours repeat themselves, the legend has one name for all."""
    named = len(layer.xy) <= len(GROUP_COLOURS)
    return [
        axes.plot(
            *xy.T,
            "o",
            markersize=size,
            color=_colour(group),
            markeredgewidth=0,
            zorder=3,
            label="learned" if group == 0 else f"learned, group {group + 1}" if named else None,
        )[0]
        for group, xy in enumerate(layer.xy)
    ]


# ---- Fig. 6: how they move


def draw_movement(history):
    """A Figure with, per layer of more than one synapse, the paths of its synapses and how far they are from home.

    ``history`` is a positions.History of at least two records. Above, each synapse's path in the plane, from light
    (early) to dark (late); below, in the same colours, its distance in pixels from its first recorded position, over
    the iterations, with the end of the warm-up (§2.6).
    """
    layers = drawable(history.layers())
    iterations = history.iterations
    if len(iterations) < 2:
        raise UserError(
            "positions were recorded only once so far: there is no movement to draw yet"
        )
    keep = spread(len(iterations), RECORDS_DRAWN)
    paths = [
        history.positions(layer.name)[keep].astype(float) for layer in layers
    ]  # far ones are too far apart for float32
    moved = [np.linalg.norm(path - path[0], axis=-1) for path in paths]
    reach, height = _reach(paths), max(1.08 * _largest(moved), 0.05)
    rows, columns = _arrange(len(layers))
    figure = new_figure(columns * PANEL, rows * (1.5 * PANEL + 0.5))
    cells = figure.add_gridspec(
        3 * rows - 1, columns, height_ratios=[2, 1, 0.05] * (rows - 1) + [2, 1]
    )
    for index, layer in enumerate(layers):
        row, column = divmod(index, columns)
        plane, curves = (figure.add_subplot(cells[3 * row + part, column]) for part in (0, 1))
        _draw_paths(plane, layer, reach, iterations[keep], paths[index])
        _draw_curves(curves, history, height, iterations[keep], moved[index])
        name_axes(plane, "x (pixels)", "y (pixels)" if column == 0 else "")
        name_axes(curves, "iterations", "moved (pixels)" if column == 0 else "")
    add_legend(figure)
    return figure


def _draw_paths(axes, layer, reach, iterations, path):
    _draw_plane(axes, layer, reach)
    _add_timed_lines(
        axes, iterations, np.moveaxis(path, 0, -2).reshape(-1, len(iterations), 2), 1.6
    )
    _draw_dots(axes, layer, 0.6 * _dot(axes))


def _draw_curves(axes, history, height, iterations, moved):
    axes.set(xlim=iterations[[0, -1]], ylim=(0, height))
    axes.grid(axis="y", color=PIXEL)
    if iterations[0] < history.warmup_iter <= iterations[-1]:
        axes.axvline(
            history.warmup_iter, color=FAINT, linestyle="--", linewidth=1, label="end of warm-up"
        )
    curves = moved.reshape(len(iterations), -1).T
    _add_timed_lines(
        axes,
        iterations,
        np.stack([np.broadcast_to(iterations, curves.shape), curves], axis=-1),
        1.2,
    )
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    style_axes(axes)


def _add_timed_lines(axes, iterations, lines, width):
    """Draws ``lines``, (N, T, 2), each coloured along its way by ``iterations``, (T,)."""
    segments = np.stack([lines[:, :-1], lines[:, 1:]], axis=2).reshape(-1, 2, 2)
    collection = LineCollection(
        segments,
        cmap=TIME_COLOURS,
        norm=Normalize(iterations[0], iterations[-1]),
        linewidths=width,
        capstyle="round",
        zorder=2,
    )
    collection.set_array(np.tile(iterations[1:], len(lines)))
    axes.add_collection(collection, autolim=False)


# ---- An animation: see animation.py


def draw_film(stages, history):
    """A Figure like draw_stages's, with room for all that ``history`` (positions.History) recorded, and what moves in it:
    a list of (layer, the Line2D of each position group's dots, an empty LineCollection for the paths behind them)."""
    rows = _rows(stages)
    figure, panels = _planes(rows, _head(rows), _reach(map(history.positions, history.names)))
    moving = []
    for layer, axes in panels:
        trails = LineCollection(
            [],
            linewidths=1,
            alpha=0.5,
            colors=[
                _colour(group) for group in range(len(layer.xy)) for _ in range(layer.xy.shape[1])
            ],
        )
        axes.add_collection(trails, autolim=False)
        moving.append((layer, _draw_dots(axes, layer, _dot(axes)), trails))
    add_legend(figure)
    return figure, moving


# ---- What all share


def _reach(arrays):
    """How far the panels show, in pixels from the base pixel: past every point of ``arrays``, each (..., 2)."""
    return max(1.5, 0.4 + _largest(map(np.abs, arrays)))


def _largest(arrays):
    """The largest number in ``arrays``: a training may have been lost, and found again."""
    return max(float(values[np.isfinite(values)].max(initial=0)) for values in arrays)


def _arrange(count):
    """(rows, columns) for ``count`` panels, four or three to a row, whichever leaves fewer places empty; for very many
    a square."""
    columns = (
        math.isqrt(count - 1) + 1
        if count > 32
        else min(count, min((4, 3), key=lambda width: -count % width))
    )
    return -(-count // columns), columns


def _dot(axes):
    """Marker size in points, for a plane: a dot must leave room in its pixel."""
    left, right = axes.get_xlim()
    width = min(PANEL, axes.get_figure().get_figwidth() / axes.get_gridspec().ncols)
    return np.clip(0.17 * 72 * width / (right - left), 1.5, 6.5)


def _colour(group):
    return GROUP_COLOURS[group % len(GROUP_COLOURS)]
