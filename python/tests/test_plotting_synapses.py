"""The pictures of positions, by their artists and files, and the command line that draws them."""

import xml.etree.ElementTree

import numpy as np
import pytest
from active_convolution.caffe import locate, messages
from active_convolution.caffe.positions import History, LayerPositions
from active_convolution.errors import UserError
from active_convolution.geometry import grid
from active_convolution.look import common, style, synapses
from commands import acu, refused
from matplotlib.collections import LineCollection


def layer(name, kernel=(3, 3), position_group=1, shift=0.25, known=True):
    """A layer at its grid, each of whose synapses but the middle one moved by ``shift`` times the
    number of its group."""
    start = np.tile(grid(kernel), (position_group, 1, 1))
    moves = shift * np.arange(1, position_group + 1, dtype=np.float32)[:, None, None]
    xy = start + np.where((start == 0).all(axis=-1, keepdims=True), 0, moves * np.float32([1, -1]))
    return LayerPositions(
        name, "ActiveConvolution", kernel, xy.astype(np.float32), start if known else None
    )


def history(layers, iterations, warmup_iter=10):
    """The layers on their way from start to where they are, at a steady pace after the warm-up."""
    record = History(warmup_iter)
    for iteration in iterations:
        way = max(0, iteration - warmup_iter) / (iterations[-1] - warmup_iter)
        record.append(
            iteration,
            [
                LayerPositions(
                    item.name, item.type, item.kernel, item.start + way * (item.xy - item.start)
                )
                for item in layers
            ],
        )
    return record


def marks(axes, label):
    """The points drawn under ``label``: (N, 2)."""
    return np.concatenate([line.get_xydata() for line in axes.lines if line.get_label() == label])


def segments(axes):
    """All line segments of collections: (N, 2 ends, 2)."""
    found = [item.get_segments() for item in axes.collections if isinstance(item, LineCollection)]
    return np.concatenate(found) if found else np.empty((0, 2, 2))


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


# ---- Positions (Fig. 5)


def test_a_panel_per_layer_with_a_shape():
    layers = [layer("conv1/1"), layer("pointwise", (1, 1)), layer("conv1/2", (1, 5))]
    figure = synapses.draw_positions(layers)
    assert [axes.get_title() for axes in figure.axes] == ["conv1/1", "conv1/2"]
    for axes, drawn in zip(figure.axes, (layers[0], layers[2])):
        np.testing.assert_array_equal(marks(axes, "learned"), drawn.xy[0])
        np.testing.assert_array_equal(marks(axes, "start"), drawn.start[0])
        np.testing.assert_array_equal(
            segments(axes), np.stack([drawn.start[0], drawn.xy[0]], axis=1)
        )
        np.testing.assert_array_equal(marks(axes, "base pixel"), [(0, 0)])
    assert legend(figure) == ["start", "base pixel", "learned"]


def test_y_points_down_and_one_scale_serves_all():
    figure = synapses.draw_positions([layer("small"), layer("wide", (3, 7))])
    for axes in figure.axes:
        assert axes.get_ylim() == axes.get_xlim()[::-1] and axes.get_aspect() == 1
        assert axes.get_xlim() == figure.axes[0].get_xlim() and 3.25 < axes.get_xlim()[1] < 4


def test_position_groups_have_colours():
    figure = synapses.draw_positions([layer("single"), layer("double", position_group=2)])
    assert legend(figure) == ["start", "base pixel", "learned", "learned, group 2"]
    double = figure.axes[1]
    np.testing.assert_array_equal(
        marks(double, "learned, group 2"), layer("double", position_group=2).xy[1]
    )
    one, two = (
        next(line.get_color() for line in double.lines if line.get_label() == label)
        for label in ("learned", "learned, group 2")
    )
    assert one != two


def test_unknown_start_shows_the_grid_without_lines():
    figure = synapses.draw_positions([layer("conv", (2, 3), known=False)])
    np.testing.assert_array_equal(marks(figure.axes[0], "kernel grid"), grid((2, 3)))
    assert len(segments(figure.axes[0])) == 0 and "start" not in legend(figure)


def test_nothing_to_draw():
    for layers in ([], [layer("pointwise", (1, 1))]):
        with pytest.raises(UserError, match="no shape to draw"):
            synapses.draw_positions(layers)
    with pytest.raises(UserError, match="layer conv has positions that are NaN"):
        synapses.draw_positions([layer("conv", shift=np.nan)])


# ---- A row per stage


def test_stages_are_rows():
    stages = [
        [layer("pointwise", (1, 1))],
        [layer("conv1/1"), layer("conv1/2"), layer("conv1/3")],
        [layer("conv2/1")],
    ]
    figure = synapses.draw_stages(stages)
    assert [axes.get_title() for axes in figure.axes] == [
        "conv1/1",
        "conv1/2",
        "conv1/3",
        "conv2/1",
    ]
    places = [
        (axes.get_subplotspec().rowspan.start, axes.get_subplotspec().colspan.start)
        for axes in figure.axes
    ]
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "stage 1\n\ny (pixels)",
        "",
        "",
        "stage 2\n\ny (pixels)",
    ]
    assert [bool(axes.get_xlabel()) for axes in figure.axes] == [False, True, True, True], (
        "the lowest of each column"
    )
    np.testing.assert_array_equal(marks(figure.axes[3], "learned"), layer("conv2/1").xy[0])
    assert legend(figure) == ["start", "base pixel", "learned"]


# ---- Movement (Fig. 6)


def test_movement_shows_paths_and_distances():
    layers = [layer("conv1/1"), layer("conv1/2", (1, 3), shift=-0.5)]
    planes, curves = np.reshape(
        synapses.draw_movement(history(layers, range(0, 51, 5))).axes, (2, 2)
    ).T
    for plane, curve, drawn in zip(planes, curves, layers):
        paths = segments(plane).reshape(drawn.xy.shape[1], 10, 2, 2)
        np.testing.assert_allclose(paths[:, 0, 0], drawn.start[0])
        np.testing.assert_allclose(paths[:, -1, 1], drawn.xy[0])
        distances = segments(curve).reshape(drawn.xy.shape[1], 10, 2, 2)
        np.testing.assert_array_equal(distances[0, :, 1, 0], range(5, 51, 5))
        np.testing.assert_allclose(distances[:, -1, 1, 1], drawn.displacement()[0], rtol=1e-6)
        np.testing.assert_array_equal(distances[:, :2, 1, 1], 0, "before the end of the warm-up")
        dots = next(line for line in plane.lines if line.get_label() == "learned")
        assert dots.get_color() == style.TIME_COLOURS(1.0), "the colour where the paths end"
        assert plane.yaxis_inverted() and curve.get_ylim() == curves[0].get_ylim()
        assert curve.get_ylim()[1] > distances[..., 1].max()


def test_movement_marks_the_end_of_the_warmup_if_in_sight():
    figure = synapses.draw_movement(history([layer("conv")], [0, 20, 40], warmup_iter=20))
    np.testing.assert_array_equal(marks(figure.axes[1], "end of warm-up")[:, 0], [20, 20])
    figure = synapses.draw_movement(history([layer("conv")], [0, 20, 40], warmup_iter=0))
    assert "end of warm-up" not in legend(figure)


def test_long_movement_is_thinned_but_complete():
    figure = synapses.draw_movement(history([layer("conv")], range(0, 3001, 3)))
    lines = segments(figure.axes[1]).reshape(9, -1, 2, 2)
    assert lines.shape[1] < synapses._RECORDS
    assert (lines[0, 0, 0, 0], lines[0, -1, 1, 0]) == (0, 3000)


def test_movement_needs_two_records():
    with pytest.raises(UserError, match="recorded only once"):
        synapses.draw_movement(history([layer("conv")], [0]))


# ---- Files


def png_size(path):
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82")
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


def test_formats(tmp_path):
    figure = synapses.draw_positions([layer("conv1/1"), layer("conv1/2")])
    for name in ("a.PNG", "a.pdf", "a.svg"):
        style.save(figure, tmp_path / name)
    width, height = png_size(tmp_path / "a.PNG")
    assert 600 < width < 3000 and 400 < height < 3000
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF-")
    assert xml.etree.ElementTree.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    assert len(list(tmp_path.iterdir())) == 3


# ---- What nobody would wish for


NAMES = [
    "a$\\frac$b",
    "$x$",
    "<b>&\"x'",
    "two\nlines\r\x00\x1b[31m",
    "x" * 500,
    "\u202eright to left\u202c",
    "_hidden",
    "卷积",
    "\\",
    "%s %d {0}",
    "",
]


@pytest.mark.parametrize(
    "kind", ["svg", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("png", "pdf"))]
)
def test_names_are_text(kind, tmp_path):
    """Neither formulas nor escapes, and one line."""
    layers = [layer(name) for name in NAMES]
    figure = synapses.draw_positions(layers)
    style.save(figure, tmp_path / f"out.{kind}")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == NAMES[:3]
    assert all("\n" not in title and len(title) <= common.LONGEST for title in titles)
    assert titles[4] == "x" * 17 + "…" + "x" * 16
    style.save(synapses.draw_movement(history(layers, [0, 20])), tmp_path / f"moved.{kind}")
    if kind == "svg":
        xml.etree.ElementTree.parse(tmp_path / "out.svg")


def test_the_case_of_a_name_in_dollars(shared_cases, tmp_path):
    done = acu(
        "plot", shared_cases / "plot-dollar-name/weights.caffemodel", "--output", tmp_path / "a.svg"
    )
    assert done.returncode == 0, done.stderr
    assert "a$\\frac$b: 9 synapses" in done.stdout


@pytest.mark.parametrize("far", [1e3, 1e9, 3e38])
def test_a_runaway_position_draws_at_once(far, tmp_path):
    runaway = [layer("conv"), layer("other")]
    runaway[0].xy[0, 2] = far, -far
    figure = synapses.draw_positions(runaway)
    assert max(len(axes.lines) for axes in figure.axes) < 10, "no single pixels"
    style.save(figure, tmp_path / "out.svg")
    style.save(synapses.draw_movement(history(runaway, [0, 20])), tmp_path / "moved.svg")
    assert (tmp_path / "out.svg").stat().st_size < 10**6


@pytest.mark.parametrize("far", [1e38, np.nan, np.inf])
def test_a_position_that_was_lost_and_found(far):
    """... is drawn where it can be, however far it went: float32 has no room for the distance."""
    record = History()
    for iteration, place in enumerate((0.5, far, -far, 0.25)):
        moved = layer("conv")
        moved.xy[0, 2] = place
        record.append(iteration, [moved])
    figure = synapses.draw_movement(record)
    assert np.isfinite([axes.get_ylim() for axes in figure.axes]).all()
    if np.isfinite(far):
        assert figure.axes[1].get_ylim()[1] > abs(far)


def test_very_many_layers_and_groups():
    many = [layer(f"conv{number}") for number in range(300)]
    drawn = synapses.drawable(many)
    assert len(drawn) == synapses.PANELS and (drawn[0], drawn[-1]) == (many[0], many[-1])
    figure = synapses.draw_positions([layer("depthwise", position_group=64)])
    assert len(figure.axes) == 1 and legend(figure) == ["start", "base pixel", "learned"]


# ---- The command line


@pytest.fixture
def run_folder(tmp_path):
    layers = [layer("conv0", (1, 1)), layer("conv1/1"), layer("conv1/2", shift=0.5)]
    history(layers, range(0, 51, 5)).save(tmp_path / "run/positions.npz")
    return tmp_path / "run"


def test_the_command_draws_a_run(run_folder, tmp_path):
    done = acu("plot", run_folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "conv0: a single synapse, not drawn",
        "conv1/1: 9 synapses, the farthest at (1.25, -1.25), moved up to 0.35 pixel",
        "conv1/2: 9 synapses, the farthest at (1.50, -1.50), moved up to 0.71 pixel",
        f"wrote {run_folder}/positions.png",
        f"wrote {run_folder}/positions-movement.png",
        f"next: acu report {run_folder}",
    ]
    assert png_size(run_folder / "positions.png") != png_size(run_folder / "positions-movement.png")


def test_the_command_says_why_positions_hardly_moved(tmp_path):
    history([layer("conv", shift=0.05)], [0, 20]).save(tmp_path / "run/positions.npz")
    (tmp_path / "run/solver.prototxt").write_text("base_lr: 0.05")
    active = locate.caffe_pb2().NetParameter()
    active.layer.add(type="ActiveConvolution").active_convolution_param.position_lr_mult = 0.01
    messages.write(tmp_path / "run/train_val.prototxt", active)
    done = acu("plot", tmp_path / "run", "--output", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    assert "hint: no synapse moved 0.1 pixel" in done.stdout
    assert "0.05 × 0.01 = 0.0005 pixel" in done.stdout


def test_the_command_draws_the_authors_stages(shared_reference, tmp_path):
    """As the paper's Fig. 5 does: three rows of two."""
    source, sizes = shared_reference / "acu_plain_cifar10_iter_64000.caffemodel", []
    for options in ([], ["--by-stage"]):
        done = acu("plot", source, "--output", tmp_path / "a.png", *options)
        assert (done.returncode, done.stderr) == (0, "")
        sizes.append(png_size(tmp_path / "a.png"))
        expected = "conv3_1/2: 9 synapses, the farthest at (-1.57, 1.62), moved up to 0.84 pixel"
        assert expected in done.stdout
    assert sizes[0][0] > sizes[0][1] and sizes[1][0] < sizes[1][1]
    assert not (tmp_path / "a-movement.png").exists()


@pytest.mark.parametrize(
    "source, output, status, complaint",
    [
        ("run", "a.gif", 2, "a.gif: end its name in .png, .pdf or .svg"),
        ("missing.caffemodel", "a.png", 1, "there is no {0}/missing.caffemodel: give"),
        (".", "a.png", 1, "{0} has no positions.npz: name the --output folder"),
        ("run", "run/positions.npz/a.png", 1, "cannot write {0}/run/positions.npz/a.png"),
    ],
)
def test_the_command_says_what_is_wrong(run_folder, tmp_path, source, output, status, complaint):
    done = acu("plot", tmp_path / source, "--output", tmp_path / output)
    assert done.returncode == status and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and complaint.format(tmp_path) in done.stderr
    assert not list(tmp_path.rglob("*.png")) and "wrote" not in done.stdout


def test_the_picture_of_a_file_needs_a_place(tmp_path):
    (tmp_path / "net.caffemodel").touch()
    assert "give --output" in refused("plot", tmp_path / "net.caffemodel", status=2)
