"""The networks as the paper counts and draws them, and one iteration of training of each."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
from active_convolution import geometry
from active_convolution.caffe import locate, positions
from active_convolution.data import database
from active_convolution.networks import models
from networks import ACTIVE, BASIC, BOTTLENECK, DATASETS, PLAIN, SMALL, build, layers, read

POSITION_RATES = {"digits/shallow": 0.1}

each_network = pytest.mark.parametrize("network", ACTIVE)
each_trained_network = pytest.mark.parametrize(
    "network",
    [  # those for Places have 60 million weights
        pytest.param(network, marks=pytest.mark.slow)
        if network.startswith("places365")
        else network
        for network in ACTIVE
    ],
)
each_variant = pytest.mark.parametrize("variant", models.VARIANTS)
CONVOLUTIONS = ("Convolution", "ActiveConvolution")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a checked-in deploy network consists of: ``weights``, {layer: shapes of its blobs}, and
    ``tops``, {blob: shape}; ``sets``, how many sets of positions."""

    @functools.cache
    def load(network, variant):
        net = build(network, variant, tmp_path_factory.mktemp("deploy"), whole=True)
        return SimpleNamespace(
            weights={
                name: [blob.data.shape for blob in blobs] for name, blobs in net.params.items()
            },
            tops={name: blob.data.shape for name, blob in net.blobs.items()},
            sets=sum(len(layer.xy) for layer in positions.from_net(net)),
        )

    return load


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checked-in network before and after one iteration with its solver, without a warm-up: on
    two made images, which are small where the paper's are large. {layer: its blobs} ``before`` and
    ``after``, the ``loss``, and ``saved``, {layer: the LayerParameter that the net saves}, in which
    every layer has the rates that the solver sees."""

    @functools.cache
    def train(network, variant):
        solver = locate.caffe().get_solver(
            str(_write_training(network, variant, tmp_path_factory.mktemp("net")))
        )
        before = _blobs(solver.net)
        solver.step(1)
        file = tmp_path_factory.mktemp("saved") / "net.caffemodel"
        solver.net.save(str(file))
        saved = locate.caffe_pb2().NetParameter.FromString(file.read_bytes())
        file.unlink()
        for layer in saved.layer:
            layer.ClearField("blobs")
        after = _blobs(solver.net)
        changed = {
            name: [bool((old != new).any()) for old, new in zip(blobs, after[name])]
            for name, blobs in before.items()
        }
        return SimpleNamespace(
            loss=float(solver.net.blobs["loss"].data),
            changed=changed,
            saved=layers(saved),
            xy={layer.name: layer.xy for layer in positions.from_net(solver.net)},
        )

    return train


def _blobs(net):
    return {name: [blob.data.copy() for blob in blobs] for name, blobs in net.params.items()}


def _write_training(network, variant, folder, nonlinearity="ReLU", **active):
    """The checked-in solver and network, fitted to two images, without a warm-up, with
    ``nonlinearity`` in the place of its ReLU, and with the parameters ``active`` of each ACU;
    returns the solver's path."""
    dataset = DATASETS[network]
    size = SMALL.get(network, dataset.size)
    draw = np.random.default_rng(3)
    shape = 2, dataset.channels, size + 8, size + 8
    images = (
        draw.integers(0, 256, shape, np.uint8)
        if dataset.mean
        else draw.normal(size=shape).astype(np.float32)
    )
    database.write(folder / "lmdb", images, draw.integers(0, dataset.classes, 2))
    net, solver = read(network, variant, "train_val"), read(network, variant, "solver")
    del net.layer[1]  # the data for testing
    net.layer[0].data_param.source, net.layer[0].data_param.batch_size = str(folder / "lmdb"), 2
    net.layer[0].transform_param.crop_size = size
    for layer in net.layer:
        if layer.type == "ActiveConvolution":
            for name, value in dict(active, warmup_iter=0).items():
                setattr(layer.active_convolution_param, name, value)
        if layer.type == "ReLU":
            layer.type = nonlinearity
    solver.net = str(folder / "train_val.prototxt")
    for name in ("test_iter", "test_interval", "test_initialization", "snapshot"):
        solver.ClearField(name)
    (folder / "train_val.prototxt").write_text(models.text(net))
    (folder / "solver.prototxt").write_text(models.text(solver))
    return folder / "solver.prototxt"


# ---- The paper's numbers


def learnable(weights):
    """How many numbers the solver learns; what batch normalisation averages, and absent biases, are
    none of them."""
    count = 0
    for name, shapes in weights.items():
        if not name.startswith("bn_"):
            count += sum(int(np.prod(shape)) for shape in shapes if shape != (1, 1, 1, 1))
    return count


@pytest.mark.parametrize(
    "network, sets",
    [
        ("digits/plain", 6),
        ("cifar10/plain", 6),
        ("cifar100/plain", 6),
        ("cifar10/basic", 30),
        ("cifar100/basic", 30),
        ("cifar10/bottleneck", 15),
        ("cifar100/bottleneck", 15),
        ("places365/alexnet", 5),
        ("places365/residual", 8),
    ],
)
def test_an_acu_has_sixteen_parameters_more(whole, network, sets):
    """x and y of the eight synapses that are not at the origin, for each set of positions: 96 for
    the plain network, 128 for the 26 layers."""
    baseline, acu = whole(network, "baseline"), whole(network, "acu")
    origins = 2 * sets
    assert (baseline.sets, acu.sets) == (0, sets)
    assert learnable(acu.weights) - origins - learnable(baseline.weights) == 16 * sets


@each_variant
@pytest.mark.parametrize(
    "network, depth",
    [
        ("cifar10/plain", 9),
        ("cifar10/basic", 32),
        ("cifar100/basic", 32),
        ("cifar10/bottleneck", 47),
        ("cifar100/bottleneck", 47),
        ("places365/alexnet", 8),
        ("places365/residual", 26),
    ],
)
def test_depth(network, variant, depth):
    """Convolutions and fully connected layers from the data to the scores."""
    deep = [
        layer
        for layer in read(network, variant, "deploy").layer
        if layer.type in (*CONVOLUTIONS, "InnerProduct")
    ]
    assert sum(not layer.name.startswith("shortcut") for layer in deep) == depth


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_the_bottleneck_is_nearly_as_large_as_the_basic_network(whole, dataset):
    sizes = [
        learnable(whole(f"{dataset}/{network}", "baseline").weights)
        for network in ("basic", "bottleneck")
    ]
    assert max(sizes) < 1.12 * min(sizes)


def test_alexnet_has_the_size_that_is_known(whole):
    """60,965,224 for the 1000 classes of ImageNet."""
    assert learnable(whole("places365/alexnet", "baseline").weights) == 60965224 - (1000 - 365) * (
        4096 + 1
    )


# ---- Their structure


@each_variant
@pytest.mark.parametrize(
    "network, classes", [("digits/plain", 10), ("cifar10/plain", 10), ("cifar100/plain", 100)]
)
def test_weights_have_the_shapes_of_table_1(whole, network, classes, variant):
    found = {
        name: shapes[0]
        for name, shapes in whole(network, variant).weights.items()
        if not name.startswith(("bn", "scale"))
    }
    assert found == {
        "conv0": (16, DATASETS[network].channels, 1, 1),
        "conv1/1": (48, 16, 3, 3),
        "conv1/2": (48, 48, 3, 3),
        "conv2/1": (96, 48, 3, 3),
        "conv2/2": (96, 96, 3, 3),
        "conv3/1": (192, 96, 3, 3),
        "conv3/2": (192, 192, 3, 3),
        "fc1": (1000, 192, 1, 1),
        "score": (classes, 1000, 1, 1),
    }


@each_variant
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
@pytest.mark.parametrize(
    "network, names", [("plain", PLAIN), ("basic", BASIC), ("bottleneck", BOTTLENECK)]
)
def test_cifar_images_are_halved_between_the_stages(whole, dataset, network, names, variant):
    tops = whole(f"{dataset}/{network}", variant).tops
    assert tops["data"][2:] == tops["conv0"][2:] == (32, 32) and tops["prescore"][2:] == (1, 1)
    for name in names:
        assert tops[name][2:] == {"1": (32, 32), "2": (16, 16), "3": (8, 8)}[name[len("conv")]]


@each_variant
def test_the_26_layers_shrink_places_as_for_imagenet(whole, variant):
    tops = whole("places365/residual", variant).tops
    assert tops["conv0"][1:] == (64, 112, 112) and tops["pool0"][1:] == (64, 56, 56)
    for stage, (channels, size) in enumerate(
        [(256, 56), (512, 28), (1024, 14), (2048, 7)], start=1
    ):
        for block in (1, 2):
            assert tops[f"conv{stage}/{block}b"][1:] == (channels // 4, size, size)
            assert tops[f"sum{stage}/{block}"][1:] == (channels, size, size)
    assert tops["score"][1:2] == (365,)


@each_variant
def test_the_convolutions_of_alexnet(whole, variant):
    found = whole("places365/alexnet", variant)
    assert [found.tops[f"conv{index}"][1:] for index in (1, 2, 3, 4, 5)] == [
        (96, 55, 55),
        (256, 27, 27),
        (384, 13, 13),
        (384, 13, 13),
        (256, 13, 13),
    ]
    assert found.tops["pool5"][1:] == (256, 6, 6)
    groups = {
        name: layer.convolution_param.group
        for name, layer in layers(read("places365/alexnet", variant, "deploy")).items()
        if layer.type in CONVOLUTIONS
    }
    assert groups == {"conv1": 1, "conv2": 2, "conv3": 1, "conv4": 2, "conv5": 2}


def test_the_halves_of_alexnet_have_positions_of_their_own(whole):
    assert [
        whole("places365/alexnet", "acu").weights[name][2:] for name in ("conv3", "conv4", "conv5")
    ] == [[(groups, 1, 3, 3)] * 2 for groups in (1, 2, 2)]


@pytest.mark.parametrize("network", [network for network in ACTIVE if network.endswith("plain")])
def test_normalisation_and_relu_follow_every_convolution_but_the_last(network):
    types = [layer.type for layer in read(network, "baseline", "deploy").layer]
    unit = ["Convolution", "BatchNorm", "Scale", "ReLU"]
    assert types == ["Input", *unit * 8, "Pooling", "Convolution", "Softmax"]


RESIDUAL = [
    network for network in ACTIVE if network.split("/")[1] in ("basic", "bottleneck", "residual")
]
each_residual = pytest.mark.parametrize("network", RESIDUAL)


def last_writers(message):
    """{layer: the layers that last wrote its bottoms before it}: in place, a blob is written
    several times."""
    writer, found = {}, {}
    for layer in message.layer:
        found[layer.name] = [writer[bottom] for bottom in layer.bottom]
        writer.update(dict.fromkeys(layer.top, layer))
    return found


@each_residual
@each_variant
def test_blocks_are_activated_before_their_convolutions(network, variant):
    """Every convolution in a block, and every projection, reads what ReLU wrote; sums add what
    nothing has activated."""
    message = read(network, variant, "deploy")
    writers = last_writers(message)
    for layer in message.layer:
        if layer.type in CONVOLUTIONS and layer.name not in ("conv0", "score"):
            first = layer.name in ("conv1/1a", "shortcut1/1") and network == "places365/residual"
            assert [writer.type for writer in writers[layer.name]] == [
                "Pooling" if first else "ReLU"
            ], layer.name
        if layer.type == "Eltwise":
            path, shortcut = writers[layer.name]
            assert path.type in CONVOLUTIONS
            expected = "ReLU" if layer.name == "sum1/1" and network.endswith("basic") else "Eltwise"
            assert shortcut.type == expected or shortcut.name == layer.name.replace(
                "sum", "shortcut"
            )


@each_residual
def test_shortcuts_are_projections_where_the_dimensions_change(whole, network):
    stages = (1, 2, 3, 4) if network == "places365/residual" else (1, 2, 3)
    expected = [
        f"shortcut{stage}/1" for stage in stages if not (stage == 1 and network.endswith("basic"))
    ]
    weights = whole(network, "acu").weights
    assert [name for name in weights if name.startswith("shortcut")] == expected
    assert all(weights[name][0][2:] == (1, 1) for name in expected)


# ---- One iteration


@each_trained_network
@each_variant
def test_an_iteration_teaches_every_layer(trained, network, variant):
    """Forward, backward and update: all that is to learn has changed, and the positions have left
    the grid."""
    after = trained(network, variant)
    assert np.isfinite(after.loss) and after.loss > 0
    for name, changed in after.changed.items():
        unbiased = (
            after.saved[name].type == "ActiveConvolution"
            and not after.saved[name].convolution_param.bias_term
        )
        assert changed == ([True, False, True, True] if unbiased else [True] * len(changed)), name
    assert list(after.xy) == (ACTIVE[network] if variant == "acu" else [])
    step = (
        1.9 * POSITION_RATES.get(network, 0.01) * read(network, variant, "solver").base_lr
    )  # Nesterov's first, in pixels
    for name, xy in after.xy.items():
        moved = np.hypot(*np.moveaxis(xy - geometry.grid((3, 3)), -1, 0))
        assert (moved[:, 4] == 0).all(), "the origin"
        np.testing.assert_allclose(np.delete(moved, 4, axis=1), step, rtol=1e-2, err_msg=name)


@pytest.mark.parametrize(
    "network",
    ["digits/plain", "cifar10/plain", pytest.param("places365/residual", marks=pytest.mark.slow)],
)
def test_the_baseline_is_an_acu_whose_positions_do_not_learn(network, tmp_path):
    """With position_lr_mult 0 the weights learn what those of ordinary convolutions learn, to
    rounding; with the default the positions' first step changes the weights' second. With ELU,
    whose slope has no jump: a ReLU near zero would turn rounding into a gradient or none."""

    def learnt(name, variant, **active):
        (tmp_path / name).mkdir()
        solver = locate.caffe().get_solver(
            str(_write_training(network, variant, tmp_path / name, "ELU", **active))
        )
        before = _blobs(solver.net)
        solver.step(2)
        return {layer: blobs[0] - before[layer][0] for layer, blobs in _blobs(solver.net).items()}

    def difference(one, other):
        return max(
            np.abs(one[layer] - other[layer]).max() / np.abs(one[layer]).max() for layer in one
        )

    baseline = learnt("baseline", "baseline")
    assert difference(baseline, learnt("frozen", "acu", position_lr_mult=0)) < 3e-4
    assert difference(baseline, learnt("moving", "acu")) > 3e-3


@each_trained_network
@each_variant
def test_rates_that_the_solver_sees(trained, network, variant):
    """Weights learn and decay, scales and biases learn only, statistics do neither; positions learn
    at a hundredth of the rate, or at a tenth in the demo's network."""
    after = trained(network, variant)
    bias = (2, 0) if network == "places365/alexnet" else (1, 0)
    for name, changed in after.changed.items():
        layer = after.saved[name]
        seen = [_rates(layer, blob) for blob in range(len(changed))]
        expected = {
            "BatchNorm": [(0, decay) for _, decay in seen],  # nothing decays at rate 0
            "Scale": [(1, 0)] * 2,
            "ActiveConvolution": [
                (1, 1),
                bias if layer.convolution_param.bias_term else (0, 0),
                *[(POSITION_RATES.get(network, 0.01), 0)] * 2,
            ],
            "InnerProduct": [(1, 1), bias],
            "Convolution": [(1, 1), bias][: len(changed)],
        }[layer.type]
        np.testing.assert_allclose(seen, expected, rtol=1e-6, err_msg=name)


def _rates(layer, blob):
    """(lr_mult, decay_mult) of one blob of a saved layer."""
    param = layer.param[blob] if blob < len(layer.param) else locate.caffe_pb2().ParamSpec()
    return param.lr_mult, param.decay_mult
