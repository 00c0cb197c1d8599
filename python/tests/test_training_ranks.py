"""Several processes that train one network: over MPI, and over NCCL with a stand-in for what needs GPUs."""

import contextlib
import json
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
from active_convolution.data.manifest import database_path, source_bytes
from active_convolution.errors import UserError
from active_convolution.training import launch, ranks
from active_convolution.training.metrics import Metrics
from active_convolution.training.trainer import Worker, train
from conftest import ROOT, skip_in_a_gpu_build
from training_runs import MAX_ITER, WARMUP_ITER, run_script, train_script, write_model

pytestmark = pytest.mark.slow

IMAGES = 1499
ITERATIONS, BATCH = 30, 28
TIMEOUT = 300  # seconds, for what takes a few
MPIRUN = ("mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none")
QUIET = {"OMPI_MCA_btl": "self,vader", "OMPI_MCA_btl_vader_single_copy_mechanism": "none"}
HERE = f"on {re.escape(socket.gethostname())}: "


@pytest.fixture(scope="module")
def odd_data(digits_data, tmp_path_factory):
    """The digits less one: where the training data ends, the ranks' parts change places."""
    folder = shutil.copytree(digits_data, tmp_path_factory.mktemp("odd") / "data")
    with (
        lmdb.open(str(folder / "train_lmdb")) as environment,
        environment.begin(write=True) as transaction,
    ):
        with transaction.cursor() as cursor:
            assert cursor.last() and cursor.delete()
        assert transaction.stat()["entries"] == IMAGES
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["train"]["bytes"] = source_bytes(database_path(folder, "train"), "LMDB")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def write_exact(folder, batch, iter_size=1):
    """The tiny network without what differs between the ranks: BatchNorm, and the random crop. Returns the folder."""
    write_model(folder, iter_size=iter_size)
    for name in ("train_val", "deploy"):
        path = folder / "acu" / f"{name}.prototxt"
        net = messages.read_net(path)
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
        messages.write(path, net)
    return folder


def mpirun(*arguments, **environment):
    """Starts scripts/train.py in two processes as a user would; a Popen."""
    return start("-n", 2, ROOT / "scripts/train.py", *arguments, **environment)


def start(*arguments, **environment):
    """Starts mpirun; a Popen."""
    return subprocess.Popen(
        [*MPIRUN, *map(str, arguments)],
        text=True,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **QUIET, "OMP_NUM_THREADS": "1", **environment},
    )


def finish(process, status=0):
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode == status, stderr
    return stdout, stderr


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """More threads add up numbers in another order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


def command(model, data, run, *more):
    return (
        model,
        "--variant",
        "acu",
        "--data",
        data,
        "--output",
        run,
        "--max-iter",
        ITERATIONS,
        *more,
    )


def train_alone(model, data, run, **options):
    assert train(model, "acu", data, run, max_iter=ITERATIONS, **options) == 0


def blobs(run, iteration=ITERATIONS):
    net = locate.caffe_pb2().NetParameter()
    net.ParseFromString(
        (run / f"snapshots/digits_tiny_acu_iter_{iteration}.caffemodel").read_bytes()
    )
    return [(layer.name, np.array(blob.data)) for layer in net.layer for blob in layer.blobs]


def assert_same_training(run, expected):
    """Weights, positions over the iterations, losses and test errors, to rounding."""
    for (name, values), (_, wanted) in zip(blobs(run), blobs(expected), strict=True):
        np.testing.assert_allclose(
            values, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max(), err_msg=name
        )
    history, wanted = positions.load_run(run), positions.load_run(expected)
    assert history.iterations.tolist() == wanted.iterations.tolist()
    xy, wanted = history.positions("conv"), wanted.positions("conv")
    np.testing.assert_allclose(xy, wanted, atol=1e-5)
    assert np.hypot(*np.moveaxis(wanted[-1] - wanted[0], -1, 0)).max() > 0.005, "nothing has moved"
    for name in ("loss", "test_loss", "test_error"):
        values = [
            [row[name] for row in Metrics.load(folder / "metrics.csv").rows]
            for folder in (run, expected)
        ]
        np.testing.assert_allclose(
            *[np.array(column, float) for column in values], rtol=2e-4, err_msg=name
        )


def forget_after(run, iteration):
    """Removes the later snapshots."""
    for path in (run / "snapshots").iterdir():
        if int(re.search(r"_iter_(\d+)\.", path.name)[1]) > iteration:
            path.unlink()


@pytest.fixture(scope="module")
def one_rank(odd_data, tmp_path_factory):
    """The run of one process at twice the batch."""
    folder = tmp_path_factory.mktemp("one")
    train_alone(write_exact(folder / "tiny", 2 * BATCH), odd_data, folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """The model that two processes train in the same way."""
    return write_exact(tmp_path_factory.mktemp("half") / "tiny", BATCH)


def test_two_ranks_follow_one_with_twice_the_batch(one_rank, half, odd_data, tmp_path):
    """Beyond the end of the warm-up, and of the data."""
    assert WARMUP_ITER / MAX_ITER < 0.5 and 2 * BATCH * ITERATIONS > IMAGES
    stdout, stderr = finish(mpirun(*command(half, odd_data, tmp_path / "run")))
    assert re.fullmatch(
        rf"test error .* % after {ITERATIONS} iterations, \d+ s, in {tmp_path}/run\n", stdout
    )
    assert (
        stderr.startswith(f"2 ranks, together {2 * BATCH} images per iteration\n")
        and "images/s" in stderr
    )
    assert_same_training(tmp_path / "run", one_rank)
    files = [
        {path.relative_to(run) for path in run.rglob("*")} for run in (tmp_path / "run", one_rank)
    ]
    assert files[0] == files[1]


@pytest.mark.quick
def test_two_ranks_go_on_together(odd_data, tmp_path):
    """With iter_size 2, and from a snapshot after the warm-up, which both ranks must take up."""
    one, two = (
        write_exact(tmp_path / "tiny1", 2 * BATCH, 2),
        write_exact(tmp_path / "tiny2", BATCH, 2),
    )
    for resume in (False, True):
        train_alone(one, odd_data, tmp_path / "run1", resume=resume)
        _, stderr = finish(
            mpirun(*command(two, odd_data, tmp_path / "run2", *["--resume"] * resume))
        )
        assert ("going on from iteration 14\n" in stderr) == resume
        assert_same_training(tmp_path / "run2", tmp_path / "run1")
        forget_after(tmp_path / "run1", 14)
        forget_after(tmp_path / "run2", 14)


def test_two_ranks_go_on_as_if_they_had_not_stopped(tiny, odd_data, tmp_path):
    """With random crops, and beyond the end of the data, whose number of images is odd."""
    for resume in (False, True):
        finish(mpirun(*command(tiny, odd_data, tmp_path / "run", *["--resume"] * resume)))
        if not resume:
            shutil.copytree(tmp_path / "run", tmp_path / "whole")
            forget_after(tmp_path / "run", 14)
    for (name, values), (_, wanted) in zip(
        blobs(tmp_path / "run"), blobs(tmp_path / "whole"), strict=True
    ):
        assert (values == wanted).all(), name
    rows, wanted = (
        [{**row, "seconds": 0} for row in Metrics.load(tmp_path / name / "metrics.csv").rows]
        for name in ("run", "whole")
    )
    assert rows == wanted


def wait_for(pattern, folder, process):
    """Until a file in ``folder`` matches; the process must still be running then."""
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def open_mpi():
    """The major version of mpirun."""
    said = subprocess.run(["mpirun", "--version"], capture_output=True, text=True).stdout
    return int(re.match(r"mpirun \(Open MPI\) (\d+)", said)[1])


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(
            signal.SIGINT,
            marks=pytest.mark.skipif(
                shutil.which("mpirun") is not None and open_mpi() >= 5,
                reason="Open MPI 5 kills a quarter of a second after Ctrl-C",
            ),
        ),
        signal.SIGUSR1,
    ],
)
def test_a_stop_of_mpirun_takes_a_snapshot(stop, tiny, digits_data, tmp_path):
    process = mpirun(
        tiny,
        "--variant",
        "acu",
        "--data",
        digits_data,
        "--output",
        tmp_path / "run",
        "--max-iter",
        "100000",
        OMPI_MCA_odls_base_sigkill_timeout="5",
    )
    wait_for("metrics.csv", tmp_path / "run", process)
    process.send_signal(stop)
    _, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode != 0 and "Traceback" not in stderr
    (iteration,) = re.findall(r"\nstopped at iteration (\d+): go on with --resume\n", stderr)
    assert 0 < int(iteration) < 100000
    assert Metrics.load(tmp_path / "run/metrics.csv").rows[-1]["iteration"] == int(iteration)
    assert blobs(tmp_path / "run", iteration)


def training_process(marker):
    """The process of rank 1 that trains, of the mpirun with this MARKER in its environment."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environment = (folder / "environ").read_bytes().split(b"\0")
            if {f"MARKER={marker}".encode(), b"OMPI_COMM_WORLD_RANK=1"} <= set(environment):
                if b"active_convolution.training" in (folder / "cmdline").read_bytes():
                    return int(folder.name)
    raise AssertionError("no such process")


def test_a_rank_that_dies_ends_the_run_and_is_named(digits_data, tmp_path, capfd):
    """And what it has left is whole."""
    run, model = tmp_path / "run", write_model(tmp_path / "tiny", snapshot=8)
    process = mpirun(*command(model, digits_data, run)[:-2], MARKER=str(tmp_path))
    wait_for("snapshots/*.solverstate", run, process)
    os.kill(training_process(tmp_path), signal.SIGKILL)
    _, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode != 0
    (error,) = re.findall("error: .*", stderr)
    assert re.fullmatch(f"error: rank 1 {HERE}Caffe ended the training: SIGKILL", error)
    snapshots = [
        int(re.search(r"\d+", path.name)[0]) for path in (run / "snapshots").glob("*.solverstate")
    ]
    assert train(model, "acu", digits_data, run, resume=True) == 0
    assert re.search(
        rf"going on from iteration ({'|'.join(map(str, snapshots))})\n", capfd.readouterr().err
    )


@pytest.mark.parametrize(
    "spoilt, expected",
    [
        ('exec env ACTIVE_CONVOLUTION_BUILD=/nowhere PYTHONPATH= "$@"', "cannot import caffe .*"),
        (
            'exec "$@" --gpu 0,1',
            "Caffe ended the training: Cannot use GPU in CPU-only Caffe: check mode.",
        ),
    ],
)
def test_a_rank_that_cannot_begin_is_named(tiny, digits_data, tmp_path, spoilt, expected):
    """One command for both ranks: the mpirun of Open MPI 5.0.7 dies of two with a colon between them."""
    if "--gpu" in spoilt:
        skip_in_a_gpu_build()
    process = start(
        "-n",
        2,
        "sh",
        "-c",
        f'[ "$OMPI_COMM_WORLD_RANK" = 1 ] || exec "$@"; {spoilt}',
        "sh",
        ROOT / "scripts/train.py",
        tiny,
        "--variant",
        "acu",
        "--data",
        digits_data,
        "--output",
        tmp_path / "run",
    )
    _, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode != 0
    (error,) = re.findall("error: .*", stderr)
    assert re.match(f"error: rank 1 {HERE}{expected}", error)


def test_what_rank_0_refuses_is_said_once(tiny, digits_data, tmp_path):
    """And by rank 0, which alone looks at the options and the folder."""
    (tmp_path / "run").mkdir()
    for name in ("solver.prototxt", "metrics.csv"):
        (tmp_path / "run" / name).write_text("")
    _, stderr = mpirun(*command(tiny, digits_data, tmp_path / "run")).communicate(timeout=TIMEOUT)
    assert re.findall("^error: .*$|Traceback|interrupted", stderr, re.MULTILINE) == [
        f"error: {tmp_path}/run holds a run already: go on with --resume, or name another --output"
    ]


# ---- Several GPUs


@pytest.fixture
def gpus(tmp_path, monkeypatch):
    """See fake_nccl/."""
    (tmp_path / "exchange").mkdir()
    monkeypatch.setenv("FAKE_NCCL", str(tmp_path / "exchange"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "python/tests/fake_nccl"), prepend=os.pathsep)
    monkeypatch.setattr(locate.caffe(), "has_nccl", lambda: True)


def test_two_gpus_follow_one_process_with_twice_the_batch(gpus, one_rank, half, odd_data, tmp_path):
    train_alone(half, odd_data, tmp_path / "run", gpu=[0, 1])
    assert_same_training(tmp_path / "run", one_rank)


def test_a_gpus_process_that_dies_ends_the_run_and_is_named(
    gpus, half, odd_data, tmp_path, monkeypatch
):
    monkeypatch.setenv("FAKE_NCCL_DIES", "1")
    with pytest.raises(UserError, match=f"^rank 1 {HERE}Caffe ended the training: SIGKILL$"):
        train_alone(half, odd_data, tmp_path / "run", gpu=[0, 1])


def test_gpus_that_stop_stop_together(gpus, half, odd_data, tmp_path):
    run = tmp_path / "run"
    process = train_script(
        half, "--variant", "acu", "--data", odd_data, "--output", run, "--gpu", "0,1"
    )
    wait_for("metrics.csv", run, process)
    process.send_signal(signal.SIGUSR1)
    _, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
    (iteration,) = re.findall(r"\nstopped at iteration (\d+): go on with --resume\n$", stderr)
    assert blobs(run, iteration)


def test_a_build_without_nccl_is_told_apart(monkeypatch):
    monkeypatch.setattr(launch, "check_gpu", lambda gpu: None)
    monkeypatch.setattr(locate.caffe(), "has_nccl", lambda: False)
    launch.check([3])
    with pytest.raises(
        UserError,
        match="no NCCL, over which several GPUs train: build it with ./scripts/build.sh --gpu --nccl",
    ):
        launch.check([0, 1])
    with pytest.raises(UserError, match="--gpu 1,0,1 names a GPU twice"):
        launch.check([1, 0, 1])


@pytest.mark.parametrize("text", ["0,", "-1"])
def test_what_is_no_list_of_gpus_is_refused(tiny, digits_data, tmp_path, text):
    status, _, stderr = run_script(*command(tiny, digits_data, tmp_path / "run", f"--gpu={text}"))
    assert (
        status == 2
        and f"error: --gpu {text} is no list of device numbers such as 0 or 0,1,2,3 (" in stderr
    )


# ---- Which ranks there are


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, (0, 1)),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3"}, (2, 3)),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, (1, 2)),
        ({"PMI_RANK": "1"}, (0, 1)),
    ],
)
def test_mpirun_is_noticed(monkeypatch, environment, expected):
    for name in sum(ranks._MPIRUNS, ()):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ranks.under_mpirun() == expected


def test_another_mpis_mpirun_is_refused(tiny, digits_data, tmp_path, monkeypatch):
    """MPICH's, for an mpi4py that was built with Open MPI."""
    for name, value in {"PMI_RANK": "0", "PMI_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    status, _, stderr = run_script(*command(tiny, digits_data, tmp_path / "run"))
    assert status == 1
    assert re.fullmatch(
        f"error: rank 0 {HERE}mpirun started 2 processes, and the MPI of mpi4py sees 1: .*\n",
        stderr,
    )


def test_more_ranks_than_gpus_are_refused():
    worker = SimpleNamespace(ranks=SimpleNamespace(local_rank=2))
    with pytest.raises(
        UserError, match="--gpu names 2 of this machine's GPUs, and more ranks than that run on it"
    ):
        Worker._use(worker, [0, 1])
