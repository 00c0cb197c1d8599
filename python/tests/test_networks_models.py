"""The checked-in files: generated, alike but for what is active, with the solvers and data of
sections 3.1, 4 and 5."""

import subprocess

import numpy as np
import pytest
from active_convolution.caffe import locate
from active_convolution.networks import models
from conftest import ROOT
from networks import ACTIVE, DATASETS, build, layers, read

each_network = pytest.mark.parametrize("network", ACTIVE)
each_variant = pytest.mark.parametrize("variant", models.VARIANTS)


def test_every_network_is_there():
    assert {model.folder for model in models.MODELS} == set(ACTIVE)


# ---- Generated


def tree(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_text() for path in files}


def test_generating_again_gives_the_checked_in_files_and_writes_what_differs(tmp_path):
    command = [ROOT / "scripts/acu", "generate", "--output", "models"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "models") == tree(ROOT / "models")
    assert done.stdout.endswith(f"{len(tree(ROOT / 'models'))} files changed\n")
    stale = tmp_path / "models/digits/plain/acu/solver.prototxt"
    stale.write_bytes(b"stale \xff")
    assert models.write(tmp_path / "models") == [stale]


# ---- The same network twice


@each_network
@pytest.mark.parametrize("kind", ["train_val", "deploy"])
def test_only_the_active_convolutions_differ(network, kind):
    baseline, acu = read(network, "baseline", kind), read(network, "acu", kind)
    assert (baseline.name, acu.name) == tuple(
        f"{network.replace('/', '_')}_{variant}" for variant in models.VARIANTS
    )
    assert [
        layer.name for layer, other in zip(baseline.layer, acu.layer) if layer != other
    ] == ACTIVE[network]
    for layer in acu.layer:
        if layer.name in ACTIVE[network]:
            assert layer.type == "ActiveConvolution" and list(
                layer.convolution_param.kernel_size
            ) == [3]
            layer.type = "Convolution"
            layer.ClearField("active_convolution_param")
    assert list(acu.layer) == list(baseline.layer)


@each_network
def test_solvers_differ_in_paths_alone(network):
    baseline, acu = (models.text(read(network, variant, "solver")) for variant in models.VARIANTS)
    assert acu.replace("acu", "baseline") == baseline


@each_network
def test_untrained_they_compute_the_same(network, tmp_path):
    answers = []
    for variant in models.VARIANTS:
        locate.caffe().set_random_seed(5)
        net = build(network, variant, tmp_path)
        for name, blobs in net.params.items():
            if name.startswith(
                "bn_"
            ):  # as after a training whose batches had mean 0 and variance 1
                blobs[0].data[...], blobs[1].data[...], blobs[2].data[...] = 0, 1, 1
        net.blobs["data"].data[...] = np.random.default_rng(1).normal(
            size=net.blobs["data"].data.shape
        )
        assert net.forward()["prob"].sum() == pytest.approx(1, rel=1e-4)
        answers.append(net.blobs["score"].data.ravel().copy())
    spread = np.ptp(answers[0])
    assert spread > 0
    np.testing.assert_allclose(*answers, rtol=0, atol=1e-4 * spread)


# ---- Training: sections 3.1, 4 and 5


@each_network
@each_variant
def test_solver_is_the_papers(network, variant):
    solver = read(network, variant, "solver")
    numbers = solver.base_lr, solver.weight_decay, solver.max_iter, *solver.stepvalue
    assert numbers == pytest.approx(
        {
            "digits/plain": (0.1, 0.0001, 1000, 500, 750),
            "digits/shallow": (0.1, 0.0001, 400, 200, 300),
            "places365/alexnet": (0.01, 0.0005, 400000, 200000, 300000),
            "places365/residual": (0.1, 0.0001, 350000, 200000, 300000),
        }.get(network, (0.1, 0.0001, 64000, 32000, 48000))
    )
    assert (solver.type, solver.momentum, solver.lr_policy) == (
        "Nesterov",
        pytest.approx(0.9),
        "multistep",
    )
    assert (solver.gamma, solver.iter_size, solver.regularization_type) == (
        pytest.approx(0.1),
        1,
        "L2",
    )


@each_network
def test_positions_wait_for_the_warm_up(network):
    warmup_iter = {
        "digits/plain": 156,
        "digits/shallow": 62,
        "places365/alexnet": 50000,
        "places365/residual": 50000,
    }.get(network, 10000)
    for name in ACTIVE[network]:
        parameter = layers(read(network, "acu", "train_val"))[name].active_convolution_param
        assert parameter.warmup_iter == warmup_iter
        assert parameter.normalize_gradient and parameter.fix_origin and not parameter.position


def data_layers(network, variant):
    return [layer for layer in read(network, variant, "train_val").layer if layer.type == "Data"]


@each_network
@each_variant
def test_batches_are_the_papers(network, variant):
    """For Places365 those of each of the four GPUs."""
    train, _ = data_layers(network, variant)
    assert train.data_param.batch_size == (32 if network.startswith("places365") else 64)


@each_network
@each_variant
def test_training_images_are_cropped_and_mirrored(network, variant):
    train, test = (layer.transform_param for layer in data_layers(network, variant))
    size = {
        "digits/plain": 8,
        "digits/shallow": 16,
        "places365/alexnet": 227,
        "places365/residual": 224,
    }.get(network, 32)
    assert (train.crop_size, train.mirror) == (size, not network.startswith("digits"))
    assert list(read(network, variant, "deploy").layer[0].input_param.shape[0].dim)[2:] == [
        size,
        size,
    ]
    if network.startswith("places365"):
        assert list(train.mean_value) == list(test.mean_value) == [104, 117, 123]
        assert (test.crop_size, test.mirror) == (size, False)
    else:
        assert test.ByteSize() == 0  # whole and ready to use in the database


@each_network
def test_every_test_image_is_tested_once(network):
    images = {
        "digits/plain": 297,
        "digits/shallow": 299,
        "places365/alexnet": 36500,
        "places365/residual": 36500,
    }.get(network, 10000)
    _, test = data_layers(network, "acu")
    assert test.data_param.batch_size * read(network, "acu", "solver").test_iter[0] == images


@pytest.mark.parametrize(
    "network", [network for network in ACTIVE if network.startswith("places365")]
)
def test_solvers_for_several_gpus_say_so(network):
    text = (ROOT / "models" / network / "acu/solver.prototxt").read_text()
    assert "caffe train --gpu 0,1,2,3" in text and "iter_size: 4" in text
    assert DATASETS[network].batch * DATASETS[network].gpus == 128
