"""The notebook in docs/: its code runs from a clean kernel, and its checked-in outputs are of this
code. And what makes positions show in a notebook."""

import os
import re
import subprocess

import nbformat
import numpy as np
import pytest
from active_convolution.caffe import locate, positions
from active_convolution.caffe.positions import History, LayerPositions, Layers
from active_convolution.geometry import grid
from active_convolution.look import synapses
from conftest import ROOT
from IPython.core.formatters import DisplayFormatter
from matplotlib.figure import Figure

pytestmark = pytest.mark.slow

INSPECT = ROOT / "docs" / "inspect_positions.ipynb"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def kinds(cell):
    """What a code cell shows: (kind of output, kinds of data, text with every number and the space
    before it as #)."""
    shown = []
    for output in cell.outputs:
        data = {"text/plain": output.text} if output.output_type == "stream" else output.data
        shown.append(
            (output.output_type, sorted(data), re.sub(r" *-?\d+\.?\d*", "#", data["text/plain"]))
        )
    return shown


# ---- docs/inspect_positions.ipynb


def test_it_runs_and_its_outputs_are_of_its_code(tmp_path):
    """As the README has it executed, beside the original: its paths are relative to docs/."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'python'}{os.pathsep}{locate.BUILD.resolve() / 'fork/python'}",
    }
    command = ["jupyter", "nbconvert", "--to", "notebook", "--execute", INSPECT]
    subprocess.run([*command, "--output-dir", tmp_path], env=environment, check=True)
    checked_in, executed = (
        nbformat.read(folder / INSPECT.name, as_version=4) for folder in (INSPECT.parent, tmp_path)
    )
    pairs = [
        (old, new) for old, new in zip(checked_in.cells, executed.cells) if old.cell_type == "code"
    ]
    assert [old.execution_count for old, _ in pairs] == list(range(1, len(pairs) + 1)), (
        "in order, from a clean kernel"
    )
    for old, new in pairs:
        assert kinds(old) == kinds(new), new.source
    pictures = [
        output
        for _, new in pairs
        for output in new.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 7 and all(len(picture.data["image/png"]) > 4000 for picture in pictures)


def test_it_reads_well_where_it_is_checked_in():
    content = INSPECT.read_text(encoding="utf-8")
    assert len(content) < 400_000
    assert not re.search(r'"stderr"|"error"|Traceback|/home/|/root/|/tmp/', content)


# ---- What shows


def shown(value):
    """What a notebook gets for the value that ends a cell: {MIME type: data}."""
    return DisplayFormatter().format(value)[0]


def layer(kernel=(3, 3), value=None):
    xy = grid(kernel)[None]
    return LayerPositions(
        "conv", "ActiveConvolution", kernel, xy if value is None else np.full_like(xy, value), xy
    )


def is_png(data):
    return data["image/png"].startswith(b"\x89PNG\r\n\x1a\n")


def test_positions_show_as_pictures_with_a_short_text():
    history = History()
    for iteration in (0, 10):
        history.append(iteration, [layer()])
    for value, text in (
        (layer(), "<conv: ActiveConvolution 3×3, the farthest synapse at (-1.00, -1.00)>"),
        (
            Layers([layer()]),
            "[<conv: ActiveConvolution 3×3, the farthest synapse at (-1.00, -1.00)>]",
        ),
        (history, "<History of 1 layers, 2 records, iterations 0 to 10>"),
    ):
        data = shown(value)
        assert is_png(data) and data["text/plain"] == text
    assert type(history.layers()) is Layers and type(History().layers()) is Layers


def test_figures_show_with_and_without_matplotlibs_magic():
    figure = synapses.draw_positions([layer()])
    assert is_png(shown(figure))
    formatter = DisplayFormatter()
    formatter.formatters["image/png"].for_type(Figure, lambda _: b"by the magic")  # as it registers
    assert formatter.format(figure)[0]["image/png"] == b"by the magic"


def test_nothing_to_draw_shows_as_text():
    for value in (Layers(), layer((1, 1)), layer(value=np.nan), History()):
        assert set(shown(value)) == {"text/plain"}
    assert shown(History())["text/plain"] == "<History of 0 layers, 0 records>"


def test_networks_positions_show(root):
    net = locate.caffe().Net(
        str(root / "models/digits/plain/acu/deploy.prototxt"), locate.caffe().TEST
    )
    assert is_png(shown(positions.from_net(net)))
