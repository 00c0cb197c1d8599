"""Networks into active convolutions: the same output before training, the synapses where they belong, and back again."""

import os
import re
import subprocess

import numpy as np
import pytest
from active_convolution import geometry
from active_convolution.caffe import locate, messages, nets, positions
from active_convolution.check.cases import random_case
from active_convolution.errors import BadValue, UserError
from active_convolution.export import aconv_fast, converting, exporting
from active_convolution.export.converting import Fields, convert
from active_convolution.networks import models
from caffe_nets import INPUT, assert_same, live, run, shake, single
from conftest import ROOT
from google.protobuf import text_format

pytestmark = pytest.mark.slow

BASELINE = ROOT / "models/digits/plain/baseline"
PUBLISHED = ROOT / "models/cifar10/published/deploy.prototxt"


def parsed(text):
    return text_format.Parse(text, locate.caffe_pb2().LayerParameter())


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory):
    """The .caffemodel of the digits' plain network with ordinary convolutions, random throughout (Path)."""
    path = tmp_path_factory.mktemp("ordinary") / "digits.caffemodel"
    net = locate.caffe().Net(str(BASELINE / "deploy.prototxt"), locate.caffe().TEST)
    shake(net, 0)
    net.save(str(path))
    return path


# ---- Ordinary convolutions


@pytest.mark.parametrize("seed", range(60))
def test_layer_there_and_back(seed, tmp_path):
    """The twin computes the same; exported at once, it is the layer that it was, weights bit by bit."""
    case = random_case(5000 + seed, untrained=True)
    layer = parsed(case.layer("Convolution"))
    image = np.random.default_rng(seed).normal(size=case.image)
    before = single(text_format.MessageToString(layer), case.image, tmp_path / "before.prototxt")
    for blob in before.params["layer"]:
        blob.data[...] = np.random.default_rng(seed).normal(size=blob.data.shape)
    blobs = [blob.data.copy() for blob in before.params["layer"]]

    active = converting.to_active(layer, blobs, Fields(position_group=case.shape.position_group))
    twin = single(
        text_format.MessageToString(layer), case.image, tmp_path / "twin.prototxt", active
    )
    np.testing.assert_allclose(run(twin, image), run(before, image), rtol=0, atol=1e-5)

    back = exporting.to_convolution(layer, [np.array(blob, float) for blob in active])
    assert [blob.tobytes() for blob in blobs] == [np.float32(blob).tobytes() for blob in back]
    after = single(
        text_format.MessageToString(layer), case.image, tmp_path / "after.prototxt", back
    )
    np.testing.assert_array_equal(run(after, image), run(before, image))


@pytest.mark.quick
def test_network_there_and_back(ordinary, tmp_path):
    """Through files: the twin's output, then the ordinary network again, kernel sizes and all weights included."""
    done = convert(BASELINE / "deploy.prototxt", ordinary, tmp_path / "acu")
    assert done.layers == [f"conv{i}/{j}" for i in (1, 2, 3) for j in (1, 2)]
    original = nets.load(BASELINE / "deploy.prototxt", ordinary)
    twin = nets.load(tmp_path / "acu/deploy.prototxt", tmp_path / "acu/weights.caffemodel")
    image = np.random.default_rng(1).normal(size=original.blobs["data"].data.shape)
    assert_same(run(twin, image), run(original, image))
    assert done.outputs["prob"][0] < 1e-5 < done.outputs["prob"][1]

    exporting.export(
        tmp_path / "acu/deploy.prototxt", tmp_path / "acu/weights.caffemodel", tmp_path / "back"
    )
    back = nets.load(tmp_path / "back/deploy.prototxt", tmp_path / "back/weights.caffemodel")
    for name, blobs in original.params.items():
        for blob, same in zip(blobs, back.params[name], strict=True):
            np.testing.assert_array_equal(blob.data, same.data)
    for layer, same in zip(
        messages.read_net(BASELINE / "deploy.prototxt").layer,
        messages.read_net(tmp_path / "back/deploy.prototxt").layer,
        strict=True,
    ):
        same.convolution_param.ClearField("stride"), layer.convolution_param.ClearField("stride")
        assert layer == same


@pytest.mark.parametrize("network", [model.folder for model in models.MODELS])
def test_converted_baseline_is_the_checked_in_twin(network, tmp_path):
    """What convert.py makes of the prototxt for training is what generate_models.py writes: data layers, include rules,
    rates and fillers stay, and nothing but the chosen layers changes."""
    acu = messages.read_net(ROOT / "models" / network / "acu/train_val.prototxt")
    names = [layer.name for layer in acu.layer if layer.type == "ActiveConvolution"]
    warmup = {
        layer.active_convolution_param.warmup_iter
        for layer in acu.layer
        if layer.type == "ActiveConvolution"
    }
    convert(
        ROOT / "models" / network / "baseline/train_val.prototxt",
        None,
        tmp_path / "out",
        patterns=names,
        options=Fields(warmup_iter=warmup.pop()),
    )
    converted = messages.read_net(tmp_path / "out/train_val.prototxt")
    converted.name = acu.name
    for layer in acu.layer:
        if layer.type == "ActiveConvolution":
            layer.active_convolution_param.ClearField(
                "position_group"
            )  # AlexNet's differ from layer to layer
            layer.active_convolution_param.ClearField("position_lr_mult")  # the demo's
    for layer, other in zip(converted.layer, acu.layer):
        assert layer == other
    assert converted == acu
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["train_val.prototxt"]


def test_the_twin_is_ready_to_finetune(ordinary, digits_data, tmp_path):
    """Caffe's solver takes prototxt and weights: positions start on the grid, move after the warm-up, origins do not."""
    convert(
        BASELINE / "train_val.prototxt", ordinary, tmp_path / "acu", options=Fields(warmup_iter=2)
    )
    net = messages.read_net(tmp_path / "acu/train_val.prototxt")
    for layer in net.layer:
        if layer.type == "Data":
            layer.data_param.source = str(
                digits_data / f"{'test' if layer.include[0].phase else 'train'}_lmdb"
            )
    solver = locate.caffe_pb2().SolverParameter(
        net_param=net, base_lr=0.01, lr_policy="fixed", snapshot_after_train=False
    )
    messages.write(tmp_path / "solver.prototxt", solver)
    solver = locate.caffe().SGDSolver(str(tmp_path / "solver.prototxt"))
    solver.net.copy_from(str(tmp_path / "acu/weights.caffemodel"))
    np.testing.assert_array_equal(
        solver.net.params["conv1/1"][0].data,
        nets.load(BASELINE / "deploy.prototxt", ordinary).params["conv1/1"][0].data,
    )
    solver.step(2)
    assert all(
        (layer.xy[0] == geometry.grid((3, 3))).all() for layer in positions.from_net(solver.net)
    )
    solver.step(1)
    for layer in positions.from_net(solver.net):
        moved = np.hypot(*(layer.xy[0] - geometry.grid((3, 3))).T)
        assert moved[4] == 0 and (np.delete(moved, 4) > 0).all()


@pytest.mark.parametrize(
    "choice, names",
    [
        (dict(patterns=["conv1/*"]), ["conv1/1", "conv1/2"]),
        (dict(patterns=["conv[13]/1", "fc1"]), ["conv1/1", "conv3/1", "fc1"]),
        (dict(kernels=[(1, 1)]), ["conv0", "fc1", "score"]),
        (
            dict(kernels=[(3, 3), (1, 1)], patterns=["conv*1", "conv0"]),
            ["conv0", "conv1/1", "conv2/1", "conv3/1"],
        ),
    ],
)
def test_choice(choice, names, tmp_path):
    assert convert(BASELINE / "deploy.prototxt", None, tmp_path / "out", **choice).layers == names
    made = messages.read_net(tmp_path / "out/deploy.prototxt").layer
    assert [layer.name for layer in made if layer.type == "ActiveConvolution"] == names


def test_options_and_shared_parameters_stay(tmp_path):
    (tmp_path / "net.prototxt").write_text("""
        layer { name: "c" type: "Convolution" bottom: "x" top: "c" include { phase: TRAIN } loss_weight: 0.5
                param { name: "w" lr_mult: 2 decay_mult: 3 } param { lr_mult: 5 }
                convolution_param { num_output: 4 kernel_size: 3 engine: CUDNN weight_filler { type: "msra" } } }""")
    convert(
        tmp_path / "net.prototxt",
        None,
        tmp_path / "out",
        options=Fields(
            warmup_iter=7,
            normalize_gradient=False,
            position_lr_mult=0.5,
            position_group=2,
            fix_origin=False,
        ),
    )
    (layer,) = messages.read_net(tmp_path / "out/net.prototxt").layer
    assert layer == parsed("""
        name: "c" type: "ActiveConvolution" bottom: "x" top: "c" include { phase: TRAIN } loss_weight: 0.5
        param { name: "w" lr_mult: 2 decay_mult: 3 } param { lr_mult: 5 }
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "msra" } }
        active_convolution_param { warmup_iter: 7 normalize_gradient: false position_lr_mult: 0.5 position_group: 2
                                   fix_origin: false }""")


OLD = """
name: "old" input: "image" input_dim: 2 input_dim: 4 input_dim: 9 input_dim: 8
layers { name: "c" type: CONVOLUTION bottom: "image" top: "c" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
         convolution_param { num_output: 6 kernel_size: 3 group: 2 pad: 1 stride: 2 } }
layers { name: "r" type: RELU bottom: "c" top: "c" }
layers { name: "d" type: CONVOLUTION bottom: "c" top: "d" convolution_param { num_output: 3 kernel_size: 1 } }
"""


def test_old_format(tmp_path):
    """V1 of both files (`layers`, type names in capitals, blobs_lr, blobs of num × channels × height × width)."""
    (tmp_path / "old.prototxt").write_text(OLD)
    old = text_format.Parse(OLD, locate.caffe_pb2().NetParameter())
    draw = np.random.default_rng(0)
    for layer, shapes in zip(
        old.layers, [[(6, 2, 3, 3), (1, 1, 1, 6)], [], [(3, 6, 1, 1), (1, 1, 1, 3)]]
    ):
        for shape in shapes:
            values = draw.normal(size=shape).ravel()
            layer.blobs.add(
                num=shape[0], channels=shape[1], height=shape[2], width=shape[3], data=values
            )
    (tmp_path / "old.caffemodel").write_bytes(old.SerializeToString())
    original = locate.caffe().Net(
        str(tmp_path / "old.prototxt"), str(tmp_path / "old.caffemodel"), locate.caffe().TEST
    )

    done = convert(
        tmp_path / "old.prototxt",
        tmp_path / "old.caffemodel",
        tmp_path / "out",
        options=Fields(warmup_iter=3),
    )
    difference, largest = done.outputs["d"]
    assert done.layers == ["c"] and difference < 1e-5 * largest and largest > 1
    twin = nets.load(tmp_path / "out/old.prototxt", tmp_path / "out/weights.caffemodel")
    image = draw.normal(size=(2, 4, 9, 8))
    assert_same(run(twin, image), run(original, image))
    layer = messages.read_net(tmp_path / "out/old.prototxt").layer[-3]
    assert (layer.name, layer.type, layer.active_convolution_param.warmup_iter) == (
        "c",
        "ActiveConvolution",
        3,
    )
    assert [(one.lr_mult, one.decay_mult) for one in layer.param] == [(1, 1), (2, 0)]


IMAGE = INPUT.format("dim: 2 dim: 3 dim: 6 dim: 7")
TRAIN, TEST = "include { phase: TRAIN }", "include { phase: TEST }"
GRID, DILATED = "pos_filler_std: -1", "pos_filler_std: -1 base_radius: 2"


def convolution(name, more="", bottom="image", kernel="kernel_size: 3 pad: 1"):
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" {more} convolution_param {{ '
        f'num_output: 4 {kernel} weight_filler {{ type: "gaussian" }} }} }}\n'
    )


def authors(name, aconv, more=""):
    return convolution(name, f"aconv_param {{ {aconv} }} {more}").replace(
        "Convolution", "AConvFast"
    )


def small(tmp_path, text):
    """A network of this text and its weights."""
    live(tmp_path / "net.prototxt", text).save(str(tmp_path / "net.caffemodel"))
    return tmp_path / "net.prototxt", tmp_path / "net.caffemodel"


def test_layers_of_one_name_in_training_and_testing(tmp_path):
    model, weights = small(tmp_path, IMAGE + convolution("c", TRAIN) + convolution("c", TEST))
    done = convert(model, weights, tmp_path / "out")
    assert done.layers == ["c", "c"] and done.outputs["c"][0] < 1e-5 * done.outputs["c"][1]


VOLUME = 'layer { name: "v" type: "Input" top: "v" input_param { shape { dim: 2 dim: 4 dim: 4 dim: 5 dim: 5 } } }\n'


@pytest.mark.parametrize(
    "kernel, told_by",
    [
        ("kernel_size: 3 kernel_size: 3 kernel_size: 3", "prototxt"),
        ("kernel_size: 3 pad: 1 pad: 1 pad: 0", "prototxt"),
        ("kernel_size: 3 axis: 2", "prototxt"),
        ("kernel_size: 3", "weights"),
    ],
)
@pytest.mark.parametrize(
    "choice",
    [{}, {"kernels": [(3, 3)]}, {"patterns": ["d"]}, {"patterns": ["d"], "kernels": [(3, 3)]}],
)
def test_a_convolution_over_more_axes_is_left_alone(choice, kernel, told_by, tmp_path):
    """By default and by its kernel; by its name it is an error."""
    model, weights = small(
        tmp_path, IMAGE + VOLUME + convolution("c") + convolution("d", bottom="v", kernel=kernel)
    )
    if "patterns" not in choice:
        assert convert(model, weights, tmp_path / "out", **choice).layers == ["c"]
        return
    with pytest.raises(UserError) as error:
        convert(model, weights, tmp_path / "out", **choice)
    assert str(error.value).startswith(
        f"no convolution of {model} has both the name and the kernel"
        if "kernels" in choice
        else "layer d has convolution_param."
        if told_by == "prototxt"
        else "layer d has 4×4×3×3×3, 4 in "
    )
    assert not (tmp_path / "out").exists()


# ---- The authors' layer


@pytest.mark.parametrize("iteration", [10000, 64000])
def test_authors_network(iteration, shared_reference, tmp_path):
    """Golden logits from ActiveConvolution layers, and from what these are exported to."""
    weights = shared_reference / f"acu_plain_cifar10_iter_{iteration}.caffemodel"
    done = convert(PUBLISHED, weights, tmp_path / "acu", options=Fields(warmup_iter=10000))
    assert len(done.layers) == 7 and done.outputs["score"][0] < 1e-4 * done.outputs["score"][1]
    exporting.export(
        tmp_path / "acu/deploy.prototxt", tmp_path / "acu/weights.caffemodel", tmp_path / "plain"
    )
    golden = np.load(shared_reference / "golden.npz")
    for folder in ("acu", "plain"):
        net = nets.load(
            tmp_path / folder / "deploy.prototxt", tmp_path / folder / "weights.caffemodel"
        )
        assert_same(run(net, golden["inputs"]).reshape(16, 10), golden[f"logits_{iteration}"], 1e-4)
    layers = positions.from_caffemodel(tmp_path / "acu/weights.caffemodel")
    assert {layer.type for layer in layers} == {"ActiveConvolution"}
    if iteration == 10000:  # still in the warm-up: each synapse where the grid of its layer has it
        assert all((layer.displacement() == 0).all() for layer in layers)
    for layer in messages.read_net(tmp_path / "acu/deploy.prototxt").layer:
        if layer.type == "ActiveConvolution":
            own = layer.active_convolution_param
            assert own.normalize_gradient and own.warmup_iter == 10000 and not own.position
            assert not layer.HasField("aconv_param")


AUTHORS = [
    "type: SQUARE pos_filler_std: -1",
    "type: SQUARE pos_filler_std: -1 position_group: 2 normalize: true",
    "type: SQUARE pos_filler_std: -1 base_radius: 2",
    "type: SQUARE pos_filler_std: 0",
    "type: SQUARE",
    "type: CIRCLE pos_filler_std: -1 pad: -1",
    "type: CIRCLE pos_filler_std: 0 base_radius: 2.5 base_angle: 0.2 pad_w: 2",
    "type: RANDOM pad: 3 position_group: 4",
]
SHAPES = [
    "kernel_size: 3 pad: 1",
    "kernel_size: 3 bias_term: false",
    "kernel_size: 2 pad: 1 stride: 2",
    "kernel_size: 1",
    "kernel_size: 5 pad: 2 stride: 3",
]


def aconv(text, kernel):
    if "SQUARE" not in text:
        kernel = re.sub(r"\bpad: \d", "", kernel)
    return parsed(
        f'name: "layer" type: "AConvFast" bottom: "image" top: "top" aconv_param {{ {text} }} '
        f"param {{ lr_mult: 3 }} convolution_param {{ num_output: 4 group: 2 {kernel} "
        "weight_filler { type: 'msra' } }"
    )


@pytest.mark.parametrize("kernel", SHAPES)
@pytest.mark.parametrize("text", AUTHORS)
def test_authors_layer(text, kernel, tmp_path):
    """Trained layers: the same output; where nothing is random, the same start, and the same synapse that never moves."""
    layer = aconv(text, kernel)
    image = np.random.default_rng(0).normal(size=(2, 4, 11, 12))
    before = single(text_format.MessageToString(layer), image.shape, tmp_path / "before.prototxt")
    blobs = [blob.data.copy() for blob in before.params["layer"]]
    if "pad: -1" in text and re.search("size: [12]", kernel):
        with pytest.raises(UserError, match="layer layer needs a negative pad"):
            aconv_fast.translate(layer, blobs, np.random.default_rng(0))
        return
    blobs = aconv_fast.translate(layer, blobs, np.random.default_rng(0))
    assert layer.type == "ActiveConvolution" and layer.param[0].lr_mult == 3
    assert layer.active_convolution_param.normalize_gradient == ("normalize" in text)
    fresh = single(text_format.MessageToString(layer), image.shape, tmp_path / "fresh.prototxt")
    expected, at_rest = (
        run(before, image),
        np.array([blob.data.copy() for blob in fresh.params["layer"][2:]]),
    )
    on_grid = "std: -1" in text and "radius" not in text and re.search("size: [13]", kernel)
    if on_grid or "pos_filler_std" in text and layer.active_convolution_param.position:
        np.testing.assert_allclose(at_rest, blobs[2:], atol=1e-6)
    of_base = (at_rest == 0).all(axis=0).reshape(at_rest.shape[1], -1)
    assert (np.array(blobs[2:]).reshape(2, *of_base.shape)[:, of_base] == 0).all() and of_base.any(
        axis=1
    ).all()
    for blob, values in zip(fresh.params["layer"], blobs, strict=True):
        assert blob.data.shape == values.shape
        blob.data[...] = values
    assert_same(run(fresh, image), expected)


def test_3x3_needs_no_positions_and_is_row_by_row():
    layer = aconv("type: SQUARE pos_filler_std: -1", "kernel_size: 3 pad: 1")
    x, y = geometry.ring(9).T.reshape(2, 1, 1, 3, 3)
    weight = np.tile(np.arange(9.0).reshape(3, 3), (4, 2, 1, 1))
    weight, _, x, y = aconv_fast.translate(layer, [weight, np.zeros(4), x, y], None)
    assert not layer.active_convolution_param.position
    assert np.stack([x.ravel(), y.ravel()], 1).tolist() == geometry.grid((3, 3)).tolist()
    assert weight[0, 0].tolist() == [
        [6, 7, 8],
        [5, 0, 1],
        [4, 3, 2],
    ]  # (−1, −1) is AConvFast's sixth, and so on


def test_random_start_without_weights():
    """AConvFast draws noise at every start; the prototxt gets it drawn once, for each position set, base left out."""
    layer = aconv(
        "type: SQUARE pos_filler_std: 0.1 base_radius: 2 position_group: 2", "kernel_size: 3 pad: 1"
    )
    assert aconv_fast.translate(layer, None, np.random.default_rng(1)) is None
    start = np.array([(p.x, p.y) for p in layer.active_convolution_param.position]).reshape(2, 9, 2)
    noise = (start - geometry.ring(9, 2, rounded=False)) / 0.2
    assert (noise[:, 0] == 0).all() and (noise[:, 1:] != 0).all() and 0.6 < noise[:, 1:].std() < 1.4


SHARED = 'param { name: "w" } param { lr_mult: 2 }'
SHARED_POSITIONS = 'param {} param {} param { name: "x" } param { name: "y" }'
# {case: (two layers, the patterns of those to convert, the names that the error gives)}
IN_COMMON = {
    "both": (authors("c", GRID, SHARED) + authors("d", GRID, SHARED), [], None),
    "the first alone": (authors("c", GRID, SHARED) + authors("d", GRID, SHARED), ["c"], "c and d"),
    "the second alone": (authors("c", GRID, SHARED) + authors("d", GRID, SHARED), ["d"], "d and c"),
    "the first is reordered": (
        authors("c", GRID, SHARED) + authors("d", DILATED, SHARED),
        [],
        "c and d",
    ),
    "the second is reordered": (
        authors("c", DILATED, SHARED) + authors("d", GRID, SHARED),
        [],
        "d and c",
    ),
    "none is reordered": (
        authors("c", DILATED, SHARED) + authors("d", DILATED, SHARED),
        ["c"],
        None,
    ),
    "an ordinary one": (authors("c", GRID, SHARED) + convolution("d", SHARED), [], "c and d"),
    "positions": (
        authors("c", GRID, SHARED_POSITIONS) + authors("d", GRID, SHARED_POSITIONS),
        ["c"],
        "c and d",
    ),
    "the bias": (
        authors("c", GRID, 'param { name: "w" } param { name: "b" }')
        + authors("d", GRID, 'param { name: "v" } param { name: "b" }'),
        ["c"],
        None,
    ),
    "one name": (authors("c", GRID, TRAIN) + authors("c", DILATED, TEST), [], "c and c"),
    "one name, alike": (authors("c", GRID, TRAIN) + authors("c", GRID, TEST), [], None),
}


@pytest.mark.parametrize("with_weights", [True, False])
@pytest.mark.parametrize("case", IN_COMMON)
def test_weights_in_common(case, with_weights, tmp_path):
    """The synapses of both layers go into another order, or those of none: known without running the network."""
    text, patterns, names = IN_COMMON[case]
    model, weights = small(tmp_path, IMAGE + text)
    given = model, weights if with_weights else None, tmp_path / "out", patterns
    if names is None:
        convert(*given)
        return
    with pytest.raises(
        UserError,
        match=f"layers {names} share weights, and conversion brings the synapses of {names[0]} ",
    ):
        convert(*given)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "aconv", [GRID, "position_group: 2", "pos_filler_std: 0 position_group: 4"]
)
def test_position_sets_stay_those_of_the_authors_layer(aconv, tmp_path):
    model, weights = small(tmp_path, IMAGE + authors("c", aconv))
    own = parsed(f"aconv_param {{ {aconv} }}").aconv_param.position_group
    for asked in {1, 2, 4} - {own}:
        for given in (weights, None):
            with pytest.raises(
                UserError,
                match=f"layer c has position_group {own}, .* leave out --position-group {asked}",
            ):
                convert(model, given, tmp_path / "out", options=Fields(position_group=asked))
            assert not (tmp_path / "out").exists()
    convert(model, weights, tmp_path / "out", options=Fields(position_group=own))


# ---- Bad input


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(model="missing.prototxt"), "cannot read missing.prototxt"),
        (dict(model=ROOT / "README.md"), "is no valid prototxt of a network"),
        (dict(weights="missing.caffemodel"), "cannot read missing.caffemodel"),
        (dict(weights=ROOT / "README.md"), "is damaged or no binary .caffemodel"),
        (
            dict(model=ROOT / "models/cifar10/published/deploy.prototxt"),
            "layer conv1_1 has no blobs in ",
        ),
        (
            dict(model=ROOT / "models/cifar10/plain/baseline/deploy.prototxt", patterns=["conv0"]),
            "layer conv0 of ",
        ),
        (dict(patterns=["conv1/*", "conv9*"]), "is called conv9*: it has conv0, conv1/1, "),
        (dict(kernels=[(5, 3)]), "has a kernel of 5×3"),
        (dict(kernels=[(1, 1)], patterns=["conv1/1"]), "has both the name and the kernel"),
        (
            dict(model=ROOT / "models/digits/plain/acu/deploy.prototxt"),
            "no convolution larger than 1×1 and no AConvFast",
        ),
        (
            dict(options=Fields(position_group=5)),
            "layer conv1/1: position_group 5 does not divide its 48 outputs",
        ),
        (dict(options=Fields(warmup_iter=-1)), "warmup_iter -1 is out of range: give 0 or more"),
        (dict(options=Fields(warmup_iter=10**12)), "warmup_iter 1000000000000 is out of range"),
        (
            dict(options=Fields(position_lr_mult=float("nan"))),
            "position_lr_mult nan is out of range",
        ),
        (dict(output=ROOT / "docs"), "exists already"),
    ],
)
def test_bad_input(options, message, ordinary, tmp_path):
    given = {
        "model": BASELINE / "deploy.prototxt",
        "weights": ordinary,
        "output": tmp_path / "out",
        **options,
    }
    with pytest.raises(UserError, match=re.escape(message)) as error:
        convert(**given)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


@pytest.mark.quick
@pytest.mark.parametrize("report", ["out/report.json", "out", "out/../out/more/report.json"])
def test_a_report_in_the_folder_that_is_yet_to_appear_is_refused(report, tmp_path):
    model, weights = small(tmp_path, IMAGE + convolution("c"))
    for command in (convert, exporting.export):
        with pytest.raises(
            BadValue,
            match="--report .* lies in --output .*out, which appears whole: name another place",
        ):
            command(model, weights, tmp_path / "out", report=tmp_path / report)
        assert not (tmp_path / "out").exists()


@pytest.mark.quick
def test_a_prototxt_with_the_name_of_the_weights_is_refused(tmp_path):
    model, weights = small(tmp_path, IMAGE + convolution("c"))
    named = model.rename(tmp_path / "weights.caffemodel")
    with pytest.raises(UserError, match="has the name of the weights .*: rename the prototxt"):
        convert(named, weights, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.quick
@pytest.mark.parametrize(
    "more", ["", 'layer { name: "l" type: "Data" top: "l" }\n'], ids=["run", "not run"]
)
def test_weights_in_the_prototxt_give_way_to_those_of_the_file(more, tmp_path):
    model, weights = small(tmp_path, IMAGE + convolution("c"))
    net = messages.read_net(model)
    for _ in range(2):
        net.layer[1].blobs.add(data=[7]).shape.dim.append(1)
    model.write_text(messages.text(net) + more)
    convert(model, weights, tmp_path / "out")
    stored = messages.read_weights(tmp_path / "out/weights.caffemodel").layer[1]
    assert [messages.shape(blob) for blob in stored.blobs] == [
        (4, 3, 3, 3),
        (4,),
        (1, 1, 3, 3),
        (1, 1, 3, 3),
    ]
    assert not messages.read_net(tmp_path / "out/net.prototxt").layer[1].blobs
    with pytest.raises(
        UserError,
        match="layer c has its weights in .*net.prototxt itself, .*: give them as --weights",
    ):
        convert(model, None, tmp_path / "lost")


@pytest.mark.quick
@pytest.mark.parametrize(
    "aconv, message",
    [
        (
            "base_angle: inf",
            "layer c: base_angle is inf, and an AConvFast layer takes finite numbers",
        ),
        (
            "base_radius: -1",
            "layer c: base_radius is -1.0, and an AConvFast layer takes 1e-06 to 1e+06 pixels",
        ),
        ("base_radius: nan", "layer c: base_radius is nan"),
        ("pos_filler_std: inf", "layer c: pos_filler_std is inf"),
        (
            "position_group: 4000000000",
            "layer c: kernel_size times position_group is 36000000000, and an AConvFast layer takes 1 to 1048576",
        ),
        ("position_group: 0", "layer c: kernel_size times position_group is 0"),
        (
            "type: CIRCLE pad: 2000000",
            "layer c: pad is 2000000, and an AConvFast layer takes up to 1048576 pixels",
        ),
    ],
)
def test_parameters_of_the_authors_layer_have_ends(aconv, message, tmp_path):
    """Before anything of their size is computed."""
    (tmp_path / "net.prototxt").write_text(IMAGE + authors("c", aconv))
    with pytest.raises(UserError, match=re.escape(message)):
        convert(tmp_path / "net.prototxt", None, tmp_path / "out")


@pytest.mark.quick
@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 0, 1, 1)])
def test_blobs_that_are_no_weights(shape, tmp_path):
    """As many numbers as there should be, but for the last; the shape is another's."""
    model, weights = small(
        tmp_path,
        IMAGE.replace("dim: 3", "dim: 1")
        + convolution("c", kernel="kernel_size: 1").replace("output: 4", "output: 1"),
    )
    stored = messages.read_weights(weights)
    blob = stored.layer[1].blobs[0]
    blob.shape.dim[:], blob.data[:] = shape, blob.data[: np.prod(shape, dtype=int)]
    messages.write_weights(weights, stored)
    with pytest.raises(
        UserError,
        match="layer c has .*, which does not fit its prototxt: give the weights of this network",
    ):
        convert(model, weights, tmp_path / "out", patterns=["c"])


@pytest.mark.quick
def test_shapes_for_some_inputs_are_caffes_to_refuse(tmp_path):
    model, weights = small(tmp_path, IMAGE + convolution("c"))
    text = model.read_text().replace(
        "input_param {", 'top: "b" top: "d" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 7 }'
    )
    model.write_text(text + 'layer { name: "r" type: "ReLU" bottom: "d" top: "r" }')
    with pytest.raises(UserError, match="Caffe cannot build the network .* 3 tops vs. 2 shapes"):
        convert(model, weights, tmp_path / "out")


@pytest.mark.quick
def test_a_pipe_that_a_layer_reads_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "net.prototxt").write_text(
        IMAGE
        + convolution("c")
        + 'layer { name: "l" type: "InfogainLoss" bottom: "c" bottom: "image" top: "l" '
        f'infogain_loss_param {{ source: "{tmp_path}/pipe" }} }}'
    )
    with pytest.raises(
        UserError, match="layer l of .*net.prototxt reads .*pipe is no regular file"
    ):
        convert(tmp_path / "net.prototxt", None, tmp_path / "out")


def test_a_network_that_computes_something_else_is_refused(ordinary, tmp_path, monkeypatch):
    right = converting.to_active
    monkeypatch.setattr(
        converting, "to_active", lambda *arguments: [2 * blob for blob in right(*arguments)]
    )
    with pytest.raises(UserError, match="^output prob is not the original's on random input: "):
        convert(BASELINE / "deploy.prototxt", ordinary, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_refused(tmp_path):
    net = live(tmp_path / "net.prototxt", IMAGE + convolution("c"))
    net.params["c"][0].data[...] = np.nan
    net.save(str(tmp_path / "net.caffemodel"))
    with pytest.raises(
        UserError,
        match="^output c is not the original's on random input: the largest difference is nan",
    ):
        convert(tmp_path / "net.prototxt", tmp_path / "net.caffemodel", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_of_another_kernel(ordinary, tmp_path):
    """A train_val prototxt, which Caffe does not load here: the file itself must tell."""
    text = (
        (BASELINE / "train_val.prototxt").read_text().replace("kernel_size: 3", "kernel_size: 5", 1)
    )
    (tmp_path / "net.prototxt").write_text(text)
    with pytest.raises(
        UserError, match="layer conv1/1 has 48×16×3×3 in .*, which does not fit its prototxt"
    ):
        convert(tmp_path / "net.prototxt", ordinary, tmp_path / "out")


def test_what_an_active_convolution_cannot_do_is_named():
    layer = parsed(
        'name: "c" type: "Convolution" convolution_param { num_output: 1 kernel_size: 3 axis: 2 }'
    )
    with pytest.raises(UserError, match="layer c has convolution_param.axis"):
        converting.to_active(layer, None)
    layer = aconv("type: CIRCLE pad: -2", "kernel_size: 3")
    with pytest.raises(UserError, match="layer layer needs a negative pad"):
        aconv_fast.translate(layer, None, np.random.default_rng(0))


def script(*arguments):
    return subprocess.run(
        [ROOT / "scripts/acu", "convert", *map(str, arguments)], capture_output=True, text=True
    )


def test_command(ordinary, tmp_path):
    done = script(
        "--model",
        BASELINE / "deploy.prototxt",
        "--weights",
        ordinary,
        "--output",
        tmp_path / "out",
        "--layers",
        "conv1/*",
        "conv2/1",
        "--kernel",
        "3",
        "1x1",
        "--warmup-iter",
        "9",
        "--no-fix-origin",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "3 layers converted: conv1/1, conv1/2, conv2/1\noutput prob on random input: largest "
    )
    own = [
        layer.active_convolution_param
        for layer in messages.read_net(tmp_path / "out/deploy.prototxt").layer
        if layer.type == "ActiveConvolution"
    ]
    assert [
        (one.warmup_iter, one.fix_origin, one.HasField("normalize_gradient")) for one in own
    ] == [(9, False, False)] * 3


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["--kernel", "3by3"], 2, "error: --kernel 3by3 is no kernel such as 3 or 3x5"),
        (["--layers", "nothing"], 1, "error: no convolution of "),
    ],
)
def test_command_refuses(arguments, status, message, tmp_path):
    done = script("--model", BASELINE / "deploy.prototxt", "--output", tmp_path / "out", *arguments)
    assert (done.returncode, done.stdout) == (status, "") and message in done.stderr
