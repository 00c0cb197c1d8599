"""Positions in training: warm-up, unit steps, accumulation, resuming, sharing, and the recovery of a hidden teacher's.

The nets have two inputs, which each test fills as a function of the iteration: nothing depends on a data layer's cursor.
"""
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from active_convolution import fork

CHANNELS, OUTPUTS, SIZE = 2, 4, 8
ORIGIN = 4  # the synapse in the middle of the 3×3 grid

LAYER = """layer {{ name: "{name}" type: "ActiveConvolution" bottom: "{bottom}" top: "{name}" {params}
  convolution_param {{ num_output: {outputs} kernel_size: 3 pad: 1 weight_filler {{ type: "gaussian" std: 0.1 }} {conv} }}
  active_convolution_param {{ {active} }} }}"""


def inputs(batch, channels=CHANNELS, outputs=OUTPUTS, size=SIZE):
    return "".join(f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ dim: {batch} '
                   f'dim: {count} dim: {size} dim: {size} }} }} }}\n'
                   for name, count in (("image", channels), ("target", outputs)))


def layer(name="acu", bottom="image", outputs=OUTPUTS, params="", conv="", active=""):
    return LAYER.format(**locals())


def loss(bottom="acu"):
    return f'layer {{ name: "loss" type: "EuclideanLoss" bottom: "{bottom}" bottom: "target" top: "loss" }}\n'


class Training:
    """A pycaffe solver whose inputs are random and belong to the iteration: ``batch`` images for one, over iter_size."""

    def __init__(self, folder, net, batch=4, iter_size=1, **solver):
        folder.mkdir(exist_ok=True)
        settings = {"base_lr": 0.1, "lr_policy": '"fixed"', "momentum": 0, "type": '"SGD"', "random_seed": 3,
                    "iter_size": iter_size, "snapshot_after_train": "false", "max_iter": 1000,
                    "snapshot_prefix": f'"{folder}/s"', "net": f'"{folder}/net.prototxt"', **solver}
        (folder / "net.prototxt").write_text(inputs(batch // iter_size) + net)
        (folder / "solver.prototxt").write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
        self.solver = fork.caffe().get_solver(str(folder / "solver.prototxt"))
        self.batch, self.passes = batch, 0
        first_computed = 2  # layers 0 and 1 are the inputs
        self.solver.net.before_forward(lambda index: self._feed() if index == first_computed else None)

    def _feed(self):
        """Gives the next forward pass its part of the iteration's images and targets."""
        draw = np.random.RandomState(1000 + self.solver.iter)
        for name in ("image", "target"):
            blob = self.solver.net.blobs[name]
            whole = draw.normal(size=(self.batch, *blob.data.shape[1:]))
            blob.data[...] = whole[self.passes * blob.num:][:blob.num]
        self.passes += 1

    def run(self, iterations):
        """Trains on; returns self."""
        for _ in range(iterations):
            self.passes = 0
            self.solver.step(1)
        return self

    def blobs(self, name="acu"):
        return [blob.data.copy() for blob in self.solver.net.params[name]]

    def positions(self, name="acu"):
        return np.stack([array.reshape(-1) for array in self.blobs(name)[2:]], axis=1)


def steps(training, count):
    """The positions before and after each of ``count`` iterations: (count + 1, K, 2)."""
    return np.array([training.positions()] + [training.run(1).positions() for _ in range(count)])


def test_frozen_for_exactly_the_warm_up(tmp_path):
    training = Training(tmp_path / "run", layer(active="warmup_iter: 5") + loss())
    weight = training.blobs()[0]
    moved = np.abs(np.diff(steps(training, 7), axis=0)).max(axis=(1, 2))
    assert (moved[:5] == 0).all() and (moved[5:] > 0).all()
    assert (training.blobs()[0] != weight).all()


@pytest.mark.parametrize("iter_size", [1, 2])
def test_normalised_synapses_step_by_the_learning_rate(tmp_path, iter_size):
    training = Training(tmp_path / "run", layer(active="position_lr_mult: 0.02") + loss(), iter_size=iter_size,
                        weight_decay=0.5)
    lengths = np.linalg.norm(np.diff(steps(training, 4), axis=0), axis=2)
    np.testing.assert_allclose(np.delete(lengths, ORIGIN, axis=1), 0.1 * 0.02, rtol=1e-3)
    assert (lengths[:, ORIGIN] == 0).all()


def test_origin_moves_where_it_is_not_fixed(tmp_path):
    training = Training(tmp_path / "run", layer(active="fix_origin: false") + loss()).run(1)
    assert np.linalg.norm(training.positions()[ORIGIN]) == pytest.approx(0.1 * 0.01, rel=1e-3)


def test_no_position_rate_no_movement(tmp_path):
    training = Training(tmp_path / "run", layer(active="position_lr_mult: 0") + loss(), weight_decay=0.1)
    assert (np.diff(steps(training, 3), axis=0) == 0).all()


def test_param_entries_win(tmp_path):
    params = "param {} param {} param { lr_mult: 0.5 } param { lr_mult: 0 }"
    training = Training(tmp_path / "run", layer(params=params, active="fix_origin: false") + loss())
    step = np.abs(np.diff(steps(training, 1), axis=0))[0]
    assert (step[:, 1] == 0).all() and 0 < step[:, 0].max() <= 0.1 * 0.5 * (1 + 1e-3)


@pytest.mark.parametrize("normalised", ["true", "false"])
def test_accumulated_passes_follow_the_whole_batch(tmp_path, normalised):
    """iter_size 4 with a quarter of the batch: the same weights and positions over 50 iterations, to rounding."""
    net = layer(active=f"position_lr_mult: 0.1 normalize_gradient: {normalised}") + loss()
    settings = dict(batch=8, momentum=0.9, base_lr=0.01)
    whole = Training(tmp_path / "whole", net, **settings).run(50)
    parts = Training(tmp_path / "parts", net, iter_size=4, **settings).run(50)
    assert np.abs(whole.positions() - Training(tmp_path / "start", net).positions()).max() > 0.01
    for found, expected in zip(parts.blobs(), whole.blobs()):
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("interrupted_at", [3, 10], ids=["inside the warm-up", "after it"])
@pytest.mark.parametrize("method", ['"SGD"', '"Nesterov"'])
def test_a_resumed_run_ends_bit_identical(tmp_path, interrupted_at, method):
    net = layer(active="warmup_iter: 6") + loss()
    settings = dict(momentum=0.9, base_lr=0.02, type=method)
    whole = Training(tmp_path / "whole", net, **settings).run(15)
    first = Training(tmp_path / "first", net, **settings).run(interrupted_at)
    first.solver.snapshot()
    second = Training(tmp_path / "second", net, **{**settings, "random_seed": 99})
    second.solver.restore(str(tmp_path / f"first/s_iter_{interrupted_at}.solverstate"))
    second.run(15 - interrupted_at)
    for found, expected in zip(second.blobs(), whole.blobs()):
        np.testing.assert_array_equal(found, expected)


def test_normalised_after_the_reduction_over_solvers(tmp_path):
    """What changes the gradients in on_gradients_ready, as a reduction over GPUs does, comes before the normalisation."""
    training = Training(tmp_path / "run", layer(active="position_lr_mult: 0.02") + loss())
    blobs = training.solver.net.params["acu"]

    def reduce():
        blobs[2].diff[...], blobs[3].diff[...] = 300, -400
    training.solver.add_callback(lambda: None, reduce)
    step = np.diff(steps(training, 1), axis=0)[0]
    expected = np.tile(0.1 * 0.02 * np.array([-0.6, 0.8]), (9, 1))
    expected[ORIGIN] = 0
    np.testing.assert_allclose(step, expected, atol=1e-6)


def test_two_solvers_in_one_process(tmp_path):
    net = layer(active="warmup_iter: 4") + loss()
    alone = Training(tmp_path / "alone", net).run(8)
    early, late = (Training(tmp_path / name, net) for name in ("early", "late"))
    for _ in range(4):
        early.run(2)
        late.run(1)
    np.testing.assert_array_equal(early.positions(), alone.positions())
    np.testing.assert_array_equal(late.positions(), Training(tmp_path / "start", net).positions())


def test_layers_that_share_train_as_one(tmp_path):
    """Two layers with the same weights and positions, on the same image, summed: one layer, its output twice."""
    names = "".join(f'param {{ name: "{name}" }}' for name in ("w", "b", "x", "y"))
    total = 'layer {{ name: "sum" type: "Eltwise" bottom: "{}" bottom: "{}" top: "sum" }}'
    shared = Training(tmp_path / "shared", layer("acu", params=names) + layer("twin", params=names) +
                      total.format("acu", "twin") + loss("sum"), base_lr=0.01).run(10)
    split = 'layer { name: "twice" type: "Power" bottom: "acu" top: "twice" power_param { scale: 2 } }'
    single = Training(tmp_path / "single", layer() + split + loss("twice"), base_lr=0.01).run(10)
    for blob, twin, expected in zip(shared.blobs(), shared.blobs("twin"), single.blobs()):
        np.testing.assert_array_equal(blob, twin)
        np.testing.assert_allclose(blob, expected, atol=1e-5)
    assert np.abs(shared.positions() - shared.positions().round()).max() > 1e-4


def test_saved_and_shared_nets_hold_the_positions(tmp_path):
    training = Training(tmp_path / "run", layer() + loss()).run(3)
    training.solver.net.save(str(tmp_path / "net.caffemodel"))
    copies = [fork.caffe().Net(str(tmp_path / "run/net.prototxt"), fork.caffe().TEST) for _ in range(2)]
    copies[0].copy_from(str(tmp_path / "net.caffemodel"))
    copies[1].share_with(training.solver.net)
    for copy in copies:
        for blob, expected in zip(copy.params["acu"], training.blobs()):
            np.testing.assert_array_equal(blob.data, expected)


# ---- A hidden teacher

def smooth_images(draw, count, channels, size):
    """Noise blurred to a scale of 1.5 pixels: a synapse can tell from farther away where it should be."""
    images = gaussian_filter(draw.normal(size=(count, channels, size, size)), (0, 0, 1.5, 1.5))
    return images / images.std()


@pytest.mark.parametrize("seed", range(4))
def test_student_recovers_the_teachers_positions(seed, tmp_path):
    """A student with the teacher's weights starts on the grid and finds all nine fractional positions to 0.02 pixel; the
    farthest is 1.5 pixels from its start. Measured: 0.0002 pixel after 800 iterations."""
    draw = np.random.RandomState(seed)
    outputs, size = 16, 24
    net = (inputs(4, CHANNELS, outputs, size) +
           layer(outputs=outputs, params="param { lr_mult: 0 } param { lr_mult: 0 }",
                 active="position_lr_mult: 1 fix_origin: false") + loss())
    (tmp_path / "net.prototxt").write_text(net)
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.02 lr_policy: "multistep" gamma: 0.3 max_iter: 800 '
        'stepvalue: 400 stepvalue: 520 stepvalue: 640 stepvalue: 720 snapshot_after_train: false type: "SGD"')
    solver = fork.caffe().get_solver(str(tmp_path / "solver.prototxt"))
    teacher = fork.caffe().Net(str(tmp_path / "net.prototxt"), fork.caffe().TEST)
    student = solver.net.params["acu"]
    start = np.stack([blob.data.reshape(-1) for blob in student[2:]], axis=1)

    angle, distance = draw.uniform(0, 2 * np.pi, 9), draw.permutation(np.append(draw.uniform(0.2, 0.9, 8), 1.5))
    hidden = start + distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    student[0].data[...] = draw.normal(size=student[0].data.shape)
    student[1].data[...] = draw.normal(size=outputs)
    for blob, values in zip(teacher.params["acu"], (student[0].data, student[1].data, *hidden.T)):
        blob.data[...] = np.reshape(values, blob.data.shape)
    for _ in range(800):
        images = smooth_images(draw, 4, CHANNELS, size)
        teacher.blobs["image"].data[...] = solver.net.blobs["image"].data[...] = images
        teacher.forward()
        solver.net.blobs["target"].data[...] = teacher.blobs["acu"].data
        solver.step(1)

    found = np.stack([blob.data.reshape(-1) for blob in student[2:]], axis=1)
    assert np.linalg.norm(start - hidden, axis=1).max() == pytest.approx(1.5)
    assert np.linalg.norm(found - hidden, axis=1).max() < 0.02
