"""Training that was stopped, killed or damaged goes on; what is not to be touched stays as it
is."""

import fcntl
import os
import re
import shutil
import signal
import time

import pytest
from active_convolution import geometry
from active_convolution.caffe import positions
from active_convolution.errors import UserError
from active_convolution.training.trainer import train
from training_runs import (
    MAX_ITER,
    WARMUP_ITER,
    column,
    rows,
    run_script,
    snapshot,
    train_script,
    write_model,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

LONG = 600  # iterations: a second or two of training


@pytest.fixture(scope="module")
def original(tmp_path_factory, tiny, digits_data):
    """A finished run of 12 iterations, snapshots after 3, 6, 9 and 12; leave it alone."""
    folder = tmp_path_factory.mktemp("original") / "run"
    assert train(tiny, "acu", digits_data, folder, max_iter=12) == 0
    return folder


@pytest.fixture
def finished(original, tmp_path):
    """A copy of it, at another place."""
    return shutil.copytree(original, tmp_path / "run")


@pytest.fixture
def resume(tiny, digits_data):
    """Goes on with a run of 12 iterations; returns the exit status."""

    def run(folder, **options):
        given = dict(variant="acu", data=digits_data, output=folder, max_iter=12, resume=True)
        return train(tiny, **{**given, **options})

    return run


def tree(folder):
    """Every file below a folder, but for Caffe's log."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "train.log"]
    return {path: path.read_bytes() for path in files}


def ascends(numbers):
    return all(before < after for before, after in zip(numbers, numbers[1:]))


def wait_for(pattern, folder, process):
    """Until a file in ``folder`` matches; the process must still be running then."""
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def assert_one_history(folder, last, length, before=()):
    """The records of a run of ``length`` iterations, at ``last``, read as if it had never stopped,
    and begin with the rows ``before``."""
    now = rows(folder)
    assert now[: len(before)] == list(before)
    assert ascends([row["iteration"] for row in now]) and now[-1]["iteration"] == last
    assert ascends([row["seconds"] for row in now])
    history = positions.load_run(folder)
    iterations = history.iterations.tolist()
    assert iterations[0] == 0 and ascends(iterations) and iterations[-1] == last
    warm = history.iterations <= length * WARMUP_ITER // MAX_ITER
    assert (history.positions("conv")[warm, 0] == geometry.grid((3, 3))).all()
    assert (history.positions("conv")[~warm, 0, 0] != (-1, -1)).any(axis=-1).all()
    assert snapshot(folder, last).exists()


@pytest.mark.parametrize(
    "number, send",
    [(signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill), (signal.SIGHUP, os.killpg)],
    ids=["Ctrl-C", "TERM", "closed terminal"],
)
def test_a_stopped_run_takes_a_snapshot_and_goes_on(
    tiny, digits_data, resume, tmp_path, capfd, number, send
):
    """Ctrl-C and a closed terminal reach all processes there, `kill` only the one that one sees."""
    run = tmp_path / "run"
    process = train_script(
        *(tiny, "--data", digits_data, "--output", run, "--max-iter", LONG),
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # if run under nohup
    )
    wait_for("metrics.csv", run, process)
    send(process.pid, number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and stdout == "" and "Traceback" not in stderr
    stopped, command = re.search(
        r"stopped at iteration (\d+): go on with\n  (.*)\n$", stderr
    ).groups()
    stopped = int(stopped)
    assert stopped < LONG and command == f"acu train --resume --output {run}"
    assert_one_history(run, stopped, LONG)
    before = [row for row in rows(run) if row["iteration"] % 6 == 0]  # as without the stop
    log = (run / "train.log").read_bytes()
    assert resume(run, max_iter=LONG) == 0
    stdout, stderr = capfd.readouterr()
    assert f"going on from iteration {stopped}\n" in stderr and f" {stopped}/{LONG} " in stderr
    assert f"after {LONG} iterations" in stdout
    assert_one_history(run, LONG, LONG, before)
    assert (run / "train.log").read_bytes().startswith(log)


def test_ctrl_c_while_it_loads_is_quiet(tiny, digits_data, tmp_path):
    run = tmp_path / "run"
    process = train_script(tiny, "--data", digits_data, "--output", run, start_new_session=True)
    wait_for("solver.prototxt", run, process)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in stderr


def test_ctrl_c_ends_a_test_too(digits_data, tmp_path):
    """The training is kept, and counts as unfinished."""
    run, model = tmp_path / "run", write_model(tmp_path / "tiny", test_iter=[1])
    command = model, "--data", digits_data, "--output", run, "--max-iter", 1
    tests = "--set", "solver.test_iter=1000000"
    process = train_script(*command, *tests, start_new_session=True)
    wait_for("snapshots/*.solverstate", run, process)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130 and "stopped at iteration 1: go on with" in stderr
    assert column(run, "test_error") == [None]


def test_nohup_keeps_a_training_from_stopping(tiny, digits_data, tmp_path):
    run = tmp_path / "run"
    process = train_script(
        *(tiny, "--data", digits_data, "--output", run),
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    wait_for("metrics.csv", run, process)
    os.killpg(process.pid, signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.quick
def test_a_killed_run_ends_whole_and_goes_on(tiny, digits_data, tmp_path):
    run = tmp_path / "run"
    command = tiny, "--data", digits_data, "--output", run, "--max-iter", LONG
    process = train_script(*command)
    wait_for("snapshots/*.solverstate", run, process)
    process.kill()
    process.communicate(timeout=30)  # returns when no process is left that could write to the pipes
    left = tree(run)
    time.sleep(0.05)
    assert tree(run) == left, "still training"
    status, _, stderr = run_script(*command, "--resume")
    assert status == 0, stderr
    begun = int(re.search(r"going on from iteration (\d+)", stderr)[1])
    assert 0 < begun < LONG
    assert_one_history(run, LONG, LONG)
    assert begun in column(run, "iteration")


def test_a_damaged_snapshot_is_passed_over(finished, resume, capfd):
    model = snapshot(finished, 12)
    os.truncate(model, model.stat().st_size // 2)
    before = rows(finished)[:9]
    assert resume(finished) == 0
    stderr = capfd.readouterr().err
    passed = f"warning: passing over {model.with_suffix('.solverstate')}: {model.name} is damaged"
    assert passed in stderr and "going on from iteration 9\n" in stderr
    assert_one_history(finished, 12, 12, before)


def test_without_a_whole_snapshot_it_begins_anew(original, finished, resume, capfd):
    for path in (finished / "snapshots").glob("*.solverstate"):
        path.write_bytes(b"")
    assert resume(finished) == 0
    stderr = capfd.readouterr().err
    assert stderr.count("warning: passing over") == 4
    assert "no complete snapshot: starting at iteration 0\n" in stderr
    assert column(finished, "loss") == column(original, "loss")


def test_a_finished_run_says_its_result_again_wherever_it_lies(original, finished, resume, capfd):
    assert resume(finished) == 0
    said = rf"test error .* % after 12 iterations, \d+ s, in {finished}\n  loss .*\nnext: .*\n"
    assert re.fullmatch(said, capfd.readouterr().out)
    assert rows(finished) == rows(original)
    assert str(finished) in (finished / "solver.prototxt").read_text()


def test_what_was_deleted_is_no_obstacle(finished, resume):
    for name in ("metrics.csv", "positions.npz", "train.log", "run.json"):
        (finished / name).unlink()
    for path in (finished / "snapshots").glob("*_3.*"):
        path.unlink()
    assert resume(finished) == 0
    assert column(finished, "iteration") == [12]


@pytest.mark.parametrize("name", ["metrics.csv", "positions.npz", "run.json"])
def test_damaged_records_are_named(finished, resume, name):
    (finished / name).write_bytes(b"no record")
    with pytest.raises(UserError, match=f"{name} is damaged"):
        resume(finished)
    assert (finished / name).read_bytes() == b"no record"


@pytest.mark.parametrize(
    "changes",
    [dict(max_iter=24), dict(max_iter=None), dict(seed=7), dict(variant="baseline")],
    ids=lambda changes: "".join(changes),
)
def test_other_settings_are_refused(finished, resume, changes):
    before = tree(finished)
    with pytest.raises(UserError, match="is not what this command would train: resume with"):
        resume(finished, **changes)
    assert tree(finished) == before


def test_settings_with_many_digits_are_the_same_again(tmp_path, digits_data):
    model = write_model(tmp_path / "tiny", base_lr=0.0123456789)
    options = dict(variant="acu", data=digits_data, output=tmp_path / "run", max_iter=4)
    assert train(model, **options) == 0 and train(model, **options, resume=True) == 0


def test_a_run_is_never_written_over(finished, resume):
    before = tree(finished)
    with pytest.raises(UserError, match="holds a run already: go on with --resume"):
        resume(finished, resume=False)
    assert tree(finished) == before


def test_nothing_to_go_on_with_is_said(tmp_path, resume):
    with pytest.raises(UserError, match="holds no run to go on with: leave --resume out"):
        resume(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_cannot_train_into_one_folder(finished, resume):
    with open(finished / "train.log") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        before = tree(finished)
        with pytest.raises(UserError, match="another process is training into .*/run: wait"):
            resume(finished)
    assert tree(finished) == before
