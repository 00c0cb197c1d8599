"""Every update of a solver meets positions alike: under each type and setting, from Step and from a
loop of one's own."""

import numpy as np
import pytest
from layer_training import ORIGIN, layer, loss, on_noise

pytestmark = pytest.mark.usefixtures("one_thread")

SOLVERS = {
    "SGD": {},
    "Nesterov": {},
    "AdaGrad": {},
    "RMSProp": {"rms_decay": 0.99},
    "AdaDelta": {"momentum": 0.95},
    "Adam": {"momentum": 0.9, "momentum2": 0.999},
}
RATE, POSITION_RATE = 0.1, 0.05
STEP = RATE * POSITION_RATE
CLIP = 0.05  # a hundredth of the gradient's norm, or less


def trained_by(solver, folder, active, params="", **settings):
    """A Training with this solver on noise; ``active`` is active_convolution_param, beside the rate
    of the positions."""
    rate = "" if "position_lr_mult" in active else f"position_lr_mult: {POSITION_RATE} "
    net = layer(rate + active, params=params) + loss()
    return on_noise(
        folder, net, batch=6, type=f'"{solver}"', **{"base_lr": RATE, **SOLVERS[solver], **settings}
    )


def lengths(path):
    """Of the steps along a path, of all synapses but the origin, which has none: (iterations, K -
    1)."""
    steps = np.linalg.norm(np.diff(path, axis=0), axis=2)
    assert not steps[:, ORIGIN].any()
    return np.delete(steps, ORIGIN, axis=1)


# ---- Normalised positions


@pytest.mark.parametrize("decay", ["L1", "L2"])
@pytest.mark.parametrize("iter_size", [1, 3])
@pytest.mark.parametrize("clip", [-1, CLIP], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_weights_and_positions_learn_each_as_without_the_other(
    solver, clip, iter_size, decay, tmp_path
):
    """Up to and with the first step after the warm-up weights are, bit for bit, those beside frozen
    positions, and that step is of the positions' own rate, whatever the clipping and the decay of
    the weights."""
    settings = dict(
        clip_gradients=clip, iter_size=iter_size, weight_decay=0.5, regularization_type=f'"{decay}"'
    )
    moving = trained_by(solver, tmp_path / "moving", "warmup_iter: 3", **settings)
    frozen = trained_by(solver, tmp_path / "frozen", "position_lr_mult: 0", **settings)
    steps = lengths(moving.path(4))
    frozen.run(4)
    assert not steps[:3].any()
    np.testing.assert_allclose(steps[3], STEP, rtol=1e-4)
    for found, expected in zip(moving.blobs()[:2], frozen.blobs()[:2]):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("solver", SOLVERS)
def test_steps_stay_as_long(solver, tmp_path):
    """Long after the warm-up: as SGD's without momentum under every adaptive solver, within it
    under the others."""
    momentum = {"momentum": 0.5} if solver in ("SGD", "Nesterov") else {}
    steps = lengths(
        trained_by(
            solver, tmp_path / "run", "warmup_iter: 20", clip_gradients=CLIP, **momentum
        ).path(100)
    )
    np.testing.assert_allclose(steps[20], STEP * (1.5 if solver == "Nesterov" else 1), rtol=1e-4)
    if momentum:
        assert steps[21:].max() < 2.01 * STEP and steps[21:].mean() > 0.5 * STEP
    else:
        np.testing.assert_allclose(steps[20:], STEP, rtol=1e-3)


def test_a_clipped_step_of_sgd_is_that_of_the_gradients_direction(tmp_path):
    training = trained_by("SGD", tmp_path / "run", "", clip_gradients=CLIP, iter_size=3)
    gradients = []
    training.solver.add_callback(
        lambda: None,
        lambda: gradients.append(
            np.stack([blob.diff.ravel() for blob in training.net.params["acu"][2:]], axis=1)
        ),
    )
    step = np.diff(training.path(1), axis=0)[0]
    expected = -STEP * gradients[0] / np.linalg.norm(gradients[0], axis=1, keepdims=True)
    expected[ORIGIN] = 0
    np.testing.assert_allclose(step, expected, atol=1e-6)


@pytest.mark.parametrize("frozen", [0, 1], ids=["x frozen", "y frozen"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_one_frozen_coordinate_leaves_the_other_its_whole_step(solver, frozen, tmp_path):
    params = "param {} param {} " + " ".join(
        "param { lr_mult: 0 }" if i == frozen else "param {}" for i in (0, 1)
    )
    steps = np.diff(
        trained_by(solver, tmp_path / "run", "warmup_iter: 2", params, clip_gradients=CLIP).path(3),
        axis=0,
    )
    assert not steps[:2].any() and not steps[:, :, frozen].any() and not steps[:, ORIGIN].any()
    np.testing.assert_allclose(np.abs(np.delete(steps[2, :, 1 - frozen], ORIGIN)), STEP, rtol=1e-4)


# ---- The limit


@pytest.mark.parametrize("normalised", ["true", "false"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_positions_stay_within_their_limit(solver, normalised, tmp_path):
    """Those that would leave stand at it; within it, and so up to the first arrival, nothing
    changes."""
    active = f"fix_origin: false position_lr_mult: 1 normalize_gradient: {normalised}"
    free = trained_by(solver, tmp_path / "free", active).path(12)
    limit = 1 + 2.0 ** (-4 if normalised == "true" else -13)  # raw steps of AdaDelta are tiny
    active += f" position_limit: {limit}"
    limited = trained_by(solver, tmp_path / "limited", active).path(12)
    assert np.abs(free).max() > limit and np.abs(limited).max() == limit
    inside = int((np.abs(free).max(axis=(1, 2)) <= limit).argmin())
    np.testing.assert_array_equal(limited[:inside], free[:inside])


def test_the_first_update_takes_loaded_positions_to_the_limit(tmp_path):
    training = trained_by("SGD", tmp_path / "run", "warmup_iter: 9 position_limit: 2")
    x, y = training.net.params["acu"][2:]
    x.data.ravel()[:2], y.data.ravel()[1] = (5, -np.inf), 1.5
    found = training.run(1).positions()
    np.testing.assert_array_equal(found[:2], [[2, -1], [-2, 1.5]])


# ---- Raw ones


@pytest.mark.parametrize(
    "params", ["", "param {} param {} param {} param { lr_mult: 0 }"], ids=["", "y frozen"]
)
def test_raw_gradients_are_clipped_as_any_others(params, tmp_path):
    """With weights and bias in one norm, where what is frozen does not count."""
    training = trained_by(
        "SGD", tmp_path / "run", "normalize_gradient: false", params, clip_gradients=CLIP
    )
    blobs, before, gradients = training.net.params["acu"], training.blobs(), []
    training.solver.add_callback(
        lambda: None, lambda: gradients.extend(blob.diff.copy() for blob in blobs)
    )
    training.run(1)
    for gradient in gradients[2:]:
        gradient.ravel()[ORIGIN] = 0
    if params:
        gradients[3][...] = 0
    scale = CLIP / np.sqrt(sum(np.square(gradient, dtype=float).sum() for gradient in gradients))
    assert scale < 0.1
    for i, rate in enumerate([RATE, RATE, STEP, STEP]):
        np.testing.assert_allclose(
            blobs[i].data - before[i], -rate * scale * gradients[i], rtol=1e-3, atol=1e-7
        )


def test_raw_gradients_count_nothing_during_the_warm_up(tmp_path):
    raw = trained_by(
        "SGD", tmp_path / "raw", "normalize_gradient: false warmup_iter: 4", clip_gradients=CLIP
    ).run(4)
    frozen = trained_by("SGD", tmp_path / "frozen", "position_lr_mult: 0", clip_gradients=CLIP).run(
        4
    )
    for found, expected in zip(raw.blobs(), frozen.blobs()):
        np.testing.assert_array_equal(found, expected)


# ---- A loop of one's own


@pytest.mark.parametrize(
    "active", ["warmup_iter: 3", "warmup_iter: 3 normalize_gradient: false"], ids=["unit", "raw"]
)
@pytest.mark.parametrize("iter_size", [1, 3])
@pytest.mark.parametrize("solver", SOLVERS)
def test_forward_backward_apply_update_is_a_step(solver, iter_size, active, tmp_path):
    """Warm-up, origin and directions included: pycaffe's apply_update counts the iterations as Step
    does."""
    settings = dict(iter_size=iter_size, clip_gradients=CLIP)
    stepped, by_hand = (
        trained_by(solver, tmp_path / name, active, **settings) for name in ("stepped", "by_hand")
    )
    start = by_hand.positions()
    np.testing.assert_array_equal(by_hand.run_by_hand(3).positions(), start)
    for found, expected in zip(by_hand.run_by_hand(3).blobs(), stepped.run(6).blobs()):
        np.testing.assert_array_equal(found, expected)
    assert by_hand.solver.iter == stepped.solver.iter == 6
    moved = (by_hand.positions() != start).any(axis=1)
    assert np.delete(moved, ORIGIN).all() and not moved[ORIGIN]


# ---- Sharing

COMMON = 'param {} param {} param { name: "x" %s } param { name: "y" %s }'
CONCAT = 'layer { name: "acu" type: "Concat" bottom: "upper" bottom: "lower" top: "acu" }\n'


@pytest.mark.parametrize("solver", ["SGD", "Adam"])
@pytest.mark.parametrize(
    "active, owner, sharer, step",
    [
        ("position_lr_mult: 0.2", "", "", 0.2),
        ("", "lr_mult: 0.4 decay_mult: 0", "", 0.4),
        ("", "lr_mult: 0.4", "lr_mult: 0.4", 0.4),
        ("", "", "", 0.01),
    ],
)
def test_shared_positions_step_once_at_the_rate_of_their_first_layer(
    active, owner, sharer, step, solver, tmp_path
):
    """Also where the second layer says nothing of it."""
    net = (
        layer(active, "upper", params=COMMON % (owner, owner))
        + layer("", "lower", params=COMMON % (sharer, sharer))
        + CONCAT
        + loss()
    )
    training = on_noise(
        tmp_path / "run",
        net,
        outputs=8,
        base_lr=RATE,
        type=f'"{solver}"',
        weight_decay=0.5,
        clip_gradients=CLIP,
        **SOLVERS[solver],
    )
    found = np.array([training.positions("upper")] + [training.run(1).positions("upper")])
    np.testing.assert_allclose(lengths(found), RATE * step, rtol=1e-3)
    np.testing.assert_array_equal(training.positions("lower"), training.positions("upper"))


def test_shared_positions_warm_up_as_their_first_layer_does(tmp_path):
    net = (
        layer("warmup_iter: 3", "upper", params=COMMON % ("", ""))
        + layer("", "lower", params=COMMON % ("", ""))
        + CONCAT
        + loss()
    )
    training = on_noise(tmp_path / "run", net, outputs=8)
    path = np.array(
        [training.positions("lower")] + [training.run(1).positions("lower") for _ in range(4)]
    )
    assert (lengths(path) > 0).tolist() == [[False] * 8] * 3 + [[True] * 8]
