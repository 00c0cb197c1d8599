"""The page about training runs: its figures, what a browser makes of it, and the command."""

import base64
import json
import math
import re
import shutil
import subprocess
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
from active_convolution.caffe import messages
from active_convolution.caffe.positions import History, LayerPositions
from active_convolution.errors import UserError
from active_convolution.geometry import grid
from active_convolution.look import interactive, report
from active_convolution.networks import models
from active_convolution.training.metrics import Metrics
from commands import acu, refused
from conftest import ROOT
from test_docs import marked
from training_runs import TINY, WARMUP_ITER

ODD = "</script><b>net</b> & $\\frac$"


def write_run(folder, rows=(), history=None, name=None):
    """A run folder of the tiny network, with rows of (iteration, values) as metrics."""
    folder.mkdir(parents=True)
    for kind in ("solver", "train_val"):
        message = getattr(models, kind)(TINY, "acu")
        if name and kind == "train_val":
            message.name = name
        messages.write(folder / f"{kind}.prototxt", message)
    metrics = Metrics()
    for iteration, values in rows:
        metrics.append(iteration, **{"seconds": iteration / 2, **values})
    metrics.save(folder / "metrics.csv")
    if history is not None:
        history.save(folder / "positions.npz")
    return folder


ROWS = [(1, dict(loss=4.0)), (2, dict(loss=2.0, test_loss=3.0, test_error=0.5))]
ROWS += [(3, dict(loss=math.nan)), (4, dict(loss=1.0, test_loss=2.5, test_error=0.25))]


def walk(iterations, xy, name="conv", pace=0.1):
    """A History: every synapse of ``xy`` (G, K, 2) but the origin goes its own random way."""
    generator, history = np.random.default_rng(0), History(WARMUP_ITER)
    xy = np.array(xy, np.float32)
    kernel = (3, 3) if xy.shape[1] == 9 else (1, xy.shape[1])
    for iteration in iterations:
        if iteration:
            moves = (xy != 0).any(axis=-1)
            xy[moves] += generator.normal(0, pace, xy[moves].shape)
        layers = [LayerPositions(name, "ActiveConvolution", kernel, xy.copy())]
        layers += [LayerPositions("one", "ActiveConvolution", (1, 1), np.zeros((1, 1, 2)))]
        history.append(iteration, layers)
    return history


def test_curves_hold_what_was_measured(tmp_path):
    runs = [
        report.Reported(name, write_run(tmp_path / name, ROWS[:count]))
        for name, count in (("a", 4), ("b", 2))
    ]
    figure = interactive.curves(runs)
    drawn = [(trace.name, list(trace.x), list(trace.y)) for trace in figure.data]
    assert drawn == [
        ("a", [1, 2, 4], [4, 2, 1]),
        ("a", [2, 4], [50, 25]),
        ("b", [1, 2], [4, 2]),
        ("b", [2], [50]),
    ]
    assert figure.layout.yaxis.type == "log" and figure.data[0].line != figure.data[2].line
    assert runs[0].cells() == (
        *("a", "digits_tiny_acu", "4 of 240", "0.0 min", "25.00 %", "25.00 % at 4"),
        "loss not finite at 3",
    )
    assert report.Reported("c", write_run(tmp_path / "c")).cells()[2:5] == (
        "0 of 240",
        "0.0 min",
        "",
    )


def test_the_slider_shows_every_record():
    """Of two position groups, of which each has its dots; a single synapse has no shape."""
    history = walk(range(0, 241, 5), np.stack([grid((3, 3)), grid((3, 3)) * 2]))
    figure, path = interactive.positions(history), history.positions("conv")
    assert [each.text for each in figure.layout.annotations] == ["conv"]
    assert [frame.name for frame in figure.frames] == [str(n) for n in range(0, 241, 5)]
    steps = figure.layout.sliders[0].steps
    assert [step.args[0] for step in steps] == [(frame.name,) for frame in figure.frames]
    assert figure.layout.sliders[0].active == len(steps) - 1
    for time, frame in enumerate(figure.frames):
        for group, (number, dots) in enumerate(zip(frame.traces, frame.data)):
            seen = np.transpose([dots.x, dots.y])
            np.testing.assert_allclose(seen, path[time, group], atol=0.00051)
            if time == len(path) - 1:
                assert (dots.x, dots.y) == (figure.data[number].x, figure.data[number].y)
    reach = figure.layout.xaxis.range[1]
    assert figure.layout.yaxis.range == (reach, -reach) and reach > np.abs(path).max()
    start = np.transpose([figure.data[0].x, figure.data[0].y]).reshape(2, 9, 2)
    np.testing.assert_array_equal(start, path[0])


def test_long_runs_are_thinned_and_many_layers_chosen():
    figure = interactive.positions(walk(range(0, 3001, 3), [[(0, 0), (1, 0)]]))
    names = [frame.name for frame in figure.frames]
    assert len(names) == interactive.FRAMES and (names[0], names[-1]) == ("0", "3,000")
    history = History()
    many = [
        LayerPositions(f"conv{number}", "ActiveConvolution", (1, 2), np.float32([[(0, 0), (1, 0)]]))
        for number in range(50)
    ]
    history.append(0, many)
    titles = [each.text for each in interactive.positions(history).layout.annotations]
    assert len(titles) == interactive.PANELS and (titles[0], titles[-1]) == ("conv0", "conv49")


@pytest.mark.parametrize("far, reach", [(math.nan, 1.5), (math.inf, 1.5), (3000, 8.4)])
def test_a_synapse_that_is_lost_does_not_hide_the_others(far, reach):
    history = History()
    for iteration, x in enumerate([0.5, far, 0.25]):
        xy = np.float32([[[0, 0], [x, 1]]])
        history.append(iteration, [LayerPositions("conv", "ActiveConvolution", (1, 2), xy)])
    figure = interactive.positions(history)
    assert figure.layout.xaxis.range[1] == pytest.approx(reach)
    assert figure.frames[1].data[0].x == (0, far if far == 3000 else None)


def test_a_matrix_of_shares():
    found = {"confusion": [[3, 1], [0, 0]], "classes": [{"name": "a<b"}, {"name": "c"}]}
    (heat,) = interactive.matrix(found).data
    np.testing.assert_array_equal(heat.z, [[75, 25], [0, 0]])
    assert heat.x == heat.y == ("a&lt;b", "c")


# ---- The page


@pytest.fixture
def written(tmp_path):
    """A report about a run that has everything, of odd names."""
    history = walk(range(0, 241, 40), grid((3, 3))[None], ODD)
    run = write_run(tmp_path / "run", ROWS, history, ODD)
    entries = [{"name": name, "images": 2, "error": 50.0} for name in (ODD, "dog")]
    pixel = base64.b64encode(cv2.imencode(".png", np.zeros((2, 2), np.uint8))[1]).decode()
    confused = [{"image": 3, "label": 0, "answer": 1, "probability": 0.9, "png": pixel}]
    found = {"classes": entries, "confusion": [[1, 1], [1, 1]], "most_confused": confused}
    (run / "evaluation.json").write_text(json.dumps(found))
    done = acu("report", run, "--output", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"wrote {tmp_path}/page.html, ")
    assert done.stdout.endswith(f"next: acu export {run}\n")
    return tmp_path / "page.html"


HEAD = """<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="default-src
'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"><script>
const wrong = [];
addEventListener("error", event => wrong.push(event.message));
addEventListener("securitypolicyviolation", event => wrong.push(event.blockedURI));</script>"""
TAIL = """<script>addEventListener("load", async () => {
const plot = document.querySelectorAll(".js-plotly-plot")[1], dots = () => [...plot.data[2].x];
const last = dots(), said = document.body.innerText;
await Plotly.animate(plot, ["0"], {mode: "immediate", frame: {duration: 0}});
const found = encodeURIComponent(JSON.stringify({wrong, said, last, first: dots()}));
document.body.innerHTML = `<pre id="found">${found}</pre>`; })</script>"""


@pytest.mark.slow
def test_a_browser_shows_it_without_asking_for_anything(written, tmp_path):
    """A copy of the page that tells what went wrong, and what its slider's first step shows."""
    if not shutil.which("chromium-headless-shell"):
        pytest.skip("needs chromium-headless-shell")
    page = written.read_text().replace('<meta charset="utf-8">', HEAD, 1) + TAIL
    written.write_text(page)
    command = ["chromium-headless-shell", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--virtual-time-budget=20000", f"--user-data-dir={tmp_path}/profile"]
    done = subprocess.run([*command, written.as_uri()], capture_output=True, text=True, timeout=120)
    found = json.loads(unquote(re.search('<pre id="found">(.*?)</pre>', done.stdout)[1]))
    assert found["wrong"] == []
    assert found["said"].count(ODD) >= 4, "in the table, above a panel, at the matrix and an image"
    assert found["first"] == [-1, 0, 1] * 3
    assert np.abs(np.subtract(found["first"], found["last"])).max() > 0.05


def test_what_the_manual_does(tmp_path):
    (block,) = marked(ROOT / "docs/training.md", "runs in python/tests/test_report.py")
    command, *said = block.splitlines()[1:-1]
    for name in ("baseline", "acu"):
        write_run(tmp_path / "runs/demo/1" / name, ROWS, walk([0, 240], grid((3, 3))[None]))
    done = acu(*command.split()[2:], folder=tmp_path)
    assert done.returncode == 0, done.stderr
    size = r"\d+\.\d MB"
    assert [re.sub(size, "", line) for line in done.stdout.splitlines()] == [
        re.sub(size, "", line) for line in said
    ]


def test_damage_is_named(written, tmp_path):
    for text in ("", "[]", "{}", '{"confusion": [[1]], "classes": [{}], "most_confused": []}'):
        (tmp_path / "run/evaluation.json").write_text(text)
        with pytest.raises(UserError, match="evaluation.json is damaged .*: write it anew"):
            report.write([tmp_path / "run"], tmp_path / "other.html")
    (tmp_path / "run/metrics.csv").write_text("no record")
    with pytest.raises(UserError, match="metrics.csv is damaged"):
        report.write([tmp_path / "run"], tmp_path / "other.html")
    assert not (tmp_path / "other.html").exists()


def test_runs_are_told_apart(tmp_path):
    runs = [write_run(tmp_path / name / "acu", ROWS) for name in ("1", "2")]
    report.write(runs, tmp_path / "page.html")
    assert "<title>Training runs: 1/acu, 2/acu</title>" in (tmp_path / "page.html").read_text()
    assert "named twice" in refused("report", runs[0], runs[0], status=2)


def test_what_caffe_train_leaves_is_no_run(tmp_path):
    (tmp_path / "solver.prototxt").write_text("base_lr: 1")
    (tmp_path / "net_iter_1.caffemodel").touch()
    said = refused("report", tmp_path)
    assert "is not a run of acu train" in said and "acu train --solver" in said
