"""Prototxt, as Caffe itself takes it."""

import numpy as np
import pytest
from active_convolution.caffe import locate, messages
from caffe_nets import INPUT, live
from conftest import ROOT

RULES = [
    "",
    "include { phase: TEST }",
    "exclude { phase: TEST }",
    "include { phase: TRAIN } include { phase: TEST }",
    "include { stage: 's' }",
    "include { phase: TEST not_stage: 's' }",
    "exclude { phase: TEST stage: 's' }",
    "include { min_level: 1 }",
    "include { min_level: -1 max_level: 0 }",
    "exclude { max_level: -1 }",
    "exclude { phase: TRAIN } exclude { min_level: 0 }",
    "include { }",
]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("stages, level", [([], 0), (["s"], 0), (["t", "s"], 2), ([], -1)])
def test_layers_take_part_as_in_caffe(phase, stages, level, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(
        "".join(
            f'layer {{ name: "{index}" type: "DummyData" top: "{index}" {rules} '
            "dummy_data_param { shape { dim: 1 } } }\n"
            for index, rules in enumerate(RULES)
        )
    )
    phase = getattr(locate.caffe(), phase)
    taken = [
        layer.name
        for layer in messages.read_net(path).layer
        if messages.takes_part(layer, phase, stages, level)
    ]
    net = locate.caffe().Net(str(path), phase, level=level, stages=stages)
    assert taken == list(net._layer_names) and 0 < len(taken) < len(RULES)


def test_blobs_hold_what_caffe_stores(tmp_path):
    net = live(
        tmp_path / "net.prototxt",
        INPUT.format("dim: 1 dim: 2 dim: 3 dim: 3")
        + """
        layer { name: "prelu" type: "PReLU" bottom: "image" top: "a"
                prelu_param { channel_shared: true } }
        layer { name: "scale" type: "Scale" bottom: "a" top: "b"
                scale_param { axis: 0 num_axes: 0 } }
        layer { name: "bias" type: "Bias" bottom: "b" top: "c" }
        layer { name: "conv" type: "Convolution" bottom: "c" top: "d"
                convolution_param { num_output: 3 kernel_size: 1 } }""",
    )
    net.save(str(tmp_path / "net.caffemodel"))
    stored = {
        layer.name: layer.blobs
        for layer in messages.read_weights(tmp_path / "net.caffemodel").layer
    }
    shapes = {name: [tuple(blob.shape) for blob in blobs] for name, blobs in net.params.items()}
    assert shapes == {"prelu": [()], "scale": [()], "bias": [(2,)], "conv": [(3, 2, 1, 1), (3,)]}
    for name, expected in shapes.items():
        assert all(map(messages.holds, stored[name], expected))
        assert not any(
            messages.holds(blob, (*shape, 2)) for blob, shape in zip(stored[name], expected)
        )
    old = locate.caffe_pb2().BlobProto(num=1, channels=1, height=1, width=3, data=[1, 2, 3])
    assert (
        messages.holds(old, (3,))
        and messages.holds(old, (1, 1, 1, 3))
        and not messages.holds(old, (3, 1))
    )
    assert [messages.by(shape) for shape in ((), (3, 2))] == ["scalar", "3×2"]


@pytest.mark.parametrize("shape", [(3, 2), (0, 4), (1,), (), (40, 5, 5), (300, 100)])
def test_arrays_become_blobs_and_come_back(shape):
    """The stored form that is written and read at once is that which protobuf itself would have
    made."""
    pb2 = locate.caffe_pb2()
    array = np.random.default_rng(0).normal(size=shape)
    stored = pb2.LayerParameter()
    messages.fill(stored, pb2.LayerParameter(name="layer"), [array])
    expected = pb2.BlobProto(data=np.float32(array).ravel().tolist())
    expected.shape.dim.extend(shape)
    assert stored.name == "layer" and stored.blobs[0] == expected
    found = messages.values(stored.blobs[0])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.float32(array).ravel())
    np.testing.assert_array_equal(
        messages.values(pb2.BlobProto(double_data=array.ravel().tolist())), array.ravel()
    )
    assert messages.values(pb2.BlobProto(double_data=[0.1])).dtype == np.float64


def test_nothing_asks_protobuf_for_what_its_newer_versions_lack():
    """Python packages of PyPI's protobuf 7; Debian's is 3.21."""
    gone = (
        "float_format=",
        "double_format=",
        "LABEL_REPEATED",
        "including_default_value_fields",
        "GetPrototype(",
    )
    for path in (ROOT / "python/active_convolution").rglob("*.py"):
        text = path.read_text()
        assert not [name for name in gone if name in text], path
        assert path.name == "positions.py" or ".UnknownFields()" not in text, path
