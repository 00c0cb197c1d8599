"""Exported networks: the same output as the active convolutions', in the fork, in Caffe without it, and in OpenCV."""

import json
import os
import re
import resource
import subprocess

import cv2
import numpy as np
import pytest
from active_convolution import geometry
from active_convolution.caffe import locate, messages, nets, positions
from active_convolution.check import oracle
from active_convolution.check.cases import random_case
from active_convolution.data import database
from active_convolution.errors import UserError
from active_convolution.export import exporting, forms, splat
from active_convolution.networks import models
from caffe_nets import INPUT, assert_same, live, run, shake, single
from conftest import ROOT
from google.protobuf import text_format

pytestmark = pytest.mark.slow

CASES = 120
PUBLISHED = ROOT / "models/cifar10/published/deploy.prototxt"


def layer_of(case):
    return text_format.Parse(case.layer(), locate.caffe_pb2().LayerParameter())


def random_blobs(case, seed):
    """Weight, bias, x and y in float64: some axes of a layer at rest, some on its lattice, the others anywhere."""
    draw, shape = np.random.default_rng(seed), case.shape
    weight = draw.normal(size=(shape.outputs, case.image[1] // shape.group, *shape.kernel))
    bias = draw.normal(size=shape.outputs) if case.bias else np.zeros((1, 1, 1, 1))
    start = shape.grid() if case.positions is None else case.positions.T.astype(float)
    xy = []
    for of_axis, dilation in zip(start, shape.dilation[::-1]):
        of_axis = np.broadcast_to(
            of_axis.reshape(-1, 1, *shape.kernel), (shape.position_group, 1, *shape.kernel)
        )
        places = [
            of_axis,
            dilation * draw.integers(-3, 4, of_axis.shape),
            draw.uniform(-4, 4, of_axis.shape),
            np.zeros(of_axis.shape),
        ]
        xy.append(np.float32(places[draw.integers(0, len(places))]).astype(float))
    return [weight, bias, *xy]


# ---- One layer


@pytest.mark.parametrize("seed", range(CASES))
def test_convolution_computes_the_papers_equations(seed, tmp_path):
    """Caffe's own Convolution with the exported kernel against the oracle, for the size of the case and another one."""
    case, draw = random_case(seed), np.random.default_rng(seed)
    layer, blobs = layer_of(case), random_blobs(case, seed)
    plain = exporting.to_convolution(layer, blobs)
    assert layer.type == "Convolution" and not layer.HasField("active_convolution_param")
    net = single(layer, case.image, tmp_path / "net.prototxt", plain)
    for height, width in (case.image[2:], np.add(case.image[2:], draw.integers(1, 7, 2))):
        image = draw.normal(size=(*case.image[:2], height, width))
        expected = oracle.forward(case.shape, image, *blobs)
        found = run(net, image)
        assert found.shape == expected.shape
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max())
        )


@pytest.mark.quick
@pytest.mark.parametrize("seed", range(CASES))
def test_kernel_is_the_smallest(seed):
    """One tap less on both sides of an axis would lose weight, or ask for a negative pad, or leave nothing."""
    case = random_case(seed)
    layer = layer_of(case)
    kernel = exporting.to_convolution(layer, random_blobs(case, seed))[0]
    for axis, of_axis in zip((2, 3), geometry.axes(layer)):
        ends = np.take(kernel, (0, -1), axis)
        assert np.any(ends != 0) or of_axis.pad < of_axis.dilation or of_axis.taps <= 2


def test_the_cases_cover_the_contract():
    """Among the cases are kernels of every kind, also those that keep their dilation."""
    seen = []
    for seed in range(CASES):
        case = random_case(seed)
        layer, before = layer_of(case), case.shape
        exporting.to_convolution(layer, random_blobs(case, seed))
        seen.append((before, geometry.axes(layer)))
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
    """All nine synapses on the base pixel are one tap, which stands a pixel from the border where the pad was 0."""
    layer = text_format.Parse(
        'name: "one" type: "ActiveConvolution" '
        f"convolution_param {{ num_output: 1 kernel_size: 3 pad: {pad} bias_term: false }}",
        locate.caffe_pb2().LayerParameter(),
    )
    at_base = np.zeros((1, 1, 3, 3))
    (kernel,) = exporting.to_convolution(
        layer, [np.ones((1, 1, 3, 3)), np.zeros((1, 1, 1, 1)), at_base, at_base]
    )
    assert (
        kernel.shape == (1, 1, size, size)
        and kernel[0, 0, size // 2, size // 2] == kernel.sum() == 9
    )
    assert geometry.pair(layer, "pad", 0) == (pad - 1 + size // 2,) * 2


AUTHORS = [
    "type: SQUARE",
    "type: SQUARE pos_filler_std: -1",
    "type: SQUARE pos_filler_std: 0 base_radius: 1.7 position_group: 2",
    "type: CIRCLE pos_filler_std: -1 base_radius: 2",
    "type: CIRCLE pad: -1",
    "type: CIRCLE pad: 2 base_angle: 0.3",
    "type: RANDOM pad_h: -2 pad_w: 3",
    "type: CIRCLE pad_h: 1 position_group: 4 base_radius: 3",
]
SHAPES = [
    "kernel_size: 3",
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
    layer = text_format.Parse(
        f'name: "layer" type: "AConvFast" bottom: "image" top: "top" aconv_param {{ {aconv} }} '
        f"convolution_param {{ num_output: 4 group: 2 {kernel} weight_filler {{ type: 'msra' }} }}",
        locate.caffe_pb2().LayerParameter(),
    )
    image = np.random.default_rng(0).normal(size=(2, 4, 11, 12))
    net = single(layer, image.shape, tmp_path / "active.prototxt")
    expected = run(net, image)
    blobs = exporting.to_convolution(
        layer, [blob.data.astype(float) for blob in net.params["layer"]]
    )
    assert_same(
        run(single(layer, image.shape, tmp_path / "plain.prototxt", blobs), image), expected
    )


def test_opencv_takes_every_kernel(tmp_path):
    """Non-square and even kernels, dilations, groups, strides: what OpenCV makes of them is what Caffe does."""
    for seed in range(40):
        case = random_case(seed)
        layer = layer_of(case)
        net = single(
            layer,
            case.image,
            tmp_path / "net.prototxt",
            exporting.to_convolution(layer, random_blobs(case, seed)),
        )
        net.save(str(tmp_path / "net.caffemodel"))
        image = np.random.default_rng(seed).normal(size=case.image).astype(np.float32)
        opencv = cv2.dnn.readNetFromCaffe(
            str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel")
        )
        opencv.setInput(image)
        expected = run(net, image)
        found = opencv.forward()
        assert found.shape == expected.shape
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()), err_msg=seed
        )


# ---- Networks


def calm(net):
    """Divides the last weights so that a final Softmax gets numbers of at most 1 from an image like the tests': its relative
    error is its input's absolute one, which grows with those numbers."""
    if net.layers[-1].type == "Softmax":
        run(net, np.random.default_rng(1).normal(size=net.blobs["data"].data.shape))
        (logits,) = net.bottom_names[net._layer_names[-1]]
        last = next(layer for layer in reversed(net.layers) if len(layer.blobs))
        for blob in last.blobs:
            blob.data[...] /= np.abs(net.blobs[logits].data).max()


@pytest.fixture(scope="module")
def shaken(tmp_path_factory):
    """Returns (deploy prototxt, .caffemodel) of a checked-in network with random positions and averages, batch 1."""
    made = {}

    def make(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("shaken")
            message = messages.read_net(ROOT / "models" / name / "deploy.prototxt")
            message.layer[0].input_param.shape[0].dim[0] = 1
            messages.write(folder / "deploy.prototxt", message)
            locate.caffe().set_random_seed(0)  # of the fillers
            net = locate.caffe().Net(str(folder / "deploy.prototxt"), locate.caffe().TEST)
            shake(net, 0)
            calm(net)
            net.save(str(folder / "weights.caffemodel"))
            made[name] = folder / "deploy.prototxt", folder / "weights.caffemodel"
        return made[name]

    return make


# Each body once, on the first of its data sets.
NETWORKS = [
    *{model.body: f"{model.folder}/acu" for model in reversed(models.MODELS)}.values(),
    "cifar10/published",
]


@pytest.mark.parametrize(
    "name, fold",
    [
        (name, fold)
        for name in NETWORKS
        for fold in (False, True)
        if fold or not name.startswith("places365")
    ],
)  # large: once is enough
def test_networks_with_random_positions(name, fold, shaken, tmp_path):
    """In the fork and in OpenCV, whose own folding of what it finds rounds in its own way."""
    model, weights = shaken(name)
    report = exporting.export(model, weights, tmp_path / "out", fold=fold)
    written = tmp_path / "out/deploy.prototxt", tmp_path / "out/weights.caffemodel"
    original, exported = nets.load(model, weights), nets.load(*written)
    assert not set(positions.TYPES) & {layer.type for layer in exported.layers}
    image = (
        np.random.default_rng(1).normal(size=original.blobs["data"].data.shape).astype(np.float32)
    )
    expected = run(original, image)
    assert_same(run(exported, image), expected, 1e-4)
    assert [layer.name for layer in report.layers] == [
        layer.name for layer in positions.from_caffemodel(weights)
    ]
    assert all(layer.difference < 1e-4 * layer.largest for layer in report.layers)
    opencv = cv2.dnn.readNetFromCaffe(*map(str, written))
    opencv.setInput(image)
    assert_same(opencv.forward(exported.outputs[0]).reshape(expected.shape), expected, 1e-3)


def test_folding_leaves_no_normalisation_in_the_plain_network(shaken, tmp_path):
    report = exporting.export(*shaken("digits/plain/acu"), tmp_path / "out", fold=True)
    types = [layer.type for layer in messages.read_net(tmp_path / "out/deploy.prototxt").layer]
    assert "BatchNorm" not in types and "Scale" not in types and types.count("Convolution") == 9
    assert {convolution: len(names) for convolution, names in report.folded.items()} == {
        name: 2 for name in ["conv0", *(f"conv{i}/{j}" for i in (1, 2, 3) for j in (1, 2)), "fc1"]
    }


@pytest.mark.quick
def test_report_counts_the_costs(shaken, tmp_path):
    """The first active layer of the digits' network: 16 channels, 48 outputs, 8×8 pixels, nine synapses."""
    model, weights = shaken("digits/plain/acu")
    exporting.export(model, weights, tmp_path / "out")
    report = json.loads((tmp_path / "out/report.json").read_text())
    first = report["layers"][0]
    assert first["name"] == "conv1/1" and first["active_kernel"] == [3, 3]
    assert first["active_cost"] == 8 * 8 * 16 * 9 * (48 + 4)
    assert first["cost"] == 8 * 8 * 16 * 48 * np.prod(first["kernel"])
    x, y = (blob.data for blob in nets.load(model, weights).params["conv1/1"][2:])
    assert first["kernel"] == [1 + 2 * int(np.ceil(np.abs(axis).max())) for axis in (y, x)]
    assert 0 < first["difference"] < 1e-4 * first["largest"]
    text = (tmp_path / "out/report.txt").read_text()
    assert "conv1/1" in text and "output prob: largest difference" in text


IMAGE = INPUT.format("dim: 2 dim: 3 dim: 6 dim: 7")
ACTIVE = (
    'layer { name: "c" type: "ActiveConvolution" bottom: "image" top: "c" convolution_param { num_output: 3 '
    'kernel_size: 3 pad: 1 weight_filler { type: "gaussian" } } }\n'
)


def small(tmp_path, text):
    """A network of this text and its weights, random throughout."""
    net = live(tmp_path / "net.prototxt", text)
    shake(net, 0)
    net.save(str(tmp_path / "net.caffemodel"))
    return tmp_path / "net.prototxt", tmp_path / "net.caffemodel"


def test_layers_of_the_networks_own_stage_stay(tmp_path):
    model, weights = small(
        tmp_path,
        "state { stage: 'thrice' }"
        + IMAGE
        + ACTIVE
        + """
        layer { name: "p" type: "Power" bottom: "c" top: "c" include { stage: "thrice" } power_param { scale: 3 } }
        layer { name: "q" type: "Power" bottom: "c" top: "c" exclude { stage: "thrice" } power_param { scale: 5 } }""",
    )
    exporting.export(model, weights, tmp_path / "out")
    written = tmp_path / "out/deploy.prototxt"
    assert [layer.name for layer in messages.read_net(written).layer] == ["image", "c", "p"]
    image = np.random.default_rng(0).normal(size=(2, 3, 6, 7))
    assert_same(
        run(nets.load(written, tmp_path / "out/weights.caffemodel"), image),
        run(nets.load(model, weights), image),
    )


@pytest.mark.quick
def test_weights_in_the_prototxt_give_way_to_those_of_the_file(tmp_path):
    model, weights = small(tmp_path, IMAGE + ACTIVE)
    exporting.export(model, weights, tmp_path / "without")
    net = messages.read_net(model)
    net.layer[1].blobs.add(data=[7]).shape.dim.append(1)
    messages.write(model, net)
    exporting.export(model, weights, tmp_path / "with")
    for name in ("deploy.prototxt", "weights.caffemodel"):
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()


@pytest.mark.parametrize(
    "helper",
    [
        'type: "Parameter" parameter_param { shape { dim: 3 } }',
        'type: "DummyData" dummy_data_param { shape { dim: 3 } data_filler { type: "gaussian" } }',
    ],
)
def test_layers_that_feed_constants_are_no_source_of_images(helper, tmp_path):
    text = (
        IMAGE
        + ACTIVE
        + f"""layer {{ name: "f" top: "f" {helper} }}
        layer {{ name: "s" type: "Scale" bottom: "c" bottom: "f" top: "s" }}"""
    )
    report = exporting.export(*small(tmp_path, text), tmp_path / "out", fold=True)
    difference, largest = report.outputs["s"]
    assert difference < 1e-5 * largest and not report.folded


# ---- Without the plugin


@pytest.fixture(scope="module")
def published(shared_reference, tmp_path_factory):
    """The authors' final network, exported without and with folding: {fold: folder}."""
    folders = {fold: tmp_path_factory.mktemp("published") / "out" for fold in (False, True)}
    for fold, folder in folders.items():
        exporting.export(
            PUBLISHED,
            shared_reference / "acu_plain_cifar10_iter_64000.caffemodel",
            folder,
            fold=fold,
        )
    return folders


@pytest.fixture(scope="module")
def golden(shared_reference):
    """(inputs, logits) of the authors' final network."""
    arrays = np.load(shared_reference / "golden.npz")
    return arrays["inputs"], arrays["logits_64000"]


def plain_caffe_test(model, weights, inputs, folder):
    """Runs `caffe test` of Debian's Caffe without anything of ours on one batch of ``inputs``; a CompletedProcess.

    Its log has a line for every number that the network puts out; the labels tell which image it is.
    """
    message = messages.read_net(model)
    data = locate.caffe_pb2().LayerParameter(name="data", type="Data", top=["data", "label"])
    data.data_param.source, data.data_param.batch_size, data.data_param.backend = (
        str(folder / "lmdb"),
        len(inputs),
        1,
    )
    message.layer[0].CopyFrom(data)
    database.write(folder / "lmdb", inputs, np.arange(len(inputs)))
    messages.write(folder / "test.prototxt", message)
    return subprocess.run(
        [
            plain_caffe(),
            "test",
            "-model",
            folder / "test.prototxt",
            "-weights",
            weights,
            "-iterations",
            "1",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "GLOG_minloglevel": "0", "GLOG_logtostderr": "1"},
    )


def plain_caffe():
    program = locate.BUILD / "plain/out/tools/caffe"
    if not program.exists() and "ACTIVE_CONVOLUTION_BUILT" in os.environ:
        pytest.skip("an image of docker/ holds no Caffe without our fork")
    assert program.exists(), "build it with ./scripts/build.sh --plain"
    return program


@pytest.mark.parametrize("fold", [False, True])
def test_golden_logits_in_unpatched_caffe(fold, published, golden, tmp_path):
    inputs, expected = golden
    done = plain_caffe_test(
        published[fold] / "deploy.prototxt",
        published[fold] / "weights.caffemodel",
        inputs,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    numbers = {
        name: [float(value) for value in re.findall(rf"Batch 0, {name} = (\S+)", done.stderr)]
        for name in ("label", "score")
    }
    logits = np.reshape(numbers["score"], (16, 10))[np.argsort(numbers["label"])]
    assert sorted(numbers["label"]) == list(range(16))
    assert_same(logits, expected, 1e-4)


def test_unpatched_caffe_has_none_of_ours(golden, shared_reference, tmp_path):
    done = plain_caffe_test(
        PUBLISHED, shared_reference / "acu_plain_cifar10_iter_64000.caffemodel", golden[0], tmp_path
    )
    assert done.returncode != 0 and 'has no field named "aconv_param"' in done.stderr
    for name in (b"ActiveConvolution", b"AConvFast", b"BeforeClipping"):
        for library in (plain_caffe().parent.parent / "lib").glob("libcaffe*.so"):
            assert name not in library.read_bytes()


@pytest.mark.parametrize("fold", [False, True])
def test_golden_logits_in_opencv(fold, published, golden):
    inputs, expected = golden
    net = cv2.dnn.readNetFromCaffe(
        str(published[fold] / "deploy.prototxt"), str(published[fold] / "weights.caffemodel")
    )
    net.setInput(inputs)
    assert_same(net.forward("score").reshape(16, 10), expected, 1e-4)


# ---- Bad input


def script(**options):
    arguments = [
        text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", value)
    ]
    return subprocess.run(
        [ROOT / "scripts/acu", "export", *map(str, arguments)], capture_output=True, text=True
    )


def test_the_command_prints_the_report(shaken, tmp_path):
    model, weights = shaken("digits/plain/acu")
    done = script(model=model, weights=weights, output=tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "out/report.txt").read_text()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "deploy.prototxt",
        "report.json",
        "report.txt",
        "weights.caffemodel",
    ]


def broken(tmp_path, old, new):
    """A copy of the digits' deploy prototxt with a mistake in it."""
    text = (ROOT / "models/digits/plain/acu/deploy.prototxt").read_text()
    assert old in text
    (tmp_path / "broken.prototxt").write_text(text.replace(old, new))
    return tmp_path / "broken.prototxt"


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(model="missing.prototxt"), "cannot read missing.prototxt"),
        (dict(model=ROOT / "README.md"), "is no valid prototxt of a network"),
        (
            dict(model=ROOT / "models/digits/plain/baseline/deploy.prototxt"),
            "has no ActiveConvolution or AConvFast layer",
        ),
        (
            dict(model=ROOT / "models/digits/plain/acu/train_val.prototxt"),
            "in layer data of type Data: give the deploy prototxt",
        ),
        (
            dict(model=ROOT / "models/cifar10/plain/acu/deploy.prototxt"),
            "give the weights of this network",
        ),
        (dict(model=('bottom: "conv0"', 'bottom: "nowhere"')), "Unknown bottom blob 'nowhere'"),
        (
            dict(model=("pad: 1", "pad: 1 stride: 2 stride: 2 stride: 2")),
            "stride is given 4 times; allowed: once",
        ),
        (dict(weights="missing.caffemodel"), "cannot read missing.caffemodel"),
        (dict(weights=ROOT / "README.md"), "is damaged or no binary .caffemodel"),
        (dict(limits=forms.Limits(kernel=0)), "--max-kernel 0: give 1 or more"),
        (
            dict(limits=forms.Limits("sparse", 10**11)),
            "--max-kernel 100000000000: give 1048576 or less",
        ),
        (dict(output=ROOT / "docs"), "exists already"),
        (dict(output=ROOT / "README.md/out"), "cannot write"),
    ],
)
def test_bad_input(options, message, shaken, tmp_path):
    model, weights = shaken("digits/plain/acu")
    if isinstance(options.get("model"), tuple):
        options = dict(model=broken(tmp_path, *options["model"]))
    with pytest.raises(UserError, match=re.escape(message)) as error:
        exporting.export(
            **{"model": model, "weights": weights, "output": tmp_path / "out", **options}
        )
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_a_network_that_computes_something_else_is_refused(shaken, tmp_path, monkeypatch):
    """The first layer that goes wrong is named."""
    right = splat.splat
    monkeypatch.setattr(
        splat, "splat", lambda weight, *others: right(weight, *others) + 0.1 * (len(weight) == 96)
    )
    with pytest.raises(
        UserError, match="^layer conv2/1 is not the original's on random input: "
    ) as error:
        exporting.export(*shaken("digits/plain/acu"), tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_layers_of_one_name_are_named(tmp_path):
    model, weights = small(tmp_path, IMAGE + ACTIVE + ACTIVE.replace('top: "c"', 'top: "d"'))
    with pytest.raises(
        UserError,
        match="net.prototxt has 2 layers called c in one phase, and weights are stored by name",
    ):
        exporting.export(model, weights, tmp_path / "out")


RELU = 'layer { name: "c" type: "ReLU" bottom: "%s" top: "%s" }'
NORMALISED = 'layer { name: "b" type: "BatchNorm" bottom: "c" top: "c" }'


@pytest.mark.quick
@pytest.mark.parametrize(
    "text, edit, message",
    [
        (
            ACTIVE + NORMALISED,
            lambda net, stored: setattr(net.layer[2], "type", "ReLU"),
            "layer b of net.prototxt has no blobs, and net.caffemodel holds 3, 3, 1: give the weights of this network",
        ),
        (
            ACTIVE,
            lambda net, stored: stored.layer.extend(stored.layer[1:]),
            "net.caffemodel holds 2 layers called c, and weights are stored by name: name another snapshot",
        ),
        (
            ACTIVE,
            lambda net, stored: stored.layer.add(name="c"),
            "net.caffemodel holds 2 layers called c",
        ),
        (ACTIVE + RELU % ("c", "c"), None, "net.prototxt has 2 layers called c in one phase"),
        (
            RELU % ("image", "image") + ACTIVE,
            None,
            "net.prototxt has 2 layers called c in one phase",
        ),
    ],
)
def test_blobs_that_caffe_could_not_copy_are_named(text, edit, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small(tmp_path, IMAGE + text)
    if edit:
        net, stored = messages.read_net("net.prototxt"), messages.read_weights("net.caffemodel")
        edit(net, stored)
        messages.write("net.prototxt", net)
        messages.write_weights("net.caffemodel", stored)
    with pytest.raises(UserError, match=re.escape(message)):
        exporting.export("net.prototxt", "net.caffemodel", "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.quick
@pytest.mark.parametrize(
    "text, reason",
    [
        (
            ACTIVE
            + 'layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { pool: STOCHASTIC kernel_size: 2 } }',
            "Not Implemented Yet",
        ),
        (
            ACTIVE.replace('top: "c"', 'top: "image"').replace("output: 3", "output: 4"),
            "the bottom has shape 2 4 6 7",
        ),
        (
            ACTIVE
            + 'layer { name: "p" type: "Python" bottom: "c" top: "p" python_param { module: "broken" layer: "Raising" } }',
            "RuntimeError: not today",
        ),
        (
            ACTIVE
            + 'layer { name: "p" type: "Python" bottom: "c" top: "p" python_param { module: "raising.at" layer: "Any" } }',
            "its class raising.at.Any cannot be imported (ZeroDivisionError",
        ),
    ],
)
def test_a_network_that_caffe_cannot_run_is_named(text, reason, tmp_path, monkeypatch):
    """Asked in a process that may die of it."""
    (tmp_path / "broken.py").write_text("""
import caffe
class Raising(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(1)
    def forward(self, bottom, top): raise RuntimeError("not today")
    def backward(self, top, propagate_down, bottom): pass
""")
    (tmp_path / "raising").mkdir()
    (tmp_path / "raising/__init__.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))
    model, weights = small(
        tmp_path,
        IMAGE
        + text.split('layer { name: "p"')[0].replace(
            'top: "image" convolution', 'top: "c" convolution'
        ),
    )
    model.write_text(IMAGE + text)
    with pytest.raises(UserError, match=re.escape(reason)) as error:
        exporting.export(model, weights, tmp_path / "out")
    assert (
        str(error.value).startswith(f"Caffe cannot run the network {model} (") or "class" in reason
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.quick
def test_a_result_that_caffe_cannot_run_is_refused(tmp_path):
    """51×51 taps at each of 1024×1024 pixels are more numbers than a blob holds; the synapses were nine."""
    model, weights = small(tmp_path, INPUT.format("dim: 1 dim: 1 dim: 1024 dim: 1024") + ACTIVE)
    stored = messages.read_weights(weights)
    for blob in stored.layer[1].blobs[2:]:
        blob.data[0] = 25
    messages.write_weights(weights, stored)
    with pytest.raises(
        UserError,
        match="Caffe cannot run what .* would be exported to .*exceeds INT_MAX.*: give another --form",
    ):
        exporting.export(model, weights, tmp_path / "out", limits=forms.Limits("dense"))


@pytest.mark.quick
def test_what_a_layer_prints_is_no_answer(tmp_path, monkeypatch):
    """... to the question what sizes the network takes."""
    (tmp_path / "loud.py").write_text("""
import caffe
class Loud(caffe.Layer):
    def setup(self, bottom, top): print("hear, hear")
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top): top[0].data[...] = bottom[0].data
    def backward(self, top, propagate_down, bottom): pass
""")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))
    model, weights = small(
        tmp_path,
        IMAGE + ACTIVE + 'layer { name: "p" type: "Python" bottom: "c" top: "p" python_param { '
        'module: "loud" layer: "Loud" } }',
    )
    stored = messages.read_weights(weights)
    stored.layer[1].blobs[2].data[0] = 20  # so far that it reads nothing
    messages.write_weights(weights, stored)
    assert exporting.export(model, weights, tmp_path / "out").size == {"image": (2, 3, 32, 32)}


@pytest.mark.quick
def test_names_of_parts_are_new(tmp_path):
    model, weights = small(
        tmp_path,
        IMAGE + ACTIVE + 'layer { name: "c/part0" type: "ReLU" bottom: "c" top: "c/part1" }',
    )
    stored = messages.read_weights(weights)
    stored.layer[1].blobs[2].data[0] = 20
    messages.write_weights(weights, stored)
    report = exporting.export(model, weights, tmp_path / "out", limits=forms.Limits("sparse"))
    names = [layer.name for layer in messages.read_net(tmp_path / "out/deploy.prototxt").layer]
    assert len(report.layers[0].parts) > 1 and "c/part_0" in names and len(names) == len(set(names))


@pytest.mark.quick
def test_a_layer_of_several_images_is_no_sum(tmp_path):
    text = IMAGE.replace('top: "image"', 'top: "image" top: "again"')
    text += ACTIVE.replace('top: "c"', 'top: "c" top: "d"').replace(
        'bottom: "image"', 'bottom: "image" bottom: "again"'
    )
    model, weights = small(tmp_path, text)
    stored = messages.read_weights(weights)
    stored.layer[1].blobs[2].data[0] = 20
    messages.write_weights(weights, stored)
    assert list(exporting.export(model, weights, tmp_path / "out").outputs) == ["c", "d"]
    with pytest.raises(
        UserError,
        match="layer c has 2 tops, and the sum that it would become has one: give --form dense",
    ):
        exporting.export(model, weights, tmp_path / "sum", limits=forms.Limits("sparse"))
    with pytest.raises(UserError, match="layer c reads 2 images, .*: leave out --learnable"):
        exporting.export(model, weights, tmp_path / "learnable", format="torch", learnable=True)


@pytest.mark.quick
def test_caffes_warnings_are_unheard(tmp_path, monkeypatch):
    model, weights = small(tmp_path, IMAGE + ACTIVE)
    model.write_text("input: 'image' input_shape { dim: 2 dim: 3 dim: 6 dim: 7 }" + ACTIVE)
    monkeypatch.delenv("GLOG_minloglevel", raising=False)  # which this process has set for itself
    done = script(model=model, weights=weights, output=tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_is_one_line(shaken, tmp_path):
    """No file larger than 100 kB can be written; the weights are."""
    model, weights = shaken("digits/plain/acu")
    done = subprocess.run(
        [
            ROOT / "scripts/acu", "export",
            "--model",
            model,
            "--weights",
            weights,
            "--output",
            tmp_path / "out",
        ],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1) and done.stderr.startswith(
        "error: cannot write "
    )
    assert not list(tmp_path.iterdir())


def test_the_command_ends_with_one_line(shaken, tmp_path):
    done = script(
        model=shaken("digits/plain/acu")[0], weights="missing.caffemodel", output=tmp_path / "out"
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1) and done.stderr.startswith(
        "error: cannot read missing"
    )


@pytest.mark.parametrize(
    "blob, value, message",
    [
        (
            2,
            4.5,
            "layer conv2/1: synapse 3, at (4.5, 0), needs a kernel of 11 taps, more than --max-kernel 9",
        ),
        (3, -1e30, "layer conv2/1: synapse 3, at (-1, -1e+30), needs a kernel of "),
        (2, np.nan, "layer conv2/1: synapse 3, at (nan, 0), is nowhere"),
        (3, np.inf, "layer conv2/1: synapse 3, at (-1, inf), is nowhere"),
        (0, np.nan, "layer conv2/1 of weights.caffemodel has weights that are not finite"),
    ],
)
def test_lost_synapses_are_named(blob, value, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = ROOT / "models/digits/plain/acu/deploy.prototxt"
    net = locate.caffe().Net(str(model), locate.caffe().TEST)
    net.params["conv2/1"][blob].data.reshape(-1)[3] = value
    net.save("weights.caffemodel")
    with pytest.raises(UserError, match=re.escape(message)):
        exporting.export(model, "weights.caffemodel", "out", limits=forms.Limits(kernel=9))
    assert not (tmp_path / "out").exists()


def test_the_position_set_of_a_lost_synapse_is_named():
    layer = text_format.Parse(
        'name: "two" type: "ActiveConvolution" convolution_param { num_output: 2 kernel_size: 1 } '
        "active_convolution_param { position_group: 2 }",
        locate.caffe_pb2().LayerParameter(),
    )
    x = np.reshape([0, 7.5], (2, 1, 1, 1))
    with pytest.raises(
        UserError,
        match=re.escape(
            "layer two: synapse 0 of position set 1, at (7.5, 0), needs a kernel of 17"
        ),
    ):
        exporting.to_convolution(
            layer, [np.ones((2, 1, 1, 1)), np.zeros(2), x, 0 * x], forms.Limits("dense", kernel=15)
        )
