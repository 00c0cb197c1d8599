"""The figures of a table, drawn from made runs."""

import shutil

import cv2
import numpy as np
import pytest
from active_convolution import geometry
from active_convolution.caffe import positions
from active_convolution.errors import UserError
from active_convolution.networks import models
from active_convolution.paper import figures, runs, tables
from paper_runs import make_run
from test_plotting_synapses import history

NAMES = "curves", "positions", "movement"


@pytest.fixture
def planned(tmp_path):
    """Two seeds of the plain network on both data sets of table 2, on the networks that are checked in."""
    return [
        runs.Run(
            comparison,
            variant,
            seed,
            30,
            tmp_path,
            tmp_path,
            runs.RunFolder(tmp_path / f"{comparison.dataset}_{variant}_{seed}"),
        )
        for comparison in tables.TABLES[2].comparisons
        for seed in (1, 2)
        for variant in models.VARIANTS
    ]


def make(run, root):
    """As if it had been trained, with positions where it is active; warm-up until iteration 10000."""
    folder = make_run(run.folder.path, {15: 0.6, 30: 0.5})
    for name in ("train_val", "deploy"):
        shutil.copy(root / f"models/cifar10/plain/{run.variant}/{name}.prototxt", folder.path)
    if run.variant == "acu":
        grid = geometry.grid((3, 3))[None]
        layers = [
            positions.LayerPositions(
                f"conv{stage}/{index}", "ActiveConvolution", (3, 3), grid * (1 + 0.1 * stage), grid
            )
            for stage in (1, 2, 3)
            for index in (1, 2)
        ]
        history(layers, [0, 10, 20, 30]).save(folder.positions)


@pytest.mark.slow
def test_three_figures_of_each_network(planned, root, tmp_path):
    for run in planned[:4]:
        make(run, root)
    paths = list(figures.draw(planned, tmp_path / "figures", ("png", "pdf")))
    assert paths == [
        tmp_path / f"figures/cifar10_plain_{name}.{suffix}"
        for name in NAMES
        for suffix in ("png", "pdf")
    ]
    for path in paths[::2]:
        picture = cv2.imread(str(path))
        assert min(picture.shape[:2]) > 400 and np.ptp(picture) > 200, "blank"
        assert 0.01 < (picture < 250).any(axis=2).mean() < 0.9
    for path in paths[1::2]:
        assert path.read_bytes().startswith(b"%PDF-") and b"/Type3" not in path.read_bytes()


def test_panels(planned, root):
    for run in planned[:4]:
        make(run, root)
    sides = {
        variant: [run for run in planned[:4] if run.variant == variant]
        for variant in models.VARIANTS
    }
    drawn = dict(figures._figures(sides))
    assert tuple(drawn) == NAMES
    assert [len(drawn[name].axes) for name in NAMES] == [2, 6, 12]
    assert [axes.get_ylabel().split("\n")[0] for axes in drawn["positions"].axes] == [
        "stage 1",
        "",
        "stage 2",
        "",
        "stage 3",
        "",
    ]
    names = [text.get_text() for text in drawn["curves"].legends[0].get_texts()]
    assert names == ["ordinary convolutions", "active convolutions"], "the warm-up ends later"


def test_one_side_is_enough(planned, root, tmp_path):
    make(planned[2], root)
    assert [path.name for path in figures.draw(planned, tmp_path)] == ["cifar10_plain_curves.png"]
    make(planned[7], root)
    assert {path.name for path in figures.draw(planned, tmp_path)} == {
        "cifar10_plain_curves.png",
        *(f"cifar100_plain_{name}.png" for name in NAMES),
    }


def test_nothing_to_draw(planned, tmp_path):
    with pytest.raises(UserError, match="no run has recorded anything yet"):
        list(figures.draw(planned, tmp_path / "figures"))
    assert not (tmp_path / "figures").exists()
