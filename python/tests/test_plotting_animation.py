"""Animations of moving synapses, by their frames."""

import numpy as np
import pytest
from active_convolution.errors import UserError
from active_convolution.look import animation
from commands import acu, refused
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from PIL import Image
from test_plotting_synapses import history, layer


@pytest.fixture
def moving():
    """Two stages; the warm-up ends at iteration 10 of 30."""
    return history([layer("conv1/1"), layer("conv2/1", position_group=2)], [0, 5, 10, 20, 30])


def frames(path):
    image = Image.open(path)
    for index in range(image.n_frames):
        image.seek(index)
        yield np.asarray(image.convert("RGB"), int)


def test_a_frame_per_record(moving, tmp_path):
    animation.animate(moving, tmp_path / "film.GIF")
    pictures = list(frames(tmp_path / "film.GIF"))
    assert len(pictures) == 5 and len({picture.shape for picture in pictures}) == 1
    title = len(pictures[0]) // 12  # rows of pixels: the iteration there changes in every frame
    below = [picture[title:] for picture in pictures]
    assert (np.abs(below[0] - below[2]) > 60).mean() < 1e-4, "moved in the warm-up"
    assert (np.abs(below[0] - below[-1]) > 60).mean() > 1e-3, "did not move"
    assert list(tmp_path.iterdir()) == [tmp_path / "film.GIF"]


def test_colours_stay_what_they_are(moving, tmp_path):
    """Of the dots, the pixels and the paper, in every frame."""
    film = animation.Film(moving)
    dots = [line for _, lines, _ in film._moving for line in lines]
    colours = [to_rgb(line.get_color()) for line in dots] + [to_rgb("#EEF0F2"), (1, 1, 1)]
    animation.animate(moving, tmp_path / "film.gif")
    for picture in frames(tmp_path / "film.gif"):
        for colour in colours:
            apart = np.abs(picture - 255 * np.array(colour)).max(axis=-1)
            assert (apart <= 8).mean() > 5e-4, colour


def test_frames_show_the_records(moving):
    film = animation.Film(moving, [[each] for each in moving.layers()])
    assert [axes.get_title() for axes in film.figure.axes] == ["conv1/1", "conv2/1"]
    places = [
        [axes.get_subplotspec().rowspan.start for axes in each.figure.axes]
        for each in (film, animation.Film(moving))
    ]
    assert places == [[0, 1], [0, 0]], "a row per stage, or side by side"
    titles = {0: "iteration 0, warm-up", 2: "iteration 10, warm-up", 3: "iteration 20"}
    for index, title in titles.items():
        film.show(index)
        assert film.figure._suptitle.get_text() == title
        for axes, name in zip(film.figure.axes, moving.names):
            xy = moving.positions(name)
            (trails,) = (item for item in axes.collections if isinstance(item, LineCollection))
            for group in range(xy.shape[1]):
                label = "learned" if group == 0 else f"learned, group {group + 1}"
                dots = next(line for line in axes.lines if line.get_label() == label)
                np.testing.assert_array_equal(dots.get_xydata(), xy[index, group])
                trail = trails.get_colors()[group * xy.shape[2]]
                np.testing.assert_allclose(trail[:3], to_rgb(dots.get_color()))
            ways = np.array(trails.get_segments()).reshape(xy.shape[1], -1, index + 1, 2)
            np.testing.assert_array_equal(np.moveaxis(ways, 2, 0), xy[: index + 1])


@pytest.mark.slow
def test_long_runs_are_thinned():
    long = history([layer("conv")], range(0, 3001, 3))
    shown = animation.Film(long).frames
    assert len(shown) == animation.FRAMES and (shown[0], shown[-1]) == (0, 1000)


def test_all_that_moves_stays_in_sight():
    """Also what comes back before the end."""
    there = history([layer("conv", shift=3)], [0, 20])
    there.append(40, history([layer("conv")], [0, 20]).layers())
    (axes,) = animation.Film(there).figure.axes
    assert axes.get_xlim()[1] > 4


def test_what_cannot_be_animated(moving, tmp_path):
    with pytest.raises(UserError, match=r"end the name of .* in \.gif"):
        animation.animate(moving, tmp_path / "a.mp4")
    with pytest.raises(UserError, match="recorded only once"):
        animation.animate(history([layer("conv")], [0]), tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


def test_the_command_animates_a_run(moving, tmp_path):
    moving.save(tmp_path / "run/positions.npz")
    picture, film = tmp_path / "a.png", tmp_path / "film.gif"
    done = acu("plot", tmp_path / "run", "--animate", film, "--output", picture)
    assert done.returncode == 0 and "5/5" in done.stderr, "its progress"
    wrote = [line for line in done.stdout.splitlines() if line.startswith("wrote")]
    assert wrote == [f"wrote {tmp_path}/{name}" for name in ("a.png", "a-movement.png", "film.gif")]
    assert len(list(frames(film))) == 5 and film.stat().st_size < 10**6


def test_a_snapshot_does_not_move(shared_reference, tmp_path):
    source = shared_reference / "acu_plain_cifar10_iter_64000.caffemodel"
    assert "is a file" in refused("plot", source, "--animate", tmp_path / "a.gif", status=2)
    assert "there is no" in refused("plot", tmp_path / "nothing")
