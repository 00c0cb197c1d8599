"""Bad input to the training: one line that names the thing, and nothing left behind."""

import os
import re
import resource
import shutil

import lmdb
import pytest
from active_convolution.caffe import locate
from active_convolution.errors import UserError
from active_convolution.training.trainer import train
from conftest import ROOT, skip_in_a_gpu_build
from limits import at_once
from training_runs import run_script, train_script


@pytest.fixture
def model(tiny, tmp_path):
    """A copy of the tiny network that may be spoilt."""
    return shutil.copytree(tiny, tmp_path / "tiny")


def assert_refused(tmp_path, expected, *arguments, **options):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as refusal:
        train(*arguments, **options)
    message = str(refusal.value)
    assert re.search(expected, message), message
    assert "\n" not in message
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "options, expected",
    [
        (dict(model="nowhere"), "no folder nowhere/acu: .*models/digits/plain .*baseline, acu"),
        (dict(variant="other"), "no folder .*/other: .*baseline, acu"),
        (dict(data="nowhere"), "nowhere is no data set.*acu data"),
        (
            dict(model=ROOT / "models/cifar10/plain"),
            "layer data of .* crops images to 32×32, and those in .* are 1×10×10: give the --data that fits it",
        ),
        (dict(max_iter=0), "--max-iter 0 is out of range"),
        (dict(max_iter=-3), "--max-iter -3 is out of range"),
        (dict(max_iter=2**31), "--max-iter 2147483648 is out of range"),
        (dict(seed=-1), "--seed -1 is out of range"),
        (dict(seed=2**32), "--seed 4294967296 is out of range"),
    ],
)
def test_bad_options(tiny, digits_data, tmp_path, options, expected):
    arguments = dict(
        model=tiny, variant="acu", data=digits_data, output=tmp_path / "run", max_iter=1
    )
    assert_refused(tmp_path, expected, **{**arguments, **options})


def edit(name, old, new):
    """A function that replaces text in one of the model's files."""

    def spoil(folder):
        path = folder / "acu" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return spoil


@pytest.mark.parametrize(
    "spoil, expected",
    [
        (
            edit("solver.prototxt", "base_lr", "base_rate"),
            'solver.prototxt .*field.* "?base_rate"?',
        ),
        (edit("train_val.prototxt", "}", ""), "train_val.prototxt has the field .* in line "),
        (edit("deploy.prototxt", "}", ""), "deploy.prototxt has the field .* in line "),
        (
            lambda folder: (folder / "acu/train_val.prototxt").write_bytes(b"\xff\xfe"),
            "train_val.prototxt is no valid prototxt of a network: 1:1 ",
        ),
        (
            edit("solver.prototxt", "max_iter: 240", ""),
            "does not say how long to train: give its solver.prototxt max_iter",
        ),
        (
            edit("solver.prototxt", "max_iter", "iter_size: 0 max_iter"),
            "acu has iter_size 0: give the number of passes",
        ),
        (
            edit("solver.prototxt", "max_iter", "train_state { phase: TEST } max_iter"),
            "acu has a phase in train_state, .*: leave it out",
        ),
        (
            edit("train_val.prototxt", 'name: "digits_tiny_acu"', "state { phase: TRAIN }"),
            "has a phase in the network's state",
        ),
        (
            edit("train_val.prototxt", "phase: TRAIN", 'phase: TRAIN stage: "none"'),
            "has 0 layers of .* for training",
        ),
        (
            edit("train_val.prototxt", "backend: LMDB", "backend: LMDB prefetch: 0"),
            "layer data of .* has prefetch 0, and would wait",
        ),
        (
            edit("train_val.prototxt", "batch_size: 64", "batch_size: 0"),
            "layer data of .* has batch_size 0: give the number of images",
        ),
        (
            edit(
                "train_val.prototxt",
                'layer {\n  name: "conv"',
                'layer { name: "py" type: "Python" bottom: "data" top: "x" python_param '
                '{ module: "json" layer: "Nothing" } } layer {\n  name: "conv"',
            ),
            "layer py of .* is a Python layer, and its class json.Nothing cannot be imported .Attribute.*: put its folder on PYTHONPATH",
        ),
        (
            edit("train_val.prototxt", "num_output: 10", "num_output: 7"),
            "layer score of .* has 7 outputs, and .* has 10 classes: give --classes 10, or the --data that fits it",
        ),
    ],
)
def test_bad_models(model, digits_data, tmp_path, spoil, expected):
    spoil(model)
    assert_refused(tmp_path, expected, model, "acu", digits_data, tmp_path / "run")


@pytest.mark.parametrize("length", ["", "max_iter: -3"])
def test_no_length_can_be_shortened(model, digits_data, tmp_path, length):
    edit("solver.prototxt", "max_iter: 240", length)(model)
    assert_refused(
        tmp_path,
        "does not say how long to train",
        model,
        "acu",
        digits_data,
        tmp_path / "run",
        max_iter=4,
    )


def test_a_phase_that_every_test_replaces_is_taken(model, digits_data, tmp_path):
    edit("train_val.prototxt", 'name: "digits_tiny_acu"', "state { phase: TRAIN }")(model)
    edit("solver.prototxt", "max_iter", "test_state { phase: TEST } max_iter")(model)
    assert train(model, "acu", digits_data, tmp_path / "run", max_iter=1) == 0


def test_an_output_that_cannot_be_written(tiny, digits_data, tmp_path):
    (tmp_path / "text").write_text("no folder\n")
    for output in ("text", "text/run"):
        assert_refused(
            tmp_path, f"cannot write .*/{output}: ", tiny, "acu", digits_data, tmp_path / output
        )


def test_a_gpu_that_this_build_cannot_use(tiny, digits_data, tmp_path):
    skip_in_a_gpu_build()
    assert_refused(
        tmp_path,
        r"cannot use GPU 0 \(Cannot use GPU in CPU-only Caffe: check mode.\): build with "
        r"./scripts/build.sh --gpu.*leave --gpu out",
        tiny,
        "acu",
        digits_data,
        tmp_path / "run",
        gpu=0,
    )


@pytest.mark.parametrize(
    "arguments, status, expected",
    [
        (["--variant", "third"], 2, "--variant: invalid choice: third (choose from baseline, acu)"),
        (["--variant", "acu", "--max-iter", "0"], 2, "error: --max-iter 0 is out of range"),
    ],
)
def test_script_refuses(tiny, digits_data, tmp_path, arguments, status, expected):
    result = run_script(tiny, "--data", digits_data, "--output", tmp_path / "run", *arguments)
    assert result[:2] == (status, "")
    assert expected in result[2].splitlines()[-1].replace(
        "'", ""
    )  # which Python 3.12 sets otherwise
    assert "Traceback" not in result[2]
    assert not any(tmp_path.iterdir())


def test_script_explains_itself():
    status, stdout, _ = run_script("--help")
    assert status == 0 and "examples:" in stdout and "--resume" in stdout


def test_a_failure_inside_caffe_has_its_own_words(model, digits_data, tmp_path):
    edit("train_val.prototxt", "kernel_size: 3", "kernel_size: 3 group: 3")(model)
    run = tmp_path / "run"
    status, stdout, stderr = run_script(
        model, "--variant", "acu", "--data", digits_data, "--output", run
    )
    assert (status, stdout) == (1, "")
    assert re.fullmatch(
        r"error: Caffe ended the training: .*Layer 'conv' .*convolution_param.group is 3; allowed: .* "
        rf"\(the log: {run}/train.log\)\n",
        stderr,
    ), stderr
    assert "convolution_param.group is 3" in (run / "train.log").read_text()


def test_two_layers_of_one_name_that_learn(model, digits_data, tmp_path):
    edit(
        "train_val.prototxt",
        'layer {\n  name: "conv"',
        'layer { name: "conv" type: "Scale" bottom: "data" top: "x" } layer {\n  name: "conv"',
    )(model)
    assert run_script(
        model, "--variant", "acu", "--data", digits_data, "--output", tmp_path / "run"
    ) == (
        1,
        "",
        "error: the network has two layers called conv that learn, and would lose one's weights: rename one\n",
    )


def test_an_exception_of_caffes_libraries_has_a_line(model, tmp_path):
    """Datum that are encoded and empty: OpenCV throws."""
    for split in ("train", "test"):
        with lmdb.open(str(tmp_path / split)) as opened, opened.begin(write=True) as transaction:
            transaction.put(b"0", locate.caffe_pb2().Datum(encoded=True).SerializeToString())
        edit("train_val.prototxt", f"data/digits/{split}_lmdb", str(tmp_path / split))(model)
    status, _, stderr = run_script(
        model, "--variant", "acu", "--output", tmp_path / "run", "--max-iter", 2
    )
    assert status == 1 and re.search(
        "(?m)^error: Caffe ended the training: .*imdecode.*$", stderr
    ), stderr


def test_an_output_that_is_a_circle_of_links(tiny, digits_data, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert_refused(tmp_path, "cannot write .*loop", tiny, "acu", digits_data, tmp_path / "loop")


def test_a_failure_beside_a_progress_bar_has_a_line_of_its_own(model, digits_data, tmp_path):
    run = tmp_path / "run"
    (run / "snapshots").mkdir(parents=True)
    (run / "snapshots/digits_tiny_acu_iter_2.caffemodel").symlink_to("/dev/full")
    status, stdout, stderr = run_script(
        model, "--variant", "acu", "--data", digits_data, "--output", run, "--max-iter", 2
    )
    assert (status, stdout) == (1, "")
    assert re.fullmatch(
        "error: Caffe ended the training: .*the disk may be full.*", stderr.split("\n")[-2]
    ), stderr


def test_so_has_one_where_not_even_the_log_can_be_written(model, digits_data, tmp_path):
    """Files of 5,000 bytes at most: the log ends before the training begins, and Caffe at its first snapshot."""
    status, stdout, stderr = run_script(
        model,
        "--variant",
        "acu",
        "--data",
        digits_data,
        "--output",
        tmp_path / "run",
        "--max-iter",
        2,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
    )
    assert (status, stdout) == (1, "") and (tmp_path / "run/train.log").stat().st_size == 5000
    assert re.fullmatch("error: Caffe ended the training: .*", stderr.split("\n")[-2]), stderr


def test_a_pipe_in_the_place_of_a_snapshot(model, digits_data, tmp_path):
    snapshot = tmp_path / "run/snapshots/digits_tiny_acu_iter_2.solverstate"
    snapshot.parent.mkdir(parents=True)
    os.mkfifo(snapshot)
    arguments = (
        model,
        "--variant",
        "acu",
        "--data",
        digits_data,
        "--output",
        tmp_path / "run",
        "--max-iter",
        2,
    )
    status, _, stderr = run_script(*arguments)
    assert (
        status == 1
        and f"error: {snapshot} is a pipe, where a snapshot is to be written: remove it\n" in stderr
    ), stderr
    snapshot.unlink()
    assert run_script(*arguments)[0] == 0


# ---- What is no file where one is read


def to_a_pipe(name, old, new):
    """A function that makes a pipe beside the model, and lets one of its files name it."""

    def spoil(folder):
        os.mkfifo(folder / "pipe")
        edit(name, old, new.format(folder / "pipe"))(folder)

    return spoil


WINDOWS = 'layer {{ name: "windows" type: "WindowData" top: "x" top: "y" window_data_param {{ source: "{}" }} }} '


HDF5 = (
    'layer {{ name: "hdf5" type: "HDF5Data" top: "x" hdf5_data_param {{ batch_size: 1 source: "{}" }} '
    'include {{ phase: TRAIN stage: "never" }} }} '
)


def in_a_list(folder):
    os.mkfifo(folder / "pipe")
    (folder / "list.txt").write_text(f"{folder}/pipe\n")
    edit(
        "train_val.prototxt",
        'layer {\n  name: "conv"',
        HDF5.format(folder / "list.txt") + 'layer {\n  name: "conv"',
    )(folder)


@pytest.mark.parametrize(
    "spoil",
    [
        in_a_list,
        to_a_pipe("train_val.prototxt", "crop_size", 'mean_file: "{}" crop_size'),
        to_a_pipe(
            "train_val.prototxt", 'layer {\n  name: "conv"', WINDOWS + 'layer {{\n  name: "conv"'
        ),
    ],
)
def test_a_pipe_for_caffe(model, digits_data, tmp_path, spoil):
    spoil(model)
    with at_once():
        assert_refused(
            tmp_path,
            "^layer .* of .* reads .*/pipe is no regular file: give",
            model,
            "acu",
            digits_data,
            tmp_path / "run",
        )


def test_a_pipe_for_a_log_or_for_weights(model, digits_data, tmp_path):
    run, command = (
        tmp_path / "run",
        (model, "--variant", "acu", "--data", digits_data, "--output", tmp_path / "run"),
    )
    run.mkdir()
    os.mkfifo(run / "train.log")
    assert run_script(*command) == (
        1,
        "",
        f"error: cannot write {run}/train.log: No such device or address\n",
    )
    (run / "train.log").unlink()
    assert run_script(*command, "--max-iter", 2)[0] == 0
    os.mkfifo(run / "weights.json")
    assert run_script("--resume", "--output", run) == (
        1,
        "",
        f"error: {run}/weights.json is no regular file: give the path of one\n",
    )


# ---- A start that failed, and two at once


@pytest.mark.slow
def test_a_start_that_failed_blocks_nothing(model, digits_data, tmp_path):
    """Neither the command that is mended nor the same with --resume, and nothing of the failed one is left."""
    run, command = (
        tmp_path / "run",
        (model, "--variant", "acu", "--data", digits_data, "--output", tmp_path / "run"),
    )
    edit("train_val.prototxt", "kernel_size: 3", "kernel_size: 3 group: 3")(model)
    assert run_script(*command, "--max-iter", 2)[0] == 1
    assert run_script(*command, "--max-iter", 3)[0] == 1, "still wrong"
    edit("train_val.prototxt", "kernel_size: 3 group: 3", "kernel_size: 3")(model)
    status, stdout, stderr = run_script(*command, "--max-iter", 2, "--resume")
    assert status == 0, stderr
    assert (
        "after 2 iterations" in stdout and "group" not in (run / "train_val.prototxt").read_text()
    )
    assert run_script(*command, "--max-iter", 2)[2] == (
        f"error: {run} holds a run already: go on with --resume, or name another --output\n"
    )


@pytest.mark.slow
def test_of_two_starts_at_once_one_trains_and_the_other_changes_nothing(
    model, digits_data, tmp_path
):
    run = tmp_path / "run"
    command = model, "--variant", "acu", "--data", digits_data, "--output", run
    both = [train_script(*command, "--max-iter", 200, "--seed", seed) for seed in (1, 2)]
    ended = [(process.communicate(timeout=300)[1], process.returncode) for process in both]
    assert sorted(status for _, status in ended) == [0, 1]
    winner = [status for _, status in ended].index(0)
    assert re.search("another process is training into|holds a run already", ended[1 - winner][0])
    assert f"random_seed: {winner + 1}\n" in (run / "solver.prototxt").read_text()
    assert "Traceback" not in ended[1 - winner][0]
