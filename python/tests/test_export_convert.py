"""Networks into active convolutions: the same output before training, the synapses where they
belong, and back again."""

import json
import re

import numpy as np
import pytest
from active_convolution import geometry
from active_convolution.caffe import locate, messages, nets, positions
from active_convolution.check.cases import random_case
from active_convolution.errors import UserError
from active_convolution.export import aconv_fast, converting
from active_convolution.export.converting import convert
from active_convolution.networks import models
from caffe_nets import INPUT, assert_same, live, run, shake, single
from conftest import ROOT
from exports import IMAGE, acu, conv, export, parsed, to_convolution, written
from google.protobuf import text_format
from test_export_dense import AUTHORS

pytestmark = pytest.mark.slow

BASELINE = ROOT / "models/digits/plain/baseline"
PUBLISHED = ROOT / "models/cifar10/published/deploy.prototxt"


def names(report):
    return [row["name"] for row in report["layers"]]


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory):
    """The .caffemodel of the digits' plain network with ordinary convolutions, random
    throughout."""
    path = tmp_path_factory.mktemp("ordinary") / "digits.caffemodel"
    net = locate.caffe().Net(str(BASELINE / "deploy.prototxt"), locate.caffe().TEST)
    shake(net, 0)
    net.save(str(path))
    return path


# ---- Ordinary convolutions


@pytest.mark.parametrize("seed", range(60))
def test_layer_there_and_back(seed, tmp_path):
    """The twin computes the same; exported at once, it is the layer that it was, weights bit by
    bit."""
    case = random_case(5000 + seed, untrained=True)
    layer = parsed(case.layer("Convolution"))
    image = np.random.default_rng(seed).normal(size=case.image)
    before = single(text_format.MessageToString(layer), case.image, tmp_path / "before.prototxt")
    for blob in before.params["layer"]:
        blob.data[...] = np.random.default_rng(seed).normal(size=blob.data.shape)
    blobs = [blob.data.copy() for blob in before.params["layer"]]

    group = {"position_group": case.shape.position_group}
    active = converting.to_active(layer, blobs, group)
    twin = single(layer, case.image, tmp_path / "twin.prototxt", active)
    np.testing.assert_allclose(run(twin, image), run(before, image), rtol=0, atol=1e-5)

    made, back = to_convolution(layer, active)
    assert [blob.tobytes() for blob in blobs] == [np.float32(blob).tobytes() for blob in back]
    after = single(made, case.image, tmp_path / "after.prototxt", back)
    np.testing.assert_array_equal(run(after, image), run(before, image))


@pytest.mark.quick
def test_network_there_and_back(ordinary, tmp_path):
    """Through files: the twin's output, then the ordinary network again, kernel sizes and all
    weights included."""
    done = convert(BASELINE / "deploy.prototxt", ordinary, tmp_path / "acu")
    assert names(done) == [f"conv{i}/{j}" for i in (1, 2, 3) for j in (1, 2)]
    original = nets.load(BASELINE / "deploy.prototxt", ordinary)
    twin = tmp_path / "acu/deploy.prototxt", tmp_path / "acu/weights.caffemodel"
    image = np.random.default_rng(1).normal(size=original.blobs["data"].data.shape)
    assert_same(run(nets.load(*twin), image), run(original, image))
    assert done["outputs"]["prob"][0] < 1e-5 < done["outputs"]["prob"][1]

    export(*twin, tmp_path / "back")
    back = nets.load(tmp_path / "back/deploy.prototxt", tmp_path / "back/weights.caffemodel")
    for name, blobs in original.params.items():
        assert len(blobs) == len(back.params[name])
        for blob, same in zip(blobs, back.params[name]):
            np.testing.assert_array_equal(blob.data, same.data)
    found = messages.read_net(tmp_path / "back/deploy.prototxt").layer
    for layer, same in zip(messages.read_net(BASELINE / "deploy.prototxt").layer, found):
        for each in (same, layer):
            each.convolution_param.ClearField("stride")
            each.top[:] = [name.removesuffix("/map") for name in each.top]
        assert layer == same
    assert [layer.type for layer in found[-2:]] in (["Softmax", "Flatten"], ["Flatten"])


@pytest.mark.parametrize("network", [model.folder for model in models.MODELS])
def test_converted_baseline_is_the_checked_in_twin(network, tmp_path):
    """What convert makes of the prototxt for training is what acu generate writes: data layers,
    include rules, rates and fillers stay, and nothing but the chosen layers changes."""
    acu = messages.read_net(ROOT / "models" / network / "acu/train_val.prototxt")
    active = [layer for layer in acu.layer if layer.type == "ActiveConvolution"]
    (warmup,) = {layer.active_convolution_param.warmup_iter for layer in active}
    done = convert(
        ROOT / "models" / network / "baseline/train_val.prototxt",
        None,
        tmp_path / "out",
        patterns=[layer.name for layer in active],
        fields={"warmup_iter": warmup},
    )
    converted = messages.read_net(tmp_path / "out/train_val.prototxt")
    converted.name = acu.name
    for layer in active:  # AlexNet's differ from layer to layer; the demo's rate
        layer.active_convolution_param.ClearField("position_group")
        layer.active_convolution_param.ClearField("position_lr_mult")
    for layer, other in zip(converted.layer, acu.layer):
        assert layer == other
    assert converted == acu
    assert re.fullmatch(
        "not built here: layer data reads .*_lmdb, which is not there", done["runs"]
    )


def test_the_twin_is_ready_to_finetune(ordinary, digits_data, tmp_path):
    """Caffe's solver takes prototxt and weights: positions start on the grid, move after the
    warm-up, origins do not."""
    fields = {"warmup_iter": 2}
    convert(BASELINE / "train_val.prototxt", ordinary, tmp_path / "acu", fields=fields)
    net = messages.read_net(tmp_path / "acu/train_val.prototxt")
    for layer in net.layer:
        if layer.type == "Data":
            part = "test" if layer.include[0].phase else "train"
            layer.data_param.source = str(digits_data / f"{part}_lmdb")
    solver = locate.caffe_pb2().SolverParameter(
        net_param=net, base_lr=0.01, lr_policy="fixed", snapshot_after_train=False
    )
    messages.write(tmp_path / "solver.prototxt", solver)
    solver = locate.caffe().SGDSolver(str(tmp_path / "solver.prototxt"))
    solver.net.copy_from(str(tmp_path / "acu/weights.caffemodel"))
    before = nets.load(BASELINE / "deploy.prototxt", ordinary).params["conv1/1"][0].data
    np.testing.assert_array_equal(solver.net.params["conv1/1"][0].data, before)
    solver.step(2)
    grid = geometry.grid((3, 3))
    assert all((layer.xy[0] == grid).all() for layer in positions.from_net(solver.net))
    solver.step(1)
    for layer in positions.from_net(solver.net):
        moved = np.hypot(*(layer.xy[0] - grid).T)
        assert moved[4] == 0 and (np.delete(moved, 4) > 0).all()


@pytest.mark.parametrize(
    "choice, expected",
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
def test_choice(choice, expected, tmp_path):
    assert (
        names(convert(BASELINE / "deploy.prototxt", None, tmp_path / "out", **choice)) == expected
    )
    made = messages.read_net(tmp_path / "out/deploy.prototxt").layer
    assert [layer.name for layer in made if layer.type == "ActiveConvolution"] == expected


FIELDS = dict(normalize_gradient=False, position_lr_mult=0.5, position_group=2, fix_origin=False)


def test_options_and_shared_parameters_stay(tmp_path):
    (tmp_path / "net.prototxt").write_text("""
        layer { name: "c" type: "Convolution" bottom: "x" top: "c" include { phase: TRAIN }
                loss_weight: 0.5 param { name: "w" lr_mult: 2 decay_mult: 3 } param { lr_mult: 5 }
                convolution_param { num_output: 4 kernel_size: 3 engine: CUDNN
                                    weight_filler { type: "msra" } } }""")
    fields, more = dict(FIELDS, warmup_iter=7), ""
    if "position_limit" in parsed("").active_convolution_param.DESCRIPTOR.fields_by_name:
        fields, more = dict(fields, position_limit=2), "position_limit: 2"
    convert(tmp_path / "net.prototxt", None, tmp_path / "out", fields=fields)
    (layer,) = messages.read_net(tmp_path / "out/net.prototxt").layer
    assert layer == parsed(f"""
        name: "c" type: "ActiveConvolution" bottom: "x" top: "c" include {{ phase: TRAIN }}
        loss_weight: 0.5 param {{ name: "w" lr_mult: 2 decay_mult: 3 }} param {{ lr_mult: 5 }}
        convolution_param {{ num_output: 4 kernel_size: 3 weight_filler {{ type: "msra" }} }}
        active_convolution_param {{ warmup_iter: 7 normalize_gradient: false position_lr_mult: 0.5
                                    position_group: 2 fix_origin: false {more} }}""")


OLD = """
name: "old" input: "image" input_dim: 2 input_dim: 4 input_dim: 9 input_dim: 8
layers { name: "c" type: CONVOLUTION bottom: "image" top: "c"
         blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
         convolution_param { num_output: 6 kernel_size: 3 group: 2 pad: 1 stride: 2 } }
layers { name: "r" type: RELU bottom: "c" top: "c" }
layers { name: "d" type: CONVOLUTION bottom: "c" top: "d"
         convolution_param { num_output: 3 kernel_size: 1 } }
"""


def test_old_format(tmp_path):
    """V1 of both files (`layers`, type names in capitals, blobs_lr, blobs of num × channels ×
    height × width)."""
    (tmp_path / "old.prototxt").write_text(OLD)
    old = text_format.Parse(OLD, locate.caffe_pb2().NetParameter())
    draw = np.random.default_rng(0)
    shapes = [[(6, 2, 3, 3), (1, 1, 1, 6)], [], [(3, 6, 1, 1), (1, 1, 1, 3)]]
    for layer, of_layer in zip(old.layers, shapes):
        for shape in of_layer:
            named = dict(zip(("num", "channels", "height", "width"), shape))
            layer.blobs.add(**named, data=draw.normal(size=shape).ravel())
    files = tmp_path / "old.prototxt", tmp_path / "old.caffemodel"
    files[1].write_bytes(old.SerializeToString())
    original = locate.caffe().Net(*map(str, files), locate.caffe().TEST)

    done = convert(*files, tmp_path / "out", fields={"warmup_iter": 3})
    difference, largest = done["outputs"]["d"]
    assert names(done) == ["c"] and difference < 1e-5 * largest and largest > 1
    twin = nets.load(tmp_path / "out/old.prototxt", tmp_path / "out/weights.caffemodel")
    image = draw.normal(size=(2, 4, 9, 8))
    assert_same(run(twin, image), run(original, image))
    layer = messages.read_net(tmp_path / "out/old.prototxt").layer[-3]
    assert (layer.name, layer.type) == ("c", "ActiveConvolution")
    assert layer.active_convolution_param.warmup_iter == 3
    assert [(one.lr_mult, one.decay_mult) for one in layer.param] == [(1, 1), (2, 0)]


TRAIN, TEST = "include { phase: TRAIN }", "include { phase: TEST }"
GRID, DILATED = "pos_filler_std: -1", "pos_filler_std: -1 base_radius: 2"


def authors(name, own, more=""):
    text = conv(name, "image", f"aconv_param {{ {own} }} {more}")
    return text.replace("Convolution", "AConvFast")


def test_layers_of_one_name_in_training_and_testing(tmp_path):
    text = IMAGE + conv("c", "image", TRAIN) + conv("c", "image", TEST)
    done = convert(*written(tmp_path, text), tmp_path / "out")
    assert names(done) == ["c", "c"]
    assert done["outputs"]["c"][0] < 1e-5 * done["outputs"]["c"][1]


# ---- The authors' layer


@pytest.mark.parametrize("iteration", [10000, 64000])
def test_authors_network(iteration, shared_reference, tmp_path):
    """Golden logits from ActiveConvolution layers, and from what these are exported to."""
    weights = shared_reference / f"acu_plain_cifar10_iter_{iteration}.caffemodel"
    done = convert(PUBLISHED, weights, tmp_path / "acu", fields={"warmup_iter": 10000})
    assert len(names(done)) == 7
    assert done["outputs"]["score"][0] < 1e-4 * done["outputs"]["score"][1]
    files = [
        (tmp_path / folder / "deploy.prototxt", tmp_path / folder / "weights.caffemodel")
        for folder in ("acu", "plain")
    ]
    export(*files[0], tmp_path / "plain")
    golden = np.load(shared_reference / "golden.npz")
    for each in files:
        found = run(nets.load(*each), golden["inputs"]).reshape(16, 10)
        assert_same(found, golden[f"logits_{iteration}"], 1e-4)
    layers = positions.from_caffemodel(files[0][1])
    assert {layer.type for layer in layers} == {"ActiveConvolution"}
    if iteration == 10000:  # still in the warm-up: each synapse where the grid of its layer has it
        assert all((layer.displacement() == 0).all() for layer in layers)
    for layer in messages.read_net(files[0][0]).layer:
        if layer.type == "ActiveConvolution":
            own = layer.active_convolution_param
            assert own.normalize_gradient and own.warmup_iter == 10000 and not own.position
            assert not layer.HasField("aconv_param")


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
    """Trained layers: the same output; where nothing is random, the same start, and the same
    synapse that never moves."""
    layer = aconv(text, kernel)
    image = np.random.default_rng(0).normal(size=(2, 4, 11, 12))
    before = single(text_format.MessageToString(layer), image.shape, tmp_path / "before.prototxt")
    blobs = [blob.data.copy() for blob in before.params["layer"]]
    small = {"pad: -1": "size: [12]", "pad_h: -2": "size: [123]"}
    if any(pad in text and re.search(size, kernel) for pad, size in small.items()):
        with pytest.raises(UserError, match="layer layer needs a negative pad"):
            aconv_fast.translate(layer, blobs, np.random.default_rng(0))
        return
    blobs = aconv_fast.translate(layer, blobs, np.random.default_rng(0))
    assert layer.type == "ActiveConvolution" and layer.param[0].lr_mult == 3
    assert layer.active_convolution_param.normalize_gradient == ("normalize" in text)
    fresh = single(text_format.MessageToString(layer), image.shape, tmp_path / "fresh.prototxt")
    expected = run(before, image)
    at_rest = np.array([blob.data.copy() for blob in fresh.params["layer"][2:]])
    on_grid = "std: -1" in text and "radius" not in text and re.search("size: [13]", kernel)
    if on_grid or "pos_filler_std" in text and layer.active_convolution_param.position:
        np.testing.assert_allclose(at_rest, blobs[2:], atol=1e-6)
    of_base = (at_rest == 0).all(axis=0).reshape(at_rest.shape[1], -1)
    assert (np.array(blobs[2:]).reshape(2, *of_base.shape)[:, of_base] == 0).all()
    assert of_base.any(axis=1).all()
    assert len(fresh.params["layer"]) == len(blobs)
    for blob, values in zip(fresh.params["layer"], blobs):
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
    # (−1, −1) is AConvFast's sixth, and so on
    assert weight[0, 0].tolist() == [[6, 7, 8], [5, 0, 1], [4, 3, 2]]


def test_random_start_without_weights():
    """AConvFast draws noise at every start; the prototxt gets it drawn once, for each position set,
    base left out."""
    own = "type: SQUARE pos_filler_std: 0.1 base_radius: 2 position_group: 2"
    layer = aconv(own, "kernel_size: 3 pad: 1")
    assert aconv_fast.translate(layer, None, np.random.default_rng(1)) is None
    start = np.array([(p.x, p.y) for p in layer.active_convolution_param.position]).reshape(2, 9, 2)
    noise = (start - geometry.ring(9, 2, rounded=False)) / 0.2
    assert (noise[:, 0] == 0).all() and (noise[:, 1:] != 0).all() and 0.6 < noise[:, 1:].std() < 1.4


SHARED = 'param { name: "w" } param { lr_mult: 2 }'
SHARED_POSITIONS = 'param {} param {} param { name: "x" } param { name: "y" }'


@pytest.mark.parametrize("patterns", [[], ["c"]])
@pytest.mark.parametrize(
    "text",
    ids=range(5),
    argvalues=[
        authors("c", GRID, SHARED) + authors("d", GRID, SHARED),
        authors("c", GRID, SHARED) + authors("d", DILATED, SHARED),
        authors("c", GRID, SHARED) + conv("d", "image", SHARED),
        authors("c", GRID, SHARED_POSITIONS) + authors("d", GRID, SHARED_POSITIONS),
        authors("c", GRID, TRAIN) + authors("c", GRID, TEST),
    ],
)
def test_layers_that_share_keep_their_order(text, patterns, tmp_path):
    """Whichever of them is converted, the others find the synapses where they were."""
    done = convert(*written(tmp_path, IMAGE + text), tmp_path / "out", patterns)
    layers = messages.read_net(tmp_path / "out/net.prototxt").layer
    layer = next(each for each in layers if each.name == "c")
    start = [[p.x, p.y] for p in layer.active_convolution_param.position]
    assert start == geometry.ring(9).tolist()
    assert all(one[0] < 1e-5 * one[1] for one in done["outputs"].values()) and done["outputs"]


@pytest.mark.parametrize("own", [GRID, "position_group: 2", "pos_filler_std: 0 position_group: 4"])
def test_position_sets_stay_those_of_the_authors_layer(own, tmp_path):
    model, weights = written(tmp_path, IMAGE + authors("c", own))
    sets = parsed(f"aconv_param {{ {own} }}").aconv_param.position_group
    for asked in {1, 2, 4} - {sets}:
        with pytest.raises(
            UserError, match=f"c has position_group {sets}, .* --position-group {asked}"
        ):
            convert(model, weights, tmp_path / "out", fields={"position_group": asked})
        assert not (tmp_path / "out").exists()
    convert(model, weights, tmp_path / "out", fields={"position_group": sets})


# ---- Bad input


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(weights="missing.caffemodel"), "cannot read missing.caffemodel"),
        (dict(model=PUBLISHED), "layer conv1_1 has no blobs in "),
        (
            dict(model=ROOT / "models/cifar10/plain/baseline/deploy.prototxt", patterns=["conv0"]),
            "layer conv0 of ",
        ),
        (dict(patterns=["conv1/*", "conv9*"]), "is called conv9*: it has conv0, conv1/1, "),
        (dict(kernels=[(5, 3)]), "has no such convolution to convert (it has conv0, conv1/1,"),
        (dict(kernels=[(1, 1)], patterns=["conv1/1"]), "has no such convolution to convert"),
        (
            dict(model=ROOT / "models/digits/plain/acu/deploy.prototxt"),
            "has no such convolution to convert (it has conv0, fc1, score)",
        ),
        (
            dict(fields={"position_group": 5}),
            "layer conv1/1: position_group 5 does not divide its 48 outputs",
        ),
    ],
)
def test_bad_input(options, message, ordinary, tmp_path):
    files = {"model": BASELINE / "deploy.prototxt", "weights": ordinary}
    with pytest.raises(UserError, match=re.escape(message)) as error:
        convert(**{**files, "output": tmp_path / "out", **options})
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


@pytest.mark.quick
@pytest.mark.parametrize("more", ["", 'layer { name: "l" type: "Data" top: "l" }\n'])
def test_weights_in_the_prototxt_give_way_to_those_of_the_file(more, tmp_path):
    model, weights = written(tmp_path, IMAGE + conv("c", "image"))
    net = messages.read_net(model)
    for _ in range(2):
        net.layer[1].blobs.add(data=[7]).shape.dim.append(1)
    source = f'data_param {{ source: "{tmp_path}/none" }} }}'
    model.write_text(messages.text(net) + more.replace("}", source))
    convert(model, weights, tmp_path / "out")
    stored = messages.read_weights(tmp_path / "out/weights.caffemodel").layer[1]
    shapes = [messages.shape(blob) for blob in stored.blobs]
    assert shapes == [(4, 3, 3, 3), (4,), (1, 1, 3, 3), (1, 1, 3, 3)]
    assert not messages.read_net(tmp_path / "out/net.prototxt").layer[1].blobs


@pytest.mark.quick
@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 0, 1, 1)])
def test_blobs_that_are_no_weights(shape, tmp_path):
    """As many numbers as there should be, but for the last; the shape is another's."""
    text = INPUT.format("dim: 2 dim: 1 dim: 6 dim: 7")
    model, weights = written(
        tmp_path, text + conv("c", "image", outputs=1, kernel="kernel_size: 1")
    )
    stored = messages.read_weights(weights)
    blob = stored.layer[1].blobs[0]
    blob.shape.dim[:], blob.data[:] = shape, blob.data[: np.prod(shape, dtype=int)]
    messages.write_weights(weights, stored)
    with pytest.raises(UserError, match="layer c (has|reads) "):
        convert(model, weights, tmp_path / "out", patterns=["c"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["layer c", "output c"])
def test_a_layer_that_computes_something_else_is_refused(place, tmp_path, monkeypatch):
    """Each is compared on its own, also behind a saturated softmax; so is the network."""
    right = converting.to_active

    def wrong(*given):
        weight, *others = right(*given)
        return [1.01 * weight, *others]

    monkeypatch.setattr(converting, "to_active", wrong)
    if place == "output c":
        monkeypatch.setattr(converting.verify, "layers", lambda *_: (0, 0))
    with pytest.raises(UserError, match=f"^{place} is not the original's on random input: "):
        convert(*written(tmp_path, IMAGE + conv("c", "image")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_finite_are_refused(tmp_path):
    net = live(tmp_path / "net.prototxt", IMAGE + conv("c", "image"))
    net.params["c"][0].data[...] = np.nan
    net.save(str(tmp_path / "net.caffemodel"))
    with pytest.raises(UserError, match="^layer c is not .*: the largest difference is nan"):
        convert(tmp_path / "net.prototxt", tmp_path / "net.caffemodel", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_of_another_kernel(ordinary, tmp_path):
    """A train_val prototxt, which Caffe does not load here: the file itself must tell."""
    text = (BASELINE / "train_val.prototxt").read_text()
    (tmp_path / "net.prototxt").write_text(text.replace("kernel_size: 3", "kernel_size: 5", 1))
    with pytest.raises(UserError, match="layer conv1/1 has 48×16×3×3 in .*, which does not fit"):
        convert(tmp_path / "net.prototxt", ordinary, tmp_path / "out")


# ---- The command


def test_command(ordinary, tmp_path):
    files = "--model", BASELINE / "deploy.prototxt", "--weights", ordinary
    choice = "--layers", "conv1/*", "conv2/1", "--kernel", "3", "1x1"
    fields = "--warmup-iter", "9", "--no-fix-origin"
    done = acu("convert", *files, "--output", tmp_path / "out", *choice, *fields)
    assert done.returncode == 0, done.stderr
    *report, following = done.stdout.splitlines()
    assert report[0] == "3 layers converted: conv1/1, conv1/2, conv2/1"
    assert report[-1].startswith("runs in a Caffe with the layer ActiveConvolution, as built here")
    assert re.search(r"^conv1/1 +Convolution +3×3 +9 +\S+ of \S+$", done.stdout, re.MULTILINE)
    assert (tmp_path / "out/report.txt").read_text() == "\n".join(report) + "\n"
    assert json.loads((tmp_path / "out/report.json").read_text())["outputs"]["prob"][0] < 1e-4
    own = [
        layer.active_convolution_param
        for layer in messages.read_net(tmp_path / "out/deploy.prototxt").layer
        if layer.type == "ActiveConvolution"
    ]
    assert [(one.warmup_iter, one.fix_origin) for one in own] == [(9, False)] * 3
    assert not own[0].HasField("normalize_gradient")
    done = acu(*following.removeprefix("next: acu ").split())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["--kernel", "3by3"], 2, "error: --kernel 3by3 is not a kernel size such as 3 or 3x5"),
        (["--layers", "nothing"], 1, "error: no convolution of "),
        (["--warmup-iter", "-1"], 2, "error: "),
    ],
)
def test_command_refuses(arguments, status, message, tmp_path):
    model = "--model", BASELINE / "deploy.prototxt", "--output", tmp_path / "out"
    done = acu("convert", *model, *arguments)
    assert (done.returncode, done.stdout) == (status, "") and message in done.stderr
