"""Several processes that train one network over MPI."""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import lmdb
import numpy as np
import pytest
from active_convolution.caffe import locate, messages, positions
from active_convolution.errors import UserError
from active_convolution.training import ranks
from active_convolution.training.trainer import train
from conftest import ROOT
from training_runs import MAX_ITER, WARMUP_ITER, column, rows, run_script, snapshot, write_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(shutil.which("mpirun") is None, reason="needs mpirun"),
]

IMAGES, ITERATIONS, BATCH = 1499, 30, 28
TIMEOUT = 300  # seconds, for what takes a few
MPIRUN = ("mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none")
QUIET = {"OMPI_MCA_btl": "self,vader", "OMPI_MCA_btl_vader_single_copy_mechanism": "none"}
HERE = f"on {re.escape(socket.gethostname())}"


@pytest.fixture(scope="module")
def odd_data(digits_data, tmp_path_factory):
    """The training digits less one: where the data ends, the ranks' parts change places. The
    sources are those of a solver."""
    folder = shutil.copytree(digits_data, tmp_path_factory.mktemp("odd") / "data")
    with lmdb.open(str(folder / "train_lmdb")) as opened, opened.begin(write=True) as transaction:
        with transaction.cursor() as cursor:
            assert cursor.last() and cursor.delete()
        assert transaction.stat()["entries"] == IMAGES
    return folder


def write_exact(folder, data, batch, iter_size=1, exact=True):
    """The tiny network on ``data``; ``exact``: without what differs between the ranks, BatchNorm
    and the random crop. Returns the folder."""
    write_model(folder, iter_size=iter_size)
    path = folder / "acu/train_val.prototxt"
    net = messages.read_net(path)
    net.layer[0].data_param.source, net.layer[1].data_param.source = (
        f"{data}/{split}_lmdb" for split in ("train", "test")
    )
    if exact:
        kept = [layer for layer in net.layer if layer.type != "BatchNorm"]
        del net.layer[:]
        net.layer.extend(kept)
        score = next(layer for layer in net.layer if layer.type == "InnerProduct")
        pool = type(score)(name="pool", type="Pooling", bottom=score.bottom, top=["pool"])
        pool.pooling_param.pool, pool.pooling_param.global_pooling = pool.pooling_param.AVE, True
        score.bottom[:] = ["pool"]
        net.layer.insert(list(net.layer).index(score), pool)
        for layer in net.layer:
            layer.transform_param.ClearField("crop_size")
        net.layer[0].data_param.batch_size = batch
    messages.write(path, net)
    return folder


def mpirun(*arguments, program=ROOT / "scripts/train.py", **environment):
    """Starts scripts/train.py in two processes as a user would; a Popen."""
    return subprocess.Popen(
        [*MPIRUN, "-n", "2", *map(str, (program, *arguments))],
        text=True,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **QUIET, "OMP_NUM_THREADS": "1", **environment},
    )


def finish(process):
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, stderr
    return stdout, stderr


def command(model, run, *more):
    return model, "--output", run, "--max-iter", ITERATIONS, *more


def train_alone(model, run, **options):
    assert train(model, "acu", output=run, max_iter=ITERATIONS, **options) == 0


def blobs(run, iteration=ITERATIONS):
    net = locate.caffe_pb2().NetParameter.FromString(snapshot(run, iteration).read_bytes())
    return [(layer.name, np.array(blob.data)) for layer in net.layer for blob in layer.blobs]


def assert_same_training(run, expected):
    """Weights, positions over the iterations, losses and test errors, to rounding."""
    assert len(blobs(run)) == len(blobs(expected))
    for (name, values), (_, wanted) in zip(blobs(run), blobs(expected)):
        near = 1e-5 * np.abs(wanted).max()
        np.testing.assert_allclose(values, wanted, rtol=1e-4, atol=near, err_msg=name)
    history, wanted = positions.load_run(run), positions.load_run(expected)
    assert history.iterations.tolist() == wanted.iterations.tolist()
    xy, wanted = history.positions("conv"), wanted.positions("conv")
    np.testing.assert_allclose(xy, wanted, atol=1e-5)
    assert np.hypot(*np.moveaxis(wanted[-1] - wanted[0], -1, 0)).max() > 0.005, "nothing has moved"
    for name in ("loss", "test_loss", "test_error"):
        values = [np.array(column(folder, name), float) for folder in (run, expected)]
        np.testing.assert_allclose(*values, rtol=2e-4, err_msg=name)


def forget_after(run, iteration):
    """Removes the later snapshots."""
    for path in (run / "snapshots").iterdir():
        if int(re.search(r"_iter_(\d+)\.", path.name)[1]) > iteration:
            path.unlink()


def test_two_ranks_follow_one_with_twice_the_batch(odd_data, tmp_path):
    """Beyond the end of the warm-up, and of the data."""
    assert WARMUP_ITER / MAX_ITER < 0.5 and 2 * BATCH * ITERATIONS > IMAGES
    train_alone(write_exact(tmp_path / "whole", odd_data, 2 * BATCH), tmp_path / "one")
    half = write_exact(tmp_path / "half", odd_data, BATCH)
    stdout, stderr = finish(mpirun(*command(half, tmp_path / "run")))
    assert stdout.count("\n") == 3
    assert re.match(rf"test error .* % after {ITERATIONS} iterations, \d+ s, in {tmp_path}", stdout)
    assert f"{ITERATIONS} iterations of {2 * BATCH} images over 2 ranks, 1.12 epochs" in stderr
    assert stderr.count("training digits_tiny_acu, ") == 1 and "images/s" in stderr
    assert_same_training(tmp_path / "run", tmp_path / "one")
    files = [{path.relative_to(run) for path in run.rglob("*")} for run in tmp_path.glob("[or]*n*")]
    assert files[0] == files[1]


@pytest.mark.quick
def test_two_ranks_go_on_together(odd_data, tmp_path):
    """With iter_size 2, and from a snapshot after the warm-up, which both ranks must take up."""
    one = write_exact(tmp_path / "tiny1", odd_data, 2 * BATCH, 2)
    two = write_exact(tmp_path / "tiny2", odd_data, BATCH, 2)
    for resume in (False, True):
        train_alone(one, tmp_path / "run1", resume=resume)
        _, stderr = finish(mpirun(*command(two, tmp_path / "run2", *["--resume"] * resume)))
        assert ("going on from iteration 14\n" in stderr) == resume
        assert_same_training(tmp_path / "run2", tmp_path / "run1")
        forget_after(tmp_path / "run1", 14)
        forget_after(tmp_path / "run2", 14)


def test_two_ranks_go_on_as_if_they_had_not_stopped(odd_data, tmp_path):
    """With random crops, and beyond the end of the data, whose number of images is odd: to the last
    bit."""
    model = write_exact(tmp_path / "tiny", odd_data, BATCH, exact=False)
    for resume in (False, True):
        finish(mpirun(*command(model, tmp_path / "run", *["--resume"] * resume)))
        if not resume:
            shutil.copytree(tmp_path / "run", tmp_path / "whole")
            forget_after(tmp_path / "run", 14)
    for (name, values), (_, wanted) in zip(blobs(tmp_path / "run"), blobs(tmp_path / "whole")):
        assert (values == wanted).all(), name
    found, wanted = (
        [{**row, "seconds": 0} for row in rows(tmp_path / name)] for name in ("run", "whole")
    )
    assert found == wanted


# ---- Stopped, and failing


def wait_for(pattern, folder, process):
    """Until a file in ``folder`` matches; the process must still be running then."""
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def open_mpi():
    """The major version of mpirun, 0 without it."""
    if shutil.which("mpirun") is None:
        return 0
    said = subprocess.run(["mpirun", "--version"], capture_output=True, text=True).stdout
    return int((re.match(r"mpirun \(Open MPI\) (\d+)", said) or [0, 0])[1])


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGUSR1])
def test_a_stop_of_mpirun_takes_a_snapshot(stop, tiny, digits_data, tmp_path):
    if stop == signal.SIGINT and open_mpi() >= 5:
        pytest.skip("Open MPI 5 kills a quarter of a second after Ctrl-C")
    length = "--data", digits_data, "--max-iter", "100000"
    environment = {"OMPI_MCA_odls_base_sigkill_timeout": "5"}
    process = mpirun(tiny, "--output", tmp_path / "run", *length, **environment)
    wait_for("metrics.csv", tmp_path / "run", process)
    process.send_signal(stop)
    _, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode != 0 and "Traceback" not in stderr
    (iteration,) = re.findall(r"stopped at iteration (\d+): go on with\n", stderr)
    assert 0 < int(iteration) < 100000
    assert column(tmp_path / "run", "iteration")[-1] == int(iteration)
    assert blobs(tmp_path / "run", iteration)


def training_process(marker):
    """The process of rank 1 that trains, of the mpirun with this MARKER in its environment: the
    child of the one that mpirun started."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environment = (folder / "environ").read_bytes().split(b"\0")
            if {f"MARKER={marker}".encode(), b"OMPI_COMM_WORLD_RANK=1"} <= set(environment):
                stat = (folder / "stat").read_text()
                found[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    (child,) = [process for process, parent in found.items() if parent in found]
    return child


def test_a_rank_that_dies_ends_the_run_and_is_named(digits_data, tmp_path, capfd):
    """And what it has left is whole."""
    run, model = tmp_path / "run", write_model(tmp_path / "tiny", snapshot=8)
    process = mpirun(model, "--data", digits_data, "--output", run, MARKER=str(tmp_path))
    wait_for("snapshots/*.solverstate", run, process)
    os.kill(training_process(tmp_path), signal.SIGKILL)
    _, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode != 0
    (error,) = re.findall("error: .*", stderr)
    assert re.match(f"error: rank 1 {HERE}: ", error)
    states = (run / "snapshots").glob("*.solverstate")
    with open(run / "train.log") as log:
        fcntl.flock(log, fcntl.LOCK_EX)  # waits for the other rank's end
    at = "|".join(re.search(r"\d+", path.name)[0] for path in states)
    assert train(model, "acu", digits_data, run, resume=True) == 0
    assert re.search(rf"going on from iteration ({at})\n", capfd.readouterr().err)


@pytest.mark.parametrize(
    "spoilt, expected",
    [
        ('exec env ACTIVE_CONVOLUTION_BUILD=/nowhere PYTHONPATH= "$@"', "cannot import caffe .*"),
        ('exec "$@" --gpu 0,1', ".*: Caffe: Cannot use GPU in CPU-only Caffe: check mode."),
    ],
)
def test_a_rank_that_cannot_begin_is_named(tiny, digits_data, tmp_path, spoilt, expected):
    script = f'[ "$OMPI_COMM_WORLD_RANK" = 1 ] || exec "$@"; {spoilt}'
    train_py = ROOT / "scripts/train.py"
    options = tiny, "--data", digits_data, "--output", tmp_path / "run"
    process = mpirun("-c", script, "sh", train_py, *options, program="sh")
    _, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode != 0
    (error,) = re.findall("error: .*", stderr)
    assert re.match(f"error: rank 1 {HERE}: {expected}", error), error


def test_what_rank_0_refuses_is_said_once(tiny, digits_data, tmp_path):
    """And by rank 0, which alone looks at the options and the folder."""
    options = "--data", tmp_path / "nowhere", "--output", tmp_path / "run"
    _, stderr = mpirun(tiny, *options).communicate(timeout=TIMEOUT)
    said = re.findall("^error: .*$|Traceback|interrupted", stderr, re.MULTILINE)
    assert len(said) == 1 and "nowhere is not a data set" in said[0]


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, (0, 1)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "3"}, (1, 3)),
        ({"PMI_RANK": "2", "PMI_SIZE": "4"}, (2, 4)),
        ({"PMI_RANK": "2"}, (0, 1)),
    ],
)
def test_how_mpirun_is_recognised(environment, expected, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ranks.under_mpirun() == expected


def test_an_mpirun_of_another_mpi_is_told_apart(tiny, digits_data, tmp_path, monkeypatch):
    for name, value in {"PMI_RANK": "0", "PMI_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    options = "--data", digits_data, "--output", tmp_path / "run"
    status, _, stderr = run_script(tiny, *options)
    assert status == 1 and "mpirun started 2 processes, and the MPI of mpi4py sees 1: " in stderr


def test_more_ranks_than_gpus_are_refused():
    worker = SimpleNamespace(ranks=SimpleNamespace(local_rank=2))
    with pytest.raises(UserError, match="--gpu names 2 GPUs for more ranks here"):
        ranks.Worker._use(worker, [0, 1])
