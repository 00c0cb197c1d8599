"""The paper's figures of a table's networks, drawn from the runs."""

from pathlib import Path

from ..caffe import positions
from ..errors import UserError
from ..look import curves, style, synapses
from ..networks import models
from .tables import NAMES


def draw(runs, folder, formats=("png",)):
    """Draws what ``runs`` recorded, into ``folder``; yields the path of each file.

    For each comparison and length: <dataset>_<network>_curves, training loss and test error of all
    runs (Fig. 4, 8, 10); of its active run of the lowest seed <…>_positions, a row per stage (Fig.
    5, 9, 12), and <…>_movement (Fig. 6). The length is in the name where it is not the paper's.
    Raises UserError where there is nothing to draw.
    """
    begun = [run for run in runs if run.folder.begun() and run.metrics().rows]
    if not begun:
        raise UserError("no run has recorded anything yet: there is no figure to draw")
    for pair in dict.fromkeys(run.pair for run in begun):
        sides = {}
        for run in begun:
            if run.pair == pair:
                sides.setdefault(run.variant, []).append(run)
        short = "" if pair[1] == run_of(sides).whole else f"_{pair[1]}"
        for name, figure in _figures(sides):
            for suffix in formats:
                start = f"{pair[0].dataset}_{pair[0].network}{short}"
                path = Path(folder) / f"{start}_{name}.{suffix}"
                style.save(figure, path)
                yield path


def run_of(sides):
    return next(iter(sides.values()))[0]


def _figures(sides):
    active = sides.get("acu", [])[:1]
    recorded = [run.folder.positions for run in active if run.folder.positions.exists()]
    history = positions.History.load(recorded[0]) if recorded else positions.History()
    yield (
        "curves",
        curves.draw_curves(
            {
                NAMES.get(variant, variant): [run.metrics() for run in sides[variant]]
                for variant in sorted(sides, key=lambda name: (name != "baseline", name))
            },
            history.warmup_iter,
        ),
    )
    if recorded:
        net = models.deploy(models.named(active[0].comparison.name), "acu")
        yield "positions", synapses.draw_stages(positions.by_stage(history.layers(), net))
        if len(history.iterations) > 1:
            yield "movement", synapses.draw_movement(history)
