"""A training that was stopped, or killed, and goes on, ends as one that was not: data, crops,
dropout, tests, records."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from active_convolution.caffe import locate, messages, positions
from active_convolution.training import snapshots, trainer
from active_convolution.training.run_folder import RunFolder
from active_convolution.training.trainer import train
from google.protobuf import text_format
from training_runs import rows, run_script, snapshot, write_model

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

LENGTH = 30


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The tiny network, which crops at random, with mirrors, dropout, two passes an iteration, an
    odd batch and tests that do not come out even with the data. 30 iterations see 1860 of 1500
    images."""
    folder = write_model(
        tmp_path_factory.mktemp("model") / "tiny",
        **dict(iter_size=2, snapshot=7, display=5, test_interval=10),
        **dict(max_iter=LENGTH, random_seed=3),
    )
    path = folder / "acu/train_val.prototxt"
    net = messages.read_net(path)
    net.layer[0].data_param.batch_size, net.layer[1].data_param.batch_size = 31, 80
    net.layer[0].transform_param.mirror = True
    score = next(layer for layer in net.layer if layer.type == "InnerProduct")
    drop = 'name: "drop" type: "Dropout" bottom: "conv" top: "conv"'
    drop = text_format.Parse(drop, locate.caffe_pb2().LayerParameter())
    net.layer.insert(list(net.layer).index(score), drop)
    messages.write(path, net)
    return folder


@pytest.fixture(scope="module")
def undisturbed(model, digits_data, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    assert train(model, "acu", digits_data, run) == 0
    return run


def assert_same(run, undisturbed):
    """To the last bit, but for the seconds."""
    one, other = (snapshot(path, LENGTH) for path in (run, undisturbed))
    assert one.read_bytes() == other.read_bytes()
    states = []
    for path in (one, other):
        stored = path.with_suffix(".solverstate").read_bytes()
        states.append(locate.caffe_pb2().SolverState.FromString(stored))
        states[-1].ClearField("learned_net")
    assert states[0] == states[1]
    now, wanted = ([{**row, "seconds": 0} for row in rows(path)] for path in (run, undisturbed))
    assert now == wanted
    now, wanted = positions.load_run(run), positions.load_run(undisturbed)
    assert now.iterations.tolist() == wanted.iterations.tolist()
    assert (now.positions("conv") == wanted.positions("conv")).all()
    assert RunFolder(run).said["first_losses"] == RunFolder(undisturbed).said["first_losses"]


@pytest.fixture
def stop(model, digits_data, tmp_path, monkeypatch):
    """Trains into tmp_path/run until ``trainer.Trainer.<what>`` is called at ``iteration``, where
    SIGTERM comes."""

    def run(what, iteration, resume=False):
        original = getattr(trainer.Trainer, what)

        def stopping(self, *arguments):
            if self.solver.iter == iteration:
                os.kill(os.getpid(), 15)
            return original(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(trainer.Trainer, what, stopping)
            assert train(model, "acu", digits_data, tmp_path / "run", resume=resume) == 130

    return run


def test_it_can_be_told_apart(undisturbed):
    """The records are of what the fixture promises."""
    found = rows(undisturbed)
    assert [row["iteration"] for row in found] == [5, 7, 10, 14, 15, 20, 21, 25, 28, 30]
    assert [row["iteration"] for row in found if row["test_error"] is not None] == [10, 20, 30]


def test_a_training_that_was_stopped_ends_as_if_it_had_not(
    stop, model, undisturbed, digits_data, tmp_path
):
    """Stopped before and between its records, and beyond the end of the data."""
    for number, iteration in enumerate([2, 11, 12, 26]):
        stop("step", iteration, resume=number > 0)
    assert train(model, "acu", digits_data, tmp_path / "run", resume=True) == 0
    assert_same(tmp_path / "run", undisturbed)
    sessions = RunFolder(tmp_path / "run").said["sessions"]
    assert [(each["from"], each["to"]) for each in sessions] == [
        *((0, 3), (3, 12), (12, 13), (13, 27), (27, 30))
    ]
    assert [each["ended"] for each in sessions] == ["stopped"] * 4 + ["finished"]


KILLED = """
import os, sys
from active_convolution import cli
from active_convolution.training import trainer
at, step = int(sys.argv.pop(1)), trainer.Trainer.step
def killed(self):
    return self.solver.iter + 1 == at and os.kill(os.getpid(), 9) or step(self)
trainer.Trainer.step = killed
cli.script("train")
"""


def test_a_training_that_was_killed_goes_on_with_its_folder_alone(
    model, undisturbed, digits_data, tmp_path
):
    run = tmp_path / "run"
    for number, iteration in enumerate([9, 16, 30]):
        options = ["--resume"] if number else [model, "--data", digits_data]
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(iteration), *map(str, options), "--output", run],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 1 and f"(the log: {run}/train.log)" in done.stderr, done.stderr
    status, _, stderr = run_script("--resume", "--output", run)
    assert status == 0 and "going on from iteration 28\n" in stderr, stderr
    assert_same(run, undisturbed)
    assert ["end" in each for each in RunFolder(run).said["sessions"]] == [False] * 3 + [True]


def test_a_test_that_was_interrupted_comes_first_when_it_goes_on(
    stop, model, undisturbed, digits_data, tmp_path
):
    stop("_test", 10)
    found = snapshots.found(tmp_path / "run/snapshots/digits_tiny_acu")
    assert [snapshot.iteration for snapshot in found] == [10, 7]
    assert train(model, "acu", digits_data, tmp_path / "run", resume=True) == 0
    assert_same(tmp_path / "run", undisturbed)


@pytest.mark.parametrize("passes", [0, 1, 3, 48, 49, 100])
def test_a_data_layer_goes_on_where_it_would_stand(digits_data, tmp_path, passes):
    """Crop and mirror, too, and beyond the end; whatever it has given before."""
    path = tmp_path / "net.prototxt"
    path.write_text(f"""layer {{ name: "data" type: "Data" top: "data" top: "label"
        transform_param {{ crop_size: 8 mirror: true }}
        data_param {{ source: "{digits_data}/train_lmdb" batch_size: 31 backend: LMDB }} }}""")
    caffe = locate.caffe()

    def given(net):
        net.forward()
        return net.blobs["data"].data.copy(), net.blobs["label"].data.copy()

    caffe.set_random_seed(5)
    one = caffe.Net(str(path), caffe.TRAIN)
    caffe.set_random_seed(5)
    other = caffe.Net(str(path), caffe.TRAIN)
    wanted = [given(one) for _ in range(passes + 2)][-2:]
    given(other)
    other.layers[0].continue_at(passes)
    for (images, labels), (expected, known) in zip([given(other), given(other)], wanted):
        assert (labels == known).all() and (images == expected).all()
    assert not (wanted[0][0] == wanted[1][0]).all()


def test_caffe_train_goes_on_with_the_next_images(undisturbed, tmp_path):
    """By itself: but for dropout, whose random numbers are those of a new process."""
    net = messages.read_net(undisturbed / "train_val.prototxt")
    kept = [layer for layer in net.layer if layer.type != "Dropout"]
    del net.layer[:]
    net.layer.extend(kept)
    messages.write(tmp_path / "net.prototxt", net)
    solver = messages.read_solver(undisturbed / "solver.prototxt")
    solver.net, solver.snapshot_prefix = str(tmp_path / "net.prototxt"), str(tmp_path / "x")
    messages.write(tmp_path / "solver.prototxt", solver)

    def weights(*arguments):
        caffe, solver = locate.BUILD / "out/tools/caffe", tmp_path / "solver.prototxt"
        command = [caffe, "train", "--solver", solver, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done.stderr
        return (tmp_path / f"x_iter_{LENGTH}.caffemodel").read_bytes()

    whole = weights()
    assert weights("--snapshot", tmp_path / "x_iter_14.solverstate") == whole


def test_every_test_begins_with_the_first_image(model, undisturbed, digits_data, tmp_path):
    """A last test that is missing, as after a kill during it, is made up for, and gives the
    same."""
    run = shutil.copytree(undisturbed, tmp_path / "run")
    lines = (run / "metrics.csv").read_text().splitlines(keepends=True)
    lines[-1] = re.sub(r"([^,]*,[^,]*,[^,]*),[^,]*,[^,]*,", r"\1,,,", lines[-1])
    (run / "metrics.csv").write_text("".join(lines))
    assert rows(run)[-1]["test_error"] is None
    assert train(model, "acu", digits_data, run, resume=True) == 0
    assert_same(run, undisturbed)
