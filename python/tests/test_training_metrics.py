"""metrics.csv: read as it was written, cut back for a resumed run, refused where damaged; and
TensorBoard's event files, read back by TensorBoard itself."""

import os
import sys

import numpy as np
import pytest
from active_convolution.caffe.positions import History
from active_convolution.errors import UserError
from active_convolution.training.metrics import COLUMNS, Metrics
from active_convolution.training.trainer import train
from engines import engine
from training_runs import snapshot

HEADER = ",".join(COLUMNS) + "\n"


@pytest.fixture
def metrics():
    made = Metrics()
    made.append(10, loss=2.5, learning_rate=0.1, seconds=1.0)
    made.append(20, loss=1.25, learning_rate=0.1, seconds=2.0, test_loss=1.5, test_error=0.0625)
    made.append(30, loss=1.0, learning_rate=0.01, seconds=3.0)
    return made


def iterations(metrics):
    return [row["iteration"] for row in metrics.rows]


def test_round_trip_of_a_plain_csv(metrics, tmp_path):
    path = tmp_path / "metrics.csv"
    assert Metrics.load(path).rows == [], "a missing file"
    metrics.append(40, loss=float("nan"))
    metrics.save(path)
    lines = path.read_text().splitlines()
    assert lines[:3] == [HEADER.strip(), "10,2.5,0.1,,,1", "20,1.25,0.1,1.5,0.0625,2"]
    loaded = Metrics.load(path, [*COLUMNS, "train/loss"])
    assert loaded.last("loss") != loaded.last("loss"), "NaN"
    loaded.truncate(39)
    metrics.truncate(39)
    assert [{**row, "train/loss": None} for row in metrics.rows] == loaded.rows


def test_truncate_drops_what_came_later(metrics):
    metrics.truncate(29)
    assert iterations(metrics) == [10, 20]
    metrics.truncate(20)
    assert iterations(metrics) == [10, 20]


def test_newest_values(metrics):
    metrics.append(30, seconds=3.5)  # joins its row
    assert iterations(metrics) == [10, 20, 30] and metrics.last("seconds") == 3.5
    assert metrics.last("loss") == 1.0 and metrics.last("test_error") == 0.0625
    assert metrics.tested() == 20 and metrics.newest_test()["test_error"] == 0.0625
    metrics.append(40, test_loss=1.25)
    assert metrics.tested() == 40
    assert metrics.newest_test()["test_error"] is None, "an earlier test's is not this one's"
    assert Metrics().last("loss") is None and Metrics().tested() is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "loss,iteration\n2.5,10\n",
        HEADER + "10,2.5,0.1\n",
        HEADER + "10,2.5,0.1,,,x\n",
        HEADER + "10,1,1,,,1\n" * 2,
        HEADER + "20,1,1,,,1\n10,1,1,,,2\n",
    ],
    ids=["empty", "columns", "short row", "no number", "twice", "back"],
)
def test_damage_is_named(tmp_path, text):
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(UserError, match="metrics.csv is damaged"):
        Metrics.load(tmp_path / "metrics.csv")


@pytest.mark.parametrize("error", ["nan", "inf", "1.01", "-89"])
def test_an_error_that_is_no_fraction_is_none(tmp_path, error):
    (tmp_path / "metrics.csv").write_text(HEADER + f"10,1,1,1,{error},1\n")
    assert Metrics.load(tmp_path / "metrics.csv").rows[0]["test_error"] is None


# ---- TensorBoard


@pytest.fixture
def tensorboard():
    engine("tensorboard")


def read(folder):
    """{tag: {iteration: value}} as TensorBoard shows it, once a run that goes on had it forget."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0})
    tags = accumulator.Reload().Tags()
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
    for name in metrics.columns[1:]:
        expected = {row["iteration"]: row[name] for row in metrics.rows if row[name] is not None}
        assert scalars.get(name, {}) == pytest.approx(expected, rel=1e-5, abs=1e-7), name
    tags = {f"positions/{name}/{axis}" for name in history.names for axis in "xy"}
    assert histograms.keys() == tags
    for name in history.names:
        for index, axis in enumerate("xy"):
            found = histograms[f"positions/{name}/{axis}"]
            assert list(found) == history.iterations.tolist()
            for step, values in zip(found, history.positions(name)[..., index]):
                assert_histogram(found[step], np.float64(values.ravel()))


def assert_histogram(found, values):
    assert (found.num, found.min, found.max) == (values.size, values.min(), values.max())
    assert found.sum == pytest.approx(values.sum()) and sum(found.bucket) == values.size
    assert found.sum_squares == pytest.approx((values**2).sum())
    for limit, below in zip(found.bucket_limit, np.cumsum(found.bucket)):
        near = np.abs(values - limit) < 1e-9  # of either side, by the last bit
        assert (values < limit).sum() - near.sum() <= below <= (values <= limit).sum() + near.sum()


@pytest.mark.slow
def test_the_files_say_what_the_records_say_also_of_a_run_that_goes_on(
    tensorboard, tiny, digits_data, tmp_path
):
    """Killed after its last snapshot but one, as the newest being gone stands for."""
    run = tmp_path / "run"
    assert train(tiny, "acu", digits_data, run, max_iter=24, tensorboard=True) == 0
    assert_same(run)
    scalars, histograms = read(run / "tensorboard")
    assert {"loss", "learning_rate", "test_loss", "test_error", "seconds"} <= scalars.keys()
    first, last = (histograms["positions/conv/x"][step] for step in (0, 24))
    assert (first.min, first.max) == (-1, 1) != (last.min, last.max), "they moved"
    for path in (run / "snapshots").glob(snapshot(run, 24).stem + ".*"):
        path.unlink()
    assert train(output=run, resume=True, tensorboard=True) == 0
    assert_same(run)


@pytest.mark.slow
def test_a_network_without_positions(tensorboard, tiny, digits_data, tmp_path):
    run = tmp_path / "run"
    assert train(tiny, "baseline", digits_data, run, max_iter=4, tensorboard=True) == 0
    scalars, histograms = read(run / "tensorboard")
    assert not histograms and scalars["loss"].keys() == {1, 2, 3, 4}


def test_without_tensorboard_nothing_is_begun(monkeypatch, tiny, digits_data, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer", None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match="--tensorboard needs TensorBoard's writer .*: pip install"):
        train(tiny, "acu", digits_data, tmp_path / "run", max_iter=4, tensorboard=True)
    assert not os.path.exists(tmp_path / "run")
