"""Snapshots: a damaged one is never taken for whole, and a whole one brings everything back."""

import os
import shutil
from pathlib import Path

import pytest
from active_convolution.caffe import locate
from active_convolution.training import run_folder, snapshots
from active_convolution.training.run_folder import RunFolder
from limits import at_once
from training_runs import write_model


def make_solver(folder, model, data):
    """A pycaffe solver on a new run folder."""
    run = RunFolder(folder)
    found = run_folder.resolve(run, model, "acu", data)
    with run_folder.started(run, found):
        return locate.caffe().get_solver(str(run.solver)), found.solver.snapshot_prefix


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny, digits_data):
    """A solver with whole snapshots after 2, 9 and 10 iterations, and their prefix; leave its files alone."""
    solver, prefix = make_solver(tmp_path_factory.mktemp("trained") / "run", tiny, digits_data)
    for iterations in (2, 7, 1):
        solver.step(iterations)
        solver.snapshot()
    return solver, prefix


@pytest.fixture
def solver(trained):
    return trained[0]


@pytest.fixture
def prefix(trained, tmp_path):
    """The prefix of a copy of the snapshots that may be damaged."""
    folder = shutil.copytree(Path(trained[1]).parent, tmp_path / "snapshots")
    return str(folder / Path(trained[1]).name)


def newest(prefix, solver):
    """(iteration of the newest whole snapshot, the warnings)"""
    warnings = []
    snapshot = snapshots.newest_whole(prefix, solver, warnings.append)
    return snapshot and snapshot.iteration, warnings


def file(prefix, iteration, kind):
    return Path(f"{prefix}_iter_{iteration}.{kind}")


def read(path):
    pb2 = locate.caffe_pb2()
    message = pb2.SolverState() if path.suffix == ".solverstate" else pb2.NetParameter()
    message.ParseFromString(path.read_bytes())
    return message


def field_ends(path):
    """Where the repeated fields of a snapshot's file end, one after the other: there a cut leaves a valid message."""
    message = read(path)
    message.ClearField("current_step" if path.suffix == ".solverstate" else "state")
    fields = message.history if path.suffix == ".solverstate" else message.layer
    ends = []
    while fields:
        assert path.read_bytes().startswith(message.SerializeToString())
        ends.append(message.ByteSize())
        del fields[-1]
    return ends[::-1]


def test_newest_by_number(prefix, solver):
    """10 comes after 9, and a file of another prefix or kind is none."""
    for name in (
        f"{prefix}_iter_11.solverstate.h5",
        f"{prefix}_iter_x.solverstate",
        f"{prefix}2_iter_12.solverstate",
    ):
        Path(name).touch()
    assert [snapshot.iteration for snapshot in snapshots.found(prefix)] == [10, 9, 2]
    assert newest(prefix, solver) == (10, [])


@pytest.mark.parametrize("kind", ["solverstate", "caffemodel"])
def test_a_file_that_ends_anywhere_is_passed_over(prefix, solver, kind):
    path = file(prefix, 10, kind)
    content = path.read_bytes()
    between = [end for end in field_ends(path) if end < len(content)]
    assert len(between) > 4
    anywhere = [len(content) * part // 40 for part in range(40)]
    for end in sorted({*between, *anywhere, 1, 2, len(content) - 1}):
        path.write_bytes(content[:end])
        iteration, warnings = newest(prefix, solver)
        assert iteration == 9, f"{kind} cut at byte {end} of {len(content)} was taken for whole"
        assert (
            len(warnings) == 1
            and f"passing over {file(prefix, 10, 'solverstate')}: {path.stem}" in warnings[0]
        )


def test_a_cut_between_two_fields_still_parses(prefix):
    """What makes the test above more than one of protobuf's parser."""
    for kind in ("solverstate", "caffemodel"):
        path = file(prefix, 10, kind)
        path.write_bytes(path.read_bytes()[: field_ends(path)[3]])
        read(path)


def test_a_missing_model_is_passed_over(prefix, solver):
    file(prefix, 10, "caffemodel").unlink()
    iteration, (warning,) = newest(prefix, solver)
    assert iteration == 9 and "_iter_10.caffemodel (No such file" in warning


@pytest.mark.parametrize("kind", ["solverstate", "caffemodel"])
@pytest.mark.parametrize(
    "put",
    [
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        Path.mkdir,
        lambda path: path.touch() or os.truncate(path, 2**40),
    ],
)
def test_what_is_no_file_is_passed_over(prefix, solver, kind, put):
    path = file(prefix, 10, kind)
    path.unlink()
    put(path)
    with at_once():
        iteration, (warning,) = newest(prefix, solver)
    assert iteration == 9 and path.name in warning


@pytest.mark.parametrize(
    "text, values",
    [
        ('[{"loss": 1, "x": 2.5}]', [{"loss": 1.0, "x": 2.5}]),
        ("", []),
        ("{}", []),
        ("7", []),
        ("[7]", []),
        ('[{"loss": "a"}]', []),
        ('[{"loss": null}]', []),
        ("[" * 100_000, []),
        ("\xff", []),
        (None, []),
    ],
)
def test_what_was_measured_since_is_numbers_or_nothing(prefix, solver, text, values):
    path = Path(f"{prefix}_iter_10.since.json")
    path.write_text(text, encoding="latin-1") if text is not None else os.mkfifo(path)
    with at_once():
        assert snapshots.read_since(snapshots.found(prefix)[0]) == values


def test_a_state_of_another_iteration_is_passed_over(prefix, solver):
    for kind in ("solverstate", "caffemodel"):
        shutil.copy(file(prefix, 9, kind), file(prefix, 11, kind))
    iteration, (warning,) = newest(prefix, solver)
    assert iteration == 10 and "_iter_11.solverstate is of iteration 9" in warning


def test_a_model_of_another_network_is_passed_over(prefix, solver):
    path = file(prefix, 10, "caffemodel")
    model = read(path)
    model.layer[[layer.name for layer in model.layer].index("conv")].blobs[0].data.pop()
    path.write_bytes(model.SerializeToString())
    iteration, (warning,) = newest(prefix, solver)
    assert iteration == 9 and warning.endswith(
        "_iter_10.caffemodel does not hold all of layer conv"
    )


def test_no_whole_snapshot_is_none(prefix, solver, tmp_path):
    for path in Path(prefix).parent.glob("*.caffemodel"):
        path.write_bytes(b"")
    iteration, warnings = newest(prefix, solver)
    assert iteration is None and len(warnings) == 3
    assert newest(str(tmp_path / "nowhere" / "tiny"), solver) == (None, [])


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdaDelta"])
def test_other_solvers_remember_more_or_less(tmp_path, digits_data, kind):
    """Adam and AdaDelta keep two numbers for each parameter: both are needed."""
    model = write_model(tmp_path / "tiny", type=kind, delta=1e-6)
    solver, prefix = make_solver(tmp_path / "run", model, digits_data)
    solver.step(1)
    solver.snapshot()
    assert newest(prefix, solver) == (1, [])
    path = file(prefix, 1, "solverstate")
    state = read(path)
    del state.history[len(state.history) // 2 :]
    path.write_bytes(state.SerializeToString())
    assert newest(prefix, solver)[0] is None


def test_restore_brings_everything_back_where_the_folder_has_moved(
    trained, tiny, digits_data, tmp_path
):
    """Weights, positions, statistics, momentum, iteration: a snapshot taken at once is the one restored."""
    moved = shutil.copytree(Path(trained[1]).parent, tmp_path / "moved") / Path(trained[1]).name
    for path in moved.parent.glob("*.solverstate"):  # the place they name is gone
        state = read(path)
        state.learned_net = str(tmp_path / "gone" / Path(state.learned_net).name)
        path.write_bytes(state.SerializeToString())
    other, prefix = make_solver(tmp_path / "run", tiny, digits_data)
    other.step(1)
    snapshots.restore(other, snapshots.newest_whole(moved, other, pytest.fail))
    assert other.iter == 10
    other.snapshot()
    again, before = (read(file(folder, 10, "solverstate")) for folder in (prefix, moved))
    assert (again.history, again.current_step) == (before.history, before.current_step)
    again, before = (
        [(layer.name, layer.blobs) for layer in read(file(folder, 10, "caffemodel")).layer]
        for folder in (prefix, moved)
    )
    assert again == before


def test_a_name_that_reads_like_a_pattern(digits_data, tmp_path):
    model = write_model(tmp_path / "tiny")
    path = model / "acu/train_val.prototxt"
    path.write_text(path.read_text().replace('name: "digits_tiny_acu"', 'name: "digits_[a]/*?"'))
    solver, prefix = make_solver(tmp_path / "run", model, digits_data)
    solver.step(1)
    solver.snapshot()
    assert newest(prefix, solver) == (1, [])
