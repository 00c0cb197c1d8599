"""Networks as people have them: written in all ways, sharing, frozen, of strange sizes, read by
strange layers."""

import re

import numpy as np
import pytest
from active_convolution import geometry
from active_convolution.caffe import locate, messages, nets, positions
from active_convolution.errors import UserError
from active_convolution.export.converting import convert
from caffe_nets import INPUT, assert_same, run, shake
from exports import IMAGE, acu, conv, export, layer
from exports import written as written_text

pytestmark = pytest.mark.slow


def written(folder, text):
    """The paths of a prototxt of this text (str or bytes) and of random weights for it."""
    path = folder / "net.prototxt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    _, weights = written_text(folder, messages.text(messages.read_net(path)))
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path, weights


def assert_converted(done):
    """Layers and outputs are compared, and the same."""
    compared = [*(row["difference"] for row in done["layers"]), *done["outputs"].values()]
    assert compared and done["outputs"]
    assert all(distance < 1e-4 * max(1, largest) for distance, largest in compared)


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
        b"\xef\xbb\xbf" + f"# {CHINESE}\r\n{PLAIN}".encode("gbk"),
        PLAIN.replace('"c"', '"größe"').encode(),
    ],
    ids=["BOM", "CRLF", "GBK", "Latin-1", "BOM and GBK", "a name in UTF-8"],
)
def test_bytes(text, tmp_path):
    """As Caffe reads them, and a byte-order mark, which it does not; the twin is plain UTF-8."""
    model, weights = written(tmp_path, text)
    assert_converted(convert(model, weights, tmp_path / "out"))
    assert b"\r" not in (tmp_path / "out/net.prototxt").read_bytes()
    twin = tmp_path / "out/net.prototxt", tmp_path / "out/weights.caffemodel"
    export(*twin, tmp_path / "back")


@pytest.mark.parametrize(
    "head", ["input_dim: 2 input_dim: 3 input_dim: 9 input_dim: 9\n", "input_shape { %s }"]
)
def test_inputs_of_old(head, tmp_path):
    head = 'input: "image" ' + (head % "dim: 2 dim: 3 dim: 9 dim: 9" if "%" in head else head)
    assert_converted(convert(*written(tmp_path, head + conv("c", "image")), tmp_path / "out"))


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
    text = plain.replace("bias_term: false", "bias_term: false engine: CUDNN")
    text = text.replace("stride: 2", "stride: 2 engine: CUDNN")
    rates = "param { lr_mult: 1 } param { lr_mult: 2 } param { lr_mult: 7 }"
    text = text.replace('top: "c"', f'top: "c" {rates}')
    text = text.replace('top: "r"', 'top: "r" param { lr_mult: 1 } relu_param { engine: CUDNN }')
    model.write_text(text)
    assert_converted(convert(model, weights, tmp_path / "out"))
    twin = messages.read_net(tmp_path / "out/net.prototxt").layer
    assert [param.lr_mult for param in twin[1].param] == [1], "none of them is the positions'"
    assert twin[3].pooling_param.engine == twin[3].pooling_param.CUDNN, "the others stay"
    export(tmp_path / "out/net.prototxt", tmp_path / "out/weights.caffemodel", tmp_path / "plain")
    assert "CUDNN" not in (tmp_path / "plain/deploy.prototxt").read_text()


OLD = 'layers { name: "c" type: RELU bottom: "image" top: "c" }\n'


@pytest.mark.parametrize(
    "text, message",
    [
        (IMAGE + OLD, "has both .layer. and .layers., and Caffe takes one form"),
        (
            PLAIN + layer("p", "Permute", "c", "permute_param { order: 0 order: 2 }"),
            "permute_param in line 3, which SSD's Caffe .*./scripts/build.sh --caffe DIR",
        ),
        (
            PLAIN + layer("u", "Roi", "c", "no_such_param { }"),
            "no_such_param in line 3, which this",
        ),
    ],
)
def test_refused(text, message, tmp_path):
    (tmp_path / "other.prototxt").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        convert(tmp_path / "other.prototxt", None, tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


# ---- Where the result runs

PYTHON = layer("u", "Python", "c", "python_param { module: 'not_here.at_all' layer: 'X' }")


@pytest.mark.parametrize(
    "more, reason",
    [
        (
            layer("u", "Axpy", "c"),
            r"this Caffe has no layer of type Axpy \(u\): build the fork from",
        ),
        (PYTHON, "layer u of .* is a Python layer, and its class not_here.at_all.X cannot be"),
        (layer("u", "ReLU", "x"), "in TEST, no layer of .* gives x, which layer u reads"),
        (
            'layer { name: "d" type: "Data" top: "x" data_param { source: "none_lmdb" } }',
            "layer d reads none_lmdb, which is not there",
        ),
    ],
)
@pytest.mark.parametrize("with_weights", [False, True])
def test_where_nobody_has_built_it_that_is_said(more, reason, with_weights, tmp_path):
    """Each layer is compared all the same."""
    model, weights = written(tmp_path, PLAIN)
    model.write_text(PLAIN + more)
    done = convert(model, weights if with_weights else None, tmp_path / "out")
    (row,) = done["layers"]
    assert bool(row["difference"]) == with_weights and not done["outputs"]
    assert done["runs"].startswith("not built here: ")
    assert re.search(reason, done["runs"])


def test_a_claim_is_one_that_caffe_has_checked(shared_cases, tmp_path):
    given = "convert", "--model", shared_cases / "34-runs-where/net.prototxt", "--output"
    done = acu(*given, tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert "not built here: this Caffe has no layer of type Axpy (axpy)" in done.stdout
    text = PLAIN + layer("l", "Eltwise", "c image")  # of 4 and 3 channels
    (tmp_path / "net.prototxt").write_text(text)
    done = acu("convert", "--model", tmp_path / "net.prototxt", "--output", tmp_path / "no")
    assert done.returncode == 1 and done.stderr.startswith("error: building ")
    assert not (tmp_path / "no").exists()


# ---- What layers share


def steps(folder, count, rate=0.1):
    """The solver's net, after ``count`` iterations of the twin in ``folder``, whose positions are
    to move visibly."""
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


SHARED = 'param { name: "w" lr_mult: 1 } param { name: "b" lr_mult: 2 }'


@pytest.mark.parametrize("more", [SHARED, 'param { name: "w" }'])
def test_siamese_branches_share_positions(more, shared_cases, tmp_path):
    text = (shared_cases / "04-siamese/net.prototxt").read_text().replace(SHARED, more)
    (tmp_path / "net.prototxt").write_text(text)
    done = convert(tmp_path / "net.prototxt", None, tmp_path / "out")
    notes = [row["notes"] for row in done["layers"]]
    assert notes == [["shared with conv_p"], ["shared with conv"]]
    net = steps(tmp_path / "out", 20)
    one, other = (net.params[name] for name in ("conv", "conv_p"))
    for index in (0, 2, 3):
        np.testing.assert_array_equal(one[index].data, other[index].data)
    start = geometry.grid((3, 3)).T[0].reshape(3, 3)
    assert np.abs(one[2].data[0, 0] - start).max() > 1e-3, "they learn"


def test_shared_weights_at_other_places_keep_positions_of_their_own(tmp_path):
    """One filter at two dilations: the positions start apart."""
    text = IMAGE + conv("c", "image", SHARED, kernel="kernel_size: 3 dilation: 2 pad: 2")
    done = convert(*written(tmp_path, text + conv("d", "image", SHARED)), tmp_path / "out")
    assert [row["notes"] for row in done["layers"]] == [[], []]
    assert_converted(done)


def test_a_name_that_nobody_shares(tmp_path):
    text = IMAGE + conv("c", "image", 'param { name: "v" }')
    text += conv("d", "image", SHARED) + conv("e", "image", SHARED)
    convert(*written(tmp_path, text), tmp_path / "out")
    names = {
        each.name: [param.name for param in each.param]
        for each in messages.read_net(tmp_path / "out/net.prototxt").layer
    }
    assert names["c"] == ["v"] and names["d"] == names["e"] == ["w", "b", "w/x", "w/y"]


def test_twins_of_frozen_layers_start_frozen(shared_cases, tmp_path):
    """Unless a rate is asked for."""
    text = (shared_cases / "frozen-layers/net.prototxt").read_text()
    (tmp_path / "net.prototxt").write_text(text)
    done = convert(tmp_path / "net.prototxt", None, tmp_path / "out")
    assert [row["notes"] for row in done["layers"]] == [["frozen as its weights"], []]
    moved = {
        each.name: np.abs(each.xy[0] - geometry.grid((3, 3))).max()
        for each in positions.from_net(steps(tmp_path / "out", 5))
    }
    assert moved["frozen"] == 0 < moved["learns"]
    fields = {"position_lr_mult": 0.5}
    done = convert(tmp_path / "net.prototxt", None, tmp_path / "free", fields=fields)
    twin = messages.read_net(tmp_path / "free/net.prototxt").layer[1]
    assert twin.active_convolution_param.position_lr_mult == 0.5
    assert not done["layers"][0]["notes"]


# ---- Blobs of other numbers of axes


def blob(*dims):
    return INPUT.format(" ".join(f"dim: {size}" for size in dims))


RAISED = layer(
    "r", "Reshape", "image", "reshape_param { shape { dim: 0 dim: 1 dim: 3 dim: 9 dim: 9 } }"
)
FEATURES = layer("e", "Embed", "image", "embed_param { num_output: 9 input_dim: 5 }")
VOLUME = "input_shape { dim: 1 dim: 1 dim: 8 dim: 8 dim: 8 }\n"


@pytest.mark.parametrize(
    "text, bottom, why",
    [
        (blob(1, 1, 8, 8, 8), "image", "reads a blob of 5 axes"),
        (blob(2, 3, 9), "image", "reads a blob of 3 axes"),
        (IMAGE + RAISED, "r", "reads a blob of 5 axes"),
        (f'input: "image" {VOLUME}', "image", "reads a blob of 5 axes"),
        (blob(1, 1, 5, 5) + FEATURES, "e", "reads a blob of 5 axes"),
        (IMAGE + RAISED + "3d", "r", "has a kernel, axis or force_nd_im2col for other"),
        (IMAGE + "axis: 2", "image", "has a kernel, axis or force_nd_im2col for other"),
    ],
)
@pytest.mark.parametrize("with_weights", [False, True])
def test_other_numbers_of_axes(text, bottom, why, with_weights, tmp_path):
    """Left alone by default and by kernel, also without weights; by name an error."""
    kernel = "kernel_size: 3 pad: 1"
    if text.endswith("3d"):
        text, kernel = text[:-2], "kernel_size: 3 kernel_size: 3 kernel_size: 3 pad: 1"
    if text.endswith("axis: 2"):
        text, kernel = text[:-7], "kernel_size: 3 axis: 2"
    model, weights = written(tmp_path, text + conv("v", bottom, kernel=kernel))
    weights = weights if with_weights else None
    for choice in ({}, {"patterns": ["v"]}, {"kernels": [(3, 3)]}):
        with pytest.raises(UserError, match=f"v {why}"):
            convert(model, weights, tmp_path / "out", **choice)
        assert not (tmp_path / "out").exists()
    if why.startswith("has"):  # another one is converted
        model, weights = written(tmp_path, model.read_text() + conv("c", "image"))
        done = convert(model, weights, tmp_path / "out")
        assert [row["name"] for row in done["layers"]] == ["c"]


# ---- What the comparison feeds


def test_a_size_of_one_pixel_tells_something(tmp_path):
    """As OpenPose names it: a synapse that stands wrong differs only where it sees anything."""
    text = (
        blob(1, 3, 1, 1)
        + conv("c", "image", kernel="kernel_size: 7 pad: 3")
        + layer("r", "ReLU", "c", top="c")
        + conv("d", "c", kernel="kernel_size: 5 pad: 8 dilation: 4")
    )
    model, weights = written(tmp_path, text)
    assert_converted(convert(model, weights, tmp_path / "out"))
    net = nets.load(tmp_path / "out/net.prototxt", tmp_path / "out/weights.caffemodel")
    for each in ("c", "d"):
        net.params[each][2].data[0, 0, 0, 0] += 0.5
    net.save(str(tmp_path / "moved.caffemodel"))
    export(tmp_path / "out/net.prototxt", tmp_path / "moved.caffemodel", tmp_path / "back")
    back = nets.load(tmp_path / "back/deploy.prototxt", tmp_path / "back/weights.caffemodel")
    image = np.random.default_rng(0).normal(size=(1, 3, 20, 24))
    assert_same(run(back, image), run(net, image))


@pytest.mark.parametrize(
    "text",
    [
        INPUT.format("dim: 3 dim: 30")
        + layer("e", "Embed", "image", "embed_param { num_output: 7 input_dim: 5 }")
        + layer("i", "Reshape", "e", "reshape_param { shape { dim: 0 dim: 1 dim: 30 dim: 7 } }")
        + conv("c", "i"),
        IMAGE + layer("l", "Log", "image") + conv("c", "l"),
        IMAGE
        + layer("l", "Power", "image", "power_param { power: 0.5 }")
        + conv("c", "l")
        + layer("s", "Softmax", "c"),
        IMAGE
        + conv("c", "image")
        + layer("f", "Flatten", "c")
        + INPUT.format("dim: 2").replace("image", "label")
        + layer("x", "SoftmaxWithLoss", "f label"),
    ],
    ids=["indices", "a logarithm", "a root", "labels"],
)
def test_what_layers_can_take_is_fed(text, tmp_path):
    done = convert(*written(tmp_path, text), tmp_path / "out")
    assert_converted(done)
    assert np.isfinite([*done["outputs"].values()]).all()


# ---- The kinds of networks that are about, small


def block(name, bottom, outputs, more=""):
    return (
        conv(name, bottom, outputs=outputs, own=f"bias_term: false {more}")
        + layer(f"{name}/bn", "BatchNorm", name, top=name)
        + layer(f"{name}/scale", "Scale", name, "scale_param { bias_term: true }", name)
        + layer(f"{name}/relu", "ReLU", name, top=name)
    )


POOL = "pooling_param { kernel_size: 2 stride: 2 }"
UP = "convolution_param { num_output: 4 group: 4 kernel_size: 4 stride: 2 bias_term: false }"
FAMILIES = {
    "VGG": IMAGE
    + conv("c1", "image", outputs=8)
    + layer("r1", "ReLU", "c1", top="c1")
    + conv("c2", "c1", outputs=8)
    + layer("p", "Pooling", "c2", POOL)
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
    + layer("p", "Pooling", "c", POOL)
    + layer("up", "Deconvolution", "p", UP)
    + layer("out", "Crop", "up image", "crop_param { offset: 4 }"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family, tmp_path):
    """Converted, moved, exported: each step the same, and at a second size where the network takes
    one."""
    model, weights = written(tmp_path, FAMILIES[family])
    assert_converted(convert(model, weights, tmp_path / "acu"))
    moved = nets.load(tmp_path / "acu/net.prototxt", tmp_path / "acu/weights.caffemodel")
    shake(moved, 1)
    moved.save(str(tmp_path / "moved.caffemodel"))
    for fold in (False, True):
        place = tmp_path / f"plain{fold}"
        export(tmp_path / "acu/net.prototxt", tmp_path / "moved.caffemodel", place, fold=fold)
        plain = nets.load(place / "deploy.prototxt", place / "weights.caffemodel")
        for shape in ((2, 3, 9, 9), (1, 3, 14, 12)):
            if family == "VGG" and shape[2:] != (9, 9):
                continue
            image = np.random.default_rng(0).normal(size=shape)
            expected = run(moved, image)
            assert_same(run(plain, image).reshape(expected.shape), expected, 1e-4)
