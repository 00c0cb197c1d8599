"""Animations of moving synapses, by their frames."""

import os

import numpy as np
import pytest
from active_convolution.caffe.positions import by_stage
from active_convolution.errors import UserError
from active_convolution.look import animation
from matplotlib.animation import FFMpegWriter
from matplotlib.collections import LineCollection
from PIL import Image
from test_plotting_synapses import history, layer, plot


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
    animation.animate(moving, by_stage(moving.layers()), tmp_path / "film.GIF")
    pictures = list(frames(tmp_path / "film.GIF"))
    assert len(pictures) == 5 and len({picture.shape for picture in pictures}) == 1
    assert np.ptp(pictures[0]) > 200, "blank"
    title = (
        len(pictures[0]) // 20
    )  # rows of pixels: the iteration stands there, and changes in every frame
    below = [picture[title:] for picture in pictures]
    assert (np.abs(below[0] - below[2]) > 60).mean() < 1e-4, "moved in the warm-up"
    assert (np.abs(below[0] - below[-1]) > 60).mean() > 1e-3, "did not move"
    assert list(tmp_path.iterdir()) == [tmp_path / "film.GIF"]


def test_frames_show_the_records(moving):
    film = animation.Film(moving, by_stage(moving.layers()))
    assert [axes.get_title() for axes in film.figure.axes] == ["conv1/1", "conv2/1"]
    assert [axes.get_ylabel() for axes in film.figure.axes] == [
        "stage 1\n\ny (pixels)",
        "stage 2\n\ny (pixels)",
    ]
    for index, title in (
        (0, "iteration 0, warm-up"),
        (2, "iteration 10, warm-up"),
        (3, "iteration 20"),
    ):
        film.show(index)
        assert film.figure._suptitle.get_text() == title
        for axes, name in zip(film.figure.axes, moving.names):
            xy = moving.positions(name)
            for group in range(xy.shape[1]):
                label = "learned" if group == 0 else f"learned, group {group + 1}"
                dots = next(line for line in axes.lines if line.get_label() == label)
                np.testing.assert_array_equal(dots.get_xydata(), xy[index, group])
            (trails,) = (item for item in axes.collections if isinstance(item, LineCollection))
            ways = np.array(trails.get_segments()).reshape(xy.shape[1], -1, index + 1, 2)
            np.testing.assert_array_equal(np.moveaxis(ways, 2, 0), xy[: index + 1])


@pytest.mark.slow
def test_long_runs_are_thinned():
    long = history([layer("conv")], range(0, 3001, 3))
    shown = animation.Film(long, [long.layers()]).frames
    assert len(shown) == animation.FRAMES and (shown[0], shown[-1]) == (0, 1000)


def test_all_that_moves_stays_in_sight():
    """Also what comes back before the end."""
    there = history([layer("conv", shift=3)], [0, 20])
    there.append(40, history([layer("conv")], [0, 20]).layers())
    (axes,) = animation.Film(there, [there.layers()]).figure.axes
    assert axes.get_xlim()[1] > 4


def test_formats(moving, tmp_path, monkeypatch):
    stages = by_stage(moving.layers())
    for name in ("a.avi", "a", "a.png"):
        with pytest.raises(UserError, match=r"end its name in \.gif or \.mp4"):
            animation.animate(moving, stages, tmp_path / name)
    if FFMpegWriter.isAvailable():
        animation.animate(moving, stages, tmp_path / "a.mp4")
        assert (tmp_path / "a.mp4").read_bytes()[4:8] == b"ftyp"
        (tmp_path / "a.mp4").unlink()
    monkeypatch.setattr(FFMpegWriter, "isAvailable", lambda: False)
    with pytest.raises(
        UserError,
        match=r"a.mp4 needs ffmpeg, which is not installed: apt-get install .*, or .* \.gif",
    ):
        animation.animate(moving, stages, tmp_path / "a.mp4")
    with pytest.raises(UserError, match="recorded only once"):
        animation.animate(history([layer("conv")], [0]), [[layer("conv")]], tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "says, reason",
    [
        ("cat >/dev/null; echo Unknown encoder >&2; exit 1", "Unknown encoder"),
        ("exec <&-; exit 0", "it ended"),
        ("exit 3", "it ended"),
    ],
)
def test_an_ffmpeg_that_fails(moving, tmp_path, monkeypatch, says, reason):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ffmpeg").write_text(f"#!/bin/sh\n{says}\n")
    (tmp_path / "bin/ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    with pytest.raises(
        UserError, match=rf"ffmpeg could not write .*/a.mp4 \({reason}\): end the name in .gif"
    ):
        animation.animate(moving, by_stage(moving.layers()), tmp_path / "a.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_script_writes_the_picture_and_the_film_or_neither(root, moving, tmp_path):
    history([layer("conv")], [5]).save(tmp_path / "once/positions.npz")
    moving.save(tmp_path / "run/positions.npz")
    for run, film, complaint in (
        ("once", "a.gif", "positions were recorded only once so far"),
        ("run", "run/positions.npz/a.gif", "cannot write"),
    ):
        done = plot(
            root, tmp_path / run, "--output", tmp_path / "a.png", "--animate", tmp_path / film
        )
        assert (
            done.returncode == 1
            and done.stderr.startswith(f"error: {complaint}")
            and "wrote" not in done.stdout
        )
    assert not list(tmp_path.rglob("a*"))
    done = plot(
        root, tmp_path / "run", "--output", tmp_path / "a.png", "--animate", tmp_path / "a.gif"
    )
    assert [line.split("/")[-1] for line in done.stdout.splitlines()[-3:]] == [
        "a.png",
        "a-movement.png",
        "a.gif",
    ]
    assert {path.name for path in tmp_path.glob("a*")} == {"a.png", "a-movement.png", "a.gif"}


def test_script_animates_a_run(root, moving, tmp_path):
    moving.save(tmp_path / "run" / "positions.npz")
    done = plot(root, tmp_path / "run", "--animate", tmp_path / "film.gif")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout.splitlines()[-1] == f"wrote {tmp_path}/film.gif"
        and len(done.stdout.splitlines()) == 3
    )
    assert len(list(frames(tmp_path / "film.gif"))) == 5


def test_script_has_nothing_to_animate_in_a_snapshot(root, shared_reference, tmp_path):
    source = shared_reference / "acu_plain_cifar10_iter_64000.caffemodel"
    done = plot(root, source, "--animate", tmp_path / "film.gif")
    assert done.returncode == 1 and done.stdout == ""
    assert (
        done.stderr
        == f"error: {source} is a single moment: name the folder of a run for --animate\n"
    )


def test_script_wants_something_to_draw(root, tmp_path):
    done = plot(root, tmp_path)
    assert done.returncode == 2 and "give --output, --animate or both" in done.stderr
