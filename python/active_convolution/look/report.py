"""A page about training runs: one HTML file that needs no network and no other file."""

import html
import math
import os
import string
from pathlib import Path

from plotly.io import to_html
from plotly.offline import get_plotlyjs

from ..caffe.positions import History
from ..errors import BadValue
from ..files import json_object, reading, whole_file
from ..training import run_folder, schedule
from ..training.metrics import Metrics
from . import confusion, interactive
from .interactive import text

_PAGE = string.Template(
    """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>$title</title>
<style>
body { font: 15px/1.4 sans-serif; color: #333; max-width: 1240px; margin: 1em auto; padding: 0 1em }
td, th { padding: 2px 12px; text-align: right } td:first-child, th:first-child { text-align: left }
figure { display: inline-block; margin: 6px; font-size: 12px }
figure img { height: 96px; image-rendering: pixelated }
</style>
<script>$plotly</script></head><body>
$body
</body></html>
"""
)
_HEADS = ("run", "network", "iteration", "time", "test error", "best", "")


def write(folders, output):
    """Writes the report about the run folders ``folders`` to ``output``, whole or not at all;
    returns its bytes. Raises UserError where a folder is not a run, or a file of it is damaged."""
    folders = [Path(folder) for folder in folders]
    runs = [Reported(name, folder) for name, folder in zip(_names(folders), folders)]
    parts = ["<h1>Training runs</h1>", _table(runs)]
    parts += ["<h2>Curves</h2>", _drawn(interactive.curves(runs))]
    for run in runs:
        figure = interactive.positions(run.history)
        parts += [f"<h2>Positions of {text(run.name)}</h2>", _drawn(figure)] if figure else []
    for run in runs:
        parts += _classes(run)
    page = _PAGE.substitute(
        title=text(f"Training runs: {', '.join(run.name for run in runs)}"),
        plotly=get_plotlyjs(),
        body="\n".join(parts),
    ).encode()
    with whole_file(output, "wb") as file:
        file.write(page)
    return len(page)


class Reported:
    """What the run folder ``path`` holds, under the ``name`` that tells it from the others."""

    def __init__(self, name, path):
        run = run_folder.existing(path)
        solver, net = run_folder.load(run)
        self.name, self.path, self.network = name, run.path, net.name
        self.max_iter, self.warmup_iter = solver.max_iter, schedule.warmup_iter(net)
        self.rows = Metrics.load(run.metrics).rows
        self.history = History.load(run.positions) if run.positions.exists() else History()

    def curve(self, column, factor=1):
        """(iterations, values): the rows that have a finite value in this column."""
        found = [(row["iteration"], row[column]) for row in self.rows if row[column] is not None]
        found = [(iteration, factor * value) for iteration, value in found if math.isfinite(value)]
        return tuple(zip(*found)) or ((), ())

    def cells(self):
        """Its line in the table of errors, under _HEADS."""
        last = self.rows[-1] if self.rows else {"iteration": 0, "seconds": None}
        errors = self.curve("test_error", 100)
        best = min(zip(errors[1], errors[0]), default=None)
        lost = [row["iteration"] for row in self.rows if not math.isfinite(row["loss"] or 0)]
        minutes = (last["seconds"] or 0) / 60
        return (
            self.name,
            self.network,
            f"{last['iteration']:,} of {self.max_iter:,}",
            f"{minutes:,.1f} min",
            f"{errors[1][-1]:.2f} %" if best else "",
            f"{best[0]:.2f} % at {best[1]:,}" if best else "",
            f"loss not finite at {lost[0]:,}" if lost else "",
        )


def _names(folders):
    """As many of the last parts of each path as tell the folders apart."""
    paths = [Path(os.path.realpath(folder)) for folder in folders]
    for path in paths:
        if paths.count(path) > 1:
            raise BadValue(f"{path} is named twice: name each run once")
    length = 1
    while len({path.parts[-length:] for path in paths}) < len(paths):
        length += 1
    return [str(Path(*path.parts[-length:])) for path in paths]


def _table(runs):
    lines = [[f"<th>{head}</th>" for head in _HEADS]]
    lines += [[f"<td>{text(cell)}</td>" for cell in run.cells()] for run in runs]
    return "\n".join(["<table>", *(f"<tr>{''.join(cells)}</tr>" for cells in lines), "</table>"])


def _drawn(figure):
    figure.update_layout(template="plotly_white", margin=dict(l=50, r=20, t=50, b=50))
    return to_html(figure, include_plotlyjs=False, full_html=False, auto_play=False)


def _classes(run):
    """What ``acu evaluate --json`` found, where it was written into the run's folder."""
    path = run.path / confusion.FILE
    if not path.exists():
        return []
    with reading(path, "is damaged", "write it anew with acu evaluate --json", reason=True):
        found = json_object(path)
        names = [text(entry["name"]) for entry in found["classes"]]
        images = [
            f'<figure><img src="data:image/png;base64,{html.escape(image["png"])}" alt="">'
            f"<figcaption>{names[image['label']]} taken for<br>{names[image['answer']]}, "
            f"{100 * image['probability']:.0f} %</figcaption></figure>"
            for image in found["most_confused"]
        ]
        head = f"<h2>Classes of {text(run.name)}</h2>"
        return [head, _drawn(interactive.matrix(found)), "<h3>Most surely wrong</h3>", *images]
