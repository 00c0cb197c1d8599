"""The pictures of training curves, by their artists."""

import numpy as np
import pytest
from active_convolution.errors import UserError
from active_convolution.look import curves
from active_convolution.training.metrics import Metrics


def metrics(losses, errors, every=1):
    """Rows after each ``every`` iterations; ``errors`` maps iterations to test errors."""
    made = Metrics()
    for index, loss in enumerate(losses, start=1):
        made.append(index * every, loss=loss, test_error=errors.get(index * every))
    return made


def line(axes, label):
    return next(line for line in axes.lines if line.get_label() == label)


def test_loss_and_error_of_both_sides():
    sides = {
        "ordinary": [metrics([2, 1, 0.5, 0.25], {2: 0.5, 4: 0.4})],
        "active": [metrics([2, 1, 0.4, 0.2], {4: 0.3})],
    }
    figure = curves.draw_curves(sides, warmup_iter=3)
    loss, error = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == ["training loss", "test error (%)"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["iterations"] * 2
    np.testing.assert_array_equal(
        line(loss, "ordinary").get_xydata(), [(1, 2), (2, 1), (3, 0.5), (4, 0.25)]
    )
    np.testing.assert_array_equal(line(error, "ordinary").get_xydata(), [(2, 50), (4, 40)])
    np.testing.assert_array_equal(line(error, "active").get_xydata(), [(4, 30)])
    assert line(loss, "ordinary").get_color() != line(loss, "active").get_color()
    assert loss.get_yscale() == "log"
    for axes in figure.axes:
        assert axes.get_xlim() == (0, 4)
        np.testing.assert_array_equal(line(axes, "end of warm-up").get_xdata(), 3)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "ordinary",
        "active",
        "end of warm-up",
    ]


def test_several_runs_are_drawn_around_their_mean():
    """The mean ends where the shortest run does."""
    runs = [
        metrics([4, 2, 1], {1: 0.5, 3: 0.2}),
        metrics([2, 1, 0.5, 0.1], {1: 0.3, 3: 0.4, 4: 0.1}),
    ]
    loss, error = curves.draw_curves({"active": runs}).axes
    np.testing.assert_allclose(line(loss, "active").get_xydata(), [(1, 3), (2, 1.5), (3, 0.75)])
    np.testing.assert_allclose(line(error, "active").get_xydata(), [(1, 40), (3, 30)])
    assert len(loss.lines) == 3 and loss.get_xlim() == (0, 4)
    assert {line.get_linewidth() < 1 for line in loss.lines} == {True, False}


def test_long_curves_are_thinned_to_means():
    noisy = metrics(np.tile([1.5, 0.5], 2000), {}, every=16)
    drawn = line(curves.draw_curves({"active": [noisy]}).axes[0], "active").get_xydata()
    assert 50 <= len(drawn) <= 100
    np.testing.assert_allclose(drawn[:, 1], 1)
    assert 0 < drawn[0, 0] < drawn[-1, 0] < 4000 * 16


def test_no_warm_up_in_sight():
    for warmup_iter in (0, 5):
        figure = curves.draw_curves({"active": [metrics([2, 1], {2: 0.5})]}, warmup_iter)
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["active"]


def test_sides_that_recorded_nothing():
    figure = curves.draw_curves({"ordinary": [], "active": [metrics([2, 1], {}), Metrics()]})
    assert [len(axes.lines) for axes in figure.axes] == [1, 0]
    with pytest.raises(UserError, match="no run has recorded anything yet"):
        curves.draw_curves({"ordinary": [], "active": [Metrics()]})


@pytest.mark.parametrize("losses", [(1.9, 0.12), (0.9, 0.3), (4, 0.002), (0.55, 0.5)])
def test_the_loss_has_several_labels(losses):
    axes = curves.draw_curves({"active": [metrics(losses, {})]}).axes[0]
    axes.figure.draw_without_rendering()
    low, high = axes.get_ylim()
    texts = [
        text.get_text() for text in axes.get_yticklabels() if low <= text.get_position()[1] <= high
    ]
    assert len(texts) >= 2 and all(texts), texts
