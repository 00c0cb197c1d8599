"""Whole data set folders, made through the package and through the script as a user would."""

import json
import os
import shutil
import subprocess
from collections import namedtuple

import data_samples as samples
import numpy as np
import pytest
from active_convolution.data import create as create_module
from active_convolution.data import database, sources
from active_convolution.data.create import create
from active_convolution.data.folder import check_manifest
from active_convolution.data.preprocess import Whitening, global_contrast_normalise
from active_convolution.errors import UserError
from test_data_database import records


@pytest.fixture(scope="module")
def cifar_folder(tmp_path_factory):
    """Made from the binary batches of the made CIFAR-10 (see data_samples.py)."""
    source = tmp_path_factory.mktemp("binary")
    samples.write_binary(source, "cifar10")
    folder = tmp_path_factory.mktemp("data") / "cifar10"
    create("cifar10", folder, source, seed=3)
    return folder


def read_back(folder, split):
    """The images (N, C, H, W) and labels (N,) of one LMDB, in its order."""
    data = [datum for _, datum in records(folder / f"{split}_lmdb")]
    images = np.array([datum.float_data for datum in data], np.float32)
    images = images.reshape(-1, data[0].channels, data[0].height, data[0].width)
    return images, np.array([datum.label for datum in data])


def as_rows(images, labels):
    return sorted((label, *image.ravel()) for image, label in zip(images, labels))


def test_digits_are_less_their_mean_and_padded(digits_data):
    original = sources.read_digits()
    mean = np.load(digits_data / "mean.npy")
    np.testing.assert_allclose(mean, original.train.images.mean(axis=0), atol=1e-6)
    train, labels = read_back(digits_data, "train")
    assert train.shape == (1500, 1, 10, 10)
    inner = train[:, :, 1:9, 1:9]
    assert np.count_nonzero(train) == np.count_nonzero(inner)
    assert as_rows(inner, labels) == as_rows(original.train.images - mean, original.train.labels)
    test, labels = read_back(digits_data, "test")
    assert as_rows(test, labels) == as_rows(original.test.images - mean, original.test.labels)


def test_manifest_tells_what_is_there(digits_data):
    manifest = check_manifest(digits_data)
    assert manifest["dataset"] == "digits" and manifest["seed"] == 0 and manifest["format"] == 1
    assert manifest["versions"]["numpy"] == np.__version__
    for split, count, shape in (("train", 1500, [1, 10, 10]), ("test", 297, [1, 8, 8])):
        part, (_, labels) = manifest[split], read_back(digits_data, split)
        assert part["images"] == count and part["shape"] == shape
        assert part["images_per_class"] == np.bincount(labels).tolist()
        assert part["sha256"] == database.checksum(digits_data / f"{split}_lmdb")


def test_the_seed_decides_the_content(digits_data, tmp_path):
    original = check_manifest(digits_data)
    assert create("digits", tmp_path / "same")["train"]["sha256"] == original["train"]["sha256"]
    other = create("digits", tmp_path / "other", seed=1)
    assert other["train"]["sha256"] != original["train"]["sha256"]
    assert other["test"]["images_per_class"] == original["test"]["images_per_class"]


def test_cifar_is_whitened_and_padded(cifar_folder):
    manifest = check_manifest(cifar_folder)
    assert manifest["source"] == "binary batches in a folder" and manifest["seed"] == 3
    whitening = Whitening.load(cifar_folder / "whitening.npz")
    for split, (images, labels), border in zip(
        ("train", "test"), samples.sample("cifar10"), (4, 0)
    ):
        written, written_labels = read_back(cifar_folder, split)
        assert manifest[split]["shape"] == [3, 32 + 2 * border, 32 + 2 * border]
        assert written.shape == (len(labels), *manifest[split]["shape"])
        inner = written[:, :, border : border + 32, border : border + 32]
        assert np.count_nonzero(written) == np.count_nonzero(inner)
        assert written_labels.tolist() != labels.tolist(), "not shuffled"
        expected = whitening(global_contrast_normalise(images))
        np.testing.assert_allclose(
            _sorted(inner, written_labels), _sorted(expected, labels), atol=1e-5
        )


def _sorted(images, labels):
    """By label, then by the first value."""
    return images[np.lexsort((images[:, 0, 0, 0], labels))]


def test_cifar_whitening_is_fitted_on_the_training_images(cifar_folder):
    (images, _), _ = samples.sample("cifar10")
    mean = global_contrast_normalise(images).mean(axis=0).ravel()
    np.testing.assert_allclose(Whitening.load(cifar_folder / "whitening.npz").mean, mean, atol=1e-5)


def test_too_small_a_disk_is_said_before_the_work(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(create_module.shutil, "disk_usage", lambda _: usage(0, 0, 10**6))
    with pytest.raises(UserError, match="out needs 0.0. GB, its disk has 0.00 GB free"):
        create("digits", tmp_path / "out")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("stage", ["write", "checksum"])
def test_interrupt_leaves_nothing(tmp_path, monkeypatch, stage):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(database, stage, interrupt)
    with pytest.raises(KeyboardInterrupt):
        create("digits", tmp_path / "out")
    assert not any(tmp_path.iterdir())


def _change_format(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))


def _change_test_part(**changes):
    def change(folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["test"].update(changes)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return change


@pytest.mark.parametrize(
    "damage, expected",
    [
        (shutil.rmtree, "is no data set"),
        (lambda folder: (folder / "manifest.json").unlink(), "is no data set"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "is no data set"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "is no data set"),
        (_change_format, "has format 99"),
        (_change_test_part(shape=None), "is no data set"),
        (_change_test_part(shape=[8, 8]), "is no data set"),
        (_change_test_part(images=None), "is no data set"),
        (
            _change_test_part(images=0),
            "test_lmdb holds no images, by its manifest.json: remove .*copy and make it",
        ),
        (lambda folder: shutil.rmtree(folder / "test_lmdb"), "test_lmdb is missing or not whole"),
        (
            lambda folder: (folder / "train_lmdb" / "data.mdb").unlink(),
            "train_lmdb is missing or not whole",
        ),
        (
            lambda folder: os.truncate(folder / "train_lmdb" / "data.mdb", 8192),
            "train_lmdb is missing or not whole",
        ),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(digits_data, tmp_path, damage, expected):
    folder = tmp_path / "copy"
    shutil.copytree(digits_data, folder)
    check_manifest(folder)
    damage(folder)
    with pytest.raises(UserError, match=f"{expected}.*acu data"):
        check_manifest(folder)


@pytest.fixture
def script(root, tmp_path):
    """Runs create_lmdb.py in an empty folder, as a user who stands there."""

    def run(*arguments, **environment):
        return subprocess.run(
            [root / "scripts" / "create_lmdb.py", *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
        )

    return run


def test_script_makes_the_digits(script, digits_data, tmp_path):
    result = script("digits", "--output", "new/digits")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "digits: 1500 training and 297 test images, 1 MB, in new/digits\n"
    assert "writing train_lmdb: 100%" in result.stderr
    made, original = (
        check_manifest(folder)["train"] for folder in (tmp_path / "new" / "digits", digits_data)
    )
    assert {**made, "path": None} == {**original, "path": None}


def test_script_makes_a_fold_of_enlarged_digits(script, tmp_path):
    result = script("digits", "--fold", 2, "--size", "16x16", "--output", "fold")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "digits: 1498 training and 299 test images, 4 MB, in fold\n"
    manifest = check_manifest(tmp_path / "fold")
    assert manifest["fold"] == 2 and manifest["train"]["shape"] == [1, 18, 18]
    images, labels = read_back(tmp_path / "fold", "test")
    expected = sources.read_digits(fold=2, size=(16, 16))
    mean = expected.train.images.mean(axis=0)
    assert as_rows(images, labels) == as_rows(expected.test.images - mean, expected.test.labels)


def test_script_explains_itself(script):
    result = script("--help")
    assert result.returncode == 0 and "examples:" in result.stdout


@pytest.mark.parametrize(
    "arguments, status, expected",
    [
        (
            "cifar10 --output out",
            2,
            "cifar10 needs --download, or --source: cifar-10-python.tar.gz",
        ),
        (
            "cifar100 --output out",
            2,
            "cifar100 needs --download, or --source: cifar-100-python.tar.gz",
        ),
        ("cifar10 --output out --source nowhere.tar", 1, "nowhere.tar does not exist"),
        ("cifar10 --output out --source .", 1, "holds no CIFAR-10"),
        ("cifar10 --output out --source text", 1, "cannot read text as a tar archive"),
        ("digits --output out --source text", 2, "leave --source out"),
        (
            "digits --output out --fold 7",
            2,
            "--fold 7 is out of range: the digits have the folds 1 to 6",
        ),
        ("digits --output out --fold 0", 2, "--fold 0 is out of range"),
        ("digits --output out --size 7x8", 2, "--size 7x8 is out of range"),
        ("cifar10 --output out --source text --fold 1", 2, "--fold is for digits only"),
        ("digits --output out --seed -1", 2, "--seed -1 is out of range"),
        ("digits --output text", 1, "text exists already"),
        ("digits --output text/out", 1, "cannot write text/out"),
        ("digits --output .", 1, ". exists already"),
    ],
)
def test_script_refuses_in_one_line(script, tmp_path, arguments, status, expected):
    (tmp_path / "text").write_text("no archive\n")
    result = script(*arguments.split())
    assert result.returncode == status and result.stdout == ""
    assert result.stderr.startswith("error: ") and expected in result.stderr
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_script_refuses_a_link_that_leads_nowhere_before_the_work(script, tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    result = script("digits", "--output", "link")
    assert (result.returncode, result.stderr) == (
        1,
        "error: link exists already: remove it or name another --output\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_script_says_when_the_fork_is_not_built(script, tmp_path):
    result = script(
        "digits", "--output", "out", ACTIVE_CONVOLUTION_BUILD=str(tmp_path), PYTHONPATH=""
    )
    assert result.returncode == 1 and "./scripts/build.sh" in result.stderr
    assert not any(tmp_path.iterdir())
