"""Two networks on the same input: what is the same, what is not, and what cannot be told apart."""

import numpy as np
import pytest
from active_convolution.caffe import locate
from active_convolution.errors import UserError
from active_convolution.export import verify
from caffe_nets import INPUT, live
from google.protobuf import text_format

HEAD = INPUT.format("dim: 2 dim: 20")
NOISE = (
    'layer { name: "noise" type: "DummyData" top: "noise" dummy_data_param { shape { dim: 2 dim: 20 } '
    'data_filler { type: "gaussian" } } } '
    'layer { name: "sum" type: "Eltwise" bottom: "image" bottom: "noise" top: "sum" }'
)


@pytest.mark.parametrize(
    "difference, largest, right",
    [
        (0, 0, True),
        (0.9e-3, 0.1, True),
        (1.1e-3, 0.1, False),
        (0.9, 1000, True),
        (1.1, 1000, False),
        (np.nan, 1, False),
        (np.nan, np.nan, False),
        (np.inf, np.inf, False),
    ],
)
def test_no_more_than_rounding(difference, largest, right):
    differences = {"a": (0.0, 1.0), "b": (difference, largest)}
    if right:
        verify.check(differences, "output")
        return
    with pytest.raises(
        UserError, match="output b is not the original's on random input: the largest diff"
    ) as error:
        verify.check(differences, "output")
    assert "\n" not in str(error.value)


def test_nan_in_any_output_of_a_layer_is_found(tmp_path):
    """The first half, or the second, is the logarithm of negative numbers, and the other one as it should be."""
    halves, again = (
        f'layer {{ name: "{name}" type: "Slice" bottom: "{name}" top: "{name}1" top: "{name}2" '
        "slice_param { axis: 1 } }"
        for name in ("image", "whole")
    )
    whole = 'layer { name: "concat" type: "Concat" bottom: "image1" bottom: "image2" top: "whole" }'
    right = live(tmp_path / "right.prototxt", HEAD + halves + whole + again)
    for half in ("image1", "image2"):
        log = (
            f'layer {{ name: "log" type: "Log" bottom: "{half}" top: "{half}" '
            "log_param { shift: -1000 } }"
        )  # which no positive number fed to it makes good
        spoiled = live(tmp_path / "spoiled.prototxt", HEAD + halves + log + whole + again)
        for nets in ((right, spoiled), (spoiled, right)):
            ((difference, _),) = verify.compare(*nets, {"whole": "whole"})[0].values()
            assert np.isnan(difference)


@pytest.mark.parametrize(
    "loss",
    [
        'type: "SoftmaxWithLoss"',
        'type: "Accuracy"',
        'type: "HingeLoss"',
        'type: "MultinomialLogisticLoss"',
        'type: "InfogainLoss" bottom: "noise"',
    ],
)
def test_labels_are_indices(loss, tmp_path):
    """Others would lead beyond the classes."""
    text = HEAD + NOISE.split('layer { name: "sum"')[0].replace(
        "dim: 2 dim: 20", "dim: 1 dim: 1 dim: 20 dim: 20"
    )
    text += INPUT.format("dim: 2").replace("image", "label")
    text += f'layer {{ name: "loss" bottom: "image" bottom: "label" top: "loss" {loss} }}'
    net = live(tmp_path / "net.prototxt", text)
    verify.compare(net, net, {}, text_format.Parse(text, locate.caffe_pb2().NetParameter()))
    labels = net.blobs["label"].data
    assert (labels == labels.round()).all() and (labels >= 0).all() and (labels < 20).all()


def test_a_loss_in_training_alone_bounds_nothing(tmp_path):
    text = (
        HEAD
        + NOISE
        + """
        layer { name: "aux" type: "Power" bottom: "image" top: "aux" include { phase: TRAIN } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "aux" bottom: "label" top: "loss" include { phase: TRAIN } }"""
    )
    net = live(tmp_path / "net.prototxt", text)
    assert verify.compare(net, net, {}, text_format.Parse(text, locate.caffe_pb2().NetParameter()))


def test_both_networks_draw_the_same_noise(tmp_path):
    nets = [live(tmp_path / "net.prototxt", HEAD + NOISE) for _ in range(2)]
    ((difference, largest),) = verify.compare(*nets, {})[1].values()
    assert difference == 0 < largest


@pytest.mark.parametrize(
    "layers, source",
    [
        (
            HEAD
            + 'layer { type: "Parameter" top: "p" } layer { type: "ReLU" bottom: "image" top: "image" }',
            None,
        ),
        (HEAD + NOISE, None),
        ('layer { name: "d" type: "Data" top: "x" }', "d"),
        ('layer { name: "h" type: "HDF5Data" top: "x" }', "h"),
        (NOISE + 'layer { name: "p" type: "Python" top: "x" }', "p"),
    ],
)
def test_sources_of_images(layers, source):
    found = verify.own_source(text_format.Parse(layers, locate.caffe_pb2().NetParameter()))
    assert (found and found.name) == source
