"""One active convolution as an ordinary one: the same output, the smallest kernel, and sizes that
are known before they are there."""

import re

import cv2
import numpy as np
import pytest
from active_convolution import geometry
from active_convolution.caffe import messages
from active_convolution.check import oracle
from active_convolution.check.cases import random_case
from active_convolution.errors import UserError
from active_convolution.export import dense
from caffe_nets import INPUT, assert_same, live, run, single
from exports import ACTIVE, IMAGE, acu, export, parsed, random_blobs, to_convolution, written

pytestmark = pytest.mark.slow

CASES = 120


def exported(case, seed):
    """(LayerParameter, blobs) of the Convolution for a random case."""
    return to_convolution(parsed(case.layer()), random_blobs(case, seed))


@pytest.mark.parametrize("seed", range(CASES))
def test_convolution_computes_the_papers_equations(seed, tmp_path):
    """Caffe's own Convolution with the exported kernel against the oracle, for the size of the case
    and another one."""
    case, draw = random_case(seed), np.random.default_rng(seed)
    layer, arrays = exported(case, seed)
    assert layer.type == "Convolution" and not layer.HasField("active_convolution_param")
    net = single(layer, case.image, tmp_path / "net.prototxt", arrays)
    for size in (case.image[2:], np.add(case.image[2:], draw.integers(1, 7, 2))):
        image = draw.normal(size=(*case.image[:2], *size))
        expected = oracle.forward(case.shape, image, *random_blobs(case, seed))
        found, most = run(net, image), max(1, np.abs(expected).max())
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * most)


@pytest.mark.quick
@pytest.mark.parametrize("seed", range(CASES))
def test_kernel_is_the_smallest(seed):
    """One tap less on both sides of an axis would lose weight, or ask for a negative pad, or leave
    nothing."""
    layer, (kernel, *_) = exported(random_case(seed), seed)
    for axis, of_axis in zip((2, 3), geometry.axes(layer)):
        ends = np.take(kernel, (0, -1), axis)
        assert np.any(ends != 0) or of_axis.pad < of_axis.dilation or of_axis.taps <= 2


def test_the_cases_cover_the_contract():
    """Among the cases are kernels of every kind, also those that keep their dilation."""
    cases = [random_case(seed) for seed in range(CASES)]
    seen = [(c.shape, geometry.axes(exported(c, seed)[0])) for seed, c in enumerate(cases)]
    for feature in (
        [rows.taps != columns.taps for _, (rows, columns) in seen],
        [rows.taps % 2 == 0 for _, (rows, _) in seen],
        [rows.dilation > 1 and rows.taps > 1 for _, (rows, _) in seen],
        [shape.dilation[0] > 1 and rows.dilation == 1 for shape, (rows, _) in seen],
        [shape.explicit for shape, _ in seen],
        [shape.group > 1 for shape, _ in seen],
        [shape.position_group > 1 and shape.position_group != shape.group > 1 for shape, _ in seen],
        [rows.pad != columns.pad for _, (rows, columns) in seen],
        [rows.stride > 1 for _, (rows, _) in seen],
    ):
        assert sum(feature) >= 5


@pytest.mark.parametrize("pad, size", [(0, 3), (1, 1), (2, 1)])
def test_no_kernel_is_so_small_that_its_pad_would_be_negative(pad, size):
    """All nine synapses on the base pixel are one tap, a pixel from the border where the pad was
    0."""
    layer = parsed(
        'name: "one" type: "ActiveConvolution" '
        f"convolution_param {{ num_output: 1 kernel_size: 3 pad: {pad} bias_term: false }}"
    )
    at_base = np.zeros((1, 1, 3, 3))
    blobs = [np.ones((1, 1, 3, 3)), np.zeros((1, 1, 1, 1)), at_base, at_base]
    made, (kernel,) = to_convolution(layer, blobs)
    assert kernel.shape == (1, 1, size, size)
    assert kernel[0, 0, size // 2, size // 2] == kernel.sum() == 9
    assert geometry.pair(made, "pad", 0) == (pad - 1 + size // 2,) * 2


AUTHORS = [
    "type: SQUARE",
    "type: SQUARE pos_filler_std: -1",
    "type: SQUARE pos_filler_std: -1 position_group: 2 normalize: true",
    "type: SQUARE pos_filler_std: -1 base_radius: 2",
    "type: SQUARE pos_filler_std: 0 base_radius: 1.7 position_group: 2",
    "type: CIRCLE pos_filler_std: -1 base_radius: 2",
    "type: CIRCLE pad: -1",
    "type: CIRCLE pad: 2 base_angle: 0.3",
    "type: RANDOM pad_h: -2 pad_w: 3",
    "type: CIRCLE pad_h: 1 position_group: 4 base_radius: 3",
]
SHAPES = [
    "kernel_size: 3 bias_term: false",
    "kernel_size: 3 pad: 1 stride: 2",
    "kernel_size: 2",
    "kernel_size: 1",
    "kernel_size: 4 stride: 3",
]


@pytest.mark.parametrize("kernel", SHAPES)
@pytest.mark.parametrize("aconv", AUTHORS)
def test_authors_layer(aconv, kernel, tmp_path):
    """Every type of AConvFast, with the pads, negative ones too, that it takes from two places."""
    if "SQUARE" not in aconv:
        kernel = kernel.replace("pad: 1", "")
    layer = parsed(
        f'name: "layer" type: "AConvFast" bottom: "image" top: "top" aconv_param {{ {aconv} }} '
        f"convolution_param {{ num_output: 4 group: 2 {kernel} weight_filler {{ type: 'msra' }} }}"
    )
    image = np.random.default_rng(0).normal(size=(2, 4, 11, 12))
    net = single(layer, image.shape, tmp_path / "active.prototxt")
    made, arrays = to_convolution(layer, [blob.data for blob in net.params["layer"]])
    assert_same(run(single(made, image.shape, tmp_path / "p", arrays), image), run(net, image))


def test_opencv_takes_every_kernel(tmp_path):
    """Non-square and even kernels, dilations, groups, strides: what OpenCV makes of them is what
    Caffe does."""
    files = str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel")
    for seed in range(40):
        case = random_case(seed)
        layer, arrays = exported(case, seed)
        net = single(layer, case.image, tmp_path / "net.prototxt", arrays)
        net.save(files[1])
        image = np.random.default_rng(seed).normal(size=case.image).astype(np.float32)
        opencv = cv2.dnn.readNetFromCaffe(*files)
        opencv.setInput(image)
        expected, found = run(net, image), opencv.forward()
        assert found.shape == expected.shape
        most = max(1, np.abs(expected).max())
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * most, err_msg=seed)


# ---- What is too large, or lost


@pytest.mark.quick
@pytest.mark.parametrize(
    "blob, value, message",
    [
        (
            2,
            4.5,
            "layer c: synapse 3, at (4.5, 0), needs a kernel of 11 taps, more than --max-kernel 9",
        ),
        (3, -1e30, "layer c: synapse 3, at (-1, -1e+30), needs a kernel of "),
        (2, np.nan, "layer c: synapse 3, at (nan, 0), is nowhere"),
        (3, np.inf, "layer c: synapse 3, at (-1, inf), is nowhere"),
        (0, np.nan, "layer c of net.caffemodel has weights that are not finite"),
    ],
)
def test_lost_synapses_are_named(blob, value, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = live(tmp_path / "net.prototxt", IMAGE + ACTIVE)
    net.params["c"][blob].data.reshape(-1)[3] = value
    net.save("net.caffemodel")
    with pytest.raises(UserError, match=re.escape(message)):
        export("net.prototxt", "net.caffemodel", "out", max_kernel=9)
    assert not (tmp_path / "out").exists()


def test_the_position_set_of_a_lost_synapse_is_named():
    layer = parsed(
        'name: "two" type: "ActiveConvolution" convolution_param { num_output: 2 kernel_size: 1 } '
        "active_convolution_param { position_group: 2 }"
    )
    x = np.reshape([0, 7.5], (2, 1, 1, 1))
    message = "layer two: synapse 0 of position set 1, at (7.5, 0), needs a kernel of 17"
    with pytest.raises(UserError, match=re.escape(message)):
        dense.windows(layer, x, 0 * x, 15)


@pytest.mark.parametrize("kernel, limit", [(3, 1), (3, 2), (4, 2), (5, 3)])
def test_a_position_limit_bounds_the_kernel(kernel, limit):
    """Synapses within R pixels need 2R + 2 taps at most."""
    layer = parsed(
        'name: "c" type: "ActiveConvolution" '
        f"convolution_param {{ num_output: 1 kernel_size: {kernel} pad: {kernel // 2} }}"
    )
    draw = np.random.default_rng(0)
    x, y = draw.uniform(-limit, limit, (2, 1, kernel**2))
    x[0, :2], y[0, :2] = (-limit, limit), (limit, -limit)
    assert all(window.size <= 2 * limit + 2 for window in dense.windows(layer, x, y))


def test_two_gib_are_refused_at_once(tmp_path, shared_cases):
    """The kind of fc6 that FCN and DeepLab have, one synapse moved by a tenth: 27×27 taps and 2.5
    GB as a dense kernel, named before any of it is there."""
    case = shared_cases / "06-export-2gib-traceback/deploy.prototxt"
    text = case.read_text().replace('"Convolution"', '"ActiveConvolution"')
    net = live(tmp_path / "deploy.prototxt", text)
    net.params["fc6"][0].data[...] = 0.01
    for blob in list(net.params["fc6"])[2:]:
        blob.data[0, 0, 0, 0] += 0.1
    net.save(str(tmp_path / "net.caffemodel"))
    del net
    done = acu(
        *("export", "--model", tmp_path / "deploy.prototxt", "--weights"),
        *(tmp_path / "net.caffemodel", "--output", tmp_path / "out"),
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert re.search(
        r"all weights together would be 2.18 GB, more than the 2.15 GB that a \.caffemodel holds, "
        r"2.18 of them in layer fc6, whose synapses need 25×25 taps: train it with a position_lim",
        done.stderr,
    ), done.stderr
    assert not (tmp_path / "out").exists()


def test_a_result_that_caffe_cannot_run_is_refused(tmp_path):
    """51×51 taps at each of 1024×1024 pixels are more numbers than a blob holds; the synapses were
    nine."""
    model, weights = written(tmp_path, INPUT.format("dim: 1 dim: 1 dim: 1024 dim: 1024") + ACTIVE)
    stored = messages.read_weights(weights)
    for blob in stored.layer[1].blobs[2:]:
        blob.data[0] = 25
    messages.write_weights(weights, stored)
    done = acu("export", "--model", model, "--weights", weights, "--output", tmp_path / "out")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"what {model} would be exported to: Caffe: " in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_kernel_that_computes_something_else_is_refused(tmp_path, monkeypatch):
    right = dense.splat
    monkeypatch.setattr(dense, "splat", lambda *given: 1.01 * right(*given))
    with pytest.raises(UserError, match="^layer c is not the original's on random input: "):
        export(*written(tmp_path, IMAGE + ACTIVE), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_line_has_the_packages_own_default():
    from active_convolution.cli import export as command

    arguments = command.parser("acu").parse_args(["runs/mine"])
    assert arguments.max_kernel == dense.MAX_KERNEL
