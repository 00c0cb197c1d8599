"""The notebook in docs/: its code runs from a clean kernel, and its checked-in outputs are of this code. And what makes
positions show in a notebook."""
import re
import subprocess

import nbformat
import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.figure import Figure

from active_convolution import notebook, plotting, positions
from active_convolution.errors import UserError
from active_convolution.positions import History, LayerPositions, Layers, grid

from conftest import ROOT

INSPECT = ROOT / "docs" / "inspect_positions.ipynb"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def kinds(cell):
    """What a code cell shows: (kind of output, kinds of data, text with every number and the space before it as #)."""
    shown = []
    for output in cell.outputs:
        data = {"text/plain": output.text} if output.output_type == "stream" else output.data
        shown.append((output.output_type, sorted(data), re.sub(r" *-?\d+\.?\d*", "#", data["text/plain"])))
    return shown


# ---- docs/inspect_positions.ipynb

def test_it_runs_and_its_outputs_are_of_its_code():
    checked_in, executed = notebook.read(INSPECT), notebook.execute(INSPECT)
    assert checked_in.metadata[notebook.MARK] == notebook.digest(checked_in), (
        "the code has changed since the outputs were made: ./scripts/execute_notebook.py docs/inspect_positions.ipynb")
    pairs = [(old, new) for old, new in zip(checked_in.cells, executed.cells) if old.cell_type == "code"]
    assert [old.execution_count for old, _ in pairs] == list(range(1, len(pairs) + 1)), "in order, from a clean kernel"
    for old, new in pairs:
        assert kinds(old) == kinds(new), new.source
    pictures = [output for _, new in pairs for output in new.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 7 and all(len(picture.data["image/png"]) > 4000 for picture in pictures)


def test_it_reads_well_where_it_is_checked_in():
    content = INSPECT.read_text(encoding="utf-8")
    assert len(content) < 400_000
    assert not re.search(r'"stderr"|"error"|Traceback|/home/|/root/|/tmp/', content)


# ---- Executing

def make(path, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_refresh_writes_outputs_and_their_mark(tmp_path):
    path = make(tmp_path / "a.ipynb", "import os; from active_convolution import fork",
                "os.path.realpath('.'), fork.caffe().__name__")
    notebook.refresh(path)
    refreshed = notebook.read(path)
    assert refreshed.cells[1].outputs[0].data["text/plain"] == f"('{tmp_path.resolve()}', 'caffe')"
    assert refreshed.metadata[notebook.MARK] == notebook.digest(refreshed)
    refreshed.cells[0].source += "\n"
    assert refreshed.metadata[notebook.MARK] != notebook.digest(refreshed)


def test_failing_cell_is_an_error_and_changes_nothing(tmp_path):
    path = make(tmp_path / "a.ipynb", "1", "raise RuntimeError('on purpose')")
    before = path.read_bytes()
    done = subprocess.run([ROOT / "scripts" / "execute_notebook.py", path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"error: a cell of {path} fails: RuntimeError: on purpose\n")
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_cell_that_ends_the_kernel_is_an_error(tmp_path):
    path = make(tmp_path / "a.ipynb", "1", "import os; os.abort()")
    with pytest.raises(UserError, match=f"^a cell of {path} ended its kernel: run the cells' code with python3 .*$"):
        notebook.execute(path)


@pytest.mark.parametrize("content, complaint", [(None, "cannot read"), ("no JSON", "is no notebook"),
                                                ("{}", "is no notebook"),
                                                ('{"nbformat": 4, "nbformat_minor": 5, "cells": 3}', "is no notebook")])
def test_other_files_are_refused(tmp_path, content, complaint):
    if content is not None:
        (tmp_path / "a.ipynb").write_text(content)
    with pytest.raises(UserError, match=complaint):
        notebook.read(tmp_path / "a.ipynb")


# ---- What shows

def shown(value):
    """What a notebook gets for the value that ends a cell: {MIME type: data}."""
    return DisplayFormatter().format(value)[0]


def layer(kernel=(3, 3), value=None):
    xy = grid(kernel)[None]
    return LayerPositions("conv", "ActiveConvolution", kernel, xy if value is None else np.full_like(xy, value), xy)


def is_png(data):
    return data["image/png"].startswith(b"\x89PNG\r\n\x1a\n")


def test_positions_show_as_pictures_with_a_short_text():
    history = History()
    for iteration in (0, 10):
        history.append(iteration, [layer()])
    for value, text in ((layer(), "<conv: ActiveConvolution 3×3, the farthest synapse at (-1.00, -1.00)>"),
                        (Layers([layer()]), "[<conv: ActiveConvolution 3×3, the farthest synapse at (-1.00, -1.00)>]"),
                        (history, "<History of 1 layers, 2 records, iterations 0 to 10>")):
        data = shown(value)
        assert is_png(data) and data["text/plain"] == text
    assert type(history.layers()) is Layers and type(History().layers()) is Layers


def test_figures_show_with_and_without_matplotlibs_magic():
    figure = plotting.draw_positions([layer()])
    assert is_png(shown(figure))
    formatter = DisplayFormatter()
    formatter.formatters["image/png"].for_type(Figure, lambda _: b"by the magic")     # what the magic registers
    assert formatter.format(figure)[0]["image/png"] == b"by the magic"


def test_nothing_to_draw_shows_as_text():
    for value in (Layers(), layer((1, 1)), layer(value=np.nan), History()):
        assert set(shown(value)) == {"text/plain"}
    assert shown(History())["text/plain"] == "<History of 0 layers, 0 records>"


def test_networks_positions_show(root):
    from active_convolution import fork
    net = fork.caffe().Net(str(root / "models/digits/plain/acu/deploy.prototxt"), fork.caffe().TEST)
    assert is_png(shown(positions.from_net(net)))
