"""Where synapses start, and which stage of a network a layer is in."""

import numpy as np
import pytest
from active_convolution import geometry
from active_convolution.caffe import locate, messages, positions
from active_convolution.caffe.positions import LayerPositions


@pytest.mark.parametrize(
    "kernel, dilation, expected",
    [
        ((1, 1), 1, [(0, 0)]),
        ((1, 3), 1, [(-1, 0), (0, 0), (1, 0)]),
        ((3, 1), 2, [(0, -2), (0, 0), (0, 2)]),
        ((2, 2), 1, [(0, 0), (1, 0), (0, 1), (1, 1)]),
        ((2, 3), (5, 2), [(-2, 0), (0, 0), (2, 0), (-2, 5), (0, 5), (2, 5)]),
    ],
)
def test_grid_is_the_taps_of_a_convolution_row_by_row(kernel, dilation, expected):
    np.testing.assert_array_equal(geometry.grid(kernel, dilation), np.array(expected, np.float32))


# ---- Stages


def named(*names):
    return [
        LayerPositions(name, "ActiveConvolution", (3, 3), geometry.grid((3, 3))[None])
        for name in names
    ]


def names(stages):
    return [[layer.name for layer in stage] for stage in stages]


def test_a_stage_has_one_resolution():
    """Strides add up along the way, whatever they are called and whichever layer has them; names
    say nothing."""
    net = locate.caffe_pb2().NetParameter()
    net.layer.add(name="data", type="Input", top=["data"])
    for name, bottom, parameter in (
        ("a", "data", dict(stride=[1])),
        ("b", "a", dict(stride=[2])),
        ("c", "b", {}),
        ("d", "c", dict(stride_h=2, stride_w=2)),
        ("e", "d", dict(stride=[1, 1])),
    ):
        net.layer.add(
            name=name,
            type="ActiveConvolution",
            bottom=[bottom],
            top=[name],
            convolution_param=parameter,
        )
    net.layer.add(
        name="pool", type="Pooling", bottom=["e"], top=["pool"], pooling_param=dict(stride=2)
    )
    net.layer.add(name="relu", type="ReLU", bottom=["pool"], top=["pool"])
    net.layer.add(name="sum", type="Eltwise", bottom=["pool", "pool"], top=["sum"])
    net.layer.add(name="f", type="ActiveConvolution", bottom=["sum"], top=["f"])
    assert names(geometry.by_stage(named(*"abcdef"), net)) == [
        ["a"],
        ["b", "c"],
        ["d", "e"],
        ["f"],
    ]


def test_without_a_network_all_are_in_one_stage():
    for net in (None, locate.caffe_pb2().NetParameter()):
        assert names(geometry.by_stage(named("conv1", "conv2"), net)) == [["conv1", "conv2"]]


def test_the_authors_stages(shared_reference):
    path = shared_reference / "acu_plain_cifar10_iter_64000.caffemodel"
    assert names(
        geometry.by_stage(positions.from_caffemodel(path), messages.read_weights(path))
    ) == [
        ["conv1_1", "conv1_1/1", "conv1_1/2"],
        ["conv2_1/1", "conv2_1/2"],
        ["conv3_1/1", "conv3_1/2"],
    ]
