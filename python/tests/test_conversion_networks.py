"""Networks as people have them: written in all ways, sharing, frozen, of strange sizes, read by strange layers."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from active_convolution import geometry
from active_convolution.caffe import locate, messages, nets, positions
from active_convolution.errors import UserError
from active_convolution.export import converting, exporting
from active_convolution.export.converting import Fields, convert
from caffe_nets import INPUT, assert_same, live, run, shake

pytestmark = pytest.mark.slow

IMAGE = INPUT.format("dim: 2 dim: 3 dim: 9 dim: 9")


def layer(name, kind, bottom, more="", top=None):
    bottoms = " ".join(f'bottom: "{each}"' for each in bottom.split())
    return f'layer {{ name: "{name}" type: "{kind}" {bottoms} top: "{top or name}" {more} }}\n'


def conv(name, bottom, more="", own="", outputs=4, kernel="kernel_size: 3 pad: 1"):
    return layer(
        name,
        "Convolution",
        bottom,
        f"{more} convolution_param {{ num_output: {outputs} {kernel} {own} "
        'weight_filler { type: "msra" } }',
    )


def written(folder, text):
    """The paths of a prototxt of this text (str or bytes) and of random weights for it."""
    path = folder / "net.prototxt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    messages.write(folder / "read.prototxt", messages.read_net(path))
    net = locate.caffe().Net(str(folder / "read.prototxt"), locate.caffe().TEST)
    shake(net, 0)
    net.save(str(folder / "net.caffemodel"))
    return path, folder / "net.caffemodel"


# ---- How a prototxt is written

PLAIN = IMAGE + conv("c", "image")
CHINESE = "卷积"


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        f"# {CHINESE}\n{PLAIN}".encode("gbk"),
        f"# größe\n{PLAIN}".encode("latin-1"),
        f"# {CHINESE}\n{PLAIN}".encode(),
        b"\xef\xbb\xbf" + f"# {CHINESE}\r\n{PLAIN}".encode("gbk"),
    ],
    ids=["BOM", "CRLF", "GBK", "Latin-1", "UTF-8", "BOM and GBK"],
)
def test_bytes(text, tmp_path):
    """As Caffe reads them, and a byte-order mark, which it does not; the twin is plain UTF-8."""
    model, weights = written(tmp_path, text)
    done = convert(model, weights, tmp_path / "out")
    assert done.layers == ["c"] and done.rows[0].difference < 1e-5 * done.rows[0].largest
    assert (
        messages.read_net(tmp_path / "out/net.prototxt")
        and b"\r" not in (tmp_path / "out/net.prototxt").read_bytes()
    )


@pytest.mark.parametrize("coding", ["gbk", "latin-1", "utf-8"])
def test_names_of_other_codings(coding, tmp_path):
    """A layer's name is bytes to Caffe, in the .caffemodel too: the twin has the same one in both its files."""
    name = CHINESE if coding == "gbk" else "größe"
    model, weights = written(tmp_path, PLAIN.replace('"c"', '"name"'))
    model.write_bytes(model.read_bytes().replace(b'"name"', b'"' + name.encode(coding) + b'"'))
    stored = messages.read_weights(weights)
    for each in stored.layer:
        each.name = each.name.replace("name", "n" * len(name.encode(coding)))
    weights.write_bytes(
        stored.SerializeToString().replace(b"n" * len(name.encode(coding)), name.encode(coding))
    )
    done = convert(model, weights, tmp_path / "out")
    assert len(done.layers) == 1 and done.rows[0].difference < 1e-5 * done.rows[0].largest
    exporting.export(
        tmp_path / "out/net.prototxt", tmp_path / "out/weights.caffemodel", tmp_path / "back"
    )


@pytest.mark.parametrize(
    "head",
    [
        'input: "image" input_dim: 2 input_dim: 3 input_dim: 9 input_dim: 9\n',
        'input: "image" input_shape { dim: 2 dim: 3 dim: 9 dim: 9 }\n',
    ],
)
def test_inputs_of_old(head, tmp_path):
    done = convert(*written(tmp_path, head + conv("c", "image")), tmp_path / "out")
    assert done.rows[0].difference < 1e-5 * done.rows[0].largest


def test_cudnn_and_unused_params(tmp_path):
    """Where this Caffe has no cuDNN, and refuses a param for a bias that is not there."""
    plain = (
        IMAGE
        + conv("c", "image", own="bias_term: false")
        + layer("r", "ReLU", "c")
        + layer("p", "Pooling", "r", "pooling_param { kernel_size: 2 stride: 2 }")
        + layer("f", "InnerProduct", "p", "inner_product_param { num_output: 3 }")
    )
    model, weights = written(tmp_path, plain)
    text = plain.replace("bias_term: false", "bias_term: false engine: CUDNN").replace(
        "stride: 2", "stride: 2 engine: CUDNN"
    )
    text = text.replace(
        'top: "c"', 'top: "c" param { lr_mult: 1 } param { lr_mult: 2 } param { lr_mult: 7 }'
    )
    text = text.replace('top: "r"', 'top: "r" param { lr_mult: 1 } relu_param { engine: CUDNN }')
    model.write_text(text)
    done = convert(model, weights, tmp_path / "out")
    assert done.rows[0].difference < 1e-5 * done.rows[0].largest
    twin = messages.read_net(tmp_path / "out/net.prototxt").layer
    assert [param.lr_mult for param in twin[1].param] == [1], "none of them is the positions'"
    assert twin[3].pooling_param.engine == twin[3].pooling_param.CUDNN, (
        "what is not converted stays"
    )
    exporting.export(
        tmp_path / "out/net.prototxt", tmp_path / "out/weights.caffemodel", tmp_path / "plain"
    )
    assert "CUDNN" not in (tmp_path / "plain/deploy.prototxt").read_text()


MIXED = (
    IMAGE
    + 'layers { name: "c" type: CONVOLUTION bottom: "image" top: "c" convolution_param { num_output: 2 kernel_size: 3 } }\n'
)


@pytest.mark.parametrize(
    "text, message",
    [
        (MIXED, "the definition includes both 'layer' and 'layers' fields"),
        (
            PLAIN + layer("p", "Permute", "c", "permute_param { order: 0 order: 2 }"),
            r"has the field permute_param in line 3, which SSD's Caffe .* knows: build the fork from .* \(./scripts/build.sh --caffe DIR\)$",
        ),
        (
            PLAIN + layer("n", "Normalize", "c", "norm_param { across_spatial: false }"),
            "norm_param in line 3, which SSD's Caffe",
        ),
        (
            PLAIN + layer("u", "Interp", "c", "interp_param { zoom_factor: 2 }"),
            "interp_param in line 3, which DeepLab's or PSPNet's",
        ),
        (
            PLAIN + layer("u", "Roi", "c", "no_such_param { }"),
            "no_such_param in line 3, which this Caffe does not know: correct it, or build",
        ),
        (
            PLAIN
            + layer("u", "Python", "c", "python_param { module: 'not_here.at_all' layer: 'X' }"),
            r"layer u of .* is a Python layer, and its class not_here.at_all\..* cannot be imported .*: put its folder on PYTHONPATH",
        ),
    ],
)
@pytest.mark.parametrize("with_weights", [False, True])
def test_refused(text, message, with_weights, tmp_path):
    _, weights = written(tmp_path, PLAIN)
    model = tmp_path / "other.prototxt"
    model.write_text(text)
    if "Python" in text and not with_weights:
        assert convert(model, None, tmp_path / "out").layers == ["c"]  # nothing needs to run
        return
    with pytest.raises(UserError, match=message) as error:
        convert(model, weights if with_weights else None, tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


# ---- What layers share

DATA = (
    'layer { name: "data" type: "DummyData" top: "a" top: "b" top: "sim" dummy_data_param { '
    "shape { dim: 8 dim: 1 dim: 8 dim: 8 } shape { dim: 8 dim: 1 dim: 8 dim: 8 } shape { dim: 8 dim: 1 } "
    'data_filler { type: "gaussian" std: 1 } data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" value: 1 } } }\n'
)
SHARED = 'param { name: "w" lr_mult: 1 } param { name: "b" lr_mult: 2 }'


def branch(name, bottom, more=SHARED, own="", kernel="kernel_size: 3"):
    return conv(name, bottom, more, own, kernel=kernel) + layer(f"{name}_flat", "Flatten", name)


LOSS = layer("loss", "ContrastiveLoss", "conv_flat conv_p_flat sim")


def steps(folder, count, rate=0.1):
    """The solver's net, after ``count`` iterations of the twin in ``folder``, whose positions are to move visibly."""
    solver = locate.caffe_pb2().SolverParameter(
        net=str(folder / "net.prototxt"),
        base_lr=rate,
        lr_policy="fixed",
        random_seed=1,
        snapshot_after_train=False,
    )
    messages.write(folder / "solver.prototxt", solver)
    solver = locate.caffe().SGDSolver(str(folder / "solver.prototxt"))
    solver.step(count)
    return solver.net


@pytest.mark.parametrize(
    "more, own",
    [
        (SHARED, ""),
        ('param { name: "w" }', "bias_term: false"),
        ('param { name: "w" lr_mult: 1 }', ""),
    ],
)
def test_siamese_branches_share_positions(more, own, tmp_path):
    (tmp_path / "net.prototxt").write_text(
        DATA + branch("conv", "a", more, own) + branch("conv_p", "b", more, own) + LOSS
    )
    done = convert(tmp_path / "net.prototxt", None, tmp_path / "out")
    assert [row.notes for row in done.rows] == [["shared with conv_p"], ["shared with conv"]]
    net = steps(tmp_path / "out", 20)
    one, other = (net.params[name] for name in ("conv", "conv_p"))
    for index in (0, 2, 3):
        np.testing.assert_array_equal(one[index].data, other[index].data)
    assert np.abs(one[2].data[0, 0] - geometry.grid((3, 3)).T[0].reshape(3, 3)).max() > 1e-3, (
        "they learn"
    )


@pytest.mark.parametrize(
    "kernels", [("kernel_size: 3 dilation: 2 pad: 2", "kernel_size: 3 pad: 1")]
)
def test_shared_weights_at_other_places_keep_positions_of_their_own(kernels, tmp_path):
    """One filter at two dilations: the positions start apart."""
    text = (
        IMAGE
        + conv("c", "image", SHARED, kernel=kernels[0])
        + conv("d", "image", SHARED, kernel=kernels[1])
    )
    done = convert(*written(tmp_path, text), tmp_path / "out")
    assert [row.notes for row in done.rows] == [[], []] and all(
        row.difference < 1e-5 * row.largest for row in done.rows
    )


def test_a_name_that_nobody_shares_and_one_that_is_taken(tmp_path):
    text = (
        IMAGE
        + conv("c", "image", 'param { name: "v" }')
        + "".join(conv(name, "image", SHARED) for name in ("d", "e"))
        + layer(
            "i",
            "InnerProduct",
            "image",
            'param { name: "w/x" } inner_product_param { num_output: 2 }',
        )
    )
    convert(*written(tmp_path, text), tmp_path / "out")
    names = {
        each.name: [param.name for param in each.param]
        for each in messages.read_net(tmp_path / "out/net.prototxt").layer
    }
    assert names["c"] == ["v"] and names["d"] == names["e"] == ["w", "b", "w/x_", "w/y"]


FROZEN = "param { lr_mult: 0 } param { lr_mult: 0 }"
TARGET = (
    DATA.replace('top: "sim"', "")
    .replace("shape { dim: 8 dim: 1 } ", "")
    .replace('data_filler { type: "constant" value: 1 }', "")
)


def test_twins_of_frozen_layers_start_frozen(tmp_path):
    text = (
        TARGET
        + conv("frozen", "a", FROZEN)
        + conv("learns", "frozen", outputs=1)
        + layer("loss", "EuclideanLoss", "learns b", "loss_weight: 0.01")
    )
    (tmp_path / "net.prototxt").write_text(text)
    done = convert(tmp_path / "net.prototxt", None, tmp_path / "out")
    assert [row.notes for row in done.rows] == [["frozen as its weights"], []]
    assert "frozen as its weights" in done.text()
    moved = {
        each.name: np.abs(each.xy[0] - geometry.grid((3, 3))).max()
        for each in positions.from_net(steps(tmp_path / "out", 5))
    }
    assert moved["frozen"] == 0 < moved["learns"]


def test_positions_of_frozen_layers_learn_where_that_is_asked_for(tmp_path):
    (tmp_path / "net.prototxt").write_text(IMAGE + conv("c", "image", FROZEN))
    done = convert(
        tmp_path / "net.prototxt", None, tmp_path / "out", options=Fields(position_lr_mult=0.5)
    )
    twin = messages.read_net(tmp_path / "out/net.prototxt").layer[1]
    assert done.rows[0].notes == [] and twin.active_convolution_param.position_lr_mult == 0.5


# ---- Blobs of other numbers of axes


def blob(*dims):
    return INPUT.format(" ".join(f"dim: {size}" for size in dims))


RAISED = layer(
    "r", "Reshape", "image", "reshape_param { shape { dim: 0 dim: 1 dim: 3 dim: 9 dim: 9 } }"
)
FEATURES = layer("e", "Embed", "image", "embed_param { num_output: 9 input_dim: 5 }") + layer(
    "p", "Power", "e"
)


@pytest.mark.parametrize(
    "text, bottom, axes",
    [
        (blob(1, 1, 8, 8, 8), "image", 5),
        (blob(2, 3, 9), "image", 3),
        (IMAGE + RAISED, "r", 5),
        ('input: "image" input_shape { dim: 1 dim: 1 dim: 8 dim: 8 dim: 8 }\n', "image", 5),
        (blob(1, 1, 5, 5) + FEATURES, "p", 5),
        (blob(1, 1, 8, 8, 8) + layer("s", "Split", "image") + layer("l", "ReLU", "s"), "l", 5),
    ],
)
def test_other_numbers_of_axes(text, bottom, axes, tmp_path):
    """Left alone without weights, too; by name an error."""
    (tmp_path / "net.prototxt").write_text(text + conv("v", bottom))
    with pytest.raises(
        UserError,
        match=rf"has no convolution .* \(v reads a blob of {axes} axes\): nothing to convert",
    ):
        convert(tmp_path / "net.prototxt", None, tmp_path / "out")
    with pytest.raises(
        UserError,
        match=f"layer v reads a blob of {axes} axes, and an active convolution takes images",
    ):
        convert(tmp_path / "net.prototxt", None, tmp_path / "out", patterns=["v"])
    assert not (tmp_path / "out").exists()


def test_what_caffe_alone_knows_is_found_by_building(tmp_path, monkeypatch):
    """Where the prototxt does not tell, the twin that Caffe refuses is."""
    (tmp_path / "net.prototxt").write_text(blob(1, 1, 8, 8, 8) + conv("v", "image"))
    monkeypatch.setattr(converting.dimensions, "counted", lambda net: {})
    with pytest.raises(
        UserError,
        match=r"Caffe builds .*net.prototxt, but not its twin \(.*\): leave out the layer with --layers",
    ):
        convert(tmp_path / "net.prototxt", None, tmp_path / "out")


# ---- What the comparison feeds


def test_a_size_of_one_pixel_is_made_one_that_tells_something(tmp_path):
    """As OpenPose names it. A twin whose synapses stand wrong differs only where they see anything."""
    text = (
        blob(1, 3, 1, 1)
        + conv("c", "image", kernel="kernel_size: 7 pad: 3")
        + layer("r", "ReLU", "c", top="c")
        + conv("d", "c", kernel="kernel_size: 5 pad: 8 dilation: 4")
    )
    done = convert(*written(tmp_path, text), tmp_path / "out")
    assert done.size == {"image": (1, 3, 32, 32)} and not done.unread
    assert "differences: random input of image 1×3×32×32" in done.text()
    done = exporting.export(
        tmp_path / "out/net.prototxt", tmp_path / "out/weights.caffemodel", tmp_path / "back"
    )
    assert done.size == {"image": (1, 3, 32, 32)} and done.layers[0].cost == 32 * 32 * 4 * 3 * 49


def test_a_size_that_the_network_fixes_is_kept_and_said(tmp_path):
    text = (
        blob(1, 3, 2, 2)
        + conv("c", "image", kernel="kernel_size: 7 pad: 3")
        + layer("f", "InnerProduct", "c", "inner_product_param { num_output: 2 }")
    )
    done = convert(*written(tmp_path, text), tmp_path / "out")
    assert (
        done.unread == ["c"] and "not every synapse reads a pixel at that size in c" in done.text()
    )


WORDS = INPUT.format("dim: 3 dim: 30").replace('"image"', '"words"')


@pytest.mark.parametrize(
    "between",
    [
        "",
        layer("s", "Reshape", "words", "reshape_param { shape { dim: 0 dim: 5 dim: 6 } }")
        + layer("t", "Flatten", "s"),
    ],
)
def test_indices_are_fed_to_what_takes_indices(between, tmp_path):
    bottom = "t" if between else "words"
    text = (
        WORDS
        + between
        + layer(
            "e",
            "Embed",
            bottom,
            'embed_param { num_output: 7 input_dim: 5 weight_filler { type: "gaussian" } }',
        )
    )
    text += layer(
        "i", "Reshape", "e", "reshape_param { shape { dim: 0 dim: 1 dim: 30 dim: 7 } }"
    ) + conv("c", "i")
    done = convert(*written(tmp_path, text), tmp_path / "out")
    assert done.rows[0].difference < 1e-5 * done.rows[0].largest and done.rows[0].largest > 0


@pytest.mark.parametrize(
    "kind, more",
    [
        ("Log", ""),
        ("Power", "power_param { power: 0.5 }"),
        ("Power", "power_param { power: -0.5 }"),
    ],
)
@pytest.mark.parametrize("where", ["before", "after"])
def test_positive_numbers_are_fed_to_logarithms_and_roots(kind, more, where, tmp_path):
    text = IMAGE + (
        layer("l", kind, "image", more) + conv("c", "l")
        if where == "before"
        else conv("c", "image", own='bias_filler { type: "constant" value: 9 }')
        + layer("l", kind, "c", more)
    )
    model, weights = written(tmp_path, text)
    if where == "after":  # a positive sum
        net = live(model, text, weights)
        net.params["c"][0].data[...] = np.abs(net.params["c"][0].data)
        net.params["c"][1].data[...] = 0.1
        net.save(str(weights))
    done = convert(model, weights, tmp_path / "out")
    assert np.isfinite(done.outputs[list(done.outputs)[0]]).all()


def test_every_converted_layer_is_compared(tmp_path, monkeypatch):
    """Behind a saturated softmax, a wrong twin would pass."""
    text = (
        IMAGE
        + conv("c", "image")
        + layer("s", "Power", "c", "power_param { scale: 1e4 }")
        + layer("p", "Softmax", "s")
    )
    model, weights = written(tmp_path, text)
    right = converting.to_active

    def wrong(layer, blobs, options):
        weight, *others = right(layer, blobs, options)
        return [1.01 * weight, *others]

    monkeypatch.setattr(converting, "to_active", wrong)
    with pytest.raises(UserError, match="^layer c is not the original's on random input: "):
        convert(model, weights, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- Reports


def test_convert_prints_a_table_and_says_where_the_result_runs(tmp_path):
    model, weights = written(tmp_path, IMAGE + conv("c", "image", FROZEN) + conv("d", "c"))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "active_convolution",
            "convert",
            "--model",
            model,
            "--weights",
            weights,
            "--output",
            tmp_path / "out",
            "--report",
            tmp_path / "report.json",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "2 layers converted: c, d" and lines[-1].startswith(
        "runs in a Caffe with the layer ActiveConvolution"
    )
    assert re.search(
        r"^c +Convolution +3×3 +9, frozen as its weights +\S+ of \S+$", done.stdout, re.MULTILINE
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["c", "d"] and report["size"] == {
        "image": [2, 3, 9, 9]
    }
    assert (
        report["rows"][0]["notes"] == ["frozen as its weights"] and report["outputs"]["d"][0] < 1e-4
    )


# ---- The kinds of networks that are about, small


def block(name, bottom, outputs, more=""):
    return (
        conv(name, bottom, outputs=outputs, own=f"bias_term: false {more}")
        + layer(f"{name}/bn", "BatchNorm", name, top=name)
        + layer(f"{name}/scale", "Scale", name, "scale_param { bias_term: true }", name)
        + layer(f"{name}/relu", "ReLU", name, top=name)
    )


FAMILIES = {
    "VGG": IMAGE
    + conv("c1", "image", outputs=8)
    + layer("r1", "ReLU", "c1", top="c1")
    + conv("c2", "c1", outputs=8)
    + layer("p", "Pooling", "c2", "pooling_param { kernel_size: 2 stride: 2 }")
    + layer("fc", "InnerProduct", "p", "inner_product_param { num_output: 5 }")
    + layer("d", "Dropout", "fc", top="fc")
    + layer("prob", "Softmax", "fc"),
    "ResNet": IMAGE
    + block("a", "image", 8)
    + block("b", "a", 8)
    + layer("sum", "Eltwise", "a b")
    + layer("r", "ReLU", "sum", top="sum")
    + layer("p", "Pooling", "sum", "pooling_param { pool: AVE global_pooling: true }"),
    "MobileNet": IMAGE + block("a", "image", 8) + block("dw", "a", 8, "group: 8"),
    "ResNeXt": IMAGE + block("a", "image", 8) + block("g", "a", 16, "group: 4"),
    "GoogLeNet": IMAGE
    + layer("norm", "LRN", "image")
    + conv("x1", "norm", kernel="kernel_size: 1")
    + conv("x3", "norm")
    + conv("x5", "norm", kernel="kernel_size: 5 pad: 2")
    + layer("pool", "Pooling", "norm", "pooling_param { kernel_size: 3 pad: 1 }")
    + layer("out", "Concat", "x1 x3 x5 pool"),
    "SqueezeNet": IMAGE
    + conv("s", "image", kernel="kernel_size: 1")
    + layer("r", "ReLU", "s", top="s")
    + conv("e1", "s", kernel="kernel_size: 1")
    + conv("e3", "s")
    + layer("out", "Concat", "e1 e3"),
    "DenseNet": IMAGE
    + layer("bn", "BatchNorm", "image")
    + layer("sc", "Scale", "bn", "scale_param { bias_term: true }", "bn")
    + layer("r", "ReLU", "bn", top="bn")
    + conv("c", "bn")
    + layer("out", "Concat", "image c"),
    "FCN": IMAGE
    + conv("c", "image", kernel="kernel_size: 3 pad: 5")
    + layer("p", "Pooling", "c", "pooling_param { kernel_size: 2 stride: 2 }")
    + layer(
        "up",
        "Deconvolution",
        "p",
        "convolution_param { num_output: 4 group: 4 kernel_size: 4 stride: 2 bias_term: false }",
    )
    + layer("out", "Crop", "up image", "crop_param { offset: 4 }"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family, tmp_path):
    """Converted, moved, exported: each step the same, and at a second size where the network takes one."""
    model, weights = written(tmp_path, FAMILIES[family])
    done = convert(model, weights, tmp_path / "acu")
    assert all(row.difference < 1e-4 * max(1, row.largest) for row in done.rows) and done.rows
    moved = nets.load(tmp_path / "acu/net.prototxt", tmp_path / "acu/weights.caffemodel")
    shake(moved, 1)
    moved.save(str(tmp_path / "moved.caffemodel"))
    for fold in (False, True):
        exporting.export(
            tmp_path / "acu/net.prototxt",
            tmp_path / "moved.caffemodel",
            tmp_path / f"plain{fold}",
            fold=fold,
        )
        plain = nets.load(
            tmp_path / f"plain{fold}/deploy.prototxt", tmp_path / f"plain{fold}/weights.caffemodel"
        )
        for shape in ((2, 3, 9, 9), (1, 3, 14, 12)):
            if family == "VGG" and shape[2:] != (9, 9):
                continue
            image = np.random.default_rng(0).normal(size=shape)
            assert_same(run(plain, image), run(moved, image), 1e-4)
