"""The network whose weights the paper's authors published, in their own prototxt syntax, on the
CPU."""

import subprocess
import tarfile

import numpy as np
import pytest
from active_convolution.caffe import nets
from active_convolution.data import images, preprocess, small
from active_convolution.look import evaluation
from active_convolution.training.trained import Trained
from conftest import ROOT

pytestmark = pytest.mark.slow

DEPLOY = ROOT / "models/cifar10/published/deploy.prototxt"
ITERATIONS = (10000, 30000, 64000)
# Errors in percent on the 500 original test images, from the README beside the weights.
FITTED_ON_PART = {10000: 22.6, 30000: 21.8, 64000: 7.6}
# On all 10,000, ZCA fitted on all 50,000: the paper's Table 2.
FITTED_ON_ALL = {10000: 18.33, 30000: 18.46, 64000: 7.33}
FITTED_ON_JPEG = {10000: 18.8, 30000: 20.2, 64000: 6.4}


def weights(folder, iteration):
    return folder / f"acu_plain_cifar10_iter_{iteration}.caffemodel"


def load(folder, iteration, batch):
    net = nets.load(DEPLOY, weights(folder, iteration))
    net.blobs["data"].reshape(batch, 3, 32, 32)
    net.reshape()
    return net


@pytest.mark.parametrize("iteration", ITERATIONS)
def test_golden_logits(iteration, shared_reference):
    golden = np.load(shared_reference / "golden.npz")
    net = load(shared_reference, iteration, len(golden["inputs"]))
    net.blobs["data"].data[...] = golden["inputs"]
    logits, expected = net.forward()["score"].reshape(-1, 10), golden[f"logits_{iteration}"]
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.fixture(scope="module")
def part(tmp_path_factory, shared_data):
    """The part of CIFAR-10 in its original pixels, as create_lmdb.py makes it."""
    folder = tmp_path_factory.mktemp("data") / "part"
    small.create("cifar10", folder, shared_data / "cifar10-lossless-part.npz")
    return folder


@pytest.mark.parametrize("iteration", ITERATIONS)
def test_error_rates(iteration, shared_reference, part):
    trained = Trained.of_files(DEPLOY, weights(shared_reference, iteration))
    top1, top5, count = evaluation.evaluate(trained, part)
    assert count == 500
    assert abs(top1 - FITTED_ON_PART[iteration]) <= 0.4 + 1e-9  # two images
    assert top5 < top1


@pytest.fixture(scope="module")
def whole(tmp_path_factory, shared_data):
    """The preprocessed test images and their labels, of CIFAR-10 whole."""
    file = tmp_path_factory.mktemp("pixels") / "cifar10.npz"
    subprocess.run(["/usr/bin/python3", shared_data / "unpack.py", "cifar10", file], check=True)
    data = small.read_cifar("cifar10", file)
    file.unlink()
    (train, _), (test, labels) = data["train"], data["test"]
    assert (len(train), len(labels)) == (50000, 10000)
    whitening = preprocess.Whitening.fit(preprocess.global_contrast_normalise(train))
    return whitening(preprocess.global_contrast_normalise(test)), labels


@pytest.mark.parametrize("iteration", ITERATIONS)
def test_the_papers_error_on_all_test_images(iteration, shared_reference, whole):
    images, labels = whole
    net = load(shared_reference, iteration, 100)
    wrong = 0
    for start in range(0, len(labels), 100):
        net.blobs["data"].data[...] = images[start : start + 100]
        wrong += np.sum(
            net.forward()["score"].reshape(100, 10).argmax(axis=1) != labels[start : start + 100]
        )
    assert abs(wrong - 100 * FITTED_ON_ALL[iteration]) <= 2


def test_error_rates_with_the_whitening_of_the_jpeg_set(shared_reference, shared_data, tmp_path):
    with tarfile.open(shared_data / "cifar10-jpeg.tar.xz") as archive:
        archive.extractall(tmp_path / "jpeg")
    source, whiten = images.Files(tmp_path / "jpeg"), images.Options(whiten=True)
    images.create(tmp_path / "data", source, options=whiten)
    whitening = preprocess.Whitening.load(tmp_path / "data/whitening.npz")
    read = small.read_cifar("cifar10", shared_data / "cifar10-lossless-part.npz")
    test, labels = read["test"]
    inputs = whitening(preprocess.global_contrast_normalise(test))
    for iteration in ITERATIONS:
        net = load(shared_reference, iteration, len(inputs))
        net.blobs["data"].data[...] = inputs
        wrong = net.forward()["score"].reshape(-1, 10).argmax(axis=1) != labels
        assert abs(100 * wrong.mean() - FITTED_ON_JPEG[iteration]) <= 0.4 + 1e-9, iteration


def test_the_command_prints_the_error(shared_reference, part):
    given = "--model", DEPLOY, "--weights", weights(shared_reference, 64000), "--data", part
    command = [ROOT / "scripts/acu", "evaluate", *given]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    errors, classes, *_ = done.stdout.splitlines()
    assert errors.startswith("top-1 error 7.") and errors.endswith(", 500 images")
    assert classes.startswith("most errors: ") and " %, " in classes
