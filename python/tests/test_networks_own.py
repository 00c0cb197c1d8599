"""acu models new: networks for a user's own images."""

import re

import pytest
from active_convolution.caffe import locate, messages
from active_convolution.errors import BadValue, UserError
from active_convolution.networks import models, own


def layers(path):
    return {layer.name: layer for layer in messages.read_net(path).layer}


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
    for variant in models.VARIANTS:
        folder = tmp_path / "flowers" / variant
        net = locate.caffe().Net(str(folder / "deploy.prototxt"), locate.caffe().TEST)
        assert net.blobs["data"].data.shape == (1, 3, size, size) and net.blobs["prob"].data.shape[
            :2
        ] == (1, 7)
        train, test = [
            layer
            for layer in messages.read_net(folder / "train_val.prototxt").layer
            if layer.type == "Data"
        ]
        assert train.transform_param.crop_size == test.transform_param.crop_size == size
        solver = messages.read_solver(folder / "solver.prototxt")
        assert test.data_param.batch_size * solver.test_iter[0] == 210
        assert solver.net == str(folder / "train_val.prototxt")
    types = [
        {
            layer.type
            for layer in layers(tmp_path / "flowers" / variant / "deploy.prototxt").values()
        }
        for variant in models.VARIANTS
    ]
    assert types[1] - types[0] == {"ActiveConvolution"}


def test_what_is_not_given_is_the_networks_own(tmp_path):
    own.new(tmp_path / "x", "cifar10/plain")
    deploy = layers(tmp_path / "x/acu/deploy.prototxt")
    assert deploy["score"].convolution_param.num_output == 10
    assert list(deploy["data"].input_param.shape[0].dim) == [1, 3, 32, 32]


@pytest.mark.parametrize(
    "images, batch, rounds",
    [(297, 99, 3), (50, 50, 1), (101, 100, 2), (2 * 97, 97, 2), (7, 7, 1), (1, 1, 1)],
)
def test_a_test_sees_every_image(images, batch, rounds):
    assert own._tests(images) == dict(test_batch=batch, test_iter=rounds)


@pytest.mark.parametrize(
    "arguments, error, expected",
    [
        (
            dict(like="cifar10/deep"),
            BadValue,
            "--like cifar10/deep is none of the networks here: give one of digits/plain, ",
        ),
        (
            dict(like="places365/alexnet", size=16),
            UserError,
            "Caffe cannot build the network places365/alexnet for 16×16",
        ),
    ],
)
def test_what_cannot_be_made_leaves_nothing(tmp_path, arguments, error, expected):
    with pytest.raises(error, match=expected):
        own.new(tmp_path / "x", **arguments)
    assert not any(tmp_path.iterdir())


def test_a_circle_of_links_is_there_already(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="loop exists already: remove it or name another --output"):
        own.new(tmp_path / "loop", "cifar10/plain")


def test_the_command_takes_the_numbers_of_a_data_set(digits_data, tmp_path, monkeypatch, capsys):
    from active_convolution.cli import models as command

    monkeypatch.chdir(tmp_path)
    command.run(
        command.parser("acu models").parse_args(
            ["new", "mine", "--like", "cifar10/plain", "--data", str(digits_data), "--size", "8"]
        )
    )
    assert re.match("wrote mine: acu train mine --variant acu", capsys.readouterr().out)
    deploy = layers(tmp_path / "mine/baseline/deploy.prototxt")
    assert list(deploy["data"].input_param.shape[0].dim) == [1, 1, 8, 8]
    assert deploy["score"].convolution_param.num_output == 10
