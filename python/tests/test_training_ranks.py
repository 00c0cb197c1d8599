"""Several processes that train one network: over MPI, and over NCCL with a stand-in for what needs GPUs."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import lmdb
import numpy as np
import pytest

from active_convolution import fork, positions, prototxt
from active_convolution.data.manifest import database_bytes
from active_convolution.errors import UserError
from active_convolution.training import launch, ranks
from active_convolution.training.metrics import Metrics

from conftest import ROOT
from training_runs import WARMUP_ITER, MAX_ITER, run_script, train_script, write_model

IMAGES = 1499
ITERATIONS, BATCH = 30, 28
MPIRUN = ("mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none")
QUIET = {"OMPI_MCA_btl": "self,vader", "OMPI_MCA_btl_vader_single_copy_mechanism": "none"}
HERE = f"on {re.escape(socket.gethostname())}: "


@pytest.fixture(scope="module")
def odd_data(digits_data, tmp_path_factory):
    """The digits less one: where the training data ends, the ranks' parts change places."""
    folder = shutil.copytree(digits_data, tmp_path_factory.mktemp("odd") / "data")
    with lmdb.open(str(folder / "train_lmdb")) as environment, environment.begin(write=True) as transaction:
        with transaction.cursor() as cursor:
            assert cursor.last() and cursor.delete()
        assert transaction.stat()["entries"] == IMAGES
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["train"]["bytes"] = database_bytes(folder, "train")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def write_exact(folder, batch, iter_size=1):
    """The tiny network without what differs between the ranks: BatchNorm, and the random crop. Returns the folder."""
    write_model(folder, iter_size=iter_size)
    for name in ("train_val", "deploy"):
        path = folder / "acu" / f"{name}.prototxt"
        net = prototxt.read_net(path)
        layers = [layer for layer in net.layer if layer.type != "BatchNorm"]
        del net.layer[:]
        net.layer.extend(layers)
        score = next(layer for layer in net.layer if layer.type == "InnerProduct")
        pool = type(score)(name="pool", type="Pooling", bottom=score.bottom, top=["pool"])
        pool.pooling_param.pool, pool.pooling_param.global_pooling = pool.pooling_param.AVE, True
        score.bottom[:] = ["pool"]
        net.layer.insert(list(net.layer).index(score), pool)
        for layer in net.layer:
            layer.transform_param.ClearField("crop_size")
        if name == "train_val":
            net.layer[0].data_param.batch_size = batch
        prototxt.write(path, net)
    return folder


def mpirun(*arguments, size=2, **options):
    """Starts scripts/train.py in ``size`` processes as a user would; a Popen."""
    return start_mpirun("-n", size, ROOT / "scripts/train.py", *arguments, **options)


def start_mpirun(*arguments):
    return subprocess.Popen([*MPIRUN, *map(str, arguments)], text=True, encoding="utf-8", stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env={**os.environ, **QUIET, "OMP_NUM_THREADS": "1"})


def finish(process, status=0):
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == status, stderr
    return stdout, stderr


def assert_trained(result):
    status, _, stderr = result
    assert status == 0, stderr


def command(model, data, run, *more):
    return model, "--variant", "acu", "--data", data, "--output", run, "--max-iter", ITERATIONS, *more


def blobs(run, iteration=ITERATIONS):
    net = fork.caffe_pb2().NetParameter()
    net.ParseFromString((run / f"snapshots/digits_tiny_acu_iter_{iteration}.caffemodel").read_bytes())
    return [(layer.name, np.array(blob.data)) for layer in net.layer for blob in layer.blobs]


def assert_same_training(run, expected):
    """Weights, positions over the iterations, losses and test errors, to rounding."""
    for (name, values), (_, wanted) in zip(blobs(run), blobs(expected), strict=True):
        np.testing.assert_allclose(values, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max(), err_msg=name)
    history, wanted = positions.load_run(run), positions.load_run(expected)
    assert history.iterations.tolist() == wanted.iterations.tolist()
    xy, wanted = history.positions("conv"), wanted.positions("conv")
    np.testing.assert_allclose(xy, wanted, atol=1e-5)
    assert np.hypot(*np.moveaxis(wanted[-1] - wanted[0], -1, 0)).max() > 0.005, "nothing has moved"
    for name in ("loss", "test_loss", "test_error"):
        values = [[row[name] for row in Metrics.load(folder / "metrics.csv").rows] for folder in (run, expected)]
        np.testing.assert_allclose(*[np.array(column, float) for column in values], rtol=2e-4, err_msg=name)


def forget_after(run, iteration):
    """Removes the later snapshots."""
    for path in (run / "snapshots").iterdir():
        if int(re.search(r"_iter_(\d+)\.", path.name)[1]) > iteration:
            path.unlink()


@pytest.mark.parametrize("iter_size", [1, 2])
def test_two_ranks_follow_one_with_twice_the_batch(odd_data, tmp_path, iter_size):
    """Beyond the end of the warm-up and of the data, and from a snapshot on, which both ranks must take up."""
    assert WARMUP_ITER / MAX_ITER < 0.5 and 2 * BATCH * ITERATIONS > IMAGES
    one = command(write_exact(tmp_path / "one/tiny", 2 * BATCH, iter_size), odd_data, tmp_path / "run1")
    two = command(write_exact(tmp_path / "two/tiny", BATCH, iter_size), odd_data, tmp_path / "run2")
    assert_trained(run_script(*one))
    stdout, stderr = finish(mpirun(*two))
    assert re.fullmatch(rf"test error .* % after {ITERATIONS} iterations, \d+ s, in {tmp_path}/run2\n", stdout)
    assert stderr.startswith(f"2 ranks, together {2 * BATCH * iter_size} images per iteration\n") and "images/s" in stderr
    assert_same_training(tmp_path / "run2", tmp_path / "run1")
    files = [{path.relative_to(run) for path in run.rglob("*")} for run in (tmp_path / "run1", tmp_path / "run2")]
    assert files[0] == files[1]
    if iter_size == 2:
        for run in (tmp_path / "run1", tmp_path / "run2"):
            forget_after(run, 14)
        assert_trained(run_script(*one, "--resume"))
        assert "going on from iteration 14\n" in finish(mpirun(*two, "--resume"))[1]
        assert_same_training(tmp_path / "run2", tmp_path / "run1")
