"""The runs of a table, trained by acu reproduce as a user would: planned, stopped, failing, gone on
with."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from active_convolution.paper import runs, tables
from active_convolution.training.run_folder import RunFolder
from conftest import ROOT
from paper_runs import ITERATIONS, SCALE, write_data, write_models
from test_published_runs import assert_trains_the_same
from training_runs import column

pytestmark = pytest.mark.slow

NAMES = [f"cifar10-plain-{side}-{seed}" for seed in (1, 2) for side in ("baseline", "acu")]
FOLDER = f"table2-{SCALE:g}"


@pytest.fixture(scope="module")
def small(tmp_path_factory, digits_data):
    """A folder with ``models`` and ``data`` for table 2 on cifar10."""
    folder = tmp_path_factory.mktemp("small")
    write_models(folder / "models")
    write_data(folder / "data", digits_data)
    return folder


def reproduce(*arguments, **options):
    """Starts acu reproduce; a Popen."""
    return subprocess.Popen(
        [ROOT / "scripts/acu", "reproduce", *map(str, arguments)],
        text=True,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **options,
    )


def finish(process):
    stdout, stderr = process.communicate(timeout=300)
    return process.returncode, stdout, stderr


def command(small, folder, *more, scale=SCALE):
    sources = "--models", small / "models", "--data", small / "data", "--datasets", "cifar10"
    return "--table", 2, "--runs", folder, "--scale", scale, *sources, *more


@pytest.mark.parametrize("scale, length", [(1, 64000), (0.25, 16000), (1e-9, 1)])
def test_a_plan_grows_seed_by_seed_on_both_sides(tmp_path, scale, length):
    planned = runs.plan(tables.TABLES[2], tmp_path, scale, 2)
    assert [run.name for run in planned] == [
        f"{data}-plain-{side}-{seed}"
        for seed in (1, 2)
        for data in ("cifar10", "cifar100")
        for side in ("baseline", "acu")
    ]
    assert {run.max_iter for run in planned} == {length}
    assert planned[0].folder.path.parent.name == ("table2" if scale == 1 else f"table2-{scale:g}")


def test_what_is_wrong_is_said_before_it_trains(small, tmp_path):
    options = "--table", 2, "--runs", tmp_path / "runs", "--data", small / "nowhere"
    status, stdout, stderr = finish(reproduce(*options))
    assert (status, stdout) == (1, "") and "nowhere/cifar10 is not a data set" in stderr
    for wrong, expected in (
        (("--scale", "1.5"), "--scale 1.5 is out of range"),
        (
            ("--datasets", "places365"),
            "table 2 has --datasets cifar10, cifar100, and not places365",
        ),
        (("--jobs", "0"), "--jobs 0 is out of range"),
    ):
        status, _, stderr = finish(reproduce(*options, *wrong))
        assert status == 2 and expected in stderr
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def done(small, tmp_path_factory):
    """Four runs, two at a time: (folder of the runs, stdout, stderr); leave the folder alone."""
    above = tmp_path_factory.mktemp("done")
    options = "--seeds", 2, "--jobs", 2, "--figures", above / "figures", "--format", "svg"
    status, stdout, stderr = finish(reproduce(*command(small, above / "runs", *options)))
    assert status == 0, stderr
    return above, stdout, stderr


def test_trains_both_sides_with_all_seeds(done):
    above, _, stderr = done
    folders = {name: above / "runs" / FOLDER / name for name in NAMES}
    assert {path.name for path in (above / "runs" / FOLDER).iterdir()} == set(NAMES)
    for name, folder in folders.items():
        assert column(folder, "iteration") == list(range(1, ITERATIONS + 1))
        assert (folder / "positions.npz").exists() == ("acu" in name)
        said = RunFolder(folder).said
        assert said["seed"] == int(name[-1]) and said["options"]["max_iter"] == ITERATIONS
    assert "4 runs:   0%" in stderr and "52/52" in stderr and "Traceback" not in stderr


def test_prints_saves_and_draws_what_came_out(done):
    above, stdout, _ = done
    errors = {}
    for name in NAMES:
        errors[name] = 100 * column(above / "runs" / FOLDER / name, "test_error")[-1]
        said = rf"^{name}: test error {errors[name]:.2f} %, after 13 iterations, in \d+ s, 1 thread"
        assert re.findall(said, stdout, re.M)
    one, two = (errors[f"cifar10-plain-acu-{seed}"] for seed in (1, 2))
    cell = re.escape(f"{(one + two) / 2:.2f} ± {abs(one - two) / 2**0.5:.2f}")
    assert re.search(rf"^\|  +\|  +\|  +\| acu +\| 7\.33 +\| {cell} +\| 2 +\| \d+ s", stdout, re.M)
    assert len((above / "runs/table2.csv").read_text().splitlines()) == 5
    assert len(list((above / "figures").glob("*.svg"))) == 3


def test_finished_runs_are_not_touched(done, small):
    def tree():
        return {path: path.stat().st_mtime_ns for path in (above / "runs" / FOLDER).rglob("*")}

    above, stdout, _ = done
    before = tree()
    options = command(small, above / "runs", "--seeds", 2)
    status, again, stderr = finish(reproduce(*options))
    assert status == 0, stderr
    assert tree() == before
    assert set(again.splitlines()) <= set(stdout.splitlines()), "the same table"


@pytest.mark.parametrize("changed", [False, True])
def test_a_published_run_trains_the_same_again(
    changed, done, small, tmp_path, one_thread, monkeypatch
):
    """As every run under results/ has to."""
    path = shutil.copytree(done[0] / "runs" / FOLDER / NAMES[1], tmp_path / NAMES[1])
    said = RunFolder(path).said
    said["first_losses"][4] *= 1 + 1e-5 * changed
    (path / "run.json").write_text(json.dumps(said))
    sources = small / "data/cifar10", tmp_path, monkeypatch, small / "models/cifar10/plain"
    with pytest.raises(AssertionError) if changed else contextlib.nullcontext():
        assert_trains_the_same(path, *sources)


# ---- Stopped, failing, killed

LONG = 0.4  # of 64,000: far more than a test waits for


def iterations(folder):
    return column(folder, "iteration")


def stopped_by(send, call, folders, after=(0, 0)):
    """Lets both runs of ``call`` get past the iterations ``after``, and ``send(pid)`` stop them;
    where they did."""
    process = reproduce(*call, start_new_session=True)
    while not all(iterations(folder)[-1:] > [before] for folder, before in zip(folders, after)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    send(process.pid)
    status, stdout, stderr = finish(process)
    assert (status, stdout) == (130, "") and "Traceback" not in stderr
    assert stderr.endswith("stopped: the same command goes on from here\n")
    return [iterations(folder)[-1] for folder in folders]


def test_a_stopped_table_goes_on_with_the_same_command(small, tmp_path):
    """First `kill`, which only this process sees, then Ctrl-C, which all of the terminal do."""
    call = command(small, tmp_path, "--jobs", 2, scale=LONG)
    folders = [tmp_path / "table2-0.4" / name for name in NAMES[:2]]
    first = stopped_by(lambda pid: os.kill(pid, signal.SIGTERM), call, folders)
    kept = [(folder / "metrics.csv").read_text() for folder in folders]
    second = stopped_by(lambda pid: os.killpg(pid, signal.SIGINT), call, folders, first)
    for folder, text, *stopped in zip(folders, kept, first, second):
        undisturbed = text[: text[:-1].rindex("\n") + 1]  # all but the row of the stop
        assert (folder / "metrics.csv").read_text().startswith(undisturbed), "trained twice"
        assert iterations(folder) == sorted(set(iterations(folder)))
        for last in stopped:
            assert len(list(folder.glob(f"snapshots/*_iter_{last}.solverstate"))) == 1


def test_a_failure_stops_the_others_and_says_which(small, tmp_path):
    """One folder is in use by somebody else."""
    taken = tmp_path / "table2-0.4" / NAMES[1]
    taken.mkdir(parents=True)
    with open(taken / "train.log", "a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        call = command(small, tmp_path, "--jobs", 2, scale=LONG)
        status, stdout, stderr = finish(reproduce(*call))
    assert status == 1 and "Table" not in stdout and "Traceback" not in stderr
    expected = f"error: {NAMES[1]}: another process is training into {taken}: "
    assert stderr.splitlines()[-1].startswith(expected)
    assert not runs_of(tmp_path), "a training is left running"


def runs_of(folder):
    """The processes that work on ``folder``."""
    done = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if str(folder) in line]


def test_a_killed_table_leaves_no_training_behind(small, tmp_path):
    process = reproduce(*command(small, tmp_path, scale=LONG))
    while not (tmp_path / "table2-0.4" / NAMES[0] / "metrics.csv").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=30)
    until = time.monotonic() + 10
    while runs_of(tmp_path) and time.monotonic() < until:
        time.sleep(0.05)
    assert not runs_of(tmp_path)
