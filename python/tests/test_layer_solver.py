"""Positions in training: warm-up, unit steps, accumulation, resuming, sharing, and the recovery of
a hidden teacher's."""

import numpy as np
import pytest
from active_convolution.caffe import locate
from active_convolution.check import oracle
from layer_training import ORIGIN, OUTPUTS, Training, inputs, layer, loss, on_noise
from scipy.ndimage import gaussian_filter

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


# ---- Steps


@pytest.mark.quick
def test_frozen_for_exactly_the_warm_up(tmp_path):
    """Weights learn from the start; neither momentum nor weight decay moves a position before its
    iteration."""
    net = layer("warmup_iter: 5") + loss()
    training = on_noise(tmp_path / "run", net, momentum=0.9, weight_decay=0.5, base_lr=0.01)
    weight = training.blobs()[0]
    moved = np.delete(np.diff(training.path(7), axis=0), ORIGIN, axis=1).any(axis=2)
    assert not moved[:5].any() and moved[5:].all()
    assert (training.blobs()[0] != weight).all()


@pytest.mark.quick
@pytest.mark.parametrize("iter_size", [1, 4])
@pytest.mark.parametrize("normalised", ["true", "false"])
def test_steps_against_the_gradient(normalised, iter_size, tmp_path):
    """Plain SGD steps by its rate against the gradient of the whole iteration, brought to unit
    length or as it is; the origin stays. Weight decay has no part in it."""
    net = layer(f"position_lr_mult: 0.05 normalize_gradient: {normalised}") + loss()
    training = on_noise(tmp_path / "run", net, iter_size=iter_size, weight_decay=0.5)
    gradients = []
    training.solver.add_callback(
        lambda: None,
        lambda: gradients.append(
            np.stack(
                [blob.diff.ravel() / iter_size for blob in training.net.params["acu"][2:]], axis=1
            )
        ),
    )
    steps = np.diff(training.path(5), axis=0)
    lengths = np.linalg.norm(gradients, axis=2, keepdims=True)
    expected = -0.1 * 0.05 * np.array(gradients) / (lengths if normalised == "true" else 1)
    expected[:, ORIGIN] = 0
    np.testing.assert_allclose(steps, expected, rtol=1e-3, atol=1e-6)
    assert (steps[:, ORIGIN] == 0).all()


def test_origin_moves_where_it_is_not_fixed(tmp_path):
    training = on_noise(tmp_path / "run", layer("fix_origin: false") + loss()).run(1)
    assert np.linalg.norm(training.positions()[ORIGIN]) == pytest.approx(0.1 * 0.01, rel=1e-3)


def test_no_position_rate_no_movement(tmp_path):
    training = on_noise(tmp_path / "run", layer("position_lr_mult: 0") + loss(), weight_decay=0.1)
    assert not np.diff(training.path(3), axis=0).any()


def test_param_entries_win(tmp_path):
    """Over position_lr_mult, and over the decay of zero: with no gradient, x shrinks by its own
    rate and decay."""
    params = "param {} param {} param { lr_mult: 0.5 decay_mult: 2 } param { lr_mult: 0 }"
    training = on_noise(
        tmp_path / "run", layer("warmup_iter: 2", params=params) + loss(), weight_decay=0.1
    )
    path = training.path(4)
    np.testing.assert_allclose(
        path[2, :, 0], path[0, :, 0] * (1 - 0.1 * 0.5 * 0.1 * 2) ** 2, rtol=1e-6
    )
    assert np.delete(np.diff(path[2:, :, 0], axis=0), ORIGIN, axis=1).all()
    assert not np.diff(path[:, :, 1], axis=0).any()


def test_normalised_after_the_reduction_over_solvers(tmp_path):
    """What changes the gradients in on_gradients_ready, as a reduction over GPUs does, comes before
    normalising."""
    training = on_noise(tmp_path / "run", layer("position_lr_mult: 0.02") + loss())
    x, y = training.net.params["acu"][2:]

    def reduce():
        x.diff[...], y.diff[...] = 300, -400

    training.solver.add_callback(lambda: None, reduce)
    expected = np.tile(0.1 * 0.02 * np.array([-0.6, 0.8]), (9, 1))
    expected[ORIGIN] = 0
    np.testing.assert_allclose(np.diff(training.path(1), axis=0)[0], expected, atol=1e-6)


# ---- Runs


@pytest.mark.parametrize("normalised", ["true", "false"])
def test_accumulated_passes_follow_the_whole_batch(normalised, tmp_path):
    """iter_size 4 with a quarter of the batch: the same weights and positions over 50 iterations,
    to rounding."""
    net = layer(f"position_lr_mult: 0.1 normalize_gradient: {normalised}") + loss()
    settings = dict(batch=8, momentum=0.9, base_lr=0.01)
    whole, parts = (on_noise(tmp_path / str(n), net, iter_size=n, **settings) for n in (1, 4))
    start = whole.positions()
    for found, expected in zip(parts.run(50).blobs(), whole.run(50).blobs()):
        np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.abs(whole.positions() - start).max() > 0.01


@pytest.mark.parametrize("interrupted_at", [3, 10], ids=["inside the warm-up", "after it"])
@pytest.mark.parametrize(
    "method, form",
    [
        ("SGD", "BINARYPROTO"),
        ("Nesterov", "BINARYPROTO"),
        ("Nesterov", "HDF5"),
        ("AdaGrad", "HDF5"),
        ("RMSProp", "BINARYPROTO"),
        ("AdaDelta", "BINARYPROTO"),
        ("Adam", "HDF5"),
    ],
)
def test_a_resumed_run_ends_bit_identical(method, form, interrupted_at, tmp_path):
    """A new solver, started otherwise and restored from a snapshot, ends as the run that was not
    interrupted."""
    net = layer("warmup_iter: 6") + loss()
    momentum = 0 if method in ("AdaGrad", "RMSProp") else 0.9
    settings = dict(momentum=momentum, base_lr=0.02, type=f'"{method}"', snapshot_format=form)
    whole = on_noise(tmp_path / "whole", net, **settings).run(15)
    on_noise(tmp_path / "first", net, **settings).run(interrupted_at).solver.snapshot()
    second = on_noise(tmp_path / "second", net, **{**settings, "random_seed": 99})
    second.solver.restore(str(next(tmp_path.glob(f"first/s_iter_{interrupted_at}.solverstate*"))))
    for found, expected in zip(second.run(15 - interrupted_at).blobs(), whole.blobs()):
        np.testing.assert_array_equal(found, expected)
    assert (whole.positions() % 1).any()


def test_two_solvers_in_one_process(tmp_path):
    """Each keeps its own warm-up and positions, whatever the other does between its steps."""
    net = layer("warmup_iter: 4") + loss()
    alone = on_noise(tmp_path / "alone", net).run(8)
    early, late = (on_noise(tmp_path / name, net) for name in ("early", "late"))
    start = late.positions()
    for _ in range(4):
        early.run(2)
        late.run(1)
    for found, expected in zip(early.blobs(), alone.blobs()):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(late.positions(), start)


# ---- Sharing


def test_layers_that_share_positions_are_parts_of_one_layer(tmp_path):
    """Two layers with positions in common, side by side, train as one layer that has the outputs of
    both."""
    common = 'param {} param {} param { name: "x" } param { name: "y" }'
    both = "".join(
        layer("position_lr_mult: 0.1", name, params=common) for name in ("upper", "lower")
    )
    concat = 'layer { name: "acu" type: "Concat" bottom: "upper" bottom: "lower" top: "acu" }\n'
    settings = dict(outputs=2 * OUTPUTS, base_lr=0.02, iter_size=2)
    shared = on_noise(tmp_path / "shared", both + concat + loss(), **settings)
    single = on_noise(
        tmp_path / "single",
        layer("position_lr_mult: 0.1", outputs=2 * OUTPUTS) + loss(),
        **settings,
    )
    single.net.params["acu"][0].data[...] = np.concatenate(
        [shared.blobs(name)[0] for name in ("upper", "lower")]
    )

    upper, lower = (shared.run(10).blobs("upper"), shared.blobs("lower"))
    for i, expected in enumerate(single.run(10).blobs()):
        found = np.concatenate([upper[i], lower[i]]) if i < 2 else upper[i]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(upper[2:], lower[2:])
    assert np.abs(single.positions() % 1).max() > 1e-3


@pytest.mark.parametrize("save, suffix", [("save", ""), ("save_hdf5", ".h5")])
def test_saved_and_shared_nets_hold_the_positions(save, suffix, tmp_path):
    """A snapshot's net has the four blobs as they were; one that shares has them as they are,
    training on."""
    training = on_noise(tmp_path / "run", layer() + loss()).run(3)
    saved = training.blobs()
    snapshot = str(tmp_path / f"net.caffemodel{suffix}")
    getattr(training.net, save)(snapshot)
    loaded, sharing = (
        locate.caffe().Net(str(tmp_path / "run/net.prototxt"), locate.caffe().TEST)
        for _ in range(2)
    )
    loaded.copy_from(snapshot)
    sharing.share_with(training.net)
    trained = training.run(2).blobs()
    for i in range(4):
        np.testing.assert_array_equal(loaded.params["acu"][i].data, saved[i])
        np.testing.assert_array_equal(sharing.params["acu"][i].data, trained[i])
        assert (saved[i] != trained[i]).any()


# ---- A hidden teacher

TEACHER = oracle.Shape(outputs=16, kernel=(3, 3), pad=(1, 1))
GRID = np.stack(TEACHER.grid(), axis=1)
STUDENT = "position_lr_mult: 0.1 fix_origin: false"  # unit steps, which Adam does not shrink
ADAM = dict(
    type='"Adam"',
    momentum=0.9,
    momentum2=0.99,
    base_lr=0.05,
    lr_policy='"poly"',
    power=1.5,
    max_iter=3000,
)


def student_of(teacher, draw, folder, blur, channels=3, size=24, knows_the_weights=False):
    """Trains an ACU, from the 3×3 grid, on what a ``teacher`` with these positions makes of random
    images.

    The teacher is the oracle, with random weights and no bias. The student is given its weights and
    keeps them, or learns weights and bias from random ones. ``blur`` is the size of what the images
    show, in pixels. Returns the student's positions, its weights, and the teacher's.
    """
    images = gaussian_filter(draw.normal(size=(64, channels, size, size)), (0, 0, blur, blur))
    images /= images.std()
    weight = draw.normal(size=(TEACHER.outputs, channels, 3, 3))
    x, y = teacher.T.reshape(2, 1, 1, 3, 3)
    targets = oracle.forward(TEACHER, images, weight, np.zeros(TEACHER.outputs), x, y)

    def feed(_):
        pair = 2 * draw.integers(len(images) // 2)
        return images[pair : pair + 2], targets[pair : pair + 2]

    params = "param { lr_mult: 0 } param { lr_mult: 0 }" if knows_the_weights else ""
    net = (
        inputs(2, channels, TEACHER.outputs, size)
        + layer(STUDENT, outputs=TEACHER.outputs, params=params)
        + loss().replace("top:", f"loss_weight: {1 / size**2} top:")
    )
    training = Training(folder, net, feed, random_seed=draw.integers(1000), **ADAM)
    np.testing.assert_array_equal(training.positions(), GRID)
    if knows_the_weights:
        training.net.params["acu"][0].data[...], training.net.params["acu"][1].data[...] = weight, 0
    training.run(ADAM["max_iter"])
    return training.positions(), training.blobs()[0], weight


def distances(found, teacher):
    """Of each synapse from the teacher's of the same place in the order, in pixels: (K,)."""
    return np.linalg.norm(found - teacher, axis=1)


@pytest.mark.parametrize("seed", range(4))
def test_student_with_the_teachers_weights_recovers_its_positions(seed, tmp_path):
    """Wherever nine synapses are hidden, up to 1.5 pixels from their places on the grid."""
    draw = np.random.default_rng(seed)
    angle, distance = (
        draw.uniform(0, 2 * np.pi, 9),
        draw.permutation([*draw.uniform(0.2, 0.9, 8), 1.5]),
    )
    teacher = GRID + distance[:, np.newaxis] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found, _, _ = student_of(teacher, draw, tmp_path / "run", blur=1.5, knows_the_weights=True)
    assert distances(found, teacher).max() < 0.02


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "teacher",
    [
        pytest.param(
            [
                (-1.1, -0.9),
                (0.2, -1.4),
                (1.2, -0.8),
                (-1.4, 0.2),
                (0.3, -0.25),
                (1.35, 0.3),
                (-0.9, 1.15),
                (-0.2, 1.3),
                (0.9, 1.2),
            ],
            id="farthest 1.5 pixels from the base pixel",
        ),
        pytest.param(
            [
                (-2.2, -1.9),
                (0.1, -1.6),
                (1.7, -1.3),
                (-1.6, 0.3),
                (0.3, 0.2),
                (1.45, -0.2),
                (-1.3, 1.6),
                (0.3, 1.4),
                (1.6, 1.25),
            ],
            id="farthest 1.5 pixels from its start",
        ),
    ],
)
def test_student_that_learns_the_weights_too_recovers_the_positions(teacher, seed, tmp_path):
    """All at once, from random weights: the nine positions to 0.02 pixel, and the weights of all
    sixteen outputs.

    The teachers are spread out on purpose. Synapses within the grid's square could not be found:
    they read what the grid's nine taps read, and an ordinary 3×3 convolution with other weights
    computes the same outputs.
    """
    teacher = np.array(teacher)
    farthest = np.linalg.norm(teacher, axis=1).max(), distances(GRID, teacher).max()
    assert min(np.abs(np.array(farthest) - 1.5)) < 1e-9 and (teacher % 1).all()
    found, weight, teachers_weight = student_of(
        teacher, np.random.default_rng(seed), tmp_path / "run", blur=0.8
    )
    assert distances(found, teacher).max() < 0.02
    np.testing.assert_allclose(weight, teachers_weight, atol=0.02)
