"""Tables and figures of made runs: which errors count, what is printed and saved, and
publishing."""

import csv
import re

import cv2
import numpy as np
import pytest
from active_convolution import cli
from active_convolution.caffe import messages
from active_convolution.errors import UserError
from active_convolution.look import evaluation
from active_convolution.networks import models
from active_convolution.paper import figures, results, runs, tables
from paper_runs import give_network, make_run

TABLE = tables.TABLES[2]
WHOLE = 64000


@pytest.fixture
def planned(tmp_path):
    """The runs of cifar10/plain with three seeds, at the paper's length, in tmp_path/runs."""
    return runs.plan(TABLE, tmp_path / "runs", seeds=3, datasets=["cifar10"])


def fill(planned, errors, **options):
    """Makes the runs of {(variant, seed): {iteration: error}}."""
    for run in planned:
        if (run.variant, run.seed) in errors:
            make_run(run, errors[run.variant, run.seed], **options)


def made_lines(planned, table=TABLE):
    return results.lines(table, results.measure(table, planned))


def test_the_tables_are_the_papers():
    paper = {
        table.number: {each.name: (each.baseline, each.acu) for each in table.comparisons}
        for table in tables.TABLES.values()
    }
    assert paper == {
        2: {"cifar10/plain": ((8.01,), (7.33,)), "cifar100/plain": ((27.85,), (27.11,))},
        3: {
            "cifar10/basic": ((8.01,), (7.54,)),
            "cifar100/basic": ((30.06,), (29.38,)),
            "cifar10/bottleneck": ((7.64,), (7.12,)),
            "cifar100/bottleneck": ((27.93,), (27.47,)),
        },
        4: {
            "places365/alexnet": ((51.68, 81.29), (52.28, 82.08)),
            "places365/residual": ((55.33, 85.24), (55.71, 85.73)),
        },
    }


def test_sides_have_a_spread_and_differences_an_error_and_an_interval(planned):
    """Run by run of the same seed; the interval by Student's t with two degrees of freedom."""
    errors = {"baseline": (0.40, 0.44, 0.45), "acu": (0.39, 0.40, 0.47)}
    fill(
        planned,
        {
            (variant, seed): {WHOLE: error}
            for variant, each in errors.items()
            for seed, error in enumerate(each, start=1)
        },
    )
    lines = made_lines(planned)
    assert [line.side for line in lines] == ["baseline", "acu", "improvement"]
    assert [line.paper for line in lines] == [(8.01,), (7.33,), (pytest.approx(0.68),)]
    assert [str(line.cells[0]) for line in lines] == [
        *("43.00 ± 2.65", "42.00 ± 4.36", "1.00 ± 1.73 (-6.45 to 8.45)")
    ]
    assert lines[2].cells[0].interval[1] == pytest.approx(1 + 4.302653 * 3 / 3**0.5)
    assert lines[0].seconds.mean == pytest.approx(60)


def test_the_last_test_counts_and_unfinished_runs_do_not(planned):
    fill(
        planned,
        {
            ("baseline", 1): {6: 0.10, WHOLE: 0.30},
            ("baseline", 2): {6: 0.10, WHOLE - 1: 0.20},
            ("acu", 2): {WHOLE: 0.25},
        },
    )
    lines = made_lines(planned)
    assert [str(line.cells[0]) for line in lines] == ["30.00", "25.00", "–"], (
        "no seed on both sides"
    )
    assert runs.outcome(planned[2]) == "63,999 of 64,000 iterations"
    told = "test error 30.00 %, after 64,000 iterations, in 60 s, 1 thread of EPYC, commit c0ffeec"
    assert runs.outcome(planned[0]) == told


def test_a_last_test_without_an_error_is_refused(planned):
    """Of a network without an Accuracy layer: an earlier test's error is not the finished one's."""
    fill(planned, {("acu", 1): {6: 0.1, WHOLE: None}})
    with pytest.raises(UserError, match="the last test of .*acu-1 has no test_error: give its"):
        results.measure(TABLE, planned)


def test_a_time_that_nobody_measured_is_left_out(planned, tmp_path):
    fill(planned, {("baseline", 1): {WHOLE: 0.5}})
    fill(planned, {("acu", 1): {WHOLE: 0.25}}, seconds=None)
    text = results.text(TABLE, made_lines(planned))
    head, _, *rows = ([cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines())
    assert head == [
        *("data", "network", "iterations", "", "test error, paper", "measured", "runs", "time each")
    ]
    assert rows == [
        ["cifar10", "plain", "64,000", "baseline", "8.01", "50.00", "1", "60 s"],
        ["", "", "", "acu", "7.33", "25.00", "1", ""],
        ["", "", "", "improvement", "0.68", "25.00", "1", ""],
    ]
    assert len({len(row) for row in text.splitlines()}) == 1, "columns are aligned"


@pytest.mark.parametrize(
    "seconds, said",
    [(None, "unknown time"), (99, "99 s"), (100, "2 min"), (3590, "60 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds, said):
    assert runs.duration(seconds) == said


def test_accuracies_on_ten_crops_are_evaluated_once(tmp_path, monkeypatch):
    """Table 4's: on the last snapshot, on the device asked for, what came out stays in the run's
    folder; a gain of the active network is a higher number, in the paper's column and in ours."""
    table, calls = tables.TABLES[4], []
    planned = runs.plan(table, tmp_path)[:2]  # AlexNet
    for run in planned:
        make_run(run, {run.max_iter: 0.5})
        run.folder.snapshots.mkdir()
        for kind in ("solverstate", "caffemodel"):
            (run.folder.snapshots / f"x_iter_{run.max_iter}.{kind}").touch()

        for name in ("train_val", "deploy"):
            net = getattr(models, name)(models.named("places365/alexnet"), run.variant)
            messages.write(run.folder.path / f"{name}.prototxt", net)

    def evaluate(trained, **options):
        calls.append((trained.weights.name, options))
        return (45, 20, 20) if "baseline" in str(trained.model) else (41, 18.75, 20)

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    for _ in range(2):
        lines = results.lines(table, results.measure(table, planned, 3))
        assert [[str(cell) for cell in line.cells] for line in lines] == [
            *(["55.00", "80.00"], ["59.00", "81.25"], ["4.00", "1.25"])
        ]
    assert lines[2].paper == (pytest.approx(0.60), pytest.approx(0.79))
    assert calls == [("x_iter_400000.caffemodel", dict(ten_crop=True, gpu=3))] * 2
    (planned[0].folder.path / "ten_crop.json").write_text("{}")
    with pytest.raises(UserError, match="ten_crop.json is damaged: remove it"):
        results.measure(table, planned)


# ---- Figures

NAMES = "curves", "positions", "movement"


def test_panels_and_files(planned, tmp_path):
    fill(planned[:4], {(run.variant, run.seed): {20: 0.6, 30: 0.5} for run in planned})
    paths = list(figures.draw(planned, tmp_path / "figures", ("png", "pdf")))
    assert [path.name for path in paths] == [
        f"cifar10_plain_{name}.{suffix}" for name in NAMES for suffix in ("png", "pdf")
    ]
    for path in paths[::2]:
        picture = cv2.imread(str(path))
        assert min(picture.shape[:2]) > 400 and np.ptp(picture) > 200, "blank"
    sides = {variant: [run for run in planned[:4] if run.variant == variant]
             for variant in ("baseline", "acu")}  # fmt: skip
    drawn = dict(figures._figures(sides))
    assert [len(drawn[name].axes) for name in NAMES] == [2, 6, 12]
    labels = [axes.get_ylabel().split("\n")[0] for axes in drawn["positions"].axes]
    assert labels == ["stage 1", "", "stage 2", "", "stage 3", ""]
    legend = [text.get_text() for text in drawn["curves"].legends[0].get_texts()]
    assert legend[:2] == ["ordinary convolutions", "active convolutions"]


def test_one_side_is_enough_and_nothing_is_said(planned, tmp_path):
    with pytest.raises(UserError, match="no run has recorded anything yet"):
        list(figures.draw(planned, tmp_path))
    fill(planned, {("baseline", 2): {20: 0.6}})
    assert [path.name for path in figures.draw(planned, tmp_path)] == ["cifar10_plain_curves.png"]


# ---- Published runs


@pytest.fixture
def published(tmp_path):
    """A folder of published runs: a pair at the whole length, one at a quarter, two ablations."""
    trained, results_folder = tmp_path / "trained", tmp_path / "results"
    for number, (scale, error, variant, active) in enumerate(
        [
            (1, 0.08, "baseline", {}),
            (1, 0.07, "acu", {}),
            (0.25, 0.11, "baseline", {}),
            (0.25, 0.10, "acu", {"warmup_iter": 2500}),
            (0.25, 0.12, "acu", {"warmup_iter": 0}),
            (0.25, 0.13, "acu", {"normalize_gradient": False}),
        ]
    ):
        planned = runs.plan(TABLE, trained / str(number), scale, datasets=["cifar10"])
        run = next(run for run in planned if run.variant == variant)
        folder = make_run(run, {run.max_iter: error})
        give_network(folder, "cifar10/plain", variant, **active)
        with open(folder.solver, "a") as solver:
            solver.write(f'snapshot_prefix: "{folder.snapshots}/x" net: "{folder.train_val}"\n')
        runs.publish(folder.path, results_folder)
    return results_folder


def test_published_runs_have_their_places_and_no_paths(published, tmp_path):
    assert sorted(str(path.relative_to(published)) for path in published.glob("*/*")) == [
        *("table2-0.25/cifar10-plain-acu-1", "table2-0.25/cifar10-plain-acu-nowarmup-1"),
        *("table2-0.25/cifar10-plain-acu-raw-1", "table2-0.25/cifar10-plain-baseline-1"),
        *("table2/cifar10-plain-acu-1", "table2/cifar10-plain-baseline-1"),
    ]
    names = {path.name for path in published.glob("table2/*acu-1/*")}
    assert names == {"metrics.csv", "positions.npz", "run.json", "solver.prototxt"}
    for path in published.glob("*/*/*"):
        assert path.suffix == ".npz" or str(tmp_path) not in path.read_text()


def test_the_table_is_written_from_published_runs(published, tmp_path, capsys):
    command = cli.parser("reproduce").parse_args(
        ["--table", "2", "--show", "--runs", str(published), "--figures", str(tmp_path / "figures")]
    )
    module = cli._module("reproduce")
    assert module.run(command) == 0
    said = capsys.readouterr().out
    assert re.search(r"\| improvement by acu-nowarmup \| +\| -1.00 +\| 1 +\|", said)
    text = (published / "table2.csv").read_text()
    table = list(csv.DictReader(text.splitlines()))
    assert [(row["variant"], row["iterations"], row["test error"]) for row in table] == [
        *(("acu", "16000", "10"), ("acu-nowarmup", "16000", "12"), ("acu-raw", "16000", "13")),
        *(("baseline", "16000", "11"), ("acu", "64000", "7"), ("baseline", "64000", "8")),
    ]
    assert {row["commit"][:7] for row in table} == {"c0ffeec"}
    assert len(list((tmp_path / "figures").glob("cifar10_plain_16000_*.png"))) == 3
    assert module.run(command) == 0 and (published / "table2.csv").read_text() == text


def test_what_cannot_be_published(planned, tmp_path):
    folder = make_run(planned[0], {6: 0.5})
    give_network(folder, "cifar10/plain", "baseline")
    with pytest.raises(UserError, match="not trained to its end: go on with acu train --resume"):
        runs.publish(folder.path, tmp_path / "results")
    folder = make_run(planned[1], {WHOLE: 0.5})
    give_network(folder, "cifar10/plain", "acu")
    folder.record.unlink()
    with pytest.raises(UserError, match="has no run.json: write down there"):
        runs.publish(folder.path, tmp_path / "results")
    give_network(folder, "digits/plain", "acu")
    with pytest.raises(UserError, match="trains digits_plain_acu, which is in no table"):
        runs.publish(folder.path, tmp_path / "results")
