"""A whole training through scripts/train.py: what it says, and what it leaves in the run's
folder."""

import json
import os
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from active_convolution import geometry
from active_convolution.caffe import locate, messages, positions
from active_convolution.errors import UserError
from active_convolution.training import testing
from active_convolution.training.changes import Changes
from active_convolution.training.metrics import Metrics
from active_convolution.training.run_folder import RunFolder
from active_convolution.training.trainer import train
from conftest import SHARED
from data_samples import records
from training_runs import blobs, column, rows, run_script, snapshot, write_model

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

ITERATIONS, WARMUP, TESTED = 12, 4, [3, 6, 9, 12]  # --max-iter 12 of the tiny network's schedule


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny, digits_data):
    """Trained as a user would, in a folder that needs quoting."""
    above = tmp_path_factory.mktemp("runs")
    command = tiny, "--data", digits_data, "--output", "my rün", "--max-iter", ITERATIONS
    status, stdout, stderr = run_script(*command, cwd=above)
    assert status == 0, stderr
    return SimpleNamespace(folder=above / "my rün", stdout=stdout, stderr=stderr)


def test_says_what_trains_where_it_is_and_what_came_out(run):
    first, *_ = run.stderr.splitlines()
    assert first == (
        "training digits_tiny_acu, 2,628 parameters, 1 active convolution; digits, 1,500 images "
        "of 10 classes, 10 outputs; 12 iterations of 64 images, 0.512 epochs; a synapse can go "
        "0.023 pixels at most"
    )
    assert (
        "training:   0%" in run.stderr
        and "12/12" in run.stderr
        and "it/s, test error " in run.stderr
    )
    error, folder, next_line = re.fullmatch(
        r"test error (\d+\.\d\d) % after 12 iterations, \d+ s, in (.*)\n  loss .*\nnext: (.*)\n",
        run.stdout,
    ).groups()
    assert folder == str(run.folder) and next_line.startswith("acu plot ")
    assert float(error) == pytest.approx(100 * rows(run.folder)[-1]["test_error"], abs=0.005)
    assert f"test error {error} %" in run.stderr


@pytest.mark.quick
def test_fills_the_folder_with_what_the_manual_names(run):
    assert {path.name for path in run.folder.iterdir()} == {
        *("solver.prototxt", "train_val.prototxt", "deploy.prototxt", "train.log", "metrics.csv"),
        *("positions.npz", "run.json", "data.json", "snapshots"),
    }
    assert {path.name for path in (run.folder / "snapshots").iterdir()} == {
        f"digits_tiny_acu_iter_{iteration}.{kind}"
        for iteration in TESTED
        for kind in ("caffemodel", "solverstate")
    }


def test_what_run_means_to_other_commands(run, digits_data):
    """Its newest snapshot, or that of an iteration; its data set's manifest, with where it lies."""
    found = RunFolder(run.folder)
    assert found.snapshot() == found.snapshot(ITERATIONS) == snapshot(run.folder)
    assert found.data.folder == str(digits_data) and found.data.test.images == 297
    with pytest.raises(UserError, match=f"no snapshot of iteration 7: give one of .*{ITERATIONS}$"):
        found.snapshot(7)
    with pytest.raises(UserError, match="has no snapshot: name"):
        RunFolder(run.folder.parent).snapshot()


def test_log_is_all_of_caffes(run):
    log = (run.folder / "train.log").read_text(encoding="utf-8")
    assert "Initializing solver from parameters" in log and "Iteration 11, lr = 0.001" in log
    assert "Snapshotting to binary proto file" not in run.stderr


def test_prototxts_are_resolved(run, digits_data):
    solver = messages.read_solver(run.folder / "solver.prototxt")
    assert solver.net == f"{run.folder}/train_val.prototxt"
    assert (solver.max_iter, list(solver.stepvalue)) == (12, [6, 9])
    net = messages.read_net(run.folder / "train_val.prototxt")
    sources = [layer.data_param.source for layer in net.layer if layer.type == "Data"]
    assert sources == [f"{digits_data}/train_lmdb", f"{digits_data}/test_lmdb"]
    assert max(layer.active_convolution_param.warmup_iter for layer in net.layer) == WARMUP


def test_metrics_follow_the_schedule(run):
    assert column(run.folder, "iteration") == list(range(1, 13))
    rates = [0.1] * 6 + [0.01] * 3 + [0.001] * 3
    assert column(run.folder, "learning_rate") == pytest.approx(rates)
    assert [row["iteration"] for row in rows(run.folder) if row["test_error"] is not None] == TESTED
    assert all(0 < row["test_error"] < 1 and row["test_loss"] > 0 for row in rows(run.folder)[2::3])
    assert min(column(run.folder, "loss")) > 0
    seconds = column(run.folder, "seconds")
    assert seconds == sorted(seconds) and seconds[0] > 0


@pytest.mark.quick
def test_positions_stay_on_the_grid_until_the_warm_up_ends_and_leave_it_then(run):
    """The first move is Nesterov's: (1 + momentum) · rate · 0.01 pixels, whatever the gradient."""
    history = positions.load_run(run.folder)
    assert history.names == ["conv"] and history.iterations.tolist() == list(range(13))
    xy, grid = history.positions("conv")[:, 0], geometry.grid((3, 3))
    assert (xy[: WARMUP + 1] == grid).all()
    assert (xy[:, 4] == 0).all(), "the origin"
    moved = np.delete(np.hypot(*np.moveaxis(xy - grid, -1, 0)), 4, axis=1)
    np.testing.assert_allclose(moved[WARMUP + 1], 1.9 * 0.1 * 0.01, rtol=1e-3)
    assert (moved[WARMUP + 1 :] > 0).all()
    assert moved.max() < 0.023, "the reach that is said"


def test_the_last_snapshot_holds_the_last_positions(run):
    (layer,) = positions.from_caffemodel(snapshot(run.folder))
    np.testing.assert_array_equal(layer.xy, positions.load_run(run.folder).positions("conv")[-1])


@pytest.mark.quick
def test_deploy_network_has_the_test_error_that_was_measured(run, digits_data):
    caffe = locate.caffe()
    deploy = str(run.folder / "deploy.prototxt")
    net = caffe.Net(deploy, caffe.TEST, weights=str(snapshot(run.folder)))
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
    text = text.replace(str(run.folder), str(copy))
    (copy / "solver.prototxt").write_text(text, encoding="utf-8")
    caffe = locate.BUILD / "out/tools/caffe"
    done = subprocess.run(
        [caffe, "train", "--solver", copy / "solver.prototxt"],
        capture_output=True,
        text=True,
        env={**os.environ, "GLOG_minloglevel": "0", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    losses = [
        float(loss) for loss in re.findall(r"Iteration \d+ \(.*\), loss = (\S+)", done.stderr)
    ]
    np.testing.assert_allclose(losses, column(run.folder, "loss"), rtol=1e-5)
    accuracies = re.findall(r"Test net output #\d+: accuracy = (\S+)", done.stderr)
    errors = [row["test_error"] for row in rows(run.folder)[2::3]]
    np.testing.assert_allclose([1 - float(accuracy) for accuracy in accuracies], errors, atol=2e-5)
    assert blobs(snapshot(copy)) == blobs(snapshot(run.folder))


def test_the_seed_decides(run, tiny, digits_data, tmp_path):
    for name, seed in (("same", 1), ("other", 2)):
        assert train(tiny, "acu", digits_data, tmp_path / name, max_iter=ITERATIONS, seed=seed) == 0
    for name in ("loss", "test_loss", "test_error"):
        assert column(tmp_path / "same", name) == column(run.folder, name)
    assert column(tmp_path / "other", "loss") != column(run.folder, "loss")
    assert blobs(snapshot(tmp_path / "same")) == blobs(snapshot(run.folder))
    assert blobs(snapshot(tmp_path / "other")) != blobs(snapshot(run.folder))


# ---- run.json


def test_what_ran_where_and_when_is_written_down(run, tiny, digits_data, tmp_path):
    said = RunFolder(run.folder).said
    assert said["options"] == {"model": str(tiny), "data": str(digits_data), "max_iter": 12}
    assert said["seed"] == 1 and said["machine"]["threads"] == 1 and said["machine"]["cpu"]
    assert said["code"] == {} or len(said["code"]["commit"]) == 40
    versions = said["versions"]
    assert versions["python"] and versions["build"]["caffe"]
    assert re.match(r"(GNU|Clang) \d+\.", versions["compiler"])
    (session,) = said["sessions"]
    assert (session["from"], session["to"], session["ended"]) == (0, 12, "finished")
    assert session["start"] <= session["end"]
    assert said["first_losses"] == pytest.approx(column(run.folder, "loss")[:10], rel=1e-5)
    assert set(map(len, said["sha256"].values())) == {64}
    for name, seed in (("same", 1), ("other", 2)):
        assert train(tiny, "acu", digits_data, tmp_path / name, max_iter=ITERATIONS, seed=seed) == 0
    same, other = (RunFolder(tmp_path / name).said["sha256"] for name in ("same", "other"))
    assert same == said["sha256"], "whatever the folder"
    different = {name for name, value in other.items() if value != same[name]}
    assert different == {"solver", "weights"}


# ---- Networks and losses of other kinds


def test_ordinary_convolutions_leave_no_positions(tiny, digits_data, tmp_path, capfd):
    assert train(tiny, "baseline", digits_data, tmp_path / "run", max_iter=4) == 0
    assert not (tmp_path / "run" / "positions.npz").exists()
    assert column(tmp_path / "run", "iteration") == [1, 2, 3, 4]
    assert snapshot(tmp_path / "run", 4, "baseline").exists()
    said = capfd.readouterr().err
    assert " 0 active convolutions;" in said and "pixels" not in said


def test_the_papers_networks_go_by_name_among_a_users_own_modules(digits_data, tmp_path):
    (tmp_path / "numpy.py").write_text("raise RuntimeError('the wrong numpy')")
    command = "digits/plain", "--data", digits_data, "--output", "run", "--max-iter", 2
    status, _, stderr = run_script(*command, cwd=tmp_path)
    assert status == 0 and stderr.startswith("training digits_plain_acu, "), stderr
    assert len(positions.History.load(tmp_path / "run/positions.npz").names) == 6
    command = "models/digits/plain", "--variant", "baseline", *command[1:3], "--output", "other"
    status, _, stderr = run_script(*command, "--max-iter", 1, cwd=tmp_path)
    assert status == 0 and stderr.startswith("training digits_plain_baseline, "), stderr


def test_epochs_are_passes_over_the_training_images(tiny, digits_data, tmp_path, capfd):
    assert train(tiny, "acu", digits_data, tmp_path / "run", epochs=0.5) == 0
    assert column(tmp_path / "run", "iteration")[-1] == 12  # 1500 images, 64 an iteration
    net = messages.read_net(tmp_path / "run/train_val.prototxt")
    assert max(layer.active_convolution_param.warmup_iter for layer in net.layer) == WARMUP
    capfd.readouterr()
    solver = tmp_path / "run/solver.prototxt"
    assert train(solver=solver, output=tmp_path / "own", epochs=0.5) == 0, "sources of its own"
    assert ", 1,500 images, 10 outputs; 12 iterations of 64" in capfd.readouterr().err


def test_a_test_sees_every_test_image_once(digits_data, tmp_path):
    """As many as the data has, whatever the solver was written for; but for what --set says."""
    model = write_model(tmp_path / "tiny", test_iter=[100])
    assert train(model, "acu", digits_data, tmp_path / "run", max_iter=2) == 0
    solver = messages.read_solver(tmp_path / "run/solver.prototxt")
    assert list(solver.test_iter) == [3]  # of 99 images each: 297
    changes = Changes(set=["solver.test_iter=1"], warmup_iter=0)
    assert train(model, "acu", digits_data, tmp_path / "set", max_iter=2, changes=changes) == 0
    asked = {"set": ["solver.test_iter=1"], "warmup_iter": 0, "max_iter": 2}
    assert asked.items() <= RunFolder(tmp_path / "set").said["options"].items()
    solver = messages.read_solver(tmp_path / "set/solver.prototxt")
    assert list(solver.test_iter) == [1]


@pytest.mark.parametrize("rounds", [0, -5])
def test_a_test_of_no_passes_is_none(digits_data, tmp_path, capfd, rounds):
    """Which is how people turn tests off; Caffe passes over it."""
    model = write_model(tmp_path / "tiny", test_iter=[rounds])
    assert train(model, "acu", digits_data, tmp_path / "run", max_iter=4) == 0
    assert set(column(tmp_path / "run", "test_error")) == {None}
    assert re.match(r"loss \d+\.\d+ after 4 iterations", capfd.readouterr().out)


def test_several_tests_and_losses_have_names_and_no_accuracy_is_needed(
    digits_data, tmp_path, capfd
):
    """Two losses in training, a test without an accuracy, and one with two."""
    model = write_model(tmp_path / "tiny")
    path = model / "acu/train_val.prototxt"
    rule = 'name: "accuracy" include { phase: TEST stage: "second" }'
    text = path.read_text().replace('name: "accuracy"', rule, 1)
    text = re.sub(r'(top: "accuracy"\n)  include \{\s*phase: TEST\s*\}\n', r"\1", text)
    path.write_text(
        text
        + """
layer { name: "top5" type: "Accuracy" bottom: "score" bottom: "label" top: "top5"
        accuracy_param { top_k: 5 } include { phase: TEST stage: "second" } }
layer { name: "hinge" type: "HingeLoss" bottom: "score" bottom: "label" top: "hinge"
        loss_weight: 0.5 }
"""
    )
    with open(model / "acu/solver.prototxt", "a") as solver:
        solver.write('test_iter: 2 test_state { stage: "first" } test_state { stage: "second" }\n')
    assert train(model, "acu", digits_data, tmp_path / "run", max_iter=4) == 0
    last = rows(tmp_path / "run")[-1]
    assert list(last)[6:] == [
        *("train/hinge", "train/loss", "test/hinge", "test/loss", "test1_loss", "test1_error"),
        *("test1/hinge", "test1/loss", "test1/top5"),
    ]
    assert last["test_error"] is None
    assert 0 < last["test1_error"] < 1 and 0 < last["test1/top5"] <= 1
    for split, column_name in (("train", "loss"), ("test", "test_loss")):
        total = last[f"{split}/loss"] + 0.5 * last[f"{split}/hinge"]
        assert last[column_name] == pytest.approx(total, rel=1e-4)
    stdout, _ = capfd.readouterr()
    assert re.match(r"test loss \d+\.\d+ after 4 iterations", stdout)
    assert "\n  test1/top5 " in stdout


# ---- Warnings


def test_a_diverged_training_has_got_nothing_right_and_says_so(digits_data, tmp_path, capfd):
    """Caffe's Accuracy layer alone would say that all is right."""
    model = write_model(tmp_path / "tiny", base_lr=1e30)
    assert train(model, "acu", digits_data, tmp_path / "run", max_iter=6) == 0
    stdout, stderr = capfd.readouterr()
    assert stdout.startswith("test error 100.00 % after 6 iterations")
    assert rows(tmp_path / "run")[-1]["test_error"] == 1
    assert re.search("warning: the loss is NaN or infinity.*, at iteration [23]\n", stderr)
    assert len(re.findall("warning: the loss is NaN or infinity", stderr)) == 2, "and at the end"


@pytest.mark.parametrize("start", [0, 100])
def test_synapses_that_leave_the_image_are_warned_of(digits_data, tmp_path, capfd, start):
    """Case 40: when it happens, and at the end."""
    model = write_model(tmp_path / "tiny")
    path = model / "acu/train_val.prototxt"
    moved = "".join(f"position {{ x: {start if k < 1 else 1} y: 0 }} " for k in range(9))
    moved += "" if start else "position_lr_mult: 1e5 "
    path.write_text(path.read_text().replace("warmup_iter: 80", f"warmup_iter: 0 {moved}"))
    assert train(model, "acu", digits_data, tmp_path / "run", max_iter=6) == 0
    said = capfd.readouterr().err
    (at,) = re.findall(
        r"warning: synapses of layer conv .* 8×8 pixels: .*, at iteration (\d)", said
    )
    assert at == "1" and said.count("warning: synapses of layer conv have left") == 2


@pytest.mark.parametrize(
    "accuracy, loss, error",
    [(0.75, 1, 0.25), (1 + 1e-7, 1, 0), (1, float("nan"), 1), (75, 1, None), (-0.5, 1, None)],
)
def test_an_error_is_a_fraction_or_none(accuracy, loss, error):
    assert testing._error(accuracy, loss) == error


@pytest.mark.parametrize("case", ["40-positions-leave"])
def test_cases_of_users(case, tmp_path):
    if not SHARED.exists():
        pytest.skip("needs the cases")
    folder = shutil.copytree(SHARED / "cases" / case, tmp_path / "case")
    status, _, stderr = run_script("--solver", "solver.prototxt", "--output", "run", cwd=folder)
    assert status == 0 and "synapses of layer conv have left the image" in stderr


def test_json_is_readable_by_anybody(run):
    text = (run.folder / "run.json").read_text(encoding="utf-8")
    assert json.loads(text) and "NaN" not in text
    assert Metrics.load(run.folder / "metrics.csv").columns[0] == "iteration"
