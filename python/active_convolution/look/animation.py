"""The synapses of a training run, moving: the pictures of synapses.py over the iterations, as one
file."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.animation import FFMpegWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from tqdm import tqdm

from ..errors import BadValue, UserError
from ..files import whole_file
from . import style, synapses
from .common import spread

FRAMES = 100  # at most: more records are thinned, the first and the last stay
_FRAMES_PER_SECOND, _DPI = 12, 80
_COLOURS = 128  # of a GIF


def check_format(path):
    """Raises BadValue unless ``path`` ends in .gif or .mp4, UserError where ffmpeg is missing."""
    suffix = Path(path).suffix.lower()
    if suffix not in (".gif", ".mp4"):
        raise BadValue(
            f"cannot tell the animation's format from {path}: end its name in .gif or .mp4"
        )
    if suffix == ".mp4" and not FFMpegWriter.isAvailable():
        raise UserError(f"{path} needs ffmpeg: apt-get install ffmpeg, or end the name in .gif")


def animate(history, stages, path):
    """Writes ``path``, a .gif or .mp4: a frame for each of at most FRAMES records of ``history``
    (positions.History). ``stages`` is what positions.by_stage gives. Raises UserError where there
    is nothing to move, or no way to write it."""
    check_format(path)
    synapses.check_moves(history)
    film = Film(history, stages)
    frames = tqdm(film.frames, desc=f"drawing {Path(path).name}", unit="frame")
    with whole_file(path, "wb") as file:
        (_write_mp4 if Path(path).suffix.lower() == ".mp4" else _write_gif)(film, frames, file)


def _write_gif(film, frames, file):
    """With one palette, that of the last frame, so that no colour changes on the way."""
    palette = film.picture(film.frames[-1]).quantize(_COLOURS)
    plain = dict(palette=palette, dither=Image.Dither.NONE)
    first, *others = [film.picture(index).quantize(**plain) for index in frames]
    rest = dict(append_images=others, duration=1000 // _FRAMES_PER_SECOND, loop=0)
    first.save(file, "gif", save_all=True, **rest)


def _write_mp4(film, frames, file):
    scribe = FFMpegWriter(_FRAMES_PER_SECOND)
    with tempfile.NamedTemporaryFile(suffix=".mp4") as part:  # ffmpeg tells formats by a name
        try:
            with scribe.saving(film.figure, part.name, _DPI):
                for index in frames:
                    film.show(index)
                    scribe.grab_frame()
        except (subprocess.CalledProcessError, BrokenPipeError) as error:
            said = (getattr(error, "stderr", None) or "").strip() or "it ended"
            raise UserError(
                f"ffmpeg could not draw it ({said.splitlines()[-1]}): end the name in .gif"
            ) from error
        with open(part.name, "rb") as written:
            shutil.copyfileobj(written, file)


class Film:
    """``figure``, which ``show`` brings to one of the records ``frames`` (indices) of a run's
    History."""

    def __init__(self, history, stages):
        self._history = history
        self.frames = spread(len(history.iterations), FRAMES)
        self.figure, moving = synapses.draw_film(stages, history)
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
