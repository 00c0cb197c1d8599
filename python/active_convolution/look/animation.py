"""The synapses of a training run, moving: the pictures of synapses.py over the iterations, as one file."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.animation import FFMpegWriter, PillowWriter

from ..errors import BadValue, UserError
from ..files import whole_file
from . import style, synapses
from .common import spread

FRAMES = 100  # at most: more records are thinned, the first and the last stay
FRAMES_PER_SECOND = 12
_DPI = 80
_WRITERS = {".gif": PillowWriter, ".mp4": FFMpegWriter}


def writer(path):
    """The matplotlib writer for the suffix of ``path``; UserError where there is none."""
    kind = _WRITERS.get(Path(path).suffix.lower())
    if kind is None:
        raise BadValue(
            f"cannot tell the animation's format from {path}: end its name in .gif or .mp4"
        )
    if not kind.isAvailable():
        raise UserError(
            f"{path} needs ffmpeg, which is not installed: apt-get install ffmpeg, or end the name in .gif"
        )
    return kind(fps=FRAMES_PER_SECOND)


def animate(history, stages, path, first=lambda: None):
    """Writes ``path``, a .gif or .mp4: a frame for each of at most FRAMES records of ``history`` (positions.History).

    ``stages`` is what positions.by_stage gives. ``first()`` is called when the film is made and before it appears, to write what
    goes with it. Raises UserError where there is nothing to move, or no way to write it.
    """
    scribe = writer(path)
    if len(history.iterations) < 2:
        raise UserError(
            "positions were recorded only once so far: there is no movement to show yet"
        )
    film = Film(history, stages)
    with whole_file(path, "wb") as file, tempfile.TemporaryDirectory() as folder:
        part = (
            Path(folder) / f"film{Path(path).suffix.lower()}"
        )  # the writers need a name, and tell formats by it
        try:
            with scribe.saving(film.figure, part, _DPI):
                for index in film.frames:
                    film.show(index)
                    scribe.grab_frame()
        except (subprocess.CalledProcessError, BrokenPipeError) as error:
            said = (getattr(error, "stderr", None) or "").strip() or "it ended"
            raise UserError(
                f"ffmpeg could not write {path} ({said.splitlines()[-1]}): end the name in .gif"
            ) from error
        with open(part, "rb") as written:
            shutil.copyfileobj(written, file)
        first()


class Film:
    """``figure``, which ``show`` brings to one of the records ``frames`` (indices) of a run's History."""

    def __init__(self, history, stages):
        self._history = history
        self.frames = spread(len(history.iterations), FRAMES)
        self.figure, moving = synapses.draw_film(stages, history)
        self._moving = [
            (history.positions(layer.name), dots, trails) for layer, dots, trails in moving
        ]
        self._title = self.figure.suptitle("", fontsize=9, color=style.INK)
        self.show(self.frames[-1])
        self.figure.draw_without_rendering()  # settles the layout, which must not shift between frames
        self.figure.set_layout_engine("none")

    def show(self, index):
        iteration = self._history.iterations[index]
        warm = ", warm-up" if iteration <= self._history.warmup_iter else ""
        self._title.set_text(f"iteration {iteration:,}{warm}")
        for xy, dots, trails in self._moving:
            for line, points in zip(dots, xy[index]):
                line.set_data(*points.T)
            trails.set_segments(np.moveaxis(xy[: index + 1], 0, -2).reshape(-1, index + 1, 2))
