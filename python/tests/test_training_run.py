"""A whole training through scripts/train.py: what it says, and what it leaves in the run's folder."""

import math
import os
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from active_convolution import geometry
from active_convolution.caffe import locate, positions
from active_convolution.caffe.positions import History
from active_convolution.errors import UserError
from active_convolution.training import testing
from active_convolution.training.metrics import Metrics
from active_convolution.training.run_folder import RunFolder
from active_convolution.training.trainer import train
from conftest import ROOT
from data_samples import records
from training_runs import run_script, write_model

pytestmark = pytest.mark.slow

ITERATIONS, WARMUP, TESTED = 12, 4, [3, 6, 9, 12]  # --max-iter 12 of the tiny network's schedule


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny, digits_data):
    """Trained as a user would, in a folder that needs quoting."""
    above = tmp_path_factory.mktemp("runs")
    status, stdout, stderr = run_script(
        tiny,
        "--variant",
        "acu",
        "--data",
        digits_data,
        "--output",
        "my rün",
        "--max-iter",
        ITERATIONS,
        cwd=above,
    )
    assert status == 0, stderr
    return SimpleNamespace(folder=above / "my rün", stdout=stdout, stderr=stderr)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """More threads add up numbers in another order."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def rows(folder):
    return Metrics.load(folder / "metrics.csv").rows


def column(folder, name):
    return [row[name] for row in rows(folder)]


def snapshot(folder, iteration=ITERATIONS, variant="acu"):
    return folder / "snapshots" / f"digits_tiny_{variant}_iter_{iteration}.caffemodel"


def blobs(path):
    """{layer: its blobs} of a .caffemodel."""
    net = locate.caffe_pb2().NetParameter()
    net.ParseFromString(path.read_bytes())
    return {layer.name: [list(blob.data) for blob in layer.blobs] for layer in net.layer}


def test_says_where_it_is_and_what_came_out(run):
    assert "training:   0%" in run.stderr and "12/12" in run.stderr and "it/s, loss " in run.stderr
    error, folder = re.fullmatch(
        r"test error (\d+\.\d\d) % after 12 iterations, \d+ s, in (.*)\n", run.stdout
    ).groups()
    assert folder == str(run.folder)
    assert float(error) == pytest.approx(100 * rows(run.folder)[-1]["test_error"], abs=0.005)
    assert f"test error {error} %" in run.stderr


def test_what_run_means_to_other_commands(run, digits_data):
    """Its newest snapshot, or that of an iteration; its data set's manifest, with where that lies."""
    found = RunFolder(run.folder)
    assert found.snapshot() == found.snapshot(ITERATIONS) == snapshot(run.folder)
    assert found.data.folder == str(digits_data)
    assert found.data.test.images == 297
    with pytest.raises(UserError, match=f"no snapshot of iteration 7: give one of .*{ITERATIONS}$"):
        found.snapshot(7)
    with pytest.raises(UserError, match="has no snapshot: name"):
        RunFolder(digits_data).snapshot()


@pytest.mark.quick
def test_fills_the_folder_with_what_the_manual_names(run):
    assert {path.name for path in run.folder.iterdir()} == {
        "solver.prototxt",
        "train_val.prototxt",
        "deploy.prototxt",
        "train.log",
        "metrics.csv",
        "positions.npz",
        "data.json",
        "snapshots",
    }
    assert {path.name for path in (run.folder / "snapshots").iterdir()} == {
        f"digits_tiny_acu_iter_{iteration}.{kind}"
        for iteration in TESTED
        for kind in ("caffemodel", "solverstate")
    }


def test_a_diverged_training_has_got_nothing_right(digits_data, tmp_path, capfd):
    """Caffe's Accuracy layer alone would say that all is right."""
    assert (
        train(
            write_model(tmp_path / "tiny", base_lr=1e30),
            "acu",
            digits_data,
            tmp_path / "run",
            max_iter=6,
        )
        == 0
    )
    stdout, stderr = capfd.readouterr()
    assert stdout.startswith("test error 100.00 % after 6 iterations")
    assert (
        "\nwarning: the training has diverged, and the network gives no numbers: lower the solver's base_lr\n"
        in stderr
    )
    assert rows(tmp_path / "run")[-1]["test_error"] == 1


@pytest.mark.quick
@pytest.mark.parametrize(
    "accuracy, loss, error",
    [
        (0.75, 1, 0.25),
        (1 + 1e-7, 1, 0),
        (0, 1, 1),
        (1, math.nan, 1),
        (75, 1, None),
        (-0.5, 1, None),
        (math.nan, 1, None),
    ],
)
def test_an_error_is_a_fraction_or_none(accuracy, loss, error):
    assert testing._error(accuracy, loss) == error


def test_log_is_all_of_caffes(run):
    log = (run.folder / "train.log").read_text(encoding="utf-8")
    assert "Initializing solver from parameters" in log and "Iteration 11, lr = 0.001" in log
    assert "Snapshotting to binary proto file" not in run.stderr


def test_prototxts_are_resolved(run, digits_data):
    solver = (run.folder / "solver.prototxt").read_text(encoding="utf-8")
    assert f'net: "{run.folder}/train_val.prototxt"' in solver
    assert "max_iter: 12\n" in solver and "stepvalue: 6\nstepvalue: 9\n" in solver
    net = (run.folder / "train_val.prototxt").read_text()
    assert f"warmup_iter: {WARMUP}\n" in net
    assert re.findall('source: "(.*)"', net) == [
        f"{digits_data}/train_lmdb",
        f"{digits_data}/test_lmdb",
    ]


def test_metrics_follow_the_schedule(run):
    assert column(run.folder, "iteration") == list(range(1, 13))
    assert column(run.folder, "learning_rate") == pytest.approx(
        [0.1] * 6 + [0.01] * 3 + [0.001] * 3
    )
    assert [row["iteration"] for row in rows(run.folder) if row["test_error"] is not None] == TESTED
    assert all(0 < row["test_error"] < 1 and row["test_loss"] > 0 for row in rows(run.folder)[2::3])
    assert min(column(run.folder, "loss")) > 0
    seconds = column(run.folder, "seconds")
    assert seconds == sorted(seconds) and seconds[0] > 0


@pytest.mark.quick
def test_positions_stay_on_the_grid_until_the_warm_up_ends_and_leave_it_then(run):
    """The first move is Nesterov's: (1 + momentum) · rate · 0.01 pixels, whatever the gradient's length was."""
    history = positions.load_run(run.folder)
    assert history.names == ["conv"] and history.iterations.tolist() == list(range(13))
    xy, grid = history.positions("conv")[:, 0], geometry.grid((3, 3))
    assert (xy[: WARMUP + 1] == grid).all()
    assert (xy[:, 4] == 0).all(), "the origin"
    moved = np.delete(np.hypot(*np.moveaxis(xy - grid, -1, 0)), 4, axis=1)
    np.testing.assert_allclose(moved[WARMUP + 1], 1.9 * 0.1 * 0.01, rtol=1e-3)
    assert (moved[WARMUP + 1 :] > 0).all()


def test_the_last_snapshot_holds_the_last_positions(run):
    (layer,) = positions.from_caffemodel(snapshot(run.folder))
    np.testing.assert_array_equal(layer.xy, positions.load_run(run.folder).positions("conv")[-1])


@pytest.mark.quick
def test_deploy_network_has_the_test_error_that_was_measured(run, digits_data):
    net = locate.caffe().Net(
        str(run.folder / "deploy.prototxt"), locate.caffe().TEST, weights=str(snapshot(run.folder))
    )
    wrong = []
    for _, datum in records(digits_data / "test_lmdb"):
        net.blobs["data"].data.flat = datum.float_data
        wrong.append(net.forward()["prob"].argmax() != datum.label)
    assert np.mean(wrong) == pytest.approx(rows(run.folder)[-1]["test_error"], abs=1e-5)


def test_caffe_itself_trains_the_same_with_the_runs_solver(run, tmp_path):
    """Losses, test errors, weights and positions of `caffe train --solver RUN/solver.prototxt`."""
    copy = shutil.copytree(run.folder, tmp_path / "copy")
    shutil.rmtree(copy / "snapshots")
    (copy / "snapshots").mkdir()
    text = (copy / "solver.prototxt").read_text(encoding="utf-8")
    (copy / "solver.prototxt").write_text(
        text.replace(str(run.folder), str(copy)), encoding="utf-8"
    )
    done = subprocess.run(
        [locate.BUILD / "out/tools/caffe", "train", "--solver", copy / "solver.prototxt"],
        capture_output=True,
        text=True,
        env={**os.environ, "GLOG_minloglevel": "0"},
    )
    assert done.returncode == 0, done.stderr
    losses = re.findall(r"Iteration \d+ \(.*\), loss = (\S+)", done.stderr)
    np.testing.assert_allclose(
        [float(loss) for loss in losses], column(run.folder, "loss"), rtol=1e-5
    )
    accuracies = re.findall(r"Test net output #\d+: accuracy = (\S+)", done.stderr)
    errors = [row["test_error"] for row in rows(run.folder)[2::3]]
    np.testing.assert_allclose([1 - float(accuracy) for accuracy in accuracies], errors, atol=2e-5)
    assert blobs(snapshot(copy)) == blobs(snapshot(run.folder))


def test_the_seed_decides(run, tiny, digits_data, tmp_path):
    for name, seed in (("same", 1), ("other", 2)):
        assert train(tiny, "acu", digits_data, tmp_path / name, max_iter=ITERATIONS, seed=seed) == 0
    for name in ("loss", "test_loss", "test_error"):
        assert column(tmp_path / "same", name) == column(run.folder, name)
        assert column(tmp_path / "other", name) != column(run.folder, name)
    assert blobs(snapshot(tmp_path / "same")) == blobs(snapshot(run.folder))
    assert blobs(snapshot(tmp_path / "other")) != blobs(snapshot(run.folder))


def test_ordinary_convolutions_leave_no_positions(tiny, digits_data, tmp_path):
    assert train(tiny, "baseline", digits_data, tmp_path / "run", max_iter=4) == 0
    assert not (tmp_path / "run" / "positions.npz").exists()
    assert column(tmp_path / "run", "iteration") == [1, 2, 3, 4]
    assert snapshot(tmp_path / "run", 4, "baseline").exists()


def test_the_checked_in_network_trains_among_a_users_own_modules(digits_data, tmp_path):
    (tmp_path / "numpy.py").write_text("raise RuntimeError('the wrong numpy')")
    status, _, stderr = run_script(
        ROOT / "models/digits/plain",
        "--variant",
        "acu",
        "--data",
        digits_data,
        "--output",
        "run",
        "--max-iter",
        2,
        cwd=tmp_path,
    )
    assert status == 0, stderr
    assert len(History.load(tmp_path / "run/positions.npz").names) == 6


def test_trains_where_layers_have_run_before(run, tiny, digits_data, tmp_path):
    """Threads that have computed a layer in this process do not hang the training."""
    net = locate.caffe().Net(str(run.folder / "deploy.prototxt"), locate.caffe().TEST)
    net.blobs["data"].reshape(64, 1, 8, 8)
    net.forward()
    assert train(tiny, "acu", digits_data, tmp_path / "run", max_iter=1) == 0


@pytest.mark.parametrize("rounds", [0, -5])
def test_a_test_of_no_passes_is_none(digits_data, tmp_path, capfd, rounds):
    """Which is how people turn tests off; Caffe passes over it."""
    model = write_model(tmp_path / "tiny", test_iter=[rounds])
    assert train(model, "acu", digits_data, tmp_path / "run", max_iter=4) == 0
    assert set(column(tmp_path / "run", "test_error")) == {None}
    assert re.match(r"loss \d+\.\d+ after 4 iterations", capfd.readouterr().out)


def test_several_tests_and_losses_have_names_and_no_accuracy_is_needed(
    tiny, digits_data, tmp_path, capfd
):
    """Two losses in training, a test without an accuracy, and one with two."""
    model = write_model(tmp_path / "tiny")
    path = model / "acu/train_val.prototxt"
    text = path.read_text().replace(
        'name: "accuracy"', 'name: "accuracy" include { phase: TEST stage: "second" }', 1
    )
    text = re.sub(r'(top: "accuracy"\n)  include \{\s*phase: TEST\s*\}\n', r"\1", text)
    path.write_text(
        text
        + """
layer { name: "top5" type: "Accuracy" bottom: "score" bottom: "label" top: "top5" accuracy_param { top_k: 5 }
        include { phase: TEST stage: "second" } }
layer { name: "hinge" type: "HingeLoss" bottom: "score" bottom: "label" top: "hinge" loss_weight: 0.5 }
"""
    )
    solver = model / "acu/solver.prototxt"
    solver.write_text(
        solver.read_text()
        + 'test_iter: 2 test_state { stage: "first" } test_state { stage: "second" }\n'
    )
    assert train(model, "acu", digits_data, tmp_path / "run", max_iter=4) == 0
    stdout, _ = capfd.readouterr()
    last = rows(tmp_path / "run")[-1]
    assert list(last)[6:] == [
        "train/hinge",
        "train/loss",
        "test1_loss",
        "test1_error",
        "test/hinge",
        "test/loss",
        "test1/hinge",
        "test1/loss",
        "test1/top5",
    ]
    assert (
        last["test_error"] is None and 0 < last["test1_error"] < 1 and 0 < last["test1/top5"] <= 1
    )
    assert last["loss"] == pytest.approx(last["train/loss"] + 0.5 * last["train/hinge"], rel=1e-4)
    assert last["test_loss"] == pytest.approx(
        last["test/loss"] + 0.5 * last["test/hinge"], rel=1e-4
    )
    assert (
        re.match(r"test loss \d+\.\d+ after 4 iterations", stdout) and "\n  test1/top5 " in stdout
    )
