"""Pictures of learned positions, after the paper's Fig. 5 (where synapses end) and Fig. 6 (how they
move there).

Axes are in pixels, x to the right and y downwards as in an image, and one scale serves all panels
of a picture. What is drawn are LayerPositions and a History of caffe.positions, which show
themselves in a notebook by these functions.
"""

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.ticker import EngFormatter, MaxNLocator

from ..errors import UserError
from ..geometry import grid
from . import style
from .common import GROUP_COLOURS, arrange, colour, spread

PANELS = 64  # layers at most: a panel takes a tenth of a second
_WIDTH = 4 * style.PANEL  # of a figure whose panels get smaller rather than it wider
_PIXELS = 32  # a plane that reaches farther shows no single pixels: nobody could tell them apart
_RECORDS = 120  # a path through more looks the same, and makes a vector file heavy


# ---- Fig. 5: where the synapses are


def drawable(layers):
    """Those of ``layers`` (LayerPositions) that have a shape, more than one synapse; of more than
    PANELS, so many. Raises UserError where there is none, or a position is not finite."""
    for layer in layers:
        if not np.isfinite(layer.xy).all():
            raise UserError(
                f"layer {layer.name} has positions that are NaN or infinite, so its training "
                "diverged: take an earlier snapshot, or train with a lower learning rate"
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

    ``layers`` is a list of LayerPositions. Hollow marks are the starting positions, with a line
    from each to where it went; where no start is known they are the kernel's grid, without lines.
    Colours tell position groups apart, as far as there are so many.
    """
    return _draw_rows(_in_rows(layers))


def draw_stages(stages):
    """The same with a row per stage of the network: ``stages`` is what positions.by_stage gives."""
    rows = _rows(stages)
    return _draw_rows(rows, _head(rows))


def _in_rows(layers):
    """The layers to draw, in rows that fill a rectangle."""
    layers = drawable(layers)
    _, columns = arrange(len(layers))
    return [layers[first : first + columns] for first in range(0, len(layers), columns)]


def _rows(stages):
    """The layers to draw of each stage that has some."""
    chosen = drawable([layer for stage in stages for layer in stage])
    return [row for stage in stages if (row := [layer for layer in stage if layer in chosen])]


def _head(rows):
    return "stage {}\n\n" if len(rows) > 1 else ""


def _draw_rows(rows, head=""):
    points = [points for row in rows for layer in row for points in (layer.xy, _start(layer))]
    figure, panels = _planes(rows, head, _reach(points))
    for layer, axes in panels:
        for group, (start, xy) in enumerate(zip(_start(layer), layer.xy)):
            if layer.start is not None:
                ways = np.stack([start, xy], axis=1)
                lines = LineCollection(ways, linewidths=1.3, alpha=0.7, colors=colour(group))
                axes.add_collection(lines)
        _draw_dots(axes, layer)
    style.add_legend(figure)
    return figure


def _planes(rows, head, reach):
    """A Figure with the plane of each layer of ``rows``, lists of LayerPositions, and a list of
    (layer, its axes). ``head`` goes before the name of each row's y axis, with the row's number in
    it. The planes show ``reach`` pixels each way."""
    columns, panels = max(map(len, rows)), []
    panel = np.clip(_WIDTH / columns, style.PANEL / 2, style.PANEL)
    figure = style.new_figure(columns * panel, len(rows) * (panel + 0.15))
    for row, layers in enumerate(rows):
        for column, layer in enumerate(layers):
            axes = figure.add_subplot(len(rows), columns, row * columns + column + 1)
            _draw_plane(axes, layer, reach)
            lowest = row + 1 == len(rows) or column >= len(rows[row + 1])
            y = head.format(row + 1) + "y (pixels)" if column == 0 else ""
            style.name_axes(axes, "x (pixels)" if lowest else "", y)
            panels.append((layer, axes))
    return figure, panels


def _start(layer):
    start = grid(layer.kernel) if layer.start is None else layer.start
    return np.broadcast_to(start, layer.xy.shape)


def _draw_plane(axes, layer, reach):
    """The pixels around the base pixel, each a square around its centre, and the layer's starting
    positions."""
    axes.set(xlim=(-reach, reach), ylim=(reach, -reach), aspect="equal", facecolor=style.PIXEL)
    for edge in np.arange(-np.ceil(reach), reach) + 0.5 if reach <= _PIXELS else ():
        axes.axvline(edge, color="white", linewidth=1.6, zorder=0)
        axes.axhline(edge, color="white", linewidth=1.6, zorder=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    style.style_axes(axes, layer.name)
    size = _dot(axes)
    hollow = dict(markerfacecolor="none", markeredgecolor=style.FAINT, markeredgewidth=0.8)
    name = "kernel grid" if layer.start is None else "start"
    axes.plot(*_start(layer).reshape(-1, 2).T, "o", markersize=1.5 * size, label=name, **hollow)
    cross = dict(color=style.INK, markeredgewidth=0.9, zorder=4, label="base pixel")
    axes.plot(0, 0, "+", markersize=1.9 * size, **cross)


def _draw_dots(axes, layer, scale=1, dark=None):
    """The learned positions, as dots that fit into the hollow marks of the start (times ``scale``),
    all ``dark`` or in the colours of their groups: a Line2D for each position group."""
    named = len(layer.xy) <= len(GROUP_COLOURS) and dark is None
    size = scale * _dot(axes)
    look, lines = dict(markersize=size, markeredgewidth=0, zorder=3), []
    for group, xy in enumerate(layer.xy):
        label = "learned" if group == 0 else f"learned, group {group + 1}" if named else None
        lines += axes.plot(*xy.T, "o", color=dark or colour(group), label=label, **look)
    return lines


# ---- Fig. 6: how they move


def draw_movement(history):
    """A Figure with, per layer of more than one synapse, the paths of its synapses and how far they
    are from home.

    ``history`` is a positions.History of at least two records. Above, each synapse's path in the
    plane, from light (early) to dark (late); below, in the same colours, its distance in pixels
    from its first recorded position, over the iterations, with the end of the warm-up (§2.6).
    """
    layers, iterations = drawable(history.layers()), history.iterations
    check_moves(history)
    keep = spread(len(iterations), _RECORDS)
    # in float64: far ones are too far apart for float32
    paths = [history.positions(layer.name)[keep].astype(float) for layer in layers]
    moved = [np.linalg.norm(path - path[0], axis=-1) for path in paths]
    reach, height = _reach(paths), max(1.08 * _largest(moved), 0.05)
    rows, columns = arrange(len(layers))
    figure = style.new_figure(columns * style.PANEL, rows * (1.5 * style.PANEL + 0.5))
    heights = [2, 1, 0.05] * (rows - 1) + [2, 1]
    cells = figure.add_gridspec(3 * rows - 1, columns, height_ratios=heights)
    for index, layer in enumerate(layers):
        row, column = divmod(index, columns)
        plane, curves = (figure.add_subplot(cells[3 * row + part, column]) for part in (0, 1))
        _draw_plane(plane, layer, reach)
        ways = np.moveaxis(paths[index], 0, -2).reshape(-1, len(keep), 2)
        _add_timed_lines(plane, iterations[keep], ways, 1.6)
        _draw_dots(plane, layer, 0.6, style.TIME_COLOURS(1.0))
        _draw_curves(curves, history, height, iterations[keep], moved[index])
        style.name_axes(plane, "x (pixels)", "y (pixels)" if column == 0 else "")
        style.name_axes(curves, "iterations", "moved (pixels)" if column == 0 else "")
    style.add_legend(figure)
    return figure


def check_moves(history):
    """Raises UserError where positions were recorded once only."""
    if len(history.iterations) < 2:
        raise UserError("positions were recorded only once so far: there is no movement yet")


def _draw_curves(axes, history, height, iterations, moved):
    axes.set(xlim=iterations[[0, -1]], ylim=(0, height))
    axes.grid(axis="y", color=style.PIXEL)
    if iterations[0] < history.warmup_iter <= iterations[-1]:
        dashed = dict(color=style.FAINT, linestyle="--", linewidth=1, label="end of warm-up")
        axes.axvline(history.warmup_iter, **dashed)
    curves = moved.reshape(len(iterations), -1).T
    times = np.broadcast_to(iterations, curves.shape)
    _add_timed_lines(axes, iterations, np.stack([times, curves], axis=-1), 1.2)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    style.style_axes(axes)


def _add_timed_lines(axes, iterations, lines, width):
    """Draws ``lines``, (N, T, 2), each coloured along its way by ``iterations``, (T,)."""
    segments = np.stack([lines[:, :-1], lines[:, 1:]], axis=2).reshape(-1, 2, 2)
    look = dict(cmap=style.TIME_COLOURS, linewidths=width, capstyle="round", zorder=2)
    collection = LineCollection(segments, norm=Normalize(iterations[0], iterations[-1]), **look)
    collection.set_array(np.tile(iterations[1:], len(lines)))
    axes.add_collection(collection, autolim=False)


# ---- An animation: see animation.py


def draw_film(history, stages=None):
    """A Figure like draw_positions's, or with ``stages`` draw_stages's, with room for all that
    ``history`` (positions.History) recorded, and what moves in it: a list of (layer, the Line2D of
    each position group's dots, an empty LineCollection for the paths behind them, in the same
    colours)."""
    rows = _rows(stages) if stages else _in_rows(history.layers())
    reach = _reach([history.positions(name) for name in history.names])
    figure, panels = _planes(rows, _head(rows) if stages else "", reach)
    moving = []
    for layer, axes in panels:
        groups, synapses = layer.xy.shape[:2]
        colours = [colour(group) for group in range(groups) for _ in range(synapses)]
        trails = LineCollection([], linewidths=1, alpha=0.5, colors=colours)
        axes.add_collection(trails, autolim=False)
        moving.append((layer, _draw_dots(axes, layer), trails))
    style.add_legend(figure)
    return figure, moving


# ---- What all share


def _reach(arrays):
    """How far the panels show, in pixels from the base pixel: past every point of ``arrays``, each
    (..., 2)."""
    return max(1.5, 0.4 + _largest(map(np.abs, arrays)))


def _largest(arrays):
    """The largest finite number in ``arrays``: a training may have been lost, and found again."""
    return max(float(values[np.isfinite(values)].max(initial=0)) for values in arrays)


def _dot(axes):
    """Marker size in points, for a plane: a dot must leave room in its pixel."""
    left, right = axes.get_xlim()
    width = min(style.PANEL, axes.get_figure().get_figwidth() / axes.get_gridspec().ncols)
    return np.clip(0.17 * 72 * width / (right - left), 1.5, 6.5)
