"""BatchNorm and Scale inside convolutions: the same output, and what must not be folded stays."""

import exports
import numpy as np
import pytest
from caffe_nets import INPUT, assert_same, live, run, shake
from exports import conv
from google.protobuf import text_format

from active_convolution.caffe import locate
from active_convolution.export import folding

SHAPE = (2, 3, 6, 7)
HEAD = INPUT.format(" ".join(f"dim: {size}" for size in SHAPE))


def convolution(name, bottom, top, outputs=3, more="", params=""):
    filler = 'bias_filler { type: "gaussian" std: 0.3 }'
    return conv(name, bottom, params, f"{more} {filler}", outputs).replace(
        f'top: "{name}"', f'top: "{top}"'
    )


def layer(kind, name, bottom, top, more=""):
    return exports.layer(name, kind, bottom, more, top)


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


@pytest.mark.parametrize("averages", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_fold(name, averages, tmp_path):
    """A BatchNorm that has seen nothing counts 0: Caffe takes mean and variance for 0, whatever
    stands there."""
    text, left = NETS[name]
    original = live(tmp_path / "net.prototxt", HEAD + text)
    shake(original, 0)
    if "b" in original.params and not averages:
        original.params["b"][-1].data[...] *= name != "in place"
    net = text_format.Parse(HEAD + text, locate.caffe_pb2().NetParameter())
    blobs = {key: [blob.data for blob in of_layer] for key, of_layer in original.params.items()}
    shares, gone = folding.fold(net, blobs)
    assert [one.name for one in net.layer] == ["image", *left]
    layers = {one for one in original._layer_names if "_split" not in one}
    assert {each for names in gone.values() for each in names} == layers - {"image", *left}
    other = live(tmp_path / "folded.prototxt", text_format.MessageToString(net))
    for key, of_layer in other.params.items():
        arrays = folding.folded(blobs[key], *shares[key]) if key in shares else blobs[key]
        for blob, values in zip(of_layer, arrays, strict=True):
            blob.data[...] = values
    image = np.random.default_rng(1).normal(size=SHAPE)
    assert_same(run(other, image), run(original, image))
