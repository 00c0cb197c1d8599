"""The page about training runs: what it holds, what a browser shows of it, and the command line that writes it."""

import json
import math
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from active_convolution.caffe import messages
from active_convolution.caffe.positions import History, LayerPositions
from active_convolution.errors import UserError
from active_convolution.geometry import grid
from active_convolution.look import confusion
from active_convolution.look.report import content, page
from active_convolution.networks import models
from active_convolution.training.metrics import Metrics
from browser import Browser
from conftest import ROOT
from training_runs import MAX_ITER, TINY, WARMUP_ITER, run_script

pytestmark = pytest.mark.slow


def write_run(folder, rows=(), history=None, variant="acu"):
    """A run folder of the tiny network, with rows of (iteration, values) as metrics."""
    folder.mkdir(parents=True)
    for kind in ("solver", "train_val"):
        messages.write(folder / f"{kind}.prototxt", getattr(models, kind)(TINY, variant))
    metrics = Metrics()
    for iteration, values in rows:
        metrics.append(iteration, **{"seconds": iteration / 2, **values})
    if rows:
        metrics.save(folder / "metrics.csv")
    if history is not None:
        history.save(folder / "positions.npz")
    return folder


def curve(iterations, loss=lambda iteration: 2 / iteration):
    """Rows with a loss every time, and a test in every second row."""
    return [
        (
            iteration,
            dict(
                loss=loss(iteration),
                **(dict(test_loss=3 / iteration, test_error=9 / iteration) if number % 2 else {}),
            ),
        )
        for number, iteration in enumerate(iterations)
    ]


def walk(iterations, layers, seed=0, warmup_iter=WARMUP_ITER, pace=0.1):
    """A History: after the warm-up every synapse but the origin goes its own random way. ``layers`` is {name: xy}."""
    generator, history = np.random.default_rng(seed), History(warmup_iter)
    at = {name: np.array(xy, np.float32) for name, xy in layers.items()}
    for iteration in iterations:
        for xy in at.values():
            if iteration > warmup_iter:
                xy[(xy != 0).any(axis=-1)] += generator.normal(
                    0, pace, xy[(xy != 0).any(axis=-1)].shape
                )
        history.append(
            iteration,
            [
                LayerPositions(
                    name,
                    "ActiveConvolution",
                    (1, xy.shape[1]) if xy.shape[1] != 9 else (3, 3),
                    xy.copy(),
                )
                for name, xy in at.items()
            ],
        )
    return history


GRID = {"conv": grid((3, 3))[None]}


def written(output, *folders):
    page.write(folders, output)
    return output


# ---- What it holds


def decoded(panel):
    """The path that a panel's steps tell, in pixels: (T, K, 2)."""
    steps = np.array([math.nan if step is None else step for step in panel["steps"]]).reshape(
        -1, panel["synapses"], 2
    )
    return np.where(np.isnan(steps), math.nan, np.nancumsum(steps, axis=0)) / content.UNITS


def test_positions_are_kept_to_half_a_thousandth_of_a_pixel(tmp_path):
    history = walk(
        range(0, 241, 5),
        {"conv": np.stack([grid((3, 3)), grid((3, 3)) * 2]), "pointwise": [[[0, 0]]]},
    )
    (run,) = content.read([write_run(tmp_path / "run", curve([240]), history)])["runs"]
    assert run["positions"]["iterations"] == list(range(0, 241, 5))
    assert [panel["title"] for panel in run["positions"]["panels"]] == [
        "conv, set 1 of 2",
        "conv, set 2 of 2",
    ]
    for group, panel in enumerate(run["positions"]["panels"]):
        np.testing.assert_allclose(
            decoded(panel), history.positions("conv")[:, group], rtol=0, atol=0.00051
        )
        np.testing.assert_array_equal(panel["start"], history.positions("conv")[0, group])
        assert panel["known"] and panel["reach"] > np.abs(history.positions("conv")[:, group]).max()


@pytest.mark.quick
def test_many_sets_of_positions_are_read_at_once(tmp_path, monkeypatch):
    """And not all of them again for each."""
    calls, positions = [], History.positions
    monkeypatch.setattr(
        History, "positions", lambda history, name: calls.append(name) or positions(history, name)
    )
    history = walk(
        [0, 240], {"conv": np.repeat(grid((3, 3))[None], 64, axis=0), "one": grid((3, 3))[None]}
    )
    (run,) = content.read([write_run(tmp_path / "run", history=history)])["runs"]
    assert (
        len(run["positions"]["panels"]) == 65 and calls[-2:] == ["conv", "one"] and len(calls) == 4
    ), "two of them to save"
    np.testing.assert_allclose(
        decoded(run["positions"]["panels"][63]),
        positions(history, "conv")[:, 63],
        rtol=0,
        atol=0.00051,
    )


def test_lost_positions_are_left_out_and_found_again(tmp_path):
    history = History()
    for iteration, x in enumerate([0.5, math.nan, 1e30, -math.inf, 0.25]):
        history.append(
            iteration,
            [LayerPositions("conv", "ActiveConvolution", (1, 2), np.float32([[[0, 0], [x, 1]]]))],
        )
    panel = content.read([write_run(tmp_path / "run", history=history)])["runs"][0]["positions"][
        "panels"
    ][0]
    np.testing.assert_array_equal(
        decoded(panel)[:, 1, 0], [0.5, math.nan, math.nan, math.nan, 0.25]
    )
    np.testing.assert_array_equal(decoded(panel)[:, 0], 0)
    assert panel["reach"] == 1.5


def test_one_synapse_far_away_does_not_shrink_the_others(tmp_path):
    history = walk([0, 240], {"conv": np.float32([[[0, 0], [1, 0]]])}, pace=3000)
    panel = content.read([write_run(tmp_path / "run", history=history)])["runs"][0]["positions"][
        "panels"
    ][0]
    assert np.abs(history.positions("conv")).max() > 100 and panel["reach"] == pytest.approx(8.4)


def test_unknown_start_is_the_kernels_grid(tmp_path):
    history = walk([WARMUP_ITER + 10, 240], GRID)
    panel = content.read([write_run(tmp_path / "run", history=history)])["runs"][0]["positions"][
        "panels"
    ][0]
    assert not panel["known"] and panel["start"] == grid((3, 3)).tolist()


@pytest.mark.parametrize("lost", [math.nan, 1e38])
def test_start_that_is_lost_is_not_known(tmp_path, lost):
    history = History()
    history.append(
        0,
        [LayerPositions("conv", "ActiveConvolution", (1, 2), np.full((1, 2, 2), lost, np.float32))],
    )
    report = content.read([write_run(tmp_path / "run", history=history)])
    assert report["runs"][0]["positions"]["panels"][0]["start"] == [[0, 0], [1, 0]] and page.render(
        report
    )


@pytest.mark.quick
def test_summary_says_what_was_measured(tmp_path):
    rows = [
        (60, dict(loss=2, test_loss=1, test_error=0.25)),
        (120, dict(loss=1.5, test_loss=0.5, test_error=0.125)),
        (180, dict(loss=1.2, test_loss=0.7, test_error=0.5)),
        (190, dict(loss=math.nan)),
        (200, dict(loss=math.inf)),
    ]
    summary = content.read([write_run(tmp_path / "run", rows)])["runs"][0]["summary"]
    assert summary == {
        "iteration": 200,
        "max_iter": MAX_ITER,
        "seconds": 100,
        "test_error": 0.5,
        "test_iteration": 180,
        "best_error": 0.125,
        "best_iteration": 120,
        "test_loss": 0.7,
        "loss": None,
        "diverged": 190,
    }


def test_run_that_has_measured_nothing_yet(tmp_path):
    (run,) = content.read([write_run(tmp_path / "run")])["runs"]
    assert (
        run["positions"] is None
        and run["summary"]["iteration"] == 0
        and run["training"]["loss"] == []
    )


def test_names_tell_runs_apart(tmp_path):
    folders = [write_run(tmp_path / name) for name in ("a/acu", "b/acu", "c")]
    assert [run["name"] for run in content.read(folders[1:])["runs"]] == ["acu", "c"]
    assert [run["name"] for run in content.read(folders)["runs"]] == [
        "a/acu",
        "b/acu",
        f"{tmp_path.name}/c",
    ]


@pytest.mark.quick
def test_names_are_text(tmp_path):
    run = write_run(tmp_path / os.fsdecode(b"bad\xff"))
    assert content.read([run])["runs"][0]["name"] == "bad\ufffd"
    assert "bad\ufffd" in written(tmp_path / "a.html", run).read_text(encoding="utf-8")


@pytest.mark.quick
def test_a_circle_of_links_is_no_run(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="loop is no run: name folders that acu train filled"):
        content.read([tmp_path / "loop"])


# ---- As a file


def test_size_of_the_papers_longest_run(tmp_path):
    """64,000 iterations, a record every 100, the 30 active layers of the 32-layer residual network: below 1.5 MB."""
    layers = {f"conv{number}": grid((3, 3))[None] for number in range(30)}
    history = walk(range(0, 64001, 100), layers, warmup_iter=10000, pace=0.005)
    output = written(
        tmp_path / "a.html", write_run(tmp_path / "run", curve(range(100, 64001, 100)), history)
    )
    assert 0.3e6 < output.stat().st_size < 1.5e6


@pytest.mark.quick
def test_needs_nothing_else(tmp_path):
    text = written(
        tmp_path / "a.html", write_run(tmp_path / "run", curve([120, 240]), walk([0, 240], GRID))
    ).read_text()
    assert set(re.findall(r"\w+://[^\s\"']*", text)) == {
        "http://www.w3.org/2000/svg"
    }  # a name, not an address
    assert not re.search(
        r"<(link|img|iframe)|\ssrc=|@import|url\(|fetch\(|import\(|\$\w+\b(?<!\$\{)", text
    )


def test_failure_leaves_no_file(tmp_path):
    with pytest.raises(UserError, match="is no run"):
        page.write([write_run(tmp_path / "run"), tmp_path], tmp_path / "a.html")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    "spoil, complaint",
    [
        (
            lambda run: run.rename(run.with_name("other")),
            "{0}/run is no run: name folders that acu train filled",
        ),
        (lambda run: (run / "solver.prototxt").unlink(), "{0}/run is no run"),
        (
            lambda run: (run / "solver.prototxt").write_text("base_lr: 1 {"),
            "solver.prototxt is no valid prototxt",
        ),
        (
            lambda run: (run / "train_val.prototxt").unlink(),
            "cannot read {0}/run/train_val.prototxt",
        ),
        (
            lambda run: (run / "metrics.csv").write_text("iteration,loss\n1,2\n"),
            "metrics.csv is damaged",
        ),
        (lambda run: os.truncate(run / "positions.npz", 300), "positions.npz is damaged"),
    ],
)
def test_bad_runs_are_named(tmp_path, spoil, complaint):
    spoil(write_run(tmp_path / "run", curve([240]), walk([0, 240], GRID)))
    with pytest.raises(UserError) as error:
        page.write([tmp_path / "run"], tmp_path / "a.html")
    assert complaint.format(tmp_path) in str(error.value) and not (tmp_path / "a.html").exists()


# ---- In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not shutil.which("chromium-headless-shell") and not os.environ.get("CI"):
        pytest.skip("needs chromium-headless-shell")
    with Browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture
def show(browser, tmp_path):
    """Opens the page about some runs, and checks that it asks for nothing and complains about nothing."""

    def show(*folders):
        output = written(tmp_path / "page.html", *folders)
        browser.open(output)
        return browser

    yield show
    asked = [
        address for address in browser.requests if not address.startswith("data:")
    ]  # nobody is asked for those
    assert browser.complaints == [] and asked == [(tmp_path / "page.html").as_uri()]


def slide(browser, index):
    """Moves the slider as a user's pointer does: to a step, with the event that comes of it."""
    browser.evaluate(f"""(() => {{ const slider = document.getElementById("slider"); slider.value = {index};
                                   slider.dispatchEvent(new Event("input", {{bubbles: true}})); }})()""")


def shown_positions(browser, card=0, panel=0):
    """Where a panel's visible synapses are: (K, 2)."""
    return np.array(
        browser.evaluate(f"""
        [...document.querySelectorAll(".layer")[{card}].querySelectorAll(".panel")[{panel}]
         .querySelectorAll(".synapse")]
        .filter(dot => dot.style.display !== "none").map(dot => [dot.cx.baseVal.value, dot.cy.baseVal.value])""")
    )


def texts(browser, selector):
    return browser.evaluate(
        f"[...document.querySelectorAll({json.dumps(selector)})].map(node => node.textContent)"
    )


def path_data(browser, selector):
    return browser.evaluate(
        f"[...document.querySelectorAll('{selector}')].map(node => node.getAttribute('d'))"
    )


def test_slider_moves_the_synapses_of_a_real_run(show, tmp_path, tiny, digits_data):
    status, _, stderr = run_script(
        tiny,
        "--variant",
        "acu",
        "--data",
        digits_data,
        "--output",
        tmp_path / "run",
        "--max-iter",
        24,
    )
    assert status == 0, stderr
    history = History.load(tmp_path / "run" / "positions.npz")
    browser = show(tmp_path / "run")
    assert browser.evaluate("slider.max") == str(len(history.iterations) - 1)
    seen = []
    for index in (len(history.iterations) - 1, 0, len(history.iterations) // 2):
        slide(browser, index)
        seen.append(shown_positions(browser))
        np.testing.assert_allclose(
            seen[-1], history.positions("conv")[index, 0], rtol=0, atol=0.00051
        )
        assert texts(browser, "#iteration") == [f"iteration {history.iterations[index]}"]
    assert np.abs(seen[0] - seen[1]).max() > 0.002, (
        "training moved the synapses, and the page must show it"
    )


def test_starts_at_the_end_and_obeys_the_keyboard(show, tmp_path):
    browser = show(
        write_run(tmp_path / "run", curve([80, 160, 240]), walk([0, 80, 160, 240], GRID))
    )
    states = [texts(browser, "#iteration")[0]]
    browser.evaluate("slider.focus()")
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowLeft", "End"):
        browser.press(key)
        states.append(browser.evaluate("slider.getAttribute('aria-valuetext')"))
    assert states == [f"iteration {iteration}" for iteration in (240, 0, 80, 160, 80, 240)]


def test_keyboard_reaches_all_controls(show, tmp_path):
    browser = show(write_run(tmp_path / "run", curve([80, 160]), walk([0, 80, 160], GRID)))
    reached = []
    for _ in range(4):
        browser.press("Tab")
        reached.append(browser.evaluate("document.activeElement.id || document.activeElement.type"))
    assert reached == ["checkbox", "play", "slider", "scale"]


def test_play_runs_to_the_end_and_can_be_paused(show, tmp_path):
    browser = show(write_run(tmp_path / "run", curve([240]), walk(range(0, 241, 4), GRID)))
    browser.click("#play")
    label = """new Promise(resolve => setInterval(() => {
                   if (play.getAttribute("aria-label") === "Pause") resolve("Pause"); }, 5))"""
    assert browser.evaluate(label) == "Pause"
    moving = """new Promise(resolve => setInterval(() => { const at = Number(slider.value);
                if (at > 2 && at < slider.max) resolve(at); }, 5))"""
    assert 2 < browser.evaluate(moving) < 60
    browser.click("#play")
    before, after = browser.evaluate("""new Promise(resolve => {
        const before = slider.value; setTimeout(() => resolve([before, slider.value]), 300); })""")
    assert before == after and browser.evaluate("play.getAttribute('aria-label')") == "Play"
    browser.evaluate("void (slider.value = slider.max - 1)")
    browser.click("#play")
    ended = """new Promise(resolve => setInterval(() => {
                   if (play.getAttribute("aria-label") === "Play") resolve(slider.value); }, 5))"""
    assert browser.evaluate(ended) == "60" and texts(browser, "#iteration") == ["iteration 240"]


def test_start_trail_and_lattice(show, tmp_path):
    history = walk(range(0, 241, 20), GRID)
    browser = show(write_run(tmp_path / "run", history=history))
    starts = browser.evaluate("""[...document.querySelectorAll("circle.start")]
                                 .map(mark => [mark.cx.baseVal.value, mark.cy.baseVal.value])""")
    np.testing.assert_array_equal(starts, grid((3, 3)))
    pixel = browser.evaluate("""
        (box => [box.x, box.y, box.width, box.height])(document.querySelector('.pixel').getBBox())""")
    assert pixel == [-0.5, -0.5, 1, 1]
    lattice = path_data(browser, ".lattice")[0]
    assert {float(number) for number in re.findall(r"M(-?\d+) ", lattice)} >= {-1, 0, 1}
    slide(browser, 12)
    trails = path_data(browser, ".trail")
    points = [np.array(re.findall(r"(-?[\d.e-]+) (-?[\d.e-]+)", trail), float) for trail in trails]
    frozen = WARMUP_ITER // 20 + 1
    np.testing.assert_allclose(
        points[0], history.positions("conv")[frozen - 1 :, 0, 0], rtol=0, atol=0.00051
    )
    assert len(points[4]) == 1, "the origin stays"
    slide(browser, frozen)
    assert [trail.count("L") for trail in path_data(browser, ".trail")] == [
        1,
        1,
        1,
        1,
        0,
        1,
        1,
        1,
        1,
    ]


def training_points(browser):
    """The points of the first run's curve of training losses, in the chart's own units: (N, 2)."""
    return np.array(
        re.findall(r"[ML]([\d.]+) ([\d.]+)", path_data(browser, "path[data-name$=training]")[0]),
        float,
    )


def test_curves_and_the_end_of_the_warmup(show, tmp_path):
    browser = show(write_run(tmp_path / "run", curve(range(10, 241, 10)), walk([0, 240], GRID)))
    loss = training_points(browser)
    assert len(loss) == 24
    slope = np.polyfit(
        np.log(range(10, 241, 10)), loss[:, 1], 1, full=True
    )  # 2 / iteration, both axes logarithmic
    assert slope[1][0] < 0.1 and slope[0][0] > 10
    x = browser.evaluate(
        "[...document.querySelectorAll('line.warmup')].map(line => line.x1.baseVal.value)"
    )
    np.testing.assert_allclose(
        x, np.interp(WARMUP_ITER, np.arange(10, 241, 10), loss[:, 0]), atol=0.1
    )
    assert "end of warm-up" in texts(browser, ".chart text")
    assert browser.evaluate("document.querySelector('.cursor').x1.baseVal.value") == pytest.approx(
        loss[-1, 0], abs=0.1
    )
    slide(browser, 0)
    assert browser.evaluate("document.querySelector('.cursor').x1.baseVal.value") < loss[0, 0]
    browser.click(".chart input")
    linear = training_points(browser)
    height = 1 / np.arange(10, 241, 10)
    np.testing.assert_allclose(
        (linear[:, 1] - linear[0, 1]) / (linear[-1, 1] - linear[0, 1]),
        (height - height[0]) / (height[-1] - height[0]),
        atol=0.002,
    )


def test_pointer_reads_the_curves(show, tmp_path):
    browser = show(write_run(tmp_path / "run", curve(range(10, 241, 10)), walk([0, 240], GRID)))
    assert texts(browser, ".chart .key li") == [
        "run, training 0.008333",
        "run, test 0.0125",
        "run 3.75 %",
    ]
    browser.evaluate("""(() => { const svg = document.querySelector(".chart svg"), box = svg.getBoundingClientRect();
        svg.dispatchEvent(new PointerEvent("pointermove", {clientX: box.x + box.width * 303 / 560})); })()""")
    assert texts(browser, ".chart .key li")[:2] == [
        "run, training 0.01667 at 120",
        "run, test 0.025 at 120",
    ]


@pytest.mark.parametrize(
    "low, high, ticks",
    [(0.31, 0.44, ["0.3", "0.35", "0.4", "0.45"]), (1e-9, 1e6, None), (0.5, 0.5, ["0.5"])],
)
def test_axis_of_any_range_has_ticks(show, tmp_path, low, high, ticks):
    browser = show(
        write_run(tmp_path / "run", [(1, dict(loss=high)), (2, dict(loss=low))], variant="baseline")
    )
    found = texts(browser, ".chart:first-child text.tick[text-anchor=end]")
    assert set(ticks) <= set(found) if ticks else 4 < len(found) < 10, found


def test_pointer_reads_a_synapse(show, tmp_path):
    history = History()
    for iteration, x in enumerate([1, 1.5]):
        xy = np.float32([[[0, 0], [x, -0.25]]])
        history.append(iteration, [LayerPositions("conv", "ActiveConvolution", (1, 2), xy)])
    browser = show(write_run(tmp_path / "run", history=history))
    hover = "document.querySelectorAll('.synapse')[1].dispatchEvent(new PointerEvent('pointer{}'))"
    browser.evaluate(hover.format("enter"))
    assert texts(browser, "figcaption") == ["(1.50, \u22120.25), moved 0.50 px"]
    browser.evaluate(hover.format("leave"))
    assert texts(browser, "figcaption") == ["moved up to 0.50 px"]


def test_table(show, tmp_path):
    finished = write_run(tmp_path / "finished", curve([120, 240]), variant="baseline")
    rows = [
        (100, dict(loss=1)),
        (120, dict(loss=0.5, test_loss=0.5, test_error=59 / 297)),
        (130, dict(loss=0.25)),
    ]
    stopped = write_run(tmp_path / "stopped", rows, walk([0, 120], GRID))
    browser = show(finished, stopped, write_run(tmp_path / "new"))
    rows = browser.evaluate("""[...document.querySelectorAll("#errors tbody tr")]
                               .map(row => [...row.children].map(cell => cell.textContent))""")
    assert rows[0] == [
        "finished",
        "digits_tiny_baseline",
        "240",
        "3.75 %",
        "3.75 % at 240",
        "0.0125",
        "0.008333",
        "–",
        "2 min",
    ]
    assert rows[1][:5] == [
        "stopped",
        "digits_tiny_acu",
        "130 of 240",
        "19.87 % at 120",
        "19.87 % at 120",
    ]
    assert re.fullmatch(r"0\.\d\d px", rows[1][7]) and rows[1][8] == "65 s"
    assert rows[2][1:] == ["digits_tiny_acu", "0 of 240", "–", "–", "–", "–", "–", "–"]
    assert texts(browser, ".best") == ["3.75 %"]


def test_runs_side_by_side(show, tmp_path):
    """Other layers, other iterations, and a baseline between them that has no positions."""
    first = walk([0, 100, 200], {"one": GRID["conv"], "two": GRID["conv"]}, seed=1)
    second = walk(
        [0, 50, 240], {"two": GRID["conv"], "three": GRID["conv"]}, seed=2, warmup_iter=20
    )
    browser = show(
        write_run(tmp_path / "a", curve([200]), first),
        write_run(tmp_path / "b", curve([240]), variant="baseline"),
        write_run(tmp_path / "c", curve([240]), second),
    )
    assert texts(browser, ".layer h3") == ["one", "two", "three"]
    assert texts(browser, ".absent") == ["not in c", "not in a"]
    tops = browser.evaluate("""[...document.querySelectorAll(".layer")[1].querySelectorAll(".panel")]
                               .map(panel => panel.getBoundingClientRect().y)""")
    assert len(tops) == 2 and tops[0] == tops[1]
    assert browser.evaluate("slider.max") == "4"
    steps = [(0, 0, 0), (50, 0, 1), (100, 1, 1), (200, 2, 1), (240, 2, 2)]
    for index, (iteration, record_a, record_c) in enumerate(steps):
        slide(browser, index)
        assert texts(browser, "#iteration") == [f"iteration {iteration}"]
        np.testing.assert_allclose(
            shown_positions(browser, 1, 0), first.positions("two")[record_a, 0], atol=0.00051
        )
        np.testing.assert_allclose(
            shown_positions(browser, 1, 1), second.positions("two")[record_c, 0], atol=0.00051
        )
    assert texts(browser, "#records li") == ["a: record of 200", "c"]
    slide(browser, 1)
    assert texts(browser, "#records li") == ["a: record of 0, warm-up", "c: warm-up"]


def test_run_that_recorded_late_waits(show, tmp_path):
    browser = show(
        write_run(tmp_path / "a", history=walk([0, 100, 200], GRID)),
        write_run(tmp_path / "b", history=walk([100, 200], GRID)),
    )
    slide(browser, 0)
    assert texts(browser, "#records li")[1] == "b: first record at 100"
    assert texts(browser, ".panel figcaption") == ["moved up to 0.00 px", "no record yet"]
    assert "kernel's grid" in texts(browser, ".note")[0]


def test_each_layer_can_have_its_own_scale(show, tmp_path):
    history = walk([0, 240], {"near": GRID["conv"], "far": 3 * GRID["conv"]})
    browser = show(write_run(tmp_path / "run", history=history))
    widths = "[...document.querySelectorAll('.panel svg')].map(svg => svg.viewBox.baseVal.width)"
    near, far = browser.evaluate(widths)
    assert near == far > 6
    browser.click("#scale")
    near, far = browser.evaluate(widths)
    assert near < 4 and far > 6
    np.testing.assert_allclose(
        shown_positions(browser), history.positions("near")[-1, 0], atol=0.00051
    )


def test_diverged_run(show, tmp_path):
    history = walk([0, 100], GRID)
    lost = np.where(np.arange(9)[:, None] < 2, np.nan, grid((3, 3)))[None]
    history.append(200, [LayerPositions("conv", "ActiveConvolution", (3, 3), lost)])
    losses = (
        dict.fromkeys(range(10, 60, 10), 0.1)
        | dict.fromkeys(range(60, 200, 10), math.nan)
        | {200: 0.01}
    )
    browser = show(write_run(tmp_path / "run", curve(losses, losses.get), history))
    path = path_data(browser, "path.series[data-name$=training]")[0]
    assert (path.count("M"), path.count("L")) == (2, 4), "a gap, and a point behind it"
    assert texts(browser, "#errors tbody td")[5] == "not a number at 60"
    np.testing.assert_array_equal(shown_positions(browser), grid((3, 3))[2:])
    assert texts(browser, "figcaption") == ["moved up to 0.00 px, 2 lost"]


def test_baseline_alone_has_curves_only(show, tmp_path):
    browser = show(write_run(tmp_path / "run", curve([120, 240]), variant="baseline"))
    assert len(texts(browser, "path.series")) == 3 and texts(browser, "line.warmup") == []
    assert texts(browser, "#positions p") == [
        "None of these runs recorded positions of active convolutions."
    ]
    assert browser.evaluate("document.getElementById('slider')") is None


def test_run_with_nothing_yet(show, tmp_path):
    browser = show(write_run(tmp_path / "run", history=walk([0], GRID)))
    assert texts(browser, ".empty") == ["nothing measured yet"] * 2
    assert (
        browser.evaluate("slider.disabled && play.disabled") and len(shown_positions(browser)) == 9
    )


def test_names_cannot_inject(show, tmp_path):
    name = "</script><script>window.hurt=1</script><!--<b>&amp;\"'$data${x}"
    history = walk([0, 240], {"<img src=x onerror=window.hurt=1>": GRID["conv"]})
    browser = show(
        write_run(tmp_path / "runs" / name.replace("/", "\u2215"), curve([240]), history)
    )
    assert browser.evaluate("window.hurt") is None and len(shown_positions(browser)) == 9
    assert texts(browser, "#runs li") == [name.replace("/", "\u2215")]
    assert texts(browser, ".layer h3") == ["<img src=x onerror=window.hurt=1>"]
    assert browser.evaluate("document.title") == "Training runs: " + name.replace("/", "\u2215")


def test_script_element_cannot_be_ended():
    assert "<" not in page._json(["</script>", "<!--"]) and json.loads(
        page._json(["</script>"])
    ) == ["</script>"]


def test_light_and_dark(show, tmp_path):
    browser = show(write_run(tmp_path / "run", curve([120, 240]), walk([0, 240], GRID)))
    colours = []
    for scheme in ("light", "dark"):
        browser.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        colours.append(
            browser.evaluate("""
            [["body", "backgroundColor"], ["h1", "color"], [".synapse", "fill"], [".tick", "fill"],
             [".series", "stroke"]].map(([selector, property]) => getComputedStyle(document.querySelector(selector))[property])""")
        )
    browser.call("Emulation.setEmulatedMedia", features=[])
    for paper, *inks in colours:
        for ink in inks:
            assert contrast(paper, ink) > 3, (paper, ink)
        assert contrast(paper, inks[0]) > 7
    assert all(light != dark for light, dark in zip(*colours))


def contrast(one, other):
    """The contrast ratio of two CSS colours, as WCAG 2 defines it."""

    def luminance(colour):
        channels = np.array(re.findall(r"\d+", colour)[:3], float) / 255
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return linear @ [0.2126, 0.7152, 0.0722]

    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def test_narrow_screen_does_not_overflow(show, tmp_path):
    browser = show(
        *(
            write_run(tmp_path / name, curve([240]), walk([0, 240], GRID))
            for name in ("a", "b", "c")
        )
    )
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        width=390,
        height=800,
        deviceScaleFactor=1,
        mobile=False,
    )
    width = browser.evaluate("document.documentElement.scrollWidth")
    browser.call("Emulation.clearDeviceMetricsOverride")
    assert width <= 390


def evaluated(folder, classes, seen=60):
    """A run folder with what acu evaluate --json writes, of ``seen`` images: every third one of class c is taken for c + 1."""
    made = confusion.Confusion()
    made.begin(classes, [f"kind {label}" for label in range(classes)])
    labels = np.arange(seen) % classes
    answers = np.where(np.arange(seen) % 3 == 0, (labels + 1) % classes, labels)
    probabilities = np.full((seen, classes), 0.2 / (classes - 1))
    probabilities[np.arange(seen), answers] = 0.8
    made.add(
        np.random.RandomState(0).randint(0, 256, (seen, 3, 8, 8)).astype(np.float32),
        labels,
        probabilities,
    )
    confusion.write(
        write_run(folder, curve([120, 240]), walk([0, 240], GRID)) / confusion.FILE,
        made.content(1 / 3, 0.1),
    )
    return folder


@pytest.mark.parametrize("classes", [2, 10, 40, 41, 100])
def test_classes(show, tmp_path, classes):
    """Errors by class, the worst first; the matrix in numbers, or where they would be too small, as a picture; and images."""
    seen = 3 * classes
    browser = show(evaluated(tmp_path / "run", classes, seen))
    matrix = json.loads((tmp_path / "run" / confusion.FILE).read_text())["confusion"]
    names, errors = (
        texts(browser, ".classes tbody th"),
        texts(browser, ".classes tbody td:nth-child(3)"),
    )
    expected = {
        f"kind {label}": f"{100 * (1 - row[label] / sum(row)):.2f} %"
        for label, row in enumerate(matrix)
    }
    assert dict(zip(names, errors)) == expected and len(names) == classes
    assert [float(error.split()[0]) for error in errors] == sorted(
        (float(error.split()[0]) for error in errors), reverse=True
    )
    if classes <= 40:
        cells = [int(text or 0) for text in texts(browser, ".confusion tbody td")]
        assert cells == np.ravel(matrix).tolist() and texts(browser, ".matrix") == []
    else:
        cells = browser.evaluate("""[...document.querySelectorAll(".matrix rect")].map(cell =>
            [cell.y.baseVal.value, cell.x.baseVal.value, Number(cell.textContent.match(/: (\\d+)$/)[1])])""")
        assert cells == [
            [row, column, matrix[row][column]] for row, column in np.argwhere(matrix).tolist()
        ]
        box = browser.evaluate(
            "(({width, height}) => [width, height])(document.querySelector('.matrix').getBoundingClientRect())"
        )
        assert box[0] == pytest.approx(box[1]) and box[0] > 5 * classes, "cells that one can see"
    assert len(texts(browser, ".confused figure")) == min(24, seen // 3)
    assert browser.evaluate(
        "[...document.querySelectorAll('.confused img')].every(image => image.naturalWidth === 8)"
    )
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_classes_fit_a_narrow_screen(show, tmp_path):
    browser = show(evaluated(tmp_path / "few", 40), evaluated(tmp_path / "many", 41))
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        width=390,
        height=800,
        deviceScaleFactor=1,
        mobile=False,
    )
    width = browser.evaluate("document.documentElement.scrollWidth")
    browser.call("Emulation.clearDeviceMetricsOverride")
    assert width <= 390


# ---- The command line


def report(*arguments):
    return subprocess.run(
        [ROOT / "scripts" / "report.py", *arguments], capture_output=True, text=True
    )


def test_script_writes_the_page(tmp_path):
    done = report(
        write_run(tmp_path / "run", curve([240]), walk([0, 240], GRID)),
        "--output",
        tmp_path / "new/a.html",
    )
    assert (done.returncode, done.stderr) == (0, "")
    kilobytes = (tmp_path / "new/a.html").stat().st_size / 1e3
    assert done.stdout == f"wrote {tmp_path}/new/a.html, {kilobytes:.0f} kB\n"


def test_script_writes_into_a_pipe(tmp_path):
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")  # as /dev/stdout is
    done = report(
        write_run(tmp_path / "run", curve([240]), walk([0, 240], GRID)),
        "--output",
        tmp_path / "stdout",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("<!") and (tmp_path / "stdout").is_symlink()


def test_script_says_what_is_wrong(tmp_path):
    run = write_run(tmp_path / "run")
    done = report(run, run.parent / "." / "run", "--output", tmp_path / "a.html")
    assert (done.returncode, done.stderr) == (
        2,
        f"error: {run} is named twice: name each run once\n",
    )
