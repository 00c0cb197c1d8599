"""acu models: the list, and networks for a user's own images."""

import subprocess

import pytest
from active_convolution import cli
from active_convolution.caffe import locate, messages
from active_convolution.errors import BadValue, UserError
from active_convolution.networks import models, own, schedules
from conftest import ROOT


def layers(path):
    return {layer.name: layer for layer in messages.read_net(path).layer}


@pytest.fixture
def acu_models(capsys):
    """Runs acu models in this process; what it prints."""

    def run(*arguments):
        module = cli._module("models")
        assert not module.run(module.parser("acu models").parse_args(list(map(str, arguments))))
        return capsys.readouterr().out

    return run


def test_the_list_names_every_network(acu_models):
    lines = acu_models("list").splitlines()
    assert [line.split()[0] for line in lines] == [model.folder for model in models.MODELS]
    assert "3×32×32 pixels, 10 classes, 64,000 iterations of 64 images" in lines[2]
    for name in ("cifar10/plain", "models/cifar10/plain", "models/cifar10/plain/"):
        assert models.named(name).folder == "cifar10/plain"
    assert models.named("cifar10") is None


@pytest.mark.parametrize(
    "like, size",
    [
        ("cifar10/plain", 64),
        pytest.param("cifar100/bottleneck", 48, marks=pytest.mark.slow),
        ("digits/plain", 20),
    ],
)
def test_every_file_is_for_the_users_images(tmp_path, like, size):
    own.new(tmp_path / "flowers", like, classes=7, size=size, channels=3, test_images=210)
    types = []
    for variant in models.VARIANTS:
        folder = tmp_path / "flowers" / variant
        net = locate.caffe().Net(str(folder / "deploy.prototxt"), locate.caffe().TEST)
        assert net.blobs["data"].data.shape == (1, 3, size, size)
        assert net.blobs["prob"].data.shape[:2] == (1, 7)
        found = messages.read_net(folder / "train_val.prototxt").layer
        train, test = (layer for layer in found if layer.type == "Data")
        assert train.transform_param.crop_size == test.transform_param.crop_size == size
        solver = messages.read_solver(folder / "solver.prototxt")
        assert test.data_param.batch_size * solver.test_iter[0] == 210
        assert solver.net == str(folder / "train_val.prototxt")
        types.append({layer.type for layer in layers(folder / "deploy.prototxt").values()})
    assert types[1] - types[0] == {"ActiveConvolution"}


def test_what_is_not_given_is_the_networks_own(tmp_path):
    solver, warmup = own.new(tmp_path / "x", "cifar10/plain")
    deploy = layers(tmp_path / "x/acu/deploy.prototxt")
    assert deploy["score"].convolution_param.num_output == 10
    assert list(deploy["data"].input_param.shape[0].dim) == [1, 3, 32, 32]
    assert (solver.max_iter, warmup) == (64000, 10000)


@pytest.mark.parametrize(
    "images, largest, batch, rounds",
    [(297, 100, 99, 3), (50, 100, 50, 1), (101, 100, 100, 2), (2 * 97, 100, 97, 2), (1, 100, 1, 1)],
)
def test_a_test_sees_every_image(images, largest, batch, rounds):
    assert schedules.one_pass(images, largest) == (batch, rounds)


@pytest.mark.parametrize(
    "like, images, iterations, warmup",
    [  # the epochs of the paper, 81.92 on CIFAR-10; but 2,000 iterations at least
        ("cifar10/plain", 50000, 64000, 10000),
        ("cifar10/plain", 5000, 6400, 1000),
        ("cifar10/plain", 480, 2000, 312),
        ("places365/alexnet", 18035, 16000, 2000),
    ],
)
def test_the_schedule_follows_the_number_of_images(tmp_path, like, images, iterations, warmup):
    solver, frozen = own.new(tmp_path / "x", like, images=images)
    assert (solver.max_iter, frozen) == (iterations, warmup)
    assert list(solver.stepvalue) == [iterations // 2, iterations * 3 // 4]
    assert solver == messages.read_solver(tmp_path / "x/acu/solver.prototxt")


def test_positions_learn_as_asked(tmp_path):
    own.new(tmp_path / "x", "digits/shallow", position_lr_mult=0.5, warmup_iter=7)
    for kind in ("train_val", "deploy"):
        for layer in layers(tmp_path / f"x/acu/{kind}.prototxt").values():
            if layer.type == "ActiveConvolution":
                active = layer.active_convolution_param
                assert (active.position_lr_mult, active.warmup_iter) == (0.5, 7)


@pytest.mark.parametrize("like", ["cifar10/deep", "cifar10"])
def test_what_cannot_be_made_leaves_nothing(tmp_path, like):
    with pytest.raises(
        BadValue, match=f"--like {like} is not one of the networks here: give one of"
    ):
        own.new(tmp_path / "x", like)
    (tmp_path / "y").mkdir()
    with pytest.raises(UserError, match="y exists already: remove it or name another --output"):
        own.new(tmp_path / "y", "cifar10/plain")
    command = "models", "new", "x", "--like", "places365/alexnet", "--size", "16"
    done = subprocess.run([ROOT / "scripts/acu", *command], cwd=tmp_path, capture_output=True)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("error: building places365/alexnet for 16×16 pixels: C")
    assert [path.name for path in tmp_path.iterdir()] == ["y"]


def test_the_command_takes_the_numbers_of_a_data_set(
    digits_data, tmp_path, monkeypatch, acu_models
):
    monkeypatch.chdir(tmp_path)
    command = "new", "mine", "--like", "cifar10/plain", "--data", digits_data, "--size", 8
    assert acu_models(*command).splitlines() == [
        "wrote mine: 2,000 iterations for 1,500 images, the rate divided by 10 at 1,000 and 1,500, "
        "positions frozen for the first 312",
        f"next: acu train mine --data {digits_data} --output RUN",
    ]
    deploy = layers(tmp_path / "mine/baseline/deploy.prototxt")
    assert list(deploy["data"].input_param.shape[0].dim) == [1, 1, 8, 8]
    assert deploy["score"].convolution_param.num_output == 10
