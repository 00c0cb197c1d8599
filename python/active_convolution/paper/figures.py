"""The paper's figures of a table's networks, drawn from the runs."""

from pathlib import Path

from ..caffe import messages, positions
from ..errors import UserError
from ..look import curves, style, synapses
from ..networks.models import VARIANTS
from ..training import schedule

_NAMES = {"baseline": "ordinary convolutions", "acu": "active convolutions"}


def draw(runs, folder, formats=("png",)):
    """Draws what ``runs`` recorded, into ``folder``; yields the path of each file.

    For each comparison: <dataset>_<network>_curves, training loss and test error of all runs (Fig. 4, 8, 10); of its
    active run of the lowest seed <…>_positions, a row per stage (Fig. 5, 9, 12), and <…>_movement (Fig. 6). Raises
    UserError where there is nothing to draw.
    """
    begun = [run for run in runs if run.started() and run.metrics().rows]
    if not begun:
        raise UserError("no run has recorded anything yet: there is no figure to draw")
    for comparison in dict.fromkeys(run.comparison for run in begun):
        sides = {
            variant: [
                run for run in begun if (run.comparison, run.variant) == (comparison, variant)
            ]
            for variant in VARIANTS
        }
        for name, figure in _figures(sides):
            for suffix in formats:
                path = Path(folder) / f"{comparison.dataset}_{comparison.network}_{name}.{suffix}"
                style.save(figure, path)
                yield path


def _figures(sides):
    active = sides["acu"]
    warmup = schedule.warmup_iter(messages.read_net(active[0].folder.train_val)) if active else 0
    yield (
        "curves",
        curves.draw_curves(
            {_NAMES[variant]: [run.metrics() for run in runs] for variant, runs in sides.items()},
            warmup,
        ),
    )
    if active and active[0].folder.positions.exists():
        history = positions.History.load(active[0].folder.positions)
        net = messages.read_net(active[0].folder.deploy)
        yield "positions", synapses.draw_stages(positions.by_stage(history.layers(), net))
        if len(history.iterations) > 1:
            yield "movement", synapses.draw_movement(history)
