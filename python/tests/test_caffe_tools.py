"""Nets with active convolutions in Caffe's own tools: train, test, time, finetuning, and both
snapshot formats."""

import os
import re
import subprocess

import numpy as np
import pytest
from active_convolution import geometry
from active_convolution.caffe import locate, messages, positions
from active_convolution.networks import models
from training_runs import TINY

pytestmark = pytest.mark.slow

FORMATS = {"BINARYPROTO": "", "HDF5": ".h5"}


def caffe_tool(*arguments):
    """Runs ``caffe``; a CompletedProcess with Caffe's log in stderr."""
    return subprocess.run(
        [locate.BUILD / "out/tools/caffe", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOG_minloglevel": "0"},
    )


def write_net(path, data, **active):
    """The tiny network's train_val on ``data``, with these active_convolution_param in place of its
    own.

    The layer is called conv/1: "/" means something to HDF5.
    """
    net = models.train_val(TINY, "acu")
    for layer in net.layer:
        if layer.HasField("data_param"):
            layer.data_param.source = str(
                data / f"{'test' if layer.include[0].phase else 'train'}_lmdb"
            )
        if layer.type == "ActiveConvolution":
            layer.name = "conv/1"
            layer.active_convolution_param.CopyFrom(
                locate.caffe_pb2().ActiveConvolutionParameter(**active)
            )
    messages.write(path, net)
    return path


def write_solver(folder, net, **settings):
    solver = dict(
        base_lr=0.05,
        lr_policy="fixed",
        max_iter=4,
        random_seed=1,
        snapshot_prefix=str(folder / "s"),
    )
    messages.write(
        folder / "solver.prototxt",
        locate.caffe_pb2().SolverParameter(net=str(net), **{**solver, **settings}),
    )
    return folder / "solver.prototxt"


@pytest.fixture(scope="module", params=FORMATS)
def trained(request, digits_data, tmp_path_factory):
    """(train_val, weights) of four iterations of `caffe train`, in both snapshot formats."""
    folder = tmp_path_factory.mktemp(request.param)
    net = write_net(folder / "net.prototxt", digits_data, position_lr_mult=2)
    form = locate.caffe_pb2().SolverParameter.SnapshotFormat.Value(request.param)
    done = caffe_tool("train", "--solver", write_solver(folder, net, snapshot_format=form))
    assert done.returncode == 0, done.stderr
    return net, folder / f"s_iter_4.caffemodel{FORMATS[request.param]}"


def live(net, weights):
    loaded = locate.caffe().Net(str(net), locate.caffe().TEST)
    loaded.copy_from(str(weights))
    return loaded


@pytest.mark.quick
def test_train_moves_positions_and_saves_them(trained):
    (layer,) = positions.from_net(live(*trained))
    moved = np.hypot(*(layer.xy[0] - geometry.grid((3, 3))).T)
    assert moved[4] == 0 and (np.delete(moved, 4) > 0.01).all()


def test_test_has_the_accuracy_of_the_live_net(trained):
    net, weights = trained
    done = caffe_tool("test", "--model", net, "--weights", weights, "--iterations", 3)
    assert done.returncode == 0, done.stderr
    (reported,) = re.findall(r"\] accuracy = (\S+)\n", done.stderr)
    loaded = live(net, weights)
    accuracies = [float(loaded.forward()["accuracy"]) for _ in range(3)]
    assert float(reported) == pytest.approx(np.mean(accuracies), abs=1e-5)


@pytest.mark.quick
def test_time_runs_forward_and_backward(trained):
    done = caffe_tool("time", "--model", trained[0], "--iterations", 2)
    assert done.returncode == 0, done.stderr
    assert re.search(r"conv/1\s+forward: \S+ ms", done.stderr) and re.search(
        r"conv/1\s+backward: \S+ ms", done.stderr
    )


def test_finetuning_starts_from_the_trained_positions(trained, digits_data, tmp_path):
    """With a rate of 0: all four blobs of the active convolution, whatever warm-up the new training
    has."""
    net = write_net(tmp_path / "net.prototxt", digits_data, warmup_iter=100)
    done = caffe_tool(
        "train",
        "--solver",
        write_solver(tmp_path, net, base_lr=0, max_iter=1),
        "--weights",
        trained[1],
    )
    assert done.returncode == 0, done.stderr
    for found, expected in zip(
        live(net, tmp_path / "s_iter_1.caffemodel").params["conv/1"],
        live(*trained).params["conv/1"],
    ):
        np.testing.assert_array_equal(found.data, expected.data)


def test_test_nets_share_the_training_nets_positions(digits_data, tmp_path):
    net = write_net(tmp_path / "net.prototxt", digits_data, position_lr_mult=2)
    solver = locate.caffe().get_solver(
        str(write_solver(tmp_path, net, test_iter=[1], test_interval=2))
    )
    solver.step(3)  # with a test after two iterations
    training, testing = (positions.from_net(one)[0].xy for one in (solver.net, solver.test_nets[0]))
    assert np.abs(training - geometry.grid((3, 3))).max() > 0.01
    np.testing.assert_array_equal(testing, training)


def test_weights_of_another_shape_are_named(trained, digits_data, tmp_path):
    """Layer, blob, and both shapes."""
    net = write_net(tmp_path / "net.prototxt", digits_data, position_group=2)
    done = caffe_tool("test", "--model", net, "--weights", trained[1], "--iterations", 1)
    assert done.returncode != 0
    expected = {
        ".caffemodel": r"param 2 weights from layer 'conv/1'; "
        r"shape mismatch.*1 1 3 3 \(9\).*2 1 3 3 \(18\)",
        ".h5": r"shape mismatch.*1 1 3 3 \(9\).*2 1 3 3 \(18\); it is blob 2 of /data/conv\\1",
    }[trained[1].suffix]
    assert re.search(expected, done.stderr), done.stderr
