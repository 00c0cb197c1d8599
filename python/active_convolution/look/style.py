"""What all pictures have in common: their figures, colours, axes and legends, and the files that
they go to.

Figures are matplotlib ``Figure`` objects that a notebook shows by itself: nothing needs a display,
nor touches pyplot's state.
"""

import io
import warnings
from pathlib import Path

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from ..errors import BadValue
from ..files import whole_file
from .common import LONGEST, plain

_FORMATS = (".png", ".pdf", ".svg")
TIME_COLOURS = ListedColormap(colormaps["viridis_r"](np.linspace(0.1, 1, 256)))  # late is dark
INK, FAINT, PIXEL = "#333333", "#8A8A8A", "#EEF0F2"
PANEL = 2.1  # inches
_PIXELS = 20_000  # along a side of a picture; beyond, it gets coarser rather than larger


# ---- Files


def check_name(path):
    """Raises BadValue unless ``path`` ends in .png, .pdf or .svg."""
    if Path(path).suffix.lower() not in _FORMATS:
        raise BadValue(f"cannot draw {path}: end its name in .png, .pdf or .svg")


def save(figure, path):
    """Writes ``figure`` to ``path``, whole or not at all, in the format of its suffix."""
    check_name(path)
    dpi = min(200, _PIXELS / max(figure.get_size_inches()))
    look = dict(format=Path(path).suffix[1:].lower(), dpi=dpi, facecolor="white")
    with whole_file(path, "wb") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        with rc_context({"pdf.fonttype": 42}):  # TrueType: printers refuse Type 3
            figure.savefig(file, **look)


# ---- Figures and axes


class Picture(Figure):
    """A Figure that a notebook shows when it ends a cell, whether or not ``%matplotlib inline`` was
    said."""

    def _repr_png_(self):
        with io.BytesIO() as file:
            self.savefig(file, format="png", dpi=100, facecolor="white")
            return file.getvalue()


def new_figure(width, height):
    """A Picture of the inches that its panels need, and those that labels and legend take."""
    figure = Picture(figsize=(max(width, 1.7 * PANEL) + 0.5, height + 0.75), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.05, wspace=0.02, hspace=0.02)
    return figure


def style_axes(axes, title=""):
    """One look for all panels: ticks and spines that stay behind the data."""
    as_it_is = dict(parse_math=False, usetex=False)
    axes.set_title(plain(title, LONGEST), fontsize=9, color=INK, pad=4, **as_it_is)
    axes.tick_params(labelsize=7, colors=INK, length=2, width=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set(color=FAINT, linewidth=0.6, visible=side in ("left", "bottom"))


def name_axes(axes, x, y):
    """Names the axes; an empty name says that a neighbour's axis, of the same scale, serves here
    too."""
    axes.set_xlabel(x, fontsize=8, color=INK)
    axes.set_ylabel(y, fontsize=8, color=INK)
    axes.tick_params(labelbottom=bool(x), labelleft=bool(y))


def add_legend(figure):
    """One legend under all panels, naming each kind of mark once."""
    marks = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            marks.setdefault(plain(label, LONGEST), handle)
    wide = 0.4 + 0.065 * max(map(len, marks), default=0)  # inches of a mark with its name
    columns = max(1, min(len(marks), int(figure.get_figwidth() / wide)))
    look = dict(fontsize=8, frameon=False, labelcolor=INK, handletextpad=0.4, columnspacing=1.4)
    legend = figure.legend(marks.values(), marks, loc="lower center", ncols=columns, **look)
    for text in legend.get_texts():
        text.set_parse_math(False)
    bottom = (0.1 + 0.2 * -(-len(marks) // columns)) / figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, bottom, 1, 0.99 - bottom))
