"""Mistakes that people make with acu train: one line that names the thing, before anything is
left."""

import re
import shutil

import pytest
from active_convolution.caffe import locate
from active_convolution.errors import UserError
from active_convolution.training.trainer import train
from conftest import skip_in_a_gpu_build
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
        (dict(model="nowhere"), "no folder nowhere.*: give .*acu models list"),
        (dict(variant="other"), "no folder .*/other: .*baseline, acu"),
        (dict(data="nowhere"), "nowhere is not a data set.*acu data"),
        (
            dict(model="cifar10/plain"),
            "layer data of .* crops images to 32×32, and those in .* 1×10×10",
        ),
        (dict(gpu=[0, 1]), "names 2 GPUs for one process: start one for each with mpirun -n 2"),
        (dict(weights="nowhere.caffemodel"), "cannot read nowhere.caffemodel"),
    ],
)
def test_bad_options(tiny, digits_data, tmp_path, options, expected):
    given = dict(model=tiny, variant="acu", data=digits_data, output=tmp_path / "run", max_iter=1)
    assert_refused(tmp_path, expected, **{**given, **options})


def test_a_network_of_ones_own_is_not_overwritten(model, digits_data, tmp_path):
    assert_refused(
        tmp_path,
        "holds a network of its own: name another --output",
        *(model / "acu", None, digits_data, model / "acu"),
        max_iter=1,
    )


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
        (edit("solver.prototxt", "base_lr", "base_rate"), "solver.prototxt .*field.*base_rate"),
        (edit("train_val.prototxt", "}", ""), "train_val.prototxt has the field .* in line "),
        (edit("deploy.prototxt", "}", ""), "deploy.prototxt has the field .* in line "),
        (edit("solver.prototxt", "max_iter: 240", ""), "does not say how long to train: give"),
        (
            edit("train_val.prototxt", "phase: TEST", 'phase: TEST stage: "none"'),
            r"no layer of .* gives data in the phase TEST, which layer conv reads: give one with "
            r"include \{ phase: TEST \}, or take test_iter out",
        ),
        (
            edit("train_val.prototxt", "num_output: 10", "num_output: 7"),
            "layer score of .* has 7 outputs, and .* has 10 classes: give --classes 10",
        ),
    ],
)
def test_bad_models(model, digits_data, tmp_path, spoil, expected):
    spoil(model)
    assert_refused(tmp_path, expected, model, "acu", digits_data, tmp_path / "run")


def test_an_output_that_cannot_be_written(tiny, digits_data, tmp_path):
    (tmp_path / "text").write_text("no folder\n")
    (tmp_path / "loop").symlink_to("loop")
    for output in ("text", "text/run", "loop"):
        expected = f"cannot write .*/{output}: "
        assert_refused(tmp_path, expected, tiny, "acu", digits_data, tmp_path / output)


@pytest.mark.parametrize(
    "arguments, status, expected",
    [
        (["--variant", "third"], 2, "--variant: invalid choice: third (choose from baseline, acu)"),
        (["--max-iter", "0"], 2, "error: --max-iter 0 is out of range"),
        (["--max-iter", "3", "--epochs", "1"], 2, "not allowed with argument"),
    ],
)
def test_script_refuses(tiny, digits_data, tmp_path, arguments, status, expected):
    result = run_script(tiny, "--data", digits_data, "--output", tmp_path / "run", *arguments)
    assert result[:2] == (status, "")
    assert expected in result[2].splitlines()[-1].replace("'", "")  # which 3.12 sets otherwise
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "case, expected",
    [
        (
            "30-label-beyond-outputs/far",
            "far.txt, which layer data of far.solver reads, has the label 90000, and layer ip has "
            "2 outputs, for labels from 0 to 1: give --classes 90001, or mend the labels",
        ),
        (
            "30-label-beyond-outputs/from-one",
            "from-one.txt, .* has the label 2, and layer ip has 2",
        ),
        ("31-no-test-data/solver", "no layer of .* gives data in the phase TEST, which layer conv"),
        (
            "32-solver-as-model/solver",
            "there is no train_val.prototxt, which solver.prototxt names",
        ),
    ],
)
def test_cases_of_users(shared_cases, case, expected, tmp_path):
    folder = shutil.copytree((shared_cases / case).parent, tmp_path / "case")
    (solver,) = [
        path
        for path in folder.iterdir()
        if path.stem == (tmp_path / case).name and path.suffix in (".solver", ".prototxt")
    ]
    status, stdout, stderr = run_script("--solver", solver.name, "--output", "run", cwd=folder)
    assert (status, stdout) == (1, "") and re.match(f"error: .*{expected}", stderr), stderr
    assert not (folder / "run").exists()


def test_a_solver_with_a_folder_trains_the_folders_network_or_none(
    model, tiny, digits_data, tmp_path, capfd
):
    """Not the one that the solver names: DIR decides, as after acu convert."""
    solver = tmp_path / "other.prototxt"
    text = (model / "acu/solver.prototxt").read_text().replace("net:", "# net:")
    solver.write_text(f'net: "{tiny}/baseline/train_val.prototxt"\n{text}')
    options = dict(data=digits_data, solver=solver, max_iter=1)
    twin = tmp_path / "twin"
    twin.mkdir()
    assert_refused(
        tmp_path, "twin needs a train_val.prototxt, .* none", twin, output="r", **options
    )
    shutil.copy(model / "acu/train_val.prototxt", twin / "lenet_train_test.prototxt")
    for name in ("deploy", "solver"):
        shutil.copy(model / f"acu/{name}.prototxt", twin)
    assert train(twin, output=tmp_path / "run", **options) == 0
    assert "training digits_tiny_acu," in capfd.readouterr().err
    shutil.copy(model / "acu/train_val.prototxt", twin / "second.prototxt")
    assert_refused(
        tmp_path, "lenet_train_test.prototxt, second.prototxt", twin, output="r", **options
    )


def test_a_file_is_no_model_folder(tiny, tmp_path):
    solver = tiny / "acu/solver.prototxt"
    assert_refused(tmp_path, f"is a file: .*--solver {solver}", solver, output=tmp_path / "run")


# ---- What ends inside Caffe


def test_a_failure_inside_caffe_has_its_own_words(model, digits_data, tmp_path):
    edit("train_val.prototxt", "kernel_size: 3", "kernel_size: 3 group: 3")(model)
    run, command = tmp_path / "run", (model, "--data", digits_data, "--output", tmp_path / "run")
    status, stdout, stderr = run_script(*command)
    assert (status, stdout) == (1, "")
    assert re.fullmatch(
        r"error: training: Caffe: .*Layer 'conv' .*convolution_param.group is 3; allowed: .* "
        rf"\(the log: {run}/train.log\)\n",
        stderr,
    ), stderr
    assert "convolution_param.group is 3" in (run / "train.log").read_text()


def test_a_gpu_that_this_build_cannot_use(tiny, digits_data, tmp_path):
    skip_in_a_gpu_build()
    command = tiny, "--data", digits_data, "--output", tmp_path / "run", "--gpu", "0"
    status, _, stderr = run_script(*command)
    assert status == 1 and re.match("error: .*--gpu.*Cannot use GPU in CPU-only Caffe", stderr)


def test_an_exception_of_caffes_libraries_has_a_line(model, tmp_path):
    """Datum that are encoded and empty: OpenCV throws."""
    import lmdb

    for split in ("train", "test"):
        with lmdb.open(str(tmp_path / split)) as opened, opened.begin(write=True) as transaction:
            transaction.put(b"0", locate.caffe_pb2().Datum(encoded=True).SerializeToString())
        edit("train_val.prototxt", f"data/digits/{split}_lmdb", str(tmp_path / split))(model)
    status, _, stderr = run_script(model, "--output", tmp_path / "run", "--max-iter", 2)
    assert status == 1 and re.search("(?m)^error: .*imdecode.*$", stderr), stderr


@pytest.mark.slow
def test_a_failure_beside_a_progress_bar_has_a_line_of_its_own(model, digits_data, tmp_path):
    run = tmp_path / "run"
    (run / "snapshots").mkdir(parents=True)
    (run / "snapshots/digits_tiny_acu_iter_2.caffemodel").symlink_to("/dev/full")
    command = model, "--data", digits_data, "--output", run, "--max-iter", 2
    status, stdout, stderr = run_script(*command)
    assert (status, stdout) == (1, "")
    assert re.match("error: taking a snapshot, for which .* disk: Caffe: ", stderr.split("\n")[-2])


# ---- A start that failed, and two at once


@pytest.mark.slow
def test_a_start_that_failed_blocks_nothing(model, digits_data, tmp_path):
    """Neither the mended command nor the same with --resume, and nothing of the failed one is
    left."""
    run, command = tmp_path / "run", (model, "--data", digits_data, "--output", tmp_path / "run")
    edit("train_val.prototxt", "kernel_size: 3", "kernel_size: 3 group: 3")(model)
    assert run_script(*command, "--max-iter", 2)[0] == 1
    assert run_script(*command, "--max-iter", 3)[0] == 1, "still wrong"
    edit("train_val.prototxt", "kernel_size: 3 group: 3", "kernel_size: 3")(model)
    status, stdout, stderr = run_script(*command, "--max-iter", 2, "--resume")
    assert status == 0, stderr
    assert "after 2 iterations" in stdout
    assert "group" not in (run / "train_val.prototxt").read_text()


@pytest.mark.slow
def test_of_two_starts_at_once_one_trains_and_the_other_changes_nothing(
    model, digits_data, tmp_path
):
    run = tmp_path / "run"
    command = model, "--data", digits_data, "--output", run
    both = [train_script(*command, "--max-iter", 200, "--seed", seed) for seed in (1, 2)]
    ended = [(process.communicate(timeout=300)[1], process.returncode) for process in both]
    assert sorted(status for _, status in ended) == [0, 1]
    winner = [status for _, status in ended].index(0)
    assert re.search("another process is training into|holds a run already", ended[1 - winner][0])
    assert f"random_seed: {winner + 1}\n" in (run / "solver.prototxt").read_text()
