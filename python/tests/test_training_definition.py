"""What is trained: networks as Caffe's solvers name them, what a command line changes in them, and
where they read their data."""

import shutil

import pytest
from active_convolution.caffe import locate, messages
from active_convolution.errors import BadValue, UserError
from active_convolution.training import definition, schedule, trainer
from active_convolution.training.changes import Changes, judged
from active_convolution.training.run_folder import RunFolder
from active_convolution.training.trainer import train
from training_runs import write_model

SOLVER = 'base_lr: 0.1 lr_policy: "fixed" max_iter: 8 '
DATA = """layer {{ name: "data" type: "Data" top: "data" top: "label" {rule}
    data_param {{ source: "{source}" batch_size: {batch} backend: LMDB }} }}\n"""
BODY = """
layer { name: "conv" type: "ActiveConvolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
        inner_product_param { num_output: 10 } }
"""
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }\n'
ACCURACY = LOSS.replace("SoftmaxWithLoss", "Accuracy").replace('"loss"', '"accuracy"')


def data(source="train_lmdb", batch=4, rule=""):
    return DATA.format(source=source, batch=batch, rule=rule)


TRAIN, TEST = data() + BODY + LOSS, data("test_lmdb", 99) + BODY + LOSS + ACCURACY
NAMES = ["data", "conv", "relu", "ip", "loss"]


def solver(folder, text, **nets):
    """Writes a solver, and networks beside it; returns the solver's path."""
    for name, net in nets.items():
        (folder / f"{name}.prototxt").write_text(net)
    (folder / "solver.prototxt").write_text(SOLVER + text)
    return folder / "solver.prototxt"


def parts(found):
    """The layers that train, and those of each test."""
    return [
        [layer.name for layer in schedule.layers(found.solver, found.net, phase, test)]
        for phase, test in schedule.phases(found.solver)
    ]


@pytest.mark.parametrize(
    "text, nets, expected",
    [
        ('net: "a.prototxt"', dict(a=TRAIN), [NAMES]),
        ('net: "gone/a.prototxt" test_iter: 3', dict(a=TRAIN), [NAMES, NAMES]),
        (
            'train_net: "a.prototxt" test_net: "b.prototxt" test_net: "a.prototxt" test_iter: 3 '
            "test_iter: 2",
            dict(a=TRAIN, b=TEST),
            [NAMES, [*NAMES, "accuracy"], NAMES],
        ),
        (
            'net: "a.prototxt" test_net: "b.prototxt" test_iter: 3 test_iter: 1',
            dict(a=TRAIN, b=TEST),
            [NAMES, [*NAMES, "accuracy"], NAMES],
        ),
        (f"net_param {{ {TRAIN} }}", {}, [NAMES]),
        (
            'net: "a.prototxt" test_iter: 3 test_iter: 3 test_state { stage: "x" } '
            'test_state { stage: "y" }',
            dict(a=TRAIN + ACCURACY.replace("top:", 'include { phase: TEST stage: "y" } top:')),
            [NAMES, NAMES, [*NAMES, "accuracy"]],
        ),
    ],
    ids=["net", "net beside", "three", "net and test_net", "within", "stages"],
)
def test_every_way_of_naming_networks(tmp_path, text, nets, expected):
    found = definition.of_solver(solver(tmp_path, text, **nets))
    assert parts(found) == expected
    if len(nets) > 1:
        assert not found.solver.test_net and not found.solver.HasField("train_net")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "names no network to train: give it one of net, net_param, train_net"),
        ('net: "a.prototxt" train_net: "a.prototxt"', "names net and train_net to train"),
        ('train_net: "a.prototxt" test_iter: 3', "has 1 test_iter for 0 test networks"),
        ('net: "a.prototxt" test_net: "a.prototxt"', "has 0 test_iter for 1 test networks"),
        ('net: "none.prototxt"', "there is no none.prototxt, which .* names, neither here"),
    ],
)
def test_solvers_that_name_none(tmp_path, text, expected):
    with pytest.raises(UserError, match=expected):
        definition.of_solver(solver(tmp_path, text, a=TRAIN))


def test_a_folder_without_a_variant_is_its_active_network(tiny, tmp_path):
    active = definition.of_model(tiny, "acu").net
    assert definition.of_model(tiny / "acu").net == definition.of_model(tiny).net == active
    with pytest.raises(BadValue, match="holds no solver.prototxt: give"):
        definition.of_model(tmp_path)


# ---- Changes


@pytest.fixture
def found(tmp_path):
    text = 'net: "a.prototxt" test_iter: 3 stepvalue: 1'
    return definition.of_solver(solver(tmp_path, text, a=TRAIN))


def layer(found, name):
    return next(layer for layer in found.net.layer if layer.name == name)


def test_changes_are_made(found):
    settings = [
        *("solver.momentum=0.25", "solver.stepvalue=3,5", "solver.solver_mode=GPU"),
        *("conv.convolution_param.pad=2", "conv.convolution_param.weight_filler.type=msra"),
        *("ip.inner_product_param.bias_term=false", "ip.param[0].lr_mult=10"),
        "data.transform_param.mean_value=[1, 2]",
        'conv.convolution_param.bias_filler={ type: "constant" value: 2 }',
    ]
    changes = dict(freeze=["con*"], lr=0.5, batch=9, position_lr_mult=0.5, warmup_iter=7)
    Changes(classes=7, set=settings, **changes).apply(found)
    solver, conv, score = found.solver, layer(found, "conv"), layer(found, "ip")
    assert (solver.base_lr, solver.momentum, list(solver.stepvalue)) == (0.5, 0.25, [3, 5])
    assert solver.solver_mode == solver.GPU and layer(found, "data").data_param.batch_size == 9
    assert list(conv.convolution_param.pad) == [2]
    assert conv.convolution_param.weight_filler.type == "msra"
    assert conv.convolution_param.bias_filler.value == 2
    assert [(param.lr_mult, param.decay_mult) for param in conv.param] == [(0, 0)] * 4
    active = conv.active_convolution_param
    assert (active.position_lr_mult, active.warmup_iter) == (0.5, 7)
    assert score.inner_product_param.num_output == 7 and not score.inner_product_param.bias_term
    assert [param.lr_mult for param in score.param] == [10]
    assert list(layer(found, "data").transform_param.mean_value) == [1, 2]


def test_a_pattern_sets_the_layers_that_have_a_use_for_it():
    found = definition.of_model("cifar10/plain", "acu")
    settings = [
        *("conv*.active_convolution_param.warmup_iter=0", "*.param[0].lr_mult=3"),
        "*/1.convolution_param.weight_filler.std=0.5",
    ]
    Changes(set=settings).apply(found)
    for layer in [*found.net.layer, *found.deploy.layer]:
        active = layer.type == "ActiveConvolution"
        assert layer.HasField("active_convolution_param") == active
        assert not active or layer.active_convolution_param.warmup_iter == 0
        assert layer.param[0].lr_mult == 3
        wanted = 0.5 if layer.name.endswith("/1") and active else 1
        assert layer.convolution_param.weight_filler.std == wanted


def test_position_limit_is_known(found):
    known = locate.caffe_pb2().ActiveConvolutionParameter.DESCRIPTOR.fields_by_name
    if "position_limit" not in known:
        pytest.skip("a build from before position_limit")
    Changes(set=["*.active_convolution_param.position_limit=2.5"]).apply(found)
    assert layer(found, "conv").active_convolution_param.position_limit == 2.5


@pytest.mark.parametrize(
    "changes, error, expected",
    [
        (dict(set=["solver.momentun=1"]), BadValue, "not in Caffe's schema .*there is momentum"),
        (dict(set=["solver.base_lr=fast"]), BadValue, "base_lr=fast is not in Caffe's schema"),
        (dict(set=["conv.convolution_param.pad=-1"]), BadValue, "pad=-1 is not in"),
        (dict(set=["none.param=1"]), BadValue, "names no layer of .*: give solver, or one of data"),
        (dict(set=["conv"]), BadValue, "is not a setting: give solver.FIELD=VALUE or LAYER"),
        (dict(set=["conv.param.lr_mult=1"]), BadValue, "not in Caffe's schema"),
        (dict(set=["conv.param[5].lr_mult=1"]), BadValue, "not in Caffe's schema"),
        (dict(set=["solver.base_lr.x=1"]), BadValue, "not in Caffe's schema"),
        (dict(freeze=["fc*"]), UserError, r"learns is called fc\*: --freeze knows conv, ip"),
        (dict(freeze=["relu"]), UserError, "no layer that learns is called relu"),
    ],
)
def test_changes_that_nothing_takes(found, changes, error, expected):
    with pytest.raises(error, match=expected) as refusal:
        Changes(**changes).apply(found)
    assert "\n" not in str(refusal.value)


def test_positions_where_there_are_none(tiny):
    with pytest.raises(UserError, match="no ActiveConvolution: leave --position-lr-mult out"):
        Changes(position_lr_mult=1.0).apply(definition.of_model(tiny, "baseline"))


def test_frozen_statistics_stay(tiny):
    found = definition.of_model(tiny, "acu")
    Changes(freeze=["bn"]).apply(found)
    assert layer(found, "bn").batch_norm_param.use_global_stats


def test_the_layer_of_the_classes_is_found_behind_others_that_change_no_channel(tmp_path):
    for network in ("cifar10/plain", "places365/alexnet"):
        found = definition.of_model(network)
        assert {layer.name for layer, _, _ in judged(found)} == {"score"}
    pair = TRAIN.replace('"SoftmaxWithLoss"', '"EuclideanLoss"')
    found = definition.of_solver(solver(tmp_path, 'net: "a.prototxt"', a=pair))
    assert judged(found) == []
    with pytest.raises(UserError, match="compares no scores with labels: leave --classes out"):
        Changes(classes=3).apply(found)


# ---- With data


def resolve(tmp_path, *arguments, **options):
    return trainer.resolve(RunFolder(tmp_path / "run"), *arguments, **options)


def sources(net):
    return [layer.data_param.source for layer in net.layer if layer.HasField("data_param")]


def test_the_case_of_an_own_network(shared_cases, digits_data, tmp_path):
    """A user's CIFAR-10 network, which is called neither so nor as its data set; case
    09-own-net."""
    shutil.copytree(shared_cases / "09-own-net/baseline", tmp_path / "own/baseline")
    changes = Changes(set=["cifar.transform_param.crop_size=8"])
    found = resolve(tmp_path, tmp_path / "own", "baseline", digits_data, changes=changes)
    assert found.net.name == "CIFAR10_quick" and found.solver.random_seed == 1
    assert found.deploy.name == "CIFAR10_quick_test"
    assert sources(found.net) == [f"{digits_data}/{split}_lmdb" for split in ("train", "test")]


def test_a_test_sees_each_image_once_whatever_the_batch(tiny, digits_data, tmp_path):
    """Also where the layers for training and for testing have one name."""
    changes = Changes(set=["data.data_param.batch_size=9"])
    found = resolve(tmp_path, tiny, "acu", digits_data, changes=changes)
    test = next(each for each in found.net.layer[:2] if each.include[0].phase == 1)
    assert test.data_param.batch_size * found.solver.test_iter[0] == 297
    changes = Changes(set=["data.data_param.batch_size=9", "solver.test_iter=2"])
    found = resolve(tmp_path, tiny, "acu", digits_data, changes=changes)
    assert list(found.solver.test_iter) == [2]


def test_names_of_any_alphabet_can_be_set(found):
    Changes(set=["data.data_param.source=/tmp/数é"]).apply(found)
    assert layer(found, "data").data_param.source == "/tmp/数é"


def test_sources_of_its_own_are_looked_for(tmp_path, digits_data, monkeypatch):
    monkeypatch.chdir(digits_data)
    path = solver(tmp_path, 'net: "a.prototxt" test_iter: 1', a=TRAIN)
    found = resolve(tmp_path, solver=path)
    assert sources(found.net) == [f"{digits_data}/train_lmdb"]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no train_lmdb here, which layer data of .* reads: give"):
        resolve(tmp_path, solver=path)


def test_one_layer_for_training_and_testing_cannot_read_two_databases(tmp_path, digits_data):
    path = solver(tmp_path, 'net: "a.prototxt" test_iter: 1', a=TRAIN)
    with pytest.raises(UserError, match="data for both training and testing: give two layers"):
        resolve(tmp_path, solver=path, data=digits_data)


def test_more_outputs_than_classes_are_no_fault_and_fewer_are(tmp_path, digits_data):
    text = 'train_net: "a.prototxt" test_net: "b.prototxt" test_iter: 1'
    path = solver(tmp_path, text, a=TRAIN, b=TEST)
    for classes in (10, 100):
        resolve(tmp_path, solver=path, data=digits_data, changes=Changes(classes=classes))
    with pytest.raises(UserError, match="layer ip of .* has 9 outputs, .* 10 classes: give --cl"):
        resolve(tmp_path, solver=path, data=digits_data, changes=Changes(classes=9))


def test_a_deploy_that_nobody_wrote_is_made(tmp_path, digits_data):
    text = 'train_net: "a.prototxt" test_net: "b.prototxt" test_iter: 1'
    found = resolve(tmp_path, solver=solver(tmp_path, text, a=TRAIN, b=TEST), data=digits_data)
    path = tmp_path / "deploy.prototxt"
    messages.write(path, found.deploy)
    net = locate.caffe().Net(str(path), locate.caffe().TEST)
    assert net.blobs["data"].data.shape == (1, 1, 8, 8) and list(net.outputs) == ["prob"]


# ---- Which layers train and which test, in networks that say so in unusual ways

RULES = dict(train="include {\n    phase: TRAIN\n  }", test="include {\n    phase: TEST\n  }")
STAGED = [
    dict(train="include { phase: TRAIN stage: 's' }", solver="train_state { stage: 's' }"),
    dict(train="include { phase: TRAIN stage: 's' }", net="state { stage: 's' }"),
    dict(train="exclude { phase: TEST }", test="exclude { phase: TRAIN }"),
    dict(
        train="include { min_level: 2 }",
        test="include { max_level: 1 }",
        solver="train_state { level: 2 }",
    ),
    dict(
        train="exclude { stage: 'u' }",
        test="include { stage: 'u' }",
        solver="test_state { stage: 'u' }",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("changes", STAGED)
def test_each_phase_reads_its_own_data(changes, digits_data, tmp_path):
    """And Caffe agrees: each phase of a training opens one database, its own."""
    model = write_model(tmp_path / "tiny")
    path = model / "acu/train_val.prototxt"
    text = path.read_text()
    text = text.replace(RULES["test"], changes.get("test", RULES["test"]), 1)
    text = text.replace(RULES["train"], changes.get("train", RULES["train"]))
    path.write_text(text + changes.get("net", ""))
    with open(model / "acu/solver.prototxt", "a") as file:
        file.write(changes.get("solver", ""))
    assert train(model, "acu", digits_data, tmp_path / "run", max_iter=1) == 0
    net = messages.read_net(tmp_path / "run/train_val.prototxt")
    wanted = [f"{digits_data}/{split}_lmdb" for split in ("train", "test")]
    assert sources(net) == wanted
    log = (tmp_path / "run/train.log").read_text().splitlines()
    assert [line.split("lmdb ")[1] for line in log if "Opened lmdb" in line] == wanted
