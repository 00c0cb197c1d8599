"""What is trained: networks as Caffe's solvers name them, and what a command line changes in them."""

import re
import shutil

import pytest
from active_convolution.caffe import locate, messages
from active_convolution.errors import BadValue, UserError
from active_convolution.training import definition, deploying, run_folder, schedule
from active_convolution.training.changes import Changes, classifiers
from active_convolution.training.run_folder import RunFolder
from google.protobuf import text_format

SOLVER = 'base_lr: 0.1 lr_policy: "fixed" max_iter: 8 '
DATA = 'layer {{ name: "data" type: "Data" top: "data" top: "label" {rule} data_param {{ source: "{source}" batch_size: {batch} backend: LMDB }} }}\n'
BODY = """
layer { name: "conv" type: "ActiveConvolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" inner_product_param { num_output: 10 } }
"""
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }\n'
ACCURACY = (
    'layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" }\n'
)


def data(source="train_lmdb", batch=4, rule=""):
    return DATA.format(source=source, batch=batch, rule=rule)


TRAIN, TEST = data() + BODY + LOSS, data("test_lmdb", 99) + BODY + LOSS + ACCURACY


def solver(folder, text, **nets):
    """Writes a solver, and networks beside it; returns the solver's path."""
    for name, net in nets.items():
        (folder / f"{name}.prototxt").write_text(net)
    (folder / "solver.prototxt").write_text(SOLVER + text)
    return folder / "solver.prototxt"


def parts(found):
    """The layers that train, and those of each test."""
    pb2 = locate.caffe_pb2()
    return [
        [layer.name for layer in schedule.layers(found.solver, found.net, phase, test)]
        for phase, test in [
            (pb2.TRAIN, 0),
            *((pb2.TEST, index) for index in range(len(found.solver.test_iter))),
        ]
    ]


NAMES = ["data", "conv", "relu", "ip", "loss"]


@pytest.mark.parametrize(
    "text, nets, expected",
    [
        ('net: "a.prototxt"', dict(a=TRAIN), [NAMES]),
        ('net: "gone/a.prototxt" test_iter: 3', dict(a=TRAIN), [NAMES, NAMES]),
        (
            'train_net: "a.prototxt" test_net: "b.prototxt" test_iter: 3',
            dict(a=TRAIN, b=TEST),
            [NAMES, [*NAMES, "accuracy"]],
        ),
        (
            'train_net: "a.prototxt" test_net: "b.prototxt" test_net: "a.prototxt" test_iter: 3 test_iter: 2',
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
            'net: "a.prototxt" test_iter: 3 test_iter: 3 test_state { stage: "x" } test_state { stage: "y" }',
            dict(a=TRAIN + ACCURACY.replace("top:", 'include { phase: TEST stage: "y" } top:')),
            [NAMES, NAMES, [*NAMES, "accuracy"]],
        ),
    ],
    ids=["net", "net beside", "two", "three", "net and test_net", "within", "stages"],
)
def test_every_way_of_naming_networks(tmp_path, text, nets, expected):
    found = definition.of_solver(solver(tmp_path, text, **nets))
    assert parts(found) == expected
    assert not any(
        found.solver.HasField(name) for name in ("net", "net_param", "train_net", "train_net_param")
    )
    assert not found.solver.test_net


@pytest.mark.parametrize(
    "text, expected",
    [
        (
            "",
            "names no network to train: give its solver one of net, net_param, train_net, train_net_param",
        ),
        ('net: "a.prototxt" train_net: "a.prototxt"', "names net and train_net to train"),
        ('train_net: "a.prototxt" test_iter: 3', "has 1 test_iter for 0 test networks"),
        ('net: "a.prototxt" test_net: "a.prototxt"', "has 0 test_iter for 1 test networks"),
        (
            'net: "a.prototxt" test_iter: 1 test_iter: 1 test_state { stage: "x" }',
            "has 1 test_state and 2 test_iter",
        ),
        (
            'net: "none.prototxt"',
            "names the network none.prototxt, and neither from here nor beside it",
        ),
    ],
)
def test_solvers_that_name_none(tmp_path, text, expected):
    with pytest.raises(UserError, match=expected):
        definition.of_solver(solver(tmp_path, text, a=TRAIN))


def test_a_folder_without_a_variant(tiny, tmp_path):
    assert definition.of_model(tiny / "acu").net == definition.of_model(tiny, "acu").net
    with pytest.raises(
        BadValue, match="holds no solver.prototxt: give --variant, one of acu, baseline"
    ):
        definition.of_model(tiny)
    with pytest.raises(BadValue, match="give a folder that holds one, or --solver"):
        definition.of_model(tmp_path)


# ---- Changes


@pytest.fixture
def found(tmp_path):
    return definition.of_solver(
        solver(tmp_path, 'net: "a.prototxt" test_iter: 3 stepvalue: 1', a=TRAIN)
    )


def layer(found, name):
    return next(layer for layer in found.net.layer if layer.name == name)


def test_changes_are_made(found):
    Changes(
        classes=7,
        freeze=["con*"],
        lr=0.5,
        batch=9,
        set=[
            "solver.momentum=0.25",
            "solver.stepvalue=3,5",
            "conv.convolution_param.pad=2",
            "ip.inner_product_param.bias_term=false",
            "conv.convolution_param.weight_filler.type=msra",
            "ip.param[0].lr_mult=10",
            "data.transform_param.mean_value=[1, 2]",
            "solver.solver_mode=GPU",
            'conv.convolution_param.bias_filler={ type: "constant" value: 2 }',
        ],
    ).apply(found)
    solver, conv, score = found.solver, layer(found, "conv"), layer(found, "ip")
    assert (solver.base_lr, solver.momentum, list(solver.stepvalue)) == (0.5, 0.25, [3, 5])
    assert solver.solver_mode == solver.GPU and layer(found, "data").data_param.batch_size == 9
    assert (
        list(conv.convolution_param.pad) == [2]
        and conv.convolution_param.weight_filler.type == "msra"
    )
    assert conv.convolution_param.bias_filler.value == 2
    assert [(param.lr_mult, param.decay_mult) for param in conv.param] == [(0, 0)] * 4
    assert score.inner_product_param.num_output == 7 and not score.inner_product_param.bias_term
    assert [param.lr_mult for param in score.param] == [10]
    assert list(layer(found, "data").transform_param.mean_value) == [1, 2]


@pytest.mark.parametrize(
    "changes, error, expected",
    [
        (
            dict(set=["solver.momentun=1"]),
            BadValue,
            "SolverParameter has no field momentun, there is momentum",
        ),
        (dict(set=["solver.base_lr=fast"]), BadValue, "base_lr does not take that"),
        (dict(set=["conv.convolution_param.pad=-1"]), BadValue, "pad does not take that"),
        (
            dict(set=["solver.momentum=0.9 max_iter: 5"]),
            BadValue,
            "momentum does not take that .it is followed by max_iter.: give",
        ),
        (
            dict(set=["none.param=1"]),
            BadValue,
            "names no layer of .*: give solver, or one of data, conv, relu, ip, loss",
        ),
        (
            dict(set=["conv"]),
            BadValue,
            "is no setting: give solver.FIELD=VALUE or LAYER.FIELD=VALUE",
        ),
        (
            dict(set=["conv.param.lr_mult=1"]),
            BadValue,
            r"param is repeated, and there are 0: say which, param\[0\]",
        ),
        (
            dict(set=["solver.stepvalue[x]=3"]),
            BadValue,
            r"SolverParameter has no field stepvalue\[x\], there is stepvalue",
        ),
        (
            dict(set=[f"ip.param[{'9' * 5000}].lr_mult=1"]),
            BadValue,
            r"LayerParameter has no field param\[",
        ),
        (dict(set=["solver.base_lr.x=1"]), BadValue, "base_lr has no fields of its own"),
        (
            dict(freeze=["fc*"]),
            UserError,
            r"no layer of .* that learns is called fc\*: --freeze knows conv, ip",
        ),
        (dict(freeze=["relu"]), UserError, "no layer of .* that learns is called relu"),
    ],
)
def test_changes_that_nothing_takes(found, changes, error, expected):
    with pytest.raises(error, match=expected) as refusal:
        Changes(**changes).apply(found)
    assert "\n" not in str(refusal.value)


def test_frozen_statistics_stay(tiny):
    found = definition.of_model(tiny, "acu")
    Changes(freeze=["bn"]).apply(found)
    assert layer(found, "bn").batch_norm_param.use_global_stats


@pytest.mark.parametrize(
    "network, names", [("cifar10/plain/acu", ["score"]), ("places365/alexnet/baseline", ["score"])]
)
def test_the_layer_of_the_classes_is_found(root, network, names):
    found = definition.of_model(root / "models" / network)
    assert [layer.name for layer in classifiers(found.solver, found.net)] == names


def test_the_layer_of_the_classes_is_found_behind_any_number_of_others(tmp_path):
    relus = "".join(
        f'layer {{ name: "r{number}" type: "ReLU" bottom: "ip" top: "ip" }}'
        for number in range(2000)
    )
    chain = TRAIN.replace('layer { name: "loss"', relus + ' layer { name: "loss"')
    assert chain != TRAIN
    found = definition.of_solver(solver(tmp_path, 'net: "a.prototxt"', a=chain))
    assert [layer.name for layer in classifiers(found.solver, found.net)] == ["ip"]


def test_a_classifier_behind_another_layer_is_none_of_ours(tmp_path):
    pair = TRAIN.replace('"SoftmaxWithLoss"', '"EuclideanLoss"')
    found = definition.of_solver(solver(tmp_path, 'net: "a.prototxt"', a=pair))
    assert classifiers(found.solver, found.net) == []
    with pytest.raises(UserError, match="compares no scores with labels: leave --classes out"):
        Changes(classes=3).apply(found)


# ---- With data


def test_the_case_of_an_own_network(root, digits_data, tmp_path):
    """A user's CIFAR-10 network, which is called neither so nor as its data set; case 09-own-net."""
    case = root.parent / "shared/cases/09-own-net/baseline"
    if not case.exists():
        pytest.skip(f"needs {case}")
    shutil.copytree(case, tmp_path / "own/baseline")
    changes = Changes(set=["cifar.transform_param.crop_size=8"])
    run = RunFolder(tmp_path / "run")
    found = run_folder.resolve(run, tmp_path / "own", "baseline", digits_data, changes=changes)
    assert (
        found.net.name == "CIFAR10_quick"
        and found.solver.random_seed == 1
        and found.deploy.name == "CIFAR10_quick_test"
    )
    sources = [layer.data_param.source for layer in found.net.layer if layer.type == "Data"]
    assert sources == [f"{digits_data}/train_lmdb", f"{digits_data}/test_lmdb"]


def test_sources_of_its_own_are_looked_for(tmp_path, digits_data, monkeypatch):
    monkeypatch.chdir(digits_data)
    path = solver(tmp_path, 'net: "a.prototxt" test_iter: 1', a=TRAIN)
    found = run_folder.resolve(RunFolder(tmp_path / "run"), None, None, solver=path)
    assert layer(found, "data").data_param.source == f"{digits_data}/train_lmdb"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError,
        match="layer data of .* reads train_lmdb, and from here there is no such thing: give --data",
    ):
        run_folder.resolve(RunFolder(tmp_path / "run"), None, None, solver=path)


def test_one_layer_for_training_and_testing_cannot_read_two_databases(tmp_path, digits_data):
    path = solver(tmp_path, 'net: "a.prototxt" test_iter: 1', a=TRAIN)
    with pytest.raises(
        UserError, match="reads data for training and for testing, and these are two databases"
    ):
        run_folder.resolve(RunFolder(tmp_path / "run"), None, None, digits_data, solver=path)


@pytest.mark.parametrize(
    "network", ["digits/plain/acu", "cifar10/bottleneck/baseline", "places365/alexnet/acu"]
)
def test_a_deploy_that_nobody_wrote_computes_what_the_written_one_does(network, root, tmp_path):
    """Caffe builds both, with the same blobs and the same parameters."""
    found, caffe = definition.of_model(root / "models" / network), locate.caffe()
    shape = tuple(found.deploy.layer[0].input_param.shape[0].dim)[1:]
    built = []
    for name, net in (("written", found.deploy), ("made", deploying.of(found, shape))):
        for layer in net.layer:
            layer.convolution_param.ClearField("weight_filler")  # to fill AlexNet's takes seconds
            layer.inner_product_param.ClearField("weight_filler")
        messages.write(tmp_path / name, net)
        live = caffe.Net(str(tmp_path / name), caffe.TEST)
        built.append(
            (
                {name: blob.data.shape for name, blob in live.blobs.items()},
                {name: [blob.data.shape for blob in blobs] for name, blobs in live.params.items()},
                list(live.outputs),
            )
        )
    assert built[0] == built[1]


def test_what_reads_no_data_set_gets_no_deploy(tmp_path):
    text = TRAIN.replace(
        'type: "Data"', 'type: "DummyData" dummy_data_param { shape { dim: 1 } shape { dim: 1 } }'
    )
    found = definition.of_solver(solver(tmp_path, 'net: "a.prototxt"', a=text))
    assert deploying.of(found, (3, 8, 8)) is None


def test_numbers_of_classes_must_agree(tiny, digits_data, tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(UserError, match="has 7 outputs, and .* has 10 classes: give --classes 10"):
        run_folder.resolve(run, tiny, "acu", digits_data, changes=Changes(classes=7))
    assert re.search(
        "num_output: 10", messages.text(run_folder.resolve(run, tiny, "acu", digits_data).net)
    )


def test_text_of_caffes_own_is_read(tmp_path):
    """As a solver that Caffe prints."""
    message = locate.caffe_pb2().SolverParameter()
    text_format.Parse(SOLVER + 'net: "a.prototxt"', message)
    (tmp_path / "a.prototxt").write_text(TRAIN)
    messages.write(tmp_path / "s.prototxt", message)
    assert parts(definition.of_solver(tmp_path / "s.prototxt")) == [NAMES]
