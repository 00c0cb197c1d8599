"""Pictures of what nobody would wish for: names of all kinds, runaway positions, very many sets of positions."""

import io
import time
import xml.dom.minidom

import numpy as np
import pytest
from active_convolution.caffe import positions
from active_convolution.geometry import grid
from active_convolution.look import style, synapses

each_kind = pytest.mark.parametrize(
    "kind",
    [  # SVG is drawn soonest
        kind if kind == "svg" else pytest.param(kind, marks=pytest.mark.slow)
        for kind in style.FORMATS
    ],
)
NAMES = [
    "a$\\frac$b",
    "$x$",
    "<b>&\"x'",
    "a b/c:d*[1]{}",
    "two\nlines\r\x00\x1b[31m",
    "x" * 500,
    "\u202eright to left\u202c",
    "_hidden",
    "卷积",
    "\\",
    "$",
    "%s %d {0}",
    "../../up",
    "\ud800".encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
    "a--b",
    "",
]


def layer(name="conv", groups=1, kernel=(3, 3), start=True, **moved):
    xy = np.repeat(grid(kernel)[None], groups, axis=0) + np.float32(0.1)
    began = xy - np.float32(0.1) if start else None
    xy = xy.copy()
    for synapse, place in moved.items():
        xy[0, int(synapse[1:])] = place
    return positions.LayerPositions(name, "ActiveConvolution", kernel, xy, began)


def history(layers):
    record = positions.History()
    for iteration in (0, 10):
        record.append(iteration, layers)
    return record


@each_kind
def test_names_are_text(kind, tmp_path, recwarn):
    """Neither formulas nor escapes, and one line."""
    figure = synapses.draw_positions([layer(name) for name in NAMES])
    style.save(figure, tmp_path / f"out.{kind}")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:4] == NAMES[:4] and all(
        "\n" not in title and len(title) <= style.LONGEST for title in titles
    )
    assert titles[5] == "x" * 17 + "…" + "x" * 16
    if kind == "svg":
        xml.dom.minidom.parse(str(tmp_path / "out.svg"))
    style.save(
        synapses.draw_movement(history([layer(name.replace("\0", "")) for name in NAMES if name])),
        tmp_path / f"moved.{kind}",
    )
    assert [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)] == []


@pytest.mark.parametrize("far", [1e3, 1e6, 1e9, 1e20, 3e38])
@each_kind
def test_a_runaway_position_draws_at_once(far, kind, tmp_path):
    start = time.process_time()
    runaway = [layer(s2=(far, -far)), layer("other")]
    style.save(synapses.draw_positions(runaway), tmp_path / f"out.{kind}")
    style.save(synapses.draw_movement(history(runaway)), tmp_path / f"moved.{kind}")
    assert time.process_time() - start < 10
    assert (tmp_path / f"out.{kind}").stat().st_size < 10**6
    assert max(len(axes.lines) for axes in synapses.draw_positions(runaway).axes) < 10


@pytest.mark.parametrize("far", [1e38, -3e38, np.nan, np.inf])
def test_a_position_that_was_lost_and_found(far, tmp_path):
    """... is drawn where it can be, however far it went: float32 has no room for the distance."""
    record = positions.History()
    for iteration, place in enumerate((0.5, far, -far, 0.25)):
        record.append(iteration, [layer(s2=(place, place))])
    figure = synapses.draw_movement(record)
    style.save(figure, tmp_path / "moved.svg")
    assert np.isfinite([axes.get_ylim() for axes in figure.axes]).all()
    if np.isfinite(far):
        assert figure.axes[1].get_ylim()[1] > abs(far)
        assert layer(s2=(far, 0)).displacement().max() == pytest.approx(abs(far))
        lost = positions.LayerPositions(
            "conv",
            "ActiveConvolution",
            (1, 1),
            np.float32([[[far, far]]]),
            np.float32([[[-far, -far]]]),
        )
        assert lost.displacement()[0, 0] == pytest.approx(8**0.5 * abs(far))


def test_pixels_show_where_they_can():
    assert len(synapses.draw_positions([layer(s2=(30, 0))]).axes[0].lines) > 100


@pytest.mark.parametrize(
    "groups, panels",
    [
        (2, 1),
        (6, 1),
        (7, 7),
        *(
            pytest.param(groups, panels, marks=pytest.mark.slow)
            for groups, panels in ((64, 64), (512, 64), (100, 50))
        ),
    ],
)
def test_many_groups_are_a_grid(groups, panels, tmp_path):
    figure = synapses.draw_positions([layer("a name of a layer that is rather long", groups)])
    assert len(figure.axes) == panels
    figure.canvas.draw()
    box, (width, height) = (
        figure.legends[0].get_window_extent(),
        figure.get_size_inches() * figure.dpi,
    )
    assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.height < height / 4
    if panels > 1:
        assert (
            figure.axes[0]
            .get_title()
            .endswith("group 1" if groups <= 64 else f"groups 1–{-(-groups // 64)}")
        )
    style.save(figure, tmp_path / "out.png")


def test_many_layers_are_a_grid_of_some():
    """The first and the last among them; and all sets of positions of a few share as many panels."""
    many = [layer(f"conv{number}") for number in range(300)]
    drawn = synapses.drawable(many)
    assert len(drawn) == synapses.PANELS and (drawn[0], drawn[-1]) == (many[0], many[-1])
    assert synapses.drawable(many[:64]) == many[:64]
    assert (
        len(synapses.draw_positions([layer("a", 64), layer("b", 64), layer("c")]).axes)
        <= synapses.PANELS
    )


@pytest.mark.slow
def test_many_groups_in_stages_and_movement(tmp_path):
    layers = [layer("dw", 64), layer("pw", 1)]
    for figure in (synapses.draw_stages([layers]), synapses.draw_movement(history(layers))):
        figure.canvas.draw()
        if figure.legends:
            assert (
                figure.legends[0].get_window_extent().height
                < figure.get_size_inches()[1] * figure.dpi / 4
            )
        with io.BytesIO() as file:
            figure.savefig(file, format="png", dpi=50)
