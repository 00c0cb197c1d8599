"""The synapses of a training run, moving: the pictures of synapses.py over the iterations, as a
GIF."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from tqdm import tqdm

from ..errors import BadValue
from ..files import whole_file
from . import style, synapses
from .common import spread

FRAMES = 100  # at most: more records are thinned, the first and the last stay
_FRAMES_PER_SECOND, _DPI, _COLOURS = 12, 100, 128


def animate(history, path, stages=None):
    """Writes the GIF ``path``: a frame for each of at most FRAMES records of ``history``
    (positions.History); with ``stages``, what positions.by_stage gives, a row per stage. Raises
    UserError where there is nothing to move."""
    check_name(path)
    synapses.check_moves(history)
    film = Film(history, stages)
    # One palette, that of the last frame, so that no colour changes on the way.
    palette = film.picture(film.frames[-1]).quantize(_COLOURS)
    frames = tqdm(film.frames, desc=f"drawing {Path(path).name}", unit="frame")
    plain = dict(palette=palette, dither=Image.Dither.NONE)
    first, *others = [film.picture(index).quantize(**plain) for index in frames]
    rest = dict(append_images=others, duration=1000 // _FRAMES_PER_SECOND, loop=0)
    with whole_file(path, "wb") as file:
        first.save(file, "gif", save_all=True, **rest)


def check_name(path):
    """Raises BadValue unless ``path`` ends in .gif."""
    if Path(path).suffix.lower() != ".gif":
        raise BadValue(f"an animation is a GIF: end the name of {path} in .gif")


class Film:
    """``figure``, which ``show`` brings to one of the records ``frames`` (indices) of a run's
    History."""

    def __init__(self, history, stages=None):
        self._history = history
        self.frames = spread(len(history.iterations), FRAMES)
        self.figure, moving = synapses.draw_film(history, stages)
        self._moving = [(history.positions(layer.name), *drawn) for layer, *drawn in moving]
        FigureCanvasAgg(self.figure)
        self.figure.set_dpi(_DPI)
        self._title = self.figure.suptitle("", fontsize=9, color=style.INK)
        self.show(self.frames[-1])
        self.figure.draw_without_rendering()  # settles the layout, which must not shift any more
        self.figure.set_layout_engine("none")

    def show(self, index):
        iteration = self._history.iterations[index]
        warm = ", warm-up" if iteration <= self._history.warmup_iter else ""
        self._title.set_text(f"iteration {iteration:,}{warm}")
        for xy, dots, trails in self._moving:
            for line, points in zip(dots, xy[index]):
                line.set_data(*points.T)
            trails.set_segments(np.moveaxis(xy[: index + 1], 0, -2).reshape(-1, index + 1, 2))

    def picture(self, index):
        """The same, as a PIL Image."""
        self.show(index)
        self.figure.canvas.draw()
        return Image.fromarray(np.asarray(self.figure.canvas.buffer_rgba())[..., :3])
