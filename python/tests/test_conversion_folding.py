"""BatchNorm and Scale inside convolutions: the same output, and what must not be folded stays."""

import numpy as np
import pytest
from active_convolution.caffe import locate
from active_convolution.export import folding
from caffe_nets import INPUT, assert_same, live, run, shake
from google.protobuf import text_format

SHAPE = (2, 3, 6, 7)
HEAD = INPUT.format(" ".join(f"dim: {size}" for size in SHAPE))


def convolution(name, bottom, top, outputs=3, more="", params=""):
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{top}" {params} convolution_param {{ '
        f'num_output: {outputs} kernel_size: 3 pad: 1 weight_filler {{ type: "gaussian" std: 0.3 }} '
        f'bias_filler {{ type: "gaussian" std: 0.3 }} {more} }} }}\n'
    )


def layer(kind, name, bottom, top, more=""):
    bottoms = " ".join(f'bottom: "{one}"' for one in bottom.split())
    return f'layer {{ name: "{name}" type: "{kind}" {bottoms} top: "{top}" {more} }}\n'


BN, SCALE = "BatchNorm", "Scale"
NETS = {
    "in place": (
        convolution("c", "image", "c") + layer(BN, "b", "c", "c") + layer(SCALE, "s", "c", "c"),
        ["c"],
    ),
    "not in place": (
        convolution("c", "image", "c")
        + layer(BN, "b", "c", "b")
        + layer(SCALE, "s", "b", "s", "scale_param { bias_term: true }"),
        ["c"],
    ),
    "without bias": (
        convolution("c", "image", "c", more="bias_term: false", params="param { lr_mult: 1 }")
        + layer(BN, "b", "c", "c", "batch_norm_param { eps: 0.1 }"),
        ["c"],
    ),
    "scale alone": (
        convolution("c", "image", "c", more="group: 3") + layer(SCALE, "s", "c", "c"),
        ["c"],
    ),
    "global averages asked for": (
        convolution("c", "image", "c")
        + layer(BN, "b", "c", "c", "batch_norm_param { use_global_stats: true }"),
        ["c"],
    ),
    "chain": (
        convolution("c", "image", "c", 4)
        + layer(BN, "b", "c", "c")
        + layer("ReLU", "r", "c", "c")
        + convolution("d", "c", "d", 2)
        + layer(BN, "e", "d", "d"),
        ["c", "r", "d"],
    ),
    "pre-activation": (
        layer(BN, "b", "image", "b") + layer(SCALE, "s", "b", "s") + convolution("c", "s", "c"),
        ["b", "s", "c"],
    ),
    "after a ReLU": (
        convolution("c", "image", "c") + layer("ReLU", "r", "c", "c") + layer(BN, "b", "c", "c"),
        ["c", "r", "b"],
    ),
    "another reader": (
        convolution("c", "image", "c")
        + layer(BN, "b", "c", "b")
        + layer("Eltwise", "e", "b c", "e"),
        ["c", "b", "e"],
    ),
    "averages of the batch": (
        convolution("c", "image", "c")
        + layer(BN, "b", "c", "c", "batch_norm_param { use_global_stats: false }"),
        ["c", "b"],
    ),
    "factor of another blob": (
        convolution("c", "image", "c")
        + layer(SCALE, "s", "c image", "s", "scale_param { axis: 0 }"),
        ["c", "s"],
    ),
    "factor of each pixel": (
        convolution("c", "image", "c")
        + layer(SCALE, "s", "c", "c", "scale_param { num_axes: -1 }"),
        ["c", "s"],
    ),
    "factor of each column": (
        convolution("c", "image", "c", 7) + layer(SCALE, "s", "c", "c", "scale_param { axis: 3 }"),
        ["c", "s"],
    ),
    "sum of two": (
        convolution("c", "image", "c")
        + convolution("d", "image", "d")
        + layer("Eltwise", "e", "c d", "e")
        + layer(BN, "b", "e", "b"),
        ["c", "d", "e", "b"],
    ),
    "fully connected": (
        layer(
            "InnerProduct",
            "p",
            "image",
            "p",
            'inner_product_param { num_output: 3 weight_filler { type: "gaussian" } }',
        )
        + layer(BN, "b", "p", "p"),
        ["p", "b"],
    ),
    "three axes": (
        layer(
            "Reshape",
            "v",
            "image",
            "v",
            "reshape_param { shape { dim: 2 dim: 1 dim: 3 dim: 6 dim: 7 } }",
        )
        + convolution("c", "v", "c")
        + layer(BN, "b", "c", "c"),
        ["v", "c", "b"],
    ),
    "channels on another axis": (
        convolution("c", "image", "c", more="axis: 2") + layer(BN, "b", "c", "c"),
        ["c", "b"],
    ),
    "shared weights": (
        "".join(
            convolution(name, "image", name, params='param { name: "w" } param { name: "v" }')
            + layer(BN, f"b{name}", name, name)
            for name in "cd"
        )
        + layer("Eltwise", "e", "c d", "e"),
        ["c", "d", "e"],
    ),
    "shared weights, one is folded": (
        "".join(
            convolution(name, "image", name, params='param { name: "w" } param { name: "v" }')
            for name in "cd"
        )
        + layer(BN, "b", "c", "c")
        + layer("Eltwise", "e", "c d", "e"),
        ["c", "d", "e"],
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_fold(name, tmp_path):
    text, left = NETS[name]
    original = live(tmp_path / "net.prototxt", HEAD + text)
    shake(original, 0)
    net = text_format.Parse(HEAD + text, locate.caffe_pb2().NetParameter())
    blobs = {
        key: [blob.data.astype(float) for blob in of_layer]
        for key, of_layer in original.params.items()
    }
    folded = folding.fold(net, blobs)
    assert [one.name for one in net.layer] == ["image", *left]
    assert {gone for names in folded.values() for gone in names} == {
        one for one in original._layer_names if "_split" not in one
    } - {"image", *left}
    other = live(tmp_path / "folded.prototxt", text_format.MessageToString(net))
    for key, of_layer in other.params.items():
        for blob, values in zip(of_layer, blobs[key], strict=True):
            blob.data[...] = values
    image = np.random.default_rng(1).normal(size=SHAPE)
    assert_same(run(other, image), run(original, image))


def test_averages_of_no_iteration(tmp_path):
    """A BatchNorm that has seen nothing counts 0: Caffe takes mean and variance for 0, whatever stands there."""
    text = HEAD + NETS["in place"][0]
    original = live(tmp_path / "net.prototxt", text)
    shake(original, 0)
    original.params["b"][2].data[...] = 0
    net = text_format.Parse(text, locate.caffe_pb2().NetParameter())
    blobs = {
        key: [blob.data.astype(float) for blob in of_layer]
        for key, of_layer in original.params.items()
    }
    folding.fold(net, blobs)
    other = live(tmp_path / "folded.prototxt", text_format.MessageToString(net))
    for blob, values in zip(other.params["c"], blobs["c"]):
        blob.data[...] = values
    image = np.random.default_rng(1).normal(size=SHAPE)
    assert_same(run(other, image), run(original, image))
