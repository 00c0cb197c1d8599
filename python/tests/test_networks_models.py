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

# max_iter, the two steps, warm-up; base_lr, weight_decay; images of a batch, size, test images
CIFAR = 64000, 32000, 48000, 10000, 0.1, 0.0001, 64, 32, 10000
PAPER = {
    **{network: CIFAR for network in ACTIVE},
    "digits/plain": (1000, 500, 750, 156, 0.1, 0.0001, 64, 8, 297),
    "digits/shallow": (400, 200, 300, 62, 0.1, 0.0001, 64, 16, 299),
    "places365/alexnet": (400000, 200000, 300000, 50000, 0.01, 0.0005, 32, 227, 36500),
    "places365/residual": (350000, 200000, 300000, 50000, 0.1, 0.0001, 32, 224, 36500),
}


@each_network
@each_variant
def test_trains_as_the_paper_says(network, variant):
    """The batches for Places365 are those of each of the four GPUs. Each test image is tested
    once."""
    max_iter, *steps, warmup, base_lr, decay, batch, size, tested = PAPER[network]
    solver, net = (read(network, variant, kind) for kind in ("solver", "train_val"))
    assert (solver.max_iter, list(solver.stepvalue)) == (max_iter, steps)
    assert (solver.base_lr, solver.weight_decay) == pytest.approx((base_lr, decay))
    assert (solver.type, solver.lr_policy) == ("Nesterov", "multistep")
    assert (solver.momentum, solver.gamma) == pytest.approx((0.9, 0.1))
    assert (solver.iter_size, solver.regularization_type) == (1, "L2")
    train, test = (layer for layer in net.layer if layer.type == "Data")
    assert train.data_param.batch_size == batch
    assert test.data_param.batch_size * solver.test_iter[0] == tested
    train, test = train.transform_param, test.transform_param
    assert (train.crop_size, train.mirror) == (size, not network.startswith("digits"))
    if network.startswith("places365"):
        assert list(train.mean_value) == list(test.mean_value) == [104, 117, 123]
        assert (test.crop_size, test.mirror) == (size, False)
    else:
        assert test.ByteSize() == 0  # whole and ready to use in the database
    shape = read(network, variant, "deploy").layer[0].input_param.shape[0]
    assert list(shape.dim)[2:] == [size, size]
    for name in ACTIVE[network] if variant == "acu" else ():
        parameter = layers(net)[name].active_convolution_param
        assert parameter.warmup_iter == warmup
        assert parameter.normalize_gradient and parameter.fix_origin and not parameter.position


@pytest.mark.parametrize("network", ["places365/alexnet", "places365/residual"])
def test_solvers_for_several_gpus_say_so(network):
    text = (ROOT / "models" / network / "acu/solver.prototxt").read_text()
    assert "caffe train --gpu 0,1,2,3" in text and "iter_size: 4" in text
    assert DATASETS[network].batch * DATASETS[network].gpus == 128
