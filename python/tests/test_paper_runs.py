"""The runs of a table: planned, and trained through scripts/reproduce.py as a user would."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from active_convolution.errors import UserError
from active_convolution.paper import runs, tables
from active_convolution.training.metrics import Metrics
from conftest import ROOT
from paper_runs import ITERATIONS, MAX_ITER, SCALE, make_run, write_data, write_models

pytestmark = pytest.mark.slow

TABLE = tables.TABLES[2]
NAMES = [
    f"cifar10_plain_{variant}_seed{seed}" for seed in (1, 2) for variant in ("baseline", "acu")
]


@pytest.fixture(scope="module")
def small(tmp_path_factory, digits_data):
    """A folder with ``models`` and ``data``, both for cifar10/plain alone."""
    folder = tmp_path_factory.mktemp("small")
    write_models(folder / "models")
    write_data(folder / "data", digits_data)
    return folder


@pytest.fixture
def plan(small, tmp_path):
    def make(seeds=1, scale=SCALE):
        return runs.plan(
            runs.choose(TABLE, ["cifar10"]),
            small / "models",
            small / "data",
            tmp_path / "runs",
            scale,
            seeds,
        )

    return make


def command(small, output, *options, scale=SCALE):
    return [
        sys.executable,
        ROOT / "scripts/reproduce.py",
        "--table",
        2,
        "--scale",
        scale,
        "--data",
        small / "data",
        "--models",
        small / "models",
        "--output",
        output,
        *options,
    ]


def reproduce(*arguments, **options):
    """Starts the script; a Popen. Its environment has no OMP_NUM_THREADS, unless ``options`` say so."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return subprocess.Popen(
        list(map(str, arguments)),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **{"env": environment, **options},
    )


def finish(process):
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def tree(folder):
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def iterations(folder):
    return [row["iteration"] for row in Metrics.load(folder / "metrics.csv").rows]


# ---- The plan


@pytest.mark.quick
def test_both_sides_of_each_seed_in_the_folders_of_the_contract(plan, small, tmp_path):
    planned = plan(seeds=2)
    assert [run.name for run in planned] == NAMES
    assert {run.max_iter for run in planned} == {ITERATIONS} and [run.seed for run in planned] == [
        1,
        1,
        2,
        2,
    ]
    assert {run.model for run in planned} == {small / "models/cifar10/plain"}
    assert {run.data for run in planned} == {small / "data/cifar10"}
    assert {run.folder.path.parent for run in planned} == {tmp_path / "runs"}


def test_scale_is_rounded_to_iterations(plan):
    assert {run.max_iter for run in plan(scale=1)} == {MAX_ITER}
    assert {run.max_iter for run in plan(scale=0.00028)} == {7}, "6.72"
    assert {run.max_iter for run in plan(scale=1e-9)} == {1}


def test_chosen_data_sets_are_rows(plan):
    assert [comparison.name for comparison in runs.choose(TABLE)] == [
        "cifar10/plain",
        "cifar100/plain",
    ]
    assert [comparison.name for comparison in runs.choose(tables.TABLES[3], ["cifar100"])] == [
        "cifar100/basic",
        "cifar100/bottleneck",
    ]
    with pytest.raises(
        UserError, match="table 4 has nothing on cifar10: its --datasets are places365"
    ):
        runs.choose(tables.TABLES[4], ["cifar10"])


def test_finished_means_tested_at_the_end(plan):
    first, second = plan()
    assert not first.finished() and first.iteration() == 0
    make_run(first.folder.path, {6: 0.5, 11: 0.4})
    assert first.started() and first.iteration() == 11 and not first.finished()
    make_run(second.folder.path, {6: 0.5, 12: 0.4})
    assert second.finished()


@pytest.mark.parametrize(
    "seconds, said",
    [(7.4, "7 s"), (99, "99 s"), (100, "2 min"), (3590, "60 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds, said):
    assert runs.duration(seconds) == said


@pytest.mark.parametrize(
    "options, complaint",
    [
        (dict(scale=1.5), "--scale 1.5 is out of range"),
        (dict(scale=0), "--scale 0 is out of range"),
        (dict(scale=float("nan")), "--scale nan is out of range"),
        (dict(seeds=0), "--seeds 0 is out of range"),
    ],
)
def test_numbers_out_of_range(plan, options, complaint):
    with pytest.raises(UserError, match=complaint):
        plan(**options)


def test_no_jobs_are_no_way_to_train(plan):
    with pytest.raises(UserError, match="--jobs 0 is out of range"):
        runs.train_all(plan(), jobs=0)


def test_missing_networks_and_data(plan, small, tmp_path):
    with pytest.raises(
        UserError,
        match="there is no network .*models/cifar100/plain/baseline: make it with "
        "acu generate, or leave its data set out with --datasets",
    ):
        runs.plan(runs.choose(TABLE), small / "models", small / "data", tmp_path)
    planned = runs.plan(
        runs.choose(TABLE, ["cifar10"]), small / "models", tmp_path, tmp_path / "runs"
    )
    with pytest.raises(
        UserError,
        match="there is no data set .*/cifar10: make it with acu data cifar10 "
        "--output .*/cifar10 …, or leave it out with --datasets",
    ):
        runs.check(planned)


def test_script_says_what_is_wrong_before_it_trains(small, tmp_path):
    status, stdout, stderr = finish(reproduce(*command(small, tmp_path / "runs")))
    assert (
        (status, stdout) == (1, "")
        and stderr.startswith("error: there is no network")
        and stderr.count("\n") == 1
    )
    assert not (tmp_path / "runs").exists()


# ---- Training


@pytest.fixture(scope="module")
def done(small, tmp_path_factory):
    """Four runs, two at a time: (folder of the runs, stdout, stderr); leave the folder alone."""
    above = tmp_path_factory.mktemp("done")
    status, stdout, stderr = finish(
        reproduce(
            *command(
                small,
                above / "runs",
                "--datasets",
                "cifar10",
                "--seeds",
                2,
                "--jobs",
                2,
                "--json",
                above / "table.json",
                "--figures",
                above / "figures",
                "--format",
                "svg",
            )
        )
    )
    assert status == 0, stderr
    return above, stdout, stderr


def test_trains_both_sides_with_all_seeds(done):
    above, stdout, stderr = done
    assert sorted(path.name for path in (above / "runs").iterdir()) == sorted(NAMES)
    for name in NAMES:
        folder = above / "runs" / name
        assert iterations(folder) == list(range(1, ITERATIONS + 1))
        assert (folder / "positions.npz").exists() == ("acu" in name)
        assert f"random_seed: {name[-1]}\n" in (folder / "solver.prototxt").read_text()
        assert f"max_iter: {ITERATIONS}\n" in (folder / "solver.prototxt").read_text()
    assert "4 runs:   0%" in stderr and "48/48" in stderr and "Traceback" not in stderr


def test_prints_saves_and_draws_what_came_out(done):
    above, stdout, _ = done
    saved = json.loads((above / "table.json").read_text())
    errors = {
        f"cifar10_plain_{run['variant']}_seed{run['seed']}": run["figures"][0]
        for run in saved["runs"]
    }
    for name in NAMES:
        last = Metrics.load(above / "runs" / name / "metrics.csv").last("test_error")
        assert errors[name] == pytest.approx(100 * last) and 0 < last < 1
        assert (
            len(
                re.findall(
                    rf"^{name}: test error {100 * last:.2f} % after 12 iterations, \d+ s$",
                    stdout,
                    re.M,
                )
            )
            == 2
        )
    one, two = (errors[f"cifar10_plain_acu_seed{seed}"] for seed in (1, 2))
    spread = abs(one - two) / 2**0.5
    assert re.search(
        rf"^\|  +\|  +\| acu +\| 7\.33 +\| {(one + two) / 2:.2f} ± {spread:.2f} +\| 2 +\| \d+ s +\|$",
        stdout,
        re.M,
    )
    assert {path.name for path in (above / "figures").iterdir()} == {
        "cifar10_plain_curves.svg",
        "cifar10_plain_positions.svg",
        "cifar10_plain_movement.svg",
    }


def test_finished_runs_are_not_touched(done, small):
    above, stdout, _ = done
    before = tree(above / "runs")
    status, again, stderr = finish(
        reproduce(*command(small, above / "runs", "--datasets", "cifar10", "--seeds", 2))
    )
    assert status == 0, stderr
    assert tree(above / "runs") == before
    assert again in stdout, "the same table"


def test_runs_of_other_settings_are_refused(done, small):
    above, before = done[0], tree(done[0] / "runs")
    options = "--datasets", "cifar10", "--seeds", 2
    status, _, stderr = finish(
        reproduce(*command(small, above / "runs", *options, scale=2 * SCALE))
    )
    assert status == 1 and stderr.count("\n") == 1
    assert f"{NAMES[0]}/solver.prototxt is not what this command would train" in stderr
    status, _, stderr = finish(
        reproduce(*command(small, above / "runs", *options, "--show", scale=2 * SCALE))
    )
    assert status == 1 and f"{NAMES[0]} is a run of 12 iterations, not of 24" in stderr
    assert tree(above / "runs") == before


def stopped_by(send, call, folders, after=(0, 0)):
    """Lets both runs of ``call`` get past the iterations ``after``, and ``send(pid)`` stop them; where they did."""
    process = reproduce(*call, start_new_session=True)
    while not all(iterations(folder)[-1:] > [before] for folder, before in zip(folders, after)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    send(process.pid)
    status, stdout, stderr = finish(process)
    assert (status, stdout) == (130, "") and "Traceback" not in stderr
    assert stderr.endswith("stopped: the same command goes on from here\n")
    return [iterations(folder)[-1] for folder in folders]


def test_a_stopped_table_goes_on_with_the_same_command(small, tmp_path):
    """First `kill`, which only this process sees, then Ctrl-C, which all processes of the terminal do."""
    call = command(small, tmp_path, "--datasets", "cifar10", "--jobs", 2, scale=1)
    folders = [tmp_path / name for name in NAMES[:2]]
    first = stopped_by(lambda pid: os.kill(pid, signal.SIGTERM), call, folders)
    kept = [(folder / "metrics.csv").read_text() for folder in folders]
    second = stopped_by(lambda pid: os.killpg(pid, signal.SIGINT), call, folders, first)
    for folder, text, *stopped in zip(folders, kept, first, second):
        kept_rows = text[
            : text[:-1].rindex("\n") + 1
        ]  # all but that of the stop, which an undisturbed run does not have
        assert (folder / "metrics.csv").read_text().startswith(kept_rows), "trained twice"
        assert iterations(folder) == sorted(set(iterations(folder)))
        for last in stopped:
            assert len(list(folder.glob(f"snapshots/*_iter_{last}.solverstate"))) == 1
            assert last < MAX_ITER


def test_a_failure_stops_the_others_and_says_which(small, tmp_path):
    """One folder is in use by somebody else."""
    call = command(small, tmp_path, "--datasets", "cifar10", "--jobs", 2, scale=1)
    taken = tmp_path / NAMES[1]
    taken.mkdir()
    with open(taken / "train.log", "a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        status, stdout, stderr = finish(reproduce(*call))
    assert status == 1 and "Table" not in stdout and "Traceback" not in stderr
    assert stderr.splitlines()[-1] == (
        f"error: {NAMES[1]}: another process is training into {taken}: wait for its end, or stop it"
    )
    assert not runs_of(tmp_path), "a training is left running"


def runs_of(folder):
    """The processes that work on ``folder``."""
    done = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if str(folder) in line]


def test_a_killed_table_leaves_no_training_behind(small, tmp_path):
    process = reproduce(*command(small, tmp_path, "--datasets", "cifar10", scale=1))
    while not (tmp_path / NAMES[0] / "metrics.csv").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.kill()
    process.communicate(timeout=30)  # returns when no process is left that could write to the pipe
    until = time.monotonic() + 10
    while runs_of(tmp_path) and time.monotonic() < until:
        time.sleep(0.05)
    assert not runs_of(tmp_path)


# ---- The crew, without Caffe


class FakeWorker:
    """Notes what it is given; its process has ended at once."""

    given = []

    def __init__(self, run, gpu, threads):
        self.run, self.gpu = run, gpu
        FakeWorker.given.append((run.name, gpu, threads))
        self._pipe, other = os.pipe()
        os.close(other)

    def fileno(self):
        return self._pipe

    def running(self):
        return bool(os.read(self._pipe, 1))

    def end(self, stopped):
        os.close(self._pipe)

    def stop(self):
        pass


def test_cores_and_gpus_are_shared_out(plan, monkeypatch):
    monkeypatch.setattr(runs, "_Worker", FakeWorker)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    FakeWorker.given.clear()
    assert runs.train_all(plan(seeds=3), jobs=3, gpus=(0, 5)) == 0
    assert [name for name, _, _ in FakeWorker.given] == [run.name for run in plan(seeds=3)]
    assert [gpu for _, gpu, _ in FakeWorker.given[:2]] == [0, 5]
    assert {threads for _, _, threads in FakeWorker.given} == {2}
    FakeWorker.given.clear()
    runs.train_all(plan(), jobs=1)
    assert [(gpu, threads) for _, gpu, threads in FakeWorker.given] == [(None, 8), (None, 8)]


def test_the_users_own_number_of_threads_wins(plan, monkeypatch):
    given = {}
    monkeypatch.setattr(runs.subprocess, "Popen", lambda command, env, **_: given.update(env))
    for own, expected in ((None, "4"), ("3", "3")):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if own:
            monkeypatch.setenv("OMP_NUM_THREADS", own)
        runs._Worker(plan()[0], None, 4)
        assert given["OMP_NUM_THREADS"] == expected


@pytest.mark.parametrize(
    "said, expected",
    [
        (
            "training:   0%| | 0/9 [00:00<?, ?it/s]error: Caffe ended the training: no\n",
            "Caffe ended the training: no",
        ),
        (
            "error: first\nerror: cannot write x: full\nException ignored in: y\n  raise error: z",
            "cannot write x: full",
        ),
        ("Segmentation fault\n\n", "Segmentation fault"),
        ("", "ended with status 3"),
    ],
)
def test_why_a_run_failed(plan, monkeypatch, said, expected):
    script = f"import sys; sys.stderr.write({said!r}); sys.exit(3)"
    start = subprocess.Popen
    monkeypatch.setattr(
        runs.subprocess,
        "Popen",
        lambda command, **options: start([sys.executable, "-c", script], **options),
    )
    worker = runs._Worker(plan()[0], None, 1)
    while worker.running():
        pass
    assert worker.end(False) == f"{plan()[0].name}: {expected}"
