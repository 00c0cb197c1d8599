"""TensorBoard's event files, read back by TensorBoard itself: they say what metrics.csv and positions.npz say."""

import os
import sys

import numpy as np
import pytest
from active_convolution.caffe.positions import History
from active_convolution.errors import UserError
from active_convolution.training.metrics import Metrics
from active_convolution.training.trainer import train
from engines import engine
from training_runs import WARMUP_ITER

pytestmark = pytest.mark.slow


@pytest.fixture
def tensorboard(monkeypatch):
    """TensorBoard in reach of this process and of those that train."""
    engine("tensorboard")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.environ["PYTHONPATH"], *sys.path]))


def read(folder):
    """{tag: {iteration: value}} as TensorBoard shows it, once a run that goes on has had it forget."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(
        str(folder), size_guidance={"scalars": 0, "histograms": 0}
    ).Reload()
    tags = accumulator.Tags()
    scalars = {
        tag: {event.step: event.value for event in accumulator.Scalars(tag)}
        for tag in tags["scalars"]
    }
    histograms = {
        tag: {event.step: event.histogram_value for event in accumulator.Histograms(tag)}
        for tag in tags["histograms"]
    }
    return scalars, histograms


def assert_same(run):
    """The event files of the run folder against its records."""
    metrics, history = Metrics.load(run / "metrics.csv"), History.load(run / "positions.npz")
    scalars, histograms = read(run / "tensorboard")
    expected = {
        name: {row["iteration"]: row[name] for row in metrics.rows if row[name] is not None}
        for name in metrics.columns
        if name != "iteration"
    }
    assert scalars.keys() == {name for name, values in expected.items() if values}
    for name, values in scalars.items():
        assert values.keys() == expected[name].keys(), name
        assert list(values.values()) == pytest.approx(
            list(expected[name].values()), rel=1e-5, abs=1e-7
        ), name
    assert histograms.keys() == {
        f"positions/{name}/{axis}" for name in history.names for axis in "xy"
    }
    for name in history.names:
        for index, axis in enumerate("xy"):
            found = histograms[f"positions/{name}/{axis}"]
            assert list(found) == history.iterations.tolist()
            for step, values in zip(found, history.positions(name)[..., index]):
                assert_histogram(found[step], np.float64(values.ravel()))


def assert_histogram(found, values):
    assert (found.num, found.min, found.max) == (values.size, values.min(), values.max())
    assert found.sum == pytest.approx(values.sum()) and found.sum_squares == pytest.approx(
        (values**2).sum()
    )
    limits = np.array(found.bucket_limit)
    for limit, below in zip(limits, np.cumsum(found.bucket)):
        near = np.abs(values - limit) < 1e-9 * max(
            1, np.abs(values).max()
        )  # of either side, by the last bit
        assert (values < limit).sum() - near.sum() <= below <= (values <= limit).sum() + near.sum()
    assert sum(found.bucket) == values.size


def test_the_files_say_what_the_records_say(tensorboard, tiny, digits_data, tmp_path):
    run = tmp_path / "run"
    assert train(tiny, "acu", digits_data, run, max_iter=24, tensorboard=True) == 0
    assert_same(run)
    scalars, histograms = read(run / "tensorboard")
    assert {"loss", "learning_rate", "test_loss", "test_error", "seconds"} <= scalars.keys()
    first, last = (histograms["positions/conv/x"][step] for step in (0, 24))
    assert (
        (first.min, first.max) == (-1, 1) and WARMUP_ITER > 0 and (last.min, last.max) != (-1, 1)
    ), "they moved"


def test_a_run_that_goes_on_has_no_iteration_twice(tensorboard, tiny, digits_data, tmp_path):
    """Killed after its last snapshot but one, as the newest being gone stands for."""
    run = tmp_path / "run"
    assert train(tiny, "acu", digits_data, run, max_iter=24, tensorboard=True) == 0
    for path in (run / "snapshots").glob("*_iter_24.*"):
        path.unlink()
    assert train(output=run, resume=True, tensorboard=True) == 0
    assert_same(run)


def test_a_network_without_positions(tensorboard, tiny, digits_data, tmp_path):
    run = tmp_path / "run"
    assert train(tiny, "baseline", digits_data, run, max_iter=4, tensorboard=True) == 0
    scalars, histograms = read(run / "tensorboard")
    assert not histograms and scalars["loss"].keys() == {1, 2, 3, 4}


def test_without_tensorboard_nothing_is_begun(monkeypatch, tiny, digits_data, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer", None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(
        UserError,
        match="--tensorboard needs TensorBoard's writer .*: pip install tensorboard, .*or leave it out",
    ):
        train(tiny, "acu", digits_data, tmp_path / "run", max_iter=4, tensorboard=True)
    assert not (tmp_path / "run").exists()
