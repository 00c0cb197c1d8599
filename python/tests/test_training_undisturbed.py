"""A training that was stopped, or killed, and goes on, ends as one that was not: data, crops, dropout, tests, records."""

import os
import subprocess

import pytest
from active_convolution.caffe import locate, messages, positions
from active_convolution.errors import UserError
from active_convolution.training import snapshots, testing
from active_convolution.training.metrics import Metrics
from active_convolution.training.trainer import train
from google.protobuf import text_format
from training_runs import run_script, write_model

pytestmark = pytest.mark.slow

LENGTH = 30


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The tiny network, which crops at random, with mirrors, dropout, two passes an iteration, an odd batch and tests that
    do not come out even with the data. 30 iterations see 1860 of the 1500 images."""
    folder = write_model(
        tmp_path_factory.mktemp("model") / "tiny",
        iter_size=2,
        test_iter=[2],
        snapshot=7,
        display=5,
        test_interval=10,
        max_iter=LENGTH,
        random_seed=3,
    )
    path = folder / "acu/train_val.prototxt"
    net = messages.read_net(path)
    net.layer[0].data_param.batch_size = 31
    net.layer[0].transform_param.mirror = True
    score = next(layer for layer in net.layer if layer.type == "InnerProduct")
    net.layer.insert(
        list(net.layer).index(score),
        text_format.Parse(
            'name: "drop" type: "Dropout" bottom: "conv" top: "conv"',
            locate.caffe_pb2().LayerParameter(),
        ),
    )
    messages.write(path, net)
    return folder


@pytest.fixture(scope="module")
def undisturbed(model, digits_data, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    assert train(model, "acu", digits_data, run) == 0
    return run


def assert_same(run, undisturbed):
    """To the last bit, but for the seconds."""
    for kind in ("caffemodel", "solverstate"):
        one, other = (
            path / f"snapshots/digits_tiny_acu_iter_{LENGTH}.{kind}" for path in (run, undisturbed)
        )
        if kind == "caffemodel":
            assert one.read_bytes() == other.read_bytes()
        else:
            states = [
                locate.caffe_pb2().SolverState.FromString(path.read_bytes())
                for path in (one, other)
            ]
            for state in states:
                state.ClearField("learned_net")
            assert states[0] == states[1]
    now, wanted = (
        [{**row, "seconds": 0} for row in Metrics.load(path / "metrics.csv").rows]
        for path in (run, undisturbed)
    )
    assert now == wanted
    now, wanted = positions.load_run(run), positions.load_run(undisturbed)
    assert now.iterations.tolist() == wanted.iterations.tolist()
    assert (now.positions("conv") == wanted.positions("conv")).all()


@pytest.fixture
def stop(model, digits_data, tmp_path, monkeypatch):
    """Trains into tmp_path/run until a signal comes where ``trainer.<what>`` is called as the python ``when`` says."""

    def run(what, when, resume=False, signal="SIGTERM"):
        (tmp_path / "sitecustomize.py").write_text(
            STOPPER.format(what=what, when=when, signal=signal)
        )
        with monkeypatch.context() as patch:
            patch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
            patch.setenv(
                "PYTHONDONTWRITEBYTECODE", "1"
            )  # which may be the last stopper's, of the same second and size
            try:
                assert train(model, "acu", digits_data, tmp_path / "run", resume=resume) == 130
            except UserError as error:
                assert signal == "SIGKILL" in str(error)

    return run


STOPPER = """
import os, signal, sys
if "active_convolution.training" in sys.orig_argv:
    from active_convolution.training import trainer
    original = trainer.{what}
    def stopping(self, *arguments):
        if {when}:
            os.kill(os.getpid(), signal.{signal})
        return original(self, *arguments)
    trainer.{what} = stopping
"""


def test_it_can_be_told_apart(undisturbed):
    """The records are of what the fixture promises."""
    rows = Metrics.load(undisturbed / "metrics.csv").rows
    assert [row["iteration"] for row in rows] == [5, 7, 10, 14, 15, 20, 21, 25, 28, 30]
    assert [row["iteration"] for row in rows if row["test_error"] is not None] == [10, 20, 30]


def test_a_training_that_was_stopped_ends_as_if_it_had_not(
    stop, model, undisturbed, digits_data, tmp_path
):
    """Stopped before and between its records, and beyond the end of the data."""
    for number, iteration in enumerate([3, 12, 13, 27]):
        stop("Worker.step", f"self.solver.iter + 1 == {iteration}", resume=number > 0)
    assert train(model, "acu", digits_data, tmp_path / "run", resume=True) == 0
    assert_same(tmp_path / "run", undisturbed)


def test_a_training_that_was_killed_goes_on_with_its_folder_alone(stop, undisturbed, tmp_path):
    for number, iteration in enumerate([9, 16, 30]):
        stop(
            "Worker.step",
            f"self.solver.iter + 1 == {iteration}",
            resume=number > 0,
            signal="SIGKILL",
        )
    status, _, stderr = run_script("--resume", "--output", tmp_path / "run")
    assert status == 0 and "going on from iteration 28\n" in stderr, stderr
    assert_same(tmp_path / "run", undisturbed)


def test_a_test_that_was_interrupted_comes_first_when_it_goes_on(
    stop, model, undisturbed, digits_data, tmp_path
):
    stop("Trainer._test", "self.solver.iter == 10")
    assert [
        snapshot.iteration
        for snapshot in snapshots.found(tmp_path / "run/snapshots/digits_tiny_acu")
    ] == [10, 7]
    assert train(model, "acu", digits_data, tmp_path / "run", resume=True) == 0
    assert_same(tmp_path / "run", undisturbed)


@pytest.mark.parametrize("passes", [0, 1, 3, 48, 49, 100])
def test_a_data_layer_goes_on_where_it_would_stand(digits_data, tmp_path, passes):
    """Crop and mirror, too, and beyond the end; whatever it has given before."""
    (
        tmp_path / "net.prototxt"
    ).write_text(f'''layer {{ name: "data" type: "Data" top: "data" top: "label"
        transform_param {{ crop_size: 8 mirror: true }}
        data_param {{ source: "{digits_data}/train_lmdb" batch_size: 31 backend: LMDB }} }}''')
    caffe = locate.caffe()

    def given(net):
        net.forward()
        return net.blobs["data"].data.copy(), net.blobs["label"].data.copy()

    caffe.set_random_seed(5)
    one = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)
    caffe.set_random_seed(5)
    other = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)
    wanted = [given(one) for _ in range(passes + 2)][-2:]
    given(other)
    other.layers[0].continue_at(passes)
    for (images, labels), (expected, known) in zip([given(other), given(other)], wanted):
        assert (labels == known).all() and (images == expected).all()
    assert not (wanted[0][0] == wanted[1][0]).all()


def test_caffe_train_goes_on_with_the_next_images(undisturbed, tmp_path):
    """By itself: but for dropout, whose random numbers are those of a new process."""
    assert (
        subprocess.run(
            [locate.BUILD / "out/tools/caffe", "--version"], capture_output=True
        ).returncode
        == 0
    )
    net = messages.read_net(undisturbed / "train_val.prototxt")
    kept = [layer for layer in net.layer if layer.type != "Dropout"]
    del net.layer[:]
    net.layer.extend(kept)
    messages.write(tmp_path / "net.prototxt", net)
    solver = messages.read_solver(undisturbed / "solver.prototxt")
    solver.net, solver.snapshot_prefix = str(tmp_path / "net.prototxt"), str(tmp_path / "x")
    messages.write(tmp_path / "solver.prototxt", solver)

    def weights(*arguments):
        done = subprocess.run(
            [
                locate.BUILD / "out/tools/caffe",
                "train",
                "--solver",
                tmp_path / "solver.prototxt",
                *arguments,
            ],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return (tmp_path / f"x_iter_{LENGTH}.caffemodel").read_bytes()

    whole = weights()
    assert weights("--snapshot", tmp_path / "x_iter_14.solverstate") == whole


def test_every_test_begins_with_the_first_image(model, undisturbed):
    caffe = locate.caffe()
    solver, net = (
        messages.read_solver(undisturbed / "solver.prototxt"),
        messages.read_net(undisturbed / "train_val.prototxt"),
    )
    tests = testing.Tests(caffe, solver, net, undisturbed / "train_val.prototxt")
    trained = caffe.Net(str(undisturbed / "train_val.prototxt"), caffe.TEST)
    first, second = (tests.run(trained, lambda: False) for _ in range(2))
    assert first == second and first["test_error"] is not None
    assert tests.run(trained, lambda: True) == {}
