"""Tables of made runs: which errors count, what is printed and what is saved."""

import dataclasses
import json

import pytest
from active_convolution.errors import UserError
from active_convolution.look import confusion, evaluation
from active_convolution.paper import results, runs, tables
from paper_runs import SCALE, make_run, write_models

TABLE = tables.TABLES[2]


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def plan(models_folder, tmp_path):
    """The runs of cifar10/plain, 12 iterations each, in tmp_path/runs."""

    def make(seeds):
        return runs.plan(
            runs.choose(TABLE, ["cifar10"]),
            models_folder,
            tmp_path / "data",
            tmp_path / "runs",
            SCALE,
            seeds,
        )

    return make


def fill(planned, errors, max_iter=12):
    """Makes the runs of {(variant, seed): {iteration: error}}."""
    for run in planned:
        if (run.variant, run.seed) in errors:
            make_run(run.folder.path, errors[run.variant, run.seed], max_iter=max_iter)


def made_lines(planned, table=TABLE):
    return results.lines(table, planned, results.measure(table, planned))


def test_the_tables_are_the_papers():
    assert tables.TABLES[2].comparisons[0].paper == {"baseline": (8.01,), "acu": (7.33,)}
    assert tables.TABLES[2].comparisons[1].paper == {"baseline": (27.85,), "acu": (27.11,)}
    assert [comparison.name for comparison in tables.TABLES[3].comparisons] == [
        "cifar10/basic",
        "cifar100/basic",
        "cifar10/bottleneck",
        "cifar100/bottleneck",
    ]
    assert tables.TABLES[3].comparisons[2].paper == {"baseline": (7.64,), "acu": (7.12,)}
    assert (
        tables.TABLES[4].measures == ("top-1 accuracy", "top-5 accuracy")
        and tables.TABLES[4].ten_crop
    )
    assert tables.TABLES[4].comparisons[1].paper == {
        "baseline": (55.33, 85.24),
        "acu": (55.71, 85.73),
    }
    for table in tables.TABLES.values():
        for comparison in table.comparisons:
            assert all(len(errors) == len(table.measures) for errors in comparison.paper.values())


def test_mean_and_sample_spread_over_seeds(plan):
    planned = plan(3)
    baseline, acu = (0.40, 0.44, 0.45), (0.39, 0.40, 0.47)
    fill(
        planned,
        {
            (variant, seed): {12: error}
            for variant, errors in (("baseline", baseline), ("acu", acu))
            for seed, error in enumerate(errors, start=1)
        },
    )
    lines = made_lines(planned)
    assert [line.side for line in lines] == ["baseline", "acu", "improvement"]
    assert [line.paper for line in lines] == [(8.01,), (7.33,), (pytest.approx(0.68),)]
    gains = [100 * (before - after) for before, after in zip(baseline, acu)]
    for line, numbers in zip(lines, ([40, 44, 45], [39, 40, 47], gains)):
        (cell,) = line.cells
        assert cell.n == 3 and cell.mean == pytest.approx(sum(numbers) / 3)
        assert cell.spread == pytest.approx(
            (sum((number - cell.mean) ** 2 for number in numbers) / 2) ** 0.5
        )
    assert str(lines[0].cells[0]) == "43.00 ± 2.65"
    assert str(lines[2].cells[0]) == "1.00 ± 3.00", "run by run, not from the means' spreads"
    assert lines[0].seconds.mean == pytest.approx(60)


def test_the_last_test_counts_and_unfinished_runs_do_not(plan):
    planned = plan(2)
    fill(
        planned,
        {
            ("baseline", 1): {6: 0.10, 12: 0.30},
            ("baseline", 2): {6: 0.10, 11: 0.20},
            ("acu", 2): {12: 0.25},
        },
    )
    lines = made_lines(planned)
    assert [str(line.cells[0]) for line in lines] == ["30.00", "25.00", "–"], (
        "no seed on both sides"
    )
    assert [line.cells[0].n for line in lines] == [1, 1, 0]


@pytest.mark.parametrize(
    "errors", [{12: None}, {6: 0.1, 12: None}], ids=["none at all", "an earlier test's"]
)
def test_a_last_test_without_an_error_is_refused(plan, errors):
    """Of a network without an Accuracy layer: an earlier test's error is not that of the finished network."""
    planned = plan(1)
    fill(planned, {("acu", 1): errors})
    with pytest.raises(
        UserError,
        match="the last test of .*acu_seed1 has no test_error: give its network an Accuracy layer",
    ):
        results.measure(TABLE, planned)
    assert runs.outcome(planned[1]) == "no test error after 12 iterations, 60 s"


def test_a_time_that_nobody_measured_is_left_out(plan, tmp_path):
    planned = plan(2)
    fill(planned, {("baseline", seed): {12: 0.5} for seed in (1, 2)})
    make_run(planned[1].folder.path, {12: 0.25}, seconds=None, max_iter=12)
    make_run(planned[3].folder.path, {12: 0.25}, seconds=None, max_iter=12)
    baseline, acu, _ = made_lines(planned)
    assert (baseline.seconds.n, acu.seconds.n, acu.seconds.mean) == (2, 0, None)
    assert [
        row.split("|")[-2].strip() for row in results.text(TABLE, [baseline, acu]).splitlines()[2:]
    ] == ["60 s", ""]
    assert runs.outcome(planned[1]) == "test error 25.00 % after 12 iterations, time unknown"
    results.save(tmp_path / "table.json", TABLE, planned, results.measure(TABLE, planned))


def test_nothing_measured_is_a_dash(plan):
    planned = plan(1)
    table = results.text(TABLE, made_lines(planned))
    head, _, *rows = ([cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines())
    assert head == ["data", "network", "", "test error, paper", "measured", "runs", "time each"]
    assert rows == [
        ["cifar10", "plain", "baseline", "8.01", "–", "0", ""],
        ["", "", "acu", "7.33", "–", "0", ""],
        ["", "", "improvement", "0.68", "–", "0", ""],
    ]
    assert set(table.splitlines()[1]) == set("| -")
    assert len({len(row) for row in table.splitlines()}) == 1, "columns are aligned"


def test_caption_says_what_the_numbers_are(plan):
    caption = results.caption(TABLE, plan(3), 0.05)
    assert (
        "mean ± standard deviation of 3 seeds, after 12 iterations, 5 % of the paper's" in caption
    )
    assert "–:" not in caption and "one seed" in results.caption(TABLE, plan(1), 0.05)


def test_accuracies_are_what_is_missing_to_100(plan, monkeypatch):
    """Table 4's: a gain of the active network is a higher number, in the paper's column and in ours."""
    monkeypatch.setattr(
        evaluation,
        "evaluate",
        lambda deploy, *_, **__: (
            (0.45, 0.2, 20) if "baseline" in str(deploy) else (0.41, 0.1875, 20)
        ),
    )
    alexnet = tables.TABLES[4].comparisons[0]
    planned = [dataclasses.replace(run, comparison=alexnet) for run in plan(1)]
    fill(planned, {("baseline", 1): {12: 0.5}, ("acu", 1): {12: 0.5}})
    lines = made_lines(planned, tables.TABLES[4])
    assert [[str(cell) for cell in line.cells] for line in lines] == [
        ["55.00", "80.00"],
        ["59.00", "81.25"],
        ["4.00", "1.25"],
    ]
    assert lines[2].paper == (pytest.approx(0.60), pytest.approx(0.79))
    assert "top-1 accuracy, paper" in results.text(tables.TABLES[4], lines)
    assert "accuracies in %" in results.caption(tables.TABLES[4], planned, 1)


def test_a_run_of_another_length_is_refused(plan):
    planned = plan(1)
    fill(planned, {("acu", 1): {24: 0.1}}, max_iter=24)
    with pytest.raises(
        UserError, match="acu_seed1 is a run of 24 iterations, not of 12: give the --scale"
    ):
        results.measure(TABLE, planned)


def test_ten_crops_are_evaluated_once(plan, monkeypatch):
    """On the last snapshot, on the device that is asked for; what came out stays in the run's folder."""
    planned, calls = plan(1), []
    fill(planned, {("acu", 1): {12: 0.5}, ("baseline", 1): {6: 0.5}})
    monkeypatch.setattr(
        evaluation,
        "evaluate",
        lambda *arguments, **options: calls.append((arguments, options)) or (0.45, 0.125, 20),
    )
    table = tables.Table(4, "made", ("top-1 error", "top-5 error"), (), ten_crop=True)
    for _ in range(2):
        measured = results.measure(table, planned, 3)
        assert {run.variant: errors for run, errors in measured.items()} == {"acu": (45, 12.5)}
    (deploy, weights, data), options = calls[0]
    assert len(calls) == 1 and options == {"ten_crop": True, "gpu": 3}
    folder = planned[1].folder
    assert (deploy, weights) == (
        folder.deploy,
        folder.snapshots / "cifar10_plain_acu_iter_12.caffemodel",
    )
    assert data == planned[1].data
    for text in (
        "{}",
        "[]",
        "[" * 100_000,
        '{"top1": "12", "top5": 1}',
        '{"top1": true, "top5": 1}',
        '{"top1": NaN, "top5": 1}',
        '{"top1": 101, "top5": 1}',
        '{"top1": 12, "top5": -1e999}',
    ):
        (folder.path / "ten_crop.json").write_text(text)
        with pytest.raises(UserError, match="ten_crop.json is damaged: remove it"):
            results.measure(table, planned)


def test_ten_crops_have_a_file_of_their_own(plan, monkeypatch):
    """What acu evaluate --json wrote stays beside it; what a former version kept under that name is read, and no report of one."""
    planned = plan(1)
    fill(planned, {("acu", 1): {12: 0.5}})
    monkeypatch.setattr(evaluation, "evaluate", lambda *_, **__: (0.45, 0.125, 20))
    table = tables.Table(4, "made", ("top-1 error", "top-5 error"), (), ten_crop=True)
    reports, ours = (planned[1].folder.path / name for name in ("evaluation.json", "ten_crop.json"))
    for theirs in ('{"images": 3}', "damaged"):
        reports.write_text(theirs)
        assert (
            results.measure(table, planned) == {planned[1]: (45, 12.5)}
            and reports.read_text() == theirs
        )
        ours.unlink()
    reports.write_text('{"top1": 40, "top5": 10}')
    assert results.measure(table, planned) == {planned[1]: (40, 10)} and not ours.exists()
    assert confusion.load(reports) is None


def test_everything_is_saved(plan, tmp_path):
    planned = plan(2)
    fill(
        planned,
        {("baseline", 1): {12: 0.5}, ("baseline", 2): {12: 0.25}, ("acu", 1): {6: 0.5, 9: 0.375}},
    )
    results.save(tmp_path / "new/table.json", TABLE, planned, results.measure(TABLE, planned))
    saved = json.loads((tmp_path / "new/table.json").read_text())
    assert saved["table"] == 2 and saved["measures"] == ["test error"]
    assert saved["lines"][0] == {
        "dataset": "cifar10",
        "network": "plain",
        "side": "baseline",
        "paper": [8.01],
        "measured": [{"n": 2, "mean": 37.5, "spread": pytest.approx(312.5**0.5)}],
    }
    assert saved["lines"][1]["measured"] == [{"n": 0, "mean": None, "spread": None}]
    one = {(run["variant"], run["seed"]): run for run in saved["runs"]}
    assert one["baseline", 2]["figures"] == [25] and one["baseline", 2]["seconds"] == 60
    assert (one["acu", 1]["iteration"], one["acu", 1]["figures"]) == (9, None) and one["acu", 2][
        "iteration"
    ] == 0
    assert one["acu", 2]["folder"].endswith("runs/cifar10_plain_acu_seed2")
