"""The checked-in networks: generated, as in the paper's Table 1 and section 3.1, alike but for what is active."""
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from google.protobuf import text_format

from active_convolution import fork, models, positions
from active_convolution.data import lmdb_writer

from conftest import ROOT

ACTIVE = [f"conv{stage}/{index}" for stage in (1, 2, 3) for index in (1, 2)]
NETWORKS = {model.folder: model.dataset for model in models.MODELS}
each_network = pytest.mark.parametrize("network", NETWORKS)


def read(network, variant, kind):
    """A checked-in file as a message."""
    pb2 = fork.caffe_pb2()
    message = pb2.SolverParameter() if kind == "solver" else pb2.NetParameter()
    return text_format.Parse((ROOT / "models" / network / variant / f"{kind}.prototxt").read_text(), message)


def layers(message):
    return {layer.name: layer for layer in message.layer}


@pytest.fixture(scope="module")
def trained_net(tmp_path_factory):
    """Loads a checked-in network for training on a few made images, once: its pycaffe Net, and the NetParameter that
    it saves, in which every layer has the rates that the solver sees."""
    loaded = {}

    def load(network, variant):
        if (network, variant) not in loaded:
            folder, dataset = tmp_path_factory.mktemp("net"), NETWORKS[network]
            padded = dataset.size + (8 if dataset.mirror else 2)
            images = np.zeros((70, dataset.channels, padded, padded), np.float32)
            lmdb_writer.write(folder / "lmdb", images, np.zeros(70, int), 0)
            message = read(network, variant, "train_val")
            for layer in message.layer:
                layer.data_param.source = str(folder / "lmdb") if layer.type == "Data" else ""
            (folder / "net.prototxt").write_text(models.text(message))
            net = fork.caffe().Net(str(folder / "net.prototxt"), fork.caffe().TRAIN)
            net.save(str(folder / "net.caffemodel"))
            saved = fork.caffe_pb2().NetParameter()
            saved.ParseFromString((folder / "net.caffemodel").read_bytes())
            loaded[network, variant] = SimpleNamespace(net=net, saved=layers(saved))
        return loaded[network, variant]
    return load


def rates(layer, blob):
    """(lr_mult, decay_mult) of one blob of a saved layer."""
    param = layer.param[blob] if blob < len(layer.param) else fork.caffe_pb2().ParamSpec()
    return param.lr_mult, param.decay_mult


# ---- Generated

def generate(output, cwd):
    return subprocess.run([ROOT / "scripts/generate_models.py", "--output", output], cwd=cwd, capture_output=True,
                          text=True)


def tree(folder):
    return {path.relative_to(folder): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_generating_again_gives_the_checked_in_files(tmp_path):
    result = generate("models", tmp_path)
    assert result.returncode == 0, result.stderr
    assert tree(tmp_path / "models") == tree(ROOT / "models")
    assert result.stdout.endswith(f"{len(tree(ROOT / 'models'))} files changed\n")


def test_only_what_differs_is_written(tmp_path):
    models.write(tmp_path)
    stale = tmp_path / "digits/plain/acu/solver.prototxt"
    stale.write_text("stale")
    assert models.write(tmp_path) == [stale]
    assert models.write(tmp_path) == []


def test_script_says_what_it_cannot_write(tmp_path):
    (tmp_path / "text").write_text("no folder\n")
    result = generate("text/models", tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: cannot write text/models/") and result.stderr.count("\n") == 1


# ---- The same network twice

@each_network
def test_acu_has_96_learnable_parameters_more(trained_net, network):
    """Six layers, eight synapses that are not at the origin, x and y."""
    def learnable(variant):
        loaded, count = trained_net(network, variant), 0
        for name, blobs in loaded.net.params.items():
            count += sum(blob.count for i, blob in enumerate(blobs) if rates(loaded.saved[name], i)[0] != 0)
        origins = sum((layer.xy == 0).all(axis=-1).sum() for layer in positions.from_net(loaded.net))
        return count - 2 * origins
    assert learnable("acu") - learnable("baseline") == 96


@each_network
@pytest.mark.parametrize("kind", ["train_val", "deploy"])
def test_only_the_six_3x3_convolutions_differ(network, kind):
    baseline, acu = read(network, "baseline", kind), read(network, "acu", kind)
    assert (baseline.name, acu.name) == tuple(f"{network.replace('/', '_')}_{variant}" for variant in models.VARIANTS)
    differ = [layer.name for layer, other in zip(baseline.layer, acu.layer) if layer != other]
    of_size_3 = [layer.name for layer in baseline.layer if list(layer.convolution_param.kernel_size) == [3]]
    assert differ == ACTIVE == of_size_3
    for layer in acu.layer:
        if layer.name in ACTIVE:
            assert layer.type == "ActiveConvolution"
            layer.type = "Convolution"
            layer.ClearField("active_convolution_param")
    assert list(acu.layer) == list(baseline.layer)


@each_network
def test_solvers_differ_in_paths_alone(network):
    baseline, acu = (models.text(read(network, variant, "solver")) for variant in models.VARIANTS)
    assert acu.replace("acu", "baseline") == baseline


@each_network
def test_untrained_they_compute_the_same(network):
    image = np.random.default_rng(1).normal(size=(NETWORKS[network].channels, *[NETWORKS[network].size] * 2))
    answers = []
    for variant in models.VARIANTS:
        fork.caffe().set_random_seed(5)
        net = fork.caffe().Net(str(ROOT / "models" / network / variant / "deploy.prototxt"), fork.caffe().TEST)
        net.blobs["data"].data[0] = image
        answers.append(net.forward()["prob"].ravel().copy())
    np.testing.assert_allclose(*answers, rtol=1e-4)
    assert answers[0].sum() == pytest.approx(1) and np.ptp(answers[0]) > 0.01


# ---- Table 1

@each_network
@pytest.mark.parametrize("variant", models.VARIANTS)
def test_weights_have_the_shapes_of_table_1(trained_net, network, variant):
    channels = NETWORKS[network].channels
    weights = {name: tuple(blobs[0].shape) for name, blobs in trained_net(network, variant).net.params.items()
               if not name.startswith(("bn", "scale"))}
    assert weights == {
        "conv0": (16, channels, 1, 1),
        "conv1/1": (48, 16, 3, 3), "conv1/2": (48, 48, 3, 3),
        "conv2/1": (96, 48, 3, 3), "conv2/2": (96, 96, 3, 3),
        "conv3/1": (192, 96, 3, 3), "conv3/2": (192, 192, 3, 3),
        "fc1": (1000, 192, 1, 1), "score": (10, 1000, 1, 1)}


@pytest.mark.parametrize("variant", models.VARIANTS)
def test_cifar_images_shrink_as_in_table_1(trained_net, variant):
    blobs = trained_net("cifar10/plain", variant).net.blobs
    sizes = {name: blobs[name].data.shape[2:] for name in ["data", "conv0", *ACTIVE, "fc1", "prescore"]}
    assert sizes == {"data": (32, 32), "conv0": (32, 32), "conv1/1": (32, 32), "conv1/2": (32, 32),
                     "conv2/1": (16, 16), "conv2/2": (16, 16), "conv3/1": (8, 8), "conv3/2": (8, 8), "fc1": (8, 8),
                     "prescore": (1, 1)}


@each_network
def test_normalisation_and_relu_follow_every_convolution_but_the_last(network):
    types = [layer.type for layer in read(network, "baseline", "deploy").layer]
    unit = ["Convolution", "BatchNorm", "Scale", "ReLU"]
    assert types == ["Input", *unit * 8, "Pooling", "Convolution", "Softmax"]


# ---- Section 3.1

@pytest.mark.parametrize("variant", models.VARIANTS)
def test_cifar_solver_is_that_of_section_3_1(variant):
    solver = read("cifar10/plain", variant, "solver")
    assert (solver.type, solver.max_iter, list(solver.stepvalue)) == ("Nesterov", 64000, [32000, 48000])
    assert (solver.lr_policy, solver.iter_size, solver.regularization_type) == ("multistep", 1, "L2")
    numbers = solver.base_lr, solver.gamma, solver.momentum, solver.weight_decay
    assert numbers == pytest.approx((0.1, 0.1, 0.9, 0.0001))


@pytest.mark.parametrize("variant", models.VARIANTS)
def test_cifar_images_are_cropped_and_mirrored(trained_net, variant):
    train, test = (layer for layer in read("cifar10/plain", variant, "train_val").layer if layer.type == "Data")
    assert (train.transform_param.crop_size, train.transform_param.mirror) == (32, True)
    assert not test.HasField("transform_param")
    assert trained_net("cifar10/plain", variant).net.blobs["data"].data.shape == (64, 3, 32, 32)


@each_network
def test_every_test_image_is_tested_once(network):
    test_images = {"digits/plain": 297, "cifar10/plain": 10000}[network]
    test = [layer for layer in read(network, "acu", "train_val").layer if layer.type == "Data"][1]
    assert test.data_param.batch_size * read(network, "acu", "solver").test_iter[0] == test_images


@each_network
@pytest.mark.parametrize("variant", models.VARIANTS)
def test_rates_that_the_solver_sees(trained_net, network, variant):
    """Weights learn and decay, scales and biases learn only, statistics do neither; positions learn at 0.01."""
    loaded = trained_net(network, variant)
    for name, blobs in loaded.net.params.items():
        layer = loaded.saved[name]
        seen = [rates(layer, blob) for blob in range(len(blobs))]
        expected = {"BatchNorm": [(0, 0)] * 3, "Scale": [(1, 0)] * 2,
                    "ActiveConvolution": [(1, 1), (0, 0), (0.01, 0), (0.01, 0)],
                    "Convolution": [(1, 1), (1, 0)][:len(blobs)]}[layer.type]
        if layer.type == "BatchNorm":
            expected = [(0, decay) for _, decay in seen]      # nothing decays at rate 0
        np.testing.assert_allclose(seen, expected, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("network, warmup_iter", [("cifar10/plain", 10000), ("digits/plain", 156)])
def test_positions_wait_for_the_warm_up(network, warmup_iter):
    for name in ACTIVE:
        parameter = layers(read(network, "acu", "train_val"))[name].active_convolution_param
        assert parameter.warmup_iter == warmup_iter
        assert parameter.normalize_gradient and parameter.fix_origin and not parameter.position
