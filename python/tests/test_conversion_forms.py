"""Dense kernels and sums of small ones: the same output, the cheaper of the two, and sizes known before they are
there."""

import re
import resource
import subprocess
import sys
import time

import numpy as np
import pytest
from active_convolution import geometry
from active_convolution.caffe import locate, messages, nets
from active_convolution.check import oracle
from active_convolution.check.cases import random_case
from active_convolution.errors import UserError
from active_convolution.export import exporting, forms
from caffe_nets import INPUT, assert_same, live, run, shake
from google.protobuf import text_format
from test_conversion_exporting import layer_of, random_blobs

pytestmark = pytest.mark.slow

SPARSE = forms.Limits("sparse")


def parts_of(layer, blobs, limits, pixels=1):
    x, y = (position.reshape(len(position), -1) for position in blobs[2:])
    return forms.parts(layer, blobs[0], x, y, pixels, limits)


def summed(layer, blobs, image, folder, limits=SPARSE):
    """The pycaffe Net of the convolutions in the place of an ACU, with its weights."""
    made = forms.convolutions(layer, blobs, parts_of(layer, blobs, limits))
    dims = " ".join(f"dim: {size}" for size in image)
    net = live(
        folder / "net.prototxt",
        INPUT.format(dims) + "".join("layer {" + messages.text(each) + "}\n" for each, _ in made),
    )
    for each, arrays in made:
        for blob, values in zip(net.params[each.name] if arrays else [], arrays, strict=True):
            blob.data[...] = values.reshape(blob.data.shape)
    return net


@pytest.fixture
def free_parts(monkeypatch):
    """A convolution more costs nothing: layers of few channels would rather have one."""
    monkeypatch.setattr(forms, "_MOVED", 0)


@pytest.mark.parametrize("seed", range(80))
def test_sum_computes_the_papers_equations(seed, free_parts, tmp_path):
    """Strides, dilations, even kernels, groups, sets of positions; for the size of the case and another one."""
    case, draw = random_case(seed), np.random.default_rng(seed)
    layer, blobs = layer_of(case), random_blobs(case, seed)
    layer.bottom[:], layer.top[:] = ["image"], ["top"]
    net = summed(layer, blobs, case.image, tmp_path)
    for height, width in (case.image[2:], np.add(case.image[2:], draw.integers(1, 7, 2))):
        image = draw.normal(size=(*case.image[:2], height, width))
        expected = oracle.forward(case.shape, image, *blobs)
        found = run(net, image)
        assert found.shape == expected.shape
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max())
        )


def test_the_cases_have_several_parts(free_parts):
    counts = [
        len(parts_of(layer_of(case), random_blobs(case, seed), SPARSE))
        for seed, case in ((seed, random_case(seed)) for seed in range(80))
    ]
    assert sum(count > 1 for count in counts) > 20 and sum(count > 3 for count in counts) > 5


def acu(kernel=7, dilation=4, outputs=8, channels=64, **moved):
    """An ACU at rest but for the synapses ``moved``, {synapse's number: by how much}: LayerParameter and blobs."""
    layer = text_format.Parse(
        f'name: "c" type: "ActiveConvolution" bottom: "image" top: "c" convolution_param {{ num_output: '
        f"{outputs} kernel_size: {kernel} dilation: {dilation} pad: {dilation * (kernel // 2)} }}",
        locate.caffe_pb2().LayerParameter(),
    )
    x, y = (
        geometry.grid((kernel, kernel), dilation)
        .astype(float)
        .T.reshape(2, 1, 1, kernel, kernel)
        .copy()
    )
    for synapse, by in moved.items():
        for position in (x, y):
            position.reshape(-1)[int(synapse[1:])] += by
    draw = np.random.default_rng(0)
    return layer, [
        draw.normal(size=(outputs, channels, kernel, kernel)),
        draw.normal(size=outputs),
        x,
        y,
    ]


def test_auto_is_dense_unless_that_is_twice_as_costly():
    for moved, dilation, expected in (
        ({}, 4, [(7, 7)]),
        (dict(s0=0.1), 4, [(7, 7), (2, 2)]),
        (dict(s0=0.1), 1, [(9, 9)]),
    ):
        layer, blobs = acu(dilation=dilation, outputs=64, **moved)
        chosen = parts_of(layer, blobs, forms.Limits("auto"))
        assert [part.kernel for part in chosen] == expected or dilation == 1 and len(chosen) == 1
    assert chosen[0].dilation == (1, 1)
    layer, blobs = acu(s0=0.1)
    (dense,) = parts_of(layer, blobs, forms.Limits("dense"))
    assert dense.kernel == (27, 27) or dense.kernel == (25, 25)


@pytest.mark.quick
def test_a_far_synapse_has_a_convolution_of_its_own(tmp_path):
    """At (30.5, -20.25), beside a 3×3 kernel: 63×63 taps, or 9 and 4."""
    layer, blobs = acu(kernel=3, dilation=1, channels=16, outputs=16)
    blobs[2].reshape(-1)[2], blobs[3].reshape(-1)[2] = 30.5, -20.25
    chosen = parts_of(layer, blobs, forms.Limits("auto"))
    assert sorted(part.kernel for part in chosen) == [(2, 2), (3, 3)]
    image = np.random.default_rng(1).normal(size=(1, 16, 40, 50))
    shape = oracle.Shape(16, (3, 3), pad=(1, 1))
    assert_same(
        run(summed(layer, blobs, image.shape, tmp_path, forms.Limits("auto")), image),
        oracle.forward(shape, image, *blobs),
    )


@pytest.mark.parametrize(
    "limits, pixels, message",
    [
        (
            forms.Limits("dense", size=2**20),
            1,
            "layer c needs a kernel of 27×27 taps, 0.373 million weights or 0.00149 GB, more than",
        ),
        (
            forms.Limits("dense", multiply_adds=10**6),
            100,
            "G multiply-adds an image, more than --max-multiply-adds 0.001e9: raise that, or --form sparse",
        ),
        (
            forms.Limits("sparse", multiply_adds=10**6),
            100,
            "layer c needs 2 convolutions of 53 taps together, ",
        ),
        (
            forms.Limits("dense", kernel=25),
            1,
            "layer c: synapse 0, at (-12.1, -12.1), needs a kernel of 27 taps",
        ),
    ],
)
def test_too_large(limits, pixels, message):
    layer, blobs = acu(s0=-0.1)
    with pytest.raises(UserError) as error:
        parts_of(layer, blobs, limits, pixels)
    assert message in str(error.value) and "\n" not in str(error.value)


# ---- Through files

LARGE = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 512 dim: 9 dim: 9 } } }
layer { name: "fc6" type: "ActiveConvolution" bottom: "data" top: "fc6"
  convolution_param { num_output: 1700 kernel_size: 7 dilation: 4 pad: 12 } }"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The kind of fc6 that FCN and DeepLab have, one synapse moved by a tenth: 25×25 taps and 2.2 GB as a dense
    kernel."""
    folder = tmp_path_factory.mktemp("large")
    net = live(folder / "deploy.prototxt", LARGE)
    net.params["fc6"][0].data[...] = 0.01
    for blob in list(net.params["fc6"])[2:]:
        blob.data[0, 0, 0, 0] += 0.1
    net.save(str(folder / "net.caffemodel"))
    return folder / "deploy.prototxt", folder / "net.caffemodel"


def test_two_gib_are_refused_at_once(large, tmp_path):
    """Within the memory of the original itself and little more, and without the minute that it took."""
    model, weights = large
    start = time.monotonic()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "active_convolution",
            "export",
            "--model",
            model,
            "--weights",
            weights,
            "--output",
            tmp_path / "out",
            "--form",
            "dense",
        ],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**30,) * 2),
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert re.search(
        r"layer fc6 needs a kernel of 25×25 taps, 544 million weights or 2.18 GB, more than the 2.15 GB that a "
        r"\.caffemodel holds: .*--form sparse",
        done.stderr,
    ), done.stderr
    assert not (tmp_path / "out").exists()
    assert time.monotonic() - start < 100


def test_auto_finds_the_cheaper_form(large, tmp_path):
    done = exporting.export(*large, tmp_path / "out")
    (row,) = done.layers
    assert [tuple(kernel) for kernel, _ in row.parts] == [(7, 7), (2, 2)]
    assert (
        row.cost == 1700 * 512 * (81 * 49 + 32**2 * 4) < row.active_cost * 2.1
    )  # 32×32: what is cropped, too
    exported = nets.load(tmp_path / "out/deploy.prototxt", tmp_path / "out/weights.caffemodel")
    image = np.random.default_rng(0).normal(size=(1, 512, 9, 9))
    assert_same(run(exported, image), run(nets.load(*large), image))


def test_folding_reaches_a_sum(free_parts, tmp_path):
    text = (
        INPUT.format("dim: 2 dim: 3 dim: 9 dim: 9")
        + """
        layer { name: "c" type: "ActiveConvolution" bottom: "image" top: "c" convolution_param { num_output: 4
        kernel_size: 3 pad: 1
                bias_term: false weight_filler { type: "msra" } } }
        layer { name: "b" type: "BatchNorm" bottom: "c" top: "c" }
        layer { name: "s" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
        layer { name: "r" type: "ReLU" bottom: "c" top: "c" }"""
    )
    net = live(tmp_path / "net.prototxt", text)
    shake(net, 0)
    net.save(str(tmp_path / "net.caffemodel"))
    done = exporting.export(
        tmp_path / "net.prototxt",
        tmp_path / "net.caffemodel",
        tmp_path / "out",
        fold=True,
        limits=SPARSE,
    )
    assert done.folded == {"c": ["b", "s"]} and len(done.layers[0].parts) > 1
    types = [layer.type for layer in messages.read_net(tmp_path / "out/deploy.prototxt").layer]
    assert not {"BatchNorm", "Scale", "ActiveConvolution"} & set(types)
    exported = nets.load(tmp_path / "out/deploy.prototxt", tmp_path / "out/weights.caffemodel")
    image = np.random.default_rng(0).normal(size=(2, 3, 9, 9))
    assert_same(run(exported, image), run(net, image))


@pytest.mark.quick
def test_a_pad_has_an_end():
    """Few taps, but far apart."""
    layer, blobs = acu(kernel=3, dilation=2**20, s0=-(2.0**32))
    with pytest.raises(
        UserError,
        match="layer c: synapse 0, .*, needs a pad of 4296015872 pixels, more than 1073741824: name anot",
    ):
        parts_of(layer, blobs, forms.Limits("sparse", kernel=forms.MOST_KERNEL))


def test_the_command_line_has_the_packages_own_defaults():
    from active_convolution.cli import export as command

    assert (command.FORMATS, command.FORMS) == (exporting.FORMATS, forms.NAMES)
    assert (command.MAX_KERNEL, command.MAX_MULTIPLY_ADDS) == (
        forms.MAX_KERNEL,
        forms.MAX_MULTIPLY_ADDS,
    )
    assert forms.Limits() == forms.Limits("auto", command.MAX_KERNEL, command.MAX_MULTIPLY_ADDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-multiply-adds", "many"],
        ["--max-multiply-adds", "0"],
        ["--max-multiply-adds", "inf"],
        ["--format", "tf"],
        ["--form", "fat"],
        ["--max-kernel", "0"],
        ["--max-kernel", str(2**20 + 1)],
    ],
)
def test_bad_values_end_with_status_2(arguments):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "active_convolution",
            "export",
            "--model",
            "m",
            "--weights",
            "w",
            "--output",
            "o",
            *arguments,
        ],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and done.stderr.startswith(
        "error: "
    ), done.stderr
