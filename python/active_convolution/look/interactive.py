"""The figures of a report, drawn by Plotly: curves, positions with a slider and play over the
iterations, and the confusion matrix, all with hover."""

import html

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..geometry import grid
from .common import LONGEST, arrange, colour, plain, spread

PANELS = 36  # at most, of layers: each is a plot of its own for the browser
FRAMES = 100  # at most, of records: more are thinned, the first and the last stay
_PANEL, _HEAD = 260, 130  # pixels of a panel; of what is above and below the panels
_FAR = 8  # pixels that a panel shows at most of synapses that went astray
_FEW = 40  # points of a curve that are marked


def text(name):
    """A name as a page, and Plotly, which takes some HTML, show it: as it is."""
    return html.escape(plain(name))


def curves(runs):
    """The Figure of training loss and test error over the iterations: a colour for
    each of ``runs`` (report.Reported)."""
    figure = make_subplots(1, 2, subplot_titles=("training loss", "test error (%)"))
    for index, run in enumerate(runs):
        for column, curve in enumerate((run.curve("loss"), run.curve("test_error", 100)), start=1):
            mode = "lines" if len(curve[0]) > _FEW else "lines+markers"
            look = dict(mode=mode, line=dict(color=colour(index), width=1.5))
            legend = dict(name=text(run.name), legendgroup=str(index), showlegend=column == 1)
            figure.add_trace(go.Scatter(x=curve[0], y=curve[1], **look, **legend), 1, column)
        if 0 < run.warmup_iter and run.history.names:
            figure.add_vline(run.warmup_iter, line=dict(color=colour(index), width=1, dash="dash"))
    figure.update_yaxes(type="log", row=1, col=1)
    figure.update_xaxes(title_text="iterations (dashed: end of warm-up)", rangemode="tozero")
    return figure.update_layout(height=380, hovermode="x unified")


# ---- Positions


def positions(history):
    """The Figure of a History (caffe.positions), with a slider over its records: a panel for each
    layer of more than one synapse, in pixels, x to the right and y downwards. Hollow marks are the
    start, thin lines the ways to the newest record. None without such a layer."""
    layers = [layer for layer in history.layers() if layer.xy.shape[1] > 1]
    layers = [layers[index] for index in spread(len(layers), PANELS)] if layers else []
    if not layers:
        return None
    records = spread(len(history.iterations), FRAMES)
    paths = [history.positions(layer.name)[records].astype(float) for layer in layers]
    rows, columns = arrange(len(layers))
    titles = [text(plain(layer.name, LONGEST)) for layer in layers]
    figure = make_subplots(
        rows, columns, subplot_titles=titles, vertical_spacing=0.2 / rows, horizontal_spacing=0.04
    )
    moving = {}  # {number of the trace: path (T, K, 2)} of each set of positions
    for index, (layer, path) in enumerate(zip(layers, paths)):
        place = dict(row=index // columns + 1, col=index % columns + 1)
        start = grid(layer.kernel)[None] if layer.start is None else layer.start
        figure.add_trace(_marks(start.reshape(-1, 2), symbol="circle-open", color="#888"), **place)
        for group in range(len(layer.xy)):
            figure.add_trace(_ways(path[:, group], colour(group)), **place)
            moving[len(figure.data)] = path[:, group]
            figure.add_trace(_marks(path[-1, group], color=colour(group)), **place)
    _set_planes(figure, _reach(paths))
    frames = []
    for time, iteration in enumerate(history.iterations[records]):
        dots = [dict(zip("xy", _numbers(path[time]))) for path in moving.values()]
        frames.append(go.Frame(name=f"{iteration:,}", data=dots, traces=list(moving)))
    figure.frames = frames
    _add_player(figure)
    return figure.update_layout(height=rows * _PANEL + _HEAD, showlegend=False)


def _marks(points, **marker):
    x, y = _numbers(points)
    names = [f"synapse {number}" for number in range(len(points))]
    hover = "%{text}: (%{x:.3f}, %{y:.3f})<extra></extra>"
    marker = dict(size=9, **marker)
    return go.Scatter(x=x, y=y, mode="markers", marker=marker, text=names, hovertemplate=hover)


def _ways(path, colour):
    """The lines that the synapses of ``path`` (T, K, 2) went, with a gap between two."""
    lines = np.concatenate([path, np.full_like(path[:1], np.nan)]).swapaxes(0, 1).reshape(-1, 2)
    x, y = _numbers(lines)
    line = dict(color=colour, width=1)
    return go.Scatter(x=x, y=y, mode="lines", line=line, opacity=0.4, hoverinfo="skip")


def _numbers(points):
    """x and y of ``points`` (N, 2), to a thousandth of a pixel; None stands for what is not
    finite."""
    points = np.asarray(points, float)
    return np.where(np.isfinite(points), np.round(points, 3), None).T.tolist()


def _reach(paths):
    """How far the panels show, in pixels: past every synapse at any time, unless some went so far
    that the others would shrink to a dot."""
    start, far = (
        max(np.abs(points[np.isfinite(points)]).max(initial=0) for points in part)
        for part in ([path[0] for path in paths], paths)
    )
    return max(1.5, 0.4 + max(start, min(far, max(_FAR, 2 * start))))


def _set_planes(figure, reach):
    axis = dict(zerolinecolor="#BBB", dtick=max(1, round(reach / 4)), constrain="domain")
    figure.update_xaxes(range=[-reach, reach], **axis)
    figure.update_yaxes(range=[reach, -reach], **axis)
    for number, each in enumerate(figure.select_yaxes(), start=1):
        each.update(scaleanchor=f"x{number if number > 1 else ''}")


def _add_player(figure):
    """A slider over the frames, at the last one, and buttons to play them and to pause."""

    def button(label, names, milliseconds):
        frame = dict(duration=milliseconds, redraw=False)
        how = dict(mode="immediate", frame=frame, transition=dict(duration=0))
        return dict(method="animate", label=label, args=[names, how])

    steps = [button(frame.name, [frame.name], 0) for frame in figure.frames]
    buttons = [button("▶", None, 80), button("❚❚", [None], 0)]
    slider = dict(steps=steps, active=len(steps) - 1, currentvalue=dict(prefix="iteration "))
    place = dict(x=0.07, y=0, yanchor="top", pad=dict(t=45), direction="left")
    slider = dict(x=0.09, len=0.91, pad=dict(t=30), **slider)
    menu = dict(type="buttons", buttons=buttons, **place)
    figure.update_layout(sliders=[slider], updatemenus=[menu])


# ---- Classes


def matrix(found):
    """The Figure of the confusion matrix in ``found`` (Confusion.content): of each class's images,
    the share that got each answer."""
    names = [text(plain(entry["name"], LONGEST)) for entry in found["classes"]]
    counts = np.array(found["confusion"])
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    hover = "%{y} taken for %{x}: %{customdata} images, %{z:.1f} %<extra></extra>"
    look = dict(colorscale="Blues", colorbar=dict(title="%"), hovertemplate=hover)
    heat = go.Heatmap(z=shares, customdata=counts, x=names, y=names, **look)
    side = int(np.clip(22 * len(names) + 160, 400, 1000))
    figure = go.Figure(heat).update_layout(height=side, width=side + 160)
    figure.update_xaxes(title="answer", type="category")
    return figure.update_yaxes(title="class", autorange="reversed", type="category")
