"""BatchNorm and Scale inside convolutions: the same output, and what must not be folded stays."""

import numpy as np
import pytest
from active_convolution.caffe import locate
from active_convolution.export import folding
from caffe_nets import INPUT, assert_same, live, run, shake
from exports import conv, layer
from google.protobuf import text_format

SHAPE = (2, 3, 6, 7)
HEAD = INPUT.format(" ".join(f"dim: {size}" for size in SHAPE))
# A layer a line: type, name, bottoms, top, more; and the names of those that stay.
NETS = {
    "in place": ("C c image c; BatchNorm b c c; Scale s c c", "c"),
    "not in place": (
        "C c image c; BatchNorm b c b; Scale s b s scale_param { bias_term: true }",
        "c",
    ),
    "without bias": (
        "C c image c bias_term: false; BatchNorm b c c batch_norm_param { eps: 0.1 }",
        "c",
    ),
    "scale alone": ("C c image c group: 3; Scale s c c", "c"),
    "global averages asked for": (
        "C c image c; BatchNorm b c c batch_norm_param { use_global_stats: true }",
        "c",
    ),
    "chain": ("C c image c; BatchNorm b c c; ReLU r c c; C d c d; BatchNorm e d d", "c r d"),
    "pre-activation": ("BatchNorm b image b; Scale s b s; C c s c", "b s c"),
    "after a ReLU": ("C c image c; ReLU r c c; BatchNorm b c c", "c r b"),
    "another reader": ("C c image c; BatchNorm b c b; Eltwise e b,c e", "c b e"),
    "averages of the batch": (
        "C c image c; BatchNorm b c c batch_norm_param { use_global_stats: false }",
        "c b",
    ),
    "factor of another blob": ("C c image c; Scale s c,image s scale_param { axis: 0 }", "c s"),
    "factor of each pixel": ("C c image c; Scale s c c scale_param { num_axes: -1 }", "c s"),
    "factor of each column": (
        "C c image c num_output: 7; Scale s c c scale_param { axis: 3 }",
        "c s",
    ),
    "sum of two": ("C c image c; C d image d; Eltwise e c,d e; BatchNorm b e b", "c d e b"),
    "fully connected": (
        "InnerProduct p image p inner_product_param { num_output: 3 }; BatchNorm b p p",
        "p b",
    ),
    "three axes": (
        "Reshape v image v reshape_param { shape { dim: 2 dim: 1 dim: 3 dim: 6 dim: 7 } }; C c v c;"
        " BatchNorm b c c",
        "v c b",
    ),
    "channels on another axis": ("C c image c axis: 2; BatchNorm b c c", "c b"),
    "shared weights": (
        "C c image c shared; BatchNorm b c c; C d image d shared; BatchNorm f d d; Eltwise e c,d e",
        "c d e",
    ),
    "shared weights, one is folded": (
        "C c image c shared; C d image d shared; BatchNorm b c c; Eltwise e c,d e",
        "c d e",
    ),
}


def net(text):
    made = HEAD
    for each in text.split(";"):
        kind, name, bottoms, top, more = (*each.split(None, 4), "")[:5]
        if kind == "C":
            shared = 'param { name: "w" } param { name: "v" }' if more == "shared" else ""
            own = more.replace("shared", "") + ' bias_filler { type: "gaussian" std: 0.3 }'
            outputs = "" if "num_output" in own else 3
            text = conv(name, bottoms, shared, own, outputs or 0)
            text = text.replace("num_output: 0 ", "") if not outputs else text
            made += text.replace(f'top: "{name}"', f'top: "{top}"')
        else:
            made += layer(name, kind, bottoms.replace(",", " "), more, top)
    return made


@pytest.mark.parametrize("averages", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_fold(name, averages, tmp_path):
    """A BatchNorm that has seen nothing counts 0: Caffe takes mean and variance for 0, whatever
    stands there."""
    text, left = net(NETS[name][0]), NETS[name][1].split()
    original = live(tmp_path / "net.prototxt", text)
    shake(original, 0)
    if "b" in original.params and not averages:
        original.params["b"][-1].data[...] *= name != "in place"
    message = text_format.Parse(text, locate.caffe_pb2().NetParameter())
    blobs = {key: [blob.data for blob in of_layer] for key, of_layer in original.params.items()}
    shares, gone = folding.fold(message, blobs)
    assert [one.name for one in message.layer] == ["image", *left]
    layers = {one for one in original._layer_names if "_split" not in one}
    assert {each for names in gone.values() for each in names} == layers - {"image", *left}
    other = live(tmp_path / "folded.prototxt", text_format.MessageToString(message))
    for key, of_layer in other.params.items():
        arrays = folding.folded(blobs[key], *shares[key]) if key in shares else blobs[key]
        assert len(of_layer) == len(arrays)
        for blob, values in zip(of_layer, arrays):
            blob.data[...] = values
    image = np.random.default_rng(1).normal(size=SHAPE)
    assert_same(run(other, image), run(original, image))
