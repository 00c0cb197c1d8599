"""Training on databases that other tools made: whichever way the same images are kept, the training
is the same, and so are its evaluation and its report."""

import numpy as np
import pytest
from active_convolution.data.adopt import adopt
from active_convolution.errors import UserError
from active_convolution.look import evaluation
from active_convolution.training.changes import Changes
from active_convolution.training.metrics import Metrics
from active_convolution.training.trained import Trained
from active_convolution.training.trainer import train
from test_data_adopt import COUNTS, alone, made  # noqa: F401 (a fixture)

pytestmark = pytest.mark.slow

DATA = """layer {{ name: "data" type: "Data" top: "data" top: "label"
        data_param {{ source: "nowhere" batch_size: {} }} include {{ phase: {} }} }}\n"""
BODY = """
layer { name: "conv" type: "ActiveConvolution" bottom: "data" top: "conv" convolution_param {
        num_output: 4 kernel_size: 3 weight_filler { type: "gaussian" std: 0.001 } } }
layer { name: "score" type: "InnerProduct" bottom: "conv" top: "score" inner_product_param {
        num_output: 4 weight_filler { type: "gaussian" std: 0.001 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "score" bottom: "label" top: "accuracy"
        include { phase: TEST } }
"""
NET = DATA.format(8, "TRAIN") + DATA.format(9, "TEST") + BODY
SOLVER = """net: "net.prototxt" base_lr: 0.00001 lr_policy: "fixed" max_iter: 6 test_iter: 1
test_interval: 2 display: 1 snapshot: 6 snapshot_prefix: "x" random_seed: 3
"""


@pytest.fixture(scope="module")
def weights(made, tmp_path_factory):  # noqa: F811
    """What every training begins with: layers that read data draw random numbers before the
    fillers, each as many as it likes."""
    folder = tmp_path_factory.mktemp("weights")
    adopt(alone(made, "lmdb", folder / "data"))
    for name, text in (("net", NET), ("solver", SOLVER)):
        (folder / f"{name}.prototxt").write_text(text)
    assert (
        train(
            solver=folder / "solver.prototxt",
            data=folder / "data",
            output=folder / "run",
            max_iter=1,
        )
        == 0
    )
    return folder / "run/snapshots/net_iter_1.caffemodel"


def measured(folder, output, weights):
    """Trains from ``weights`` on the data set ``folder`` into ``output``, and evaluates; its rows
    without the seconds."""
    (output.parent / "net.prototxt").write_text(NET)
    (output.parent / "solver.prototxt").write_text(SOLVER)
    assert (
        train(solver=output.parent / "solver.prototxt", data=folder, output=output, weights=weights)
        == 0
    )
    rows = [
        {name: value for name, value in row.items() if name != "seconds"}
        for row in Metrics.load(output / "metrics.csv").rows
    ]
    error, _, count = evaluation.evaluate(Trained.of_run(output))
    assert error == pytest.approx(100 * rows[-1]["test_error"], abs=1e-4)
    assert count == COUNTS["val"]
    return rows


@pytest.fixture(scope="module")
def of_lmdb(made, weights, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("lmdb")
    adopt(alone(made, "lmdb", folder / "data"))
    return measured(folder / "data", folder / "run", weights)


@pytest.mark.parametrize("kind", ["encoded", "leveldb", "images", "hdf5"])
def test_every_kind_of_database_trains_the_same(made, weights, of_lmdb, tmp_path, kind):  # noqa: F811
    adopt(alone(made, kind, tmp_path / "data"))
    rows = measured(tmp_path / "data", tmp_path / "run", weights)
    assert [row["iteration"] for row in rows] == [0, 1, 2, 3, 4, 5, 6]
    for row, expected in zip(rows, of_lmdb):
        assert row == pytest.approx(expected, rel=1e-5, nan_ok=True)
    losses = [row["loss"] for row in rows[1:]]
    assert len(set(losses)) == 6 and np.isfinite(losses).all(), "it learned something"


def test_more_classes_than_its_images_show(made, tmp_path):  # noqa: F811
    """A network of 1000 classes may be tested on a few images; but not one of fewer classes than
    these have."""
    folder = alone(made, "lmdb", tmp_path / "data")
    adopt(folder)
    for name, text in (("net", NET), ("solver", SOLVER)):
        (tmp_path / f"{name}.prototxt").write_text(text)

    def trained(output, classes):
        return train(
            solver=tmp_path / "solver.prototxt",
            data=folder,
            output=tmp_path / output,
            max_iter=1,
            changes=Changes(classes=classes),
        )

    assert trained("more", 6) == 0
    assert evaluation.evaluate(Trained.of_run(tmp_path / "more"))[2] == 9
    with pytest.raises(
        UserError, match="layer score .* has 3 outputs, and .* has 4 classes: give --classes 4"
    ):
        trained("fewer", 3)
