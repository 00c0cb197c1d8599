"""Crops, the mean, and where they come from."""

import numpy as np
import pytest
from active_convolution.errors import UserError
from active_convolution.look import evaluation
from active_convolution.look.evaluation import Transform
from conftest import ROOT


def test_views_of_one_image():
    image = np.arange(4 * 5).reshape(1, 1, 4, 5)
    corners = [
        [[0, 1], [5, 6]],
        [[3, 4], [8, 9]],
        [[10, 11], [15, 16]],
        [[13, 14], [18, 19]],
        [[6, 7], [11, 12]],
    ]
    expected = np.array(corners + [np.array(view)[:, ::-1] for view in corners])
    np.testing.assert_array_equal(evaluation.ten(image, (2, 2))[:, 0, 0], expected)
    np.testing.assert_array_equal(evaluation.centre(image, (2, 2))[0, 0], corners[4])


def test_the_mean_is_subtracted_before_the_scale():
    images = np.full((1, 3, 1, 1), 10, np.float32)
    assert Transform((1, 2, 4), 0.5)(images).ravel().tolist() == [4.5, 4, 3]
    assert Transform((4,))(images).ravel().tolist() == [6, 6, 6]
    with pytest.raises(
        UserError, match="x has 2 values mean_value, and the images have 3 channels"
    ):
        Transform((1, 2), source="x")(images)


@pytest.mark.parametrize(
    "network, expected",
    [
        ("places365/alexnet/acu", Transform((104, 117, 123), 1, 227)),
        ("cifar10/plain/acu", Transform()),
    ],
)
def test_the_checked_in_networks_say_how_they_test(network, expected):
    path = ROOT / "models" / network / "train_val.prototxt"
    assert evaluation.read_transform(path) == Transform(
        expected.mean, expected.scale, expected.crop_size, str(path)
    )


DATA = 'layer { name: "data" type: "Data" data_param { source: "x" } %s }'


@pytest.mark.parametrize(
    "layer, crop",
    [
        (DATA % "transform_param { crop_size: 3 }", 3),
        (
            DATA % "include { phase: TRAIN } transform_param { crop_size: 3 }"
            + DATA % "include { phase: TEST } transform_param { crop_size: 4 }",
            4,
        ),
        (
            "state { stage: 's' } "
            + DATA % "include { stage: 's' } transform_param { crop_size: 3 }",
            3,
        ),
        (
            'layers { name: "data" type: DATA data_param { source: "x" } transform_param { crop_size: 3 } }',
            3,
        ),
    ],
)
def test_the_data_for_testing_counts(tmp_path, layer, crop):
    (tmp_path / "net.prototxt").write_text(layer)
    assert evaluation.read_transform(tmp_path / "net.prototxt").crop_size == crop


@pytest.mark.parametrize(
    "layer, message",
    [
        (
            DATA % "include { phase: TRAIN }",
            "net.prototxt has no Data layer for testing: give the train_val prototxt",
        ),
        (
            DATA % 'transform_param { mean_file: "m.binaryproto" }',
            "subtracts the mean_file m.binaryproto, which is not",
        ),
        ("layer", "net.prototxt is no valid prototxt"),
    ],
)
def test_a_train_val_that_does_not_say_it(tmp_path, layer, message):
    (tmp_path / "net.prototxt").write_text(layer)
    with pytest.raises(UserError, match=message):
        evaluation.read_transform(tmp_path / "net.prototxt")


@pytest.mark.parametrize(
    "stored, crop, ten_crop",
    [
        ((3, 4, 4), 0, False),
        ((3, 4, 4), 4, False),
        ((3, 5, 6), 4, False),
        ((3, 5, 6), 4, True),
        ((3, 4, 6), 4, True),
    ],
)
def test_sizes_that_fit(stored, crop, ten_crop):
    evaluation.check_sizes(stored, (3, 4, 4), Transform(crop_size=crop), ten_crop)


@pytest.mark.parametrize(
    "stored, crop, ten_crop, message",
    [
        (
            (1, 4, 4),
            0,
            False,
            "images are 1×4×4, and the network takes 3×4×4: give the --data that fits",
        ),
        (
            (3, 4, 3),
            0,
            False,
            "images are 3×4×3, and the network takes 3×4×4: give the --data that fits",
        ),
        ((3, 5, 5), 0, False, "and train_val crops them to no size: .*--train-val"),
        ((3, 5, 5), 3, False, "and train_val crops them to 3: .*--train-val"),
        ((3, 4, 4), 3, False, "and train_val crops them to 3: .*--train-val"),
        ((3, 4, 4), 4, True, "nothing to crop, leave --ten-crop out"),
    ],
)
def test_sizes_that_do_not_fit(stored, crop, ten_crop, message):
    with pytest.raises(UserError, match=message):
        evaluation.check_sizes(
            stored, (3, 4, 4), Transform(crop_size=crop, source="train_val"), ten_crop
        )
