"""Exported networks: the same output as the active convolutions', in the fork, in Caffe without it,
in OpenCV, onnxruntime and PyTorch."""

import json
import os
import re
import resource
import subprocess

import cv2
import numpy as np
import onnx
import pytest
from active_convolution.caffe import locate, messages, nets, positions
from active_convolution.data import database
from active_convolution.errors import UserError
from active_convolution.export import folding, verify
from active_convolution.export.converting import convert
from active_convolution.networks import models
from caffe_nets import assert_same, run, shake
from conftest import ROOT
from engines import engine, onnxruntime_outputs
from exports import ACTIVE, IMAGE, acu, export, layer, written

pytestmark = pytest.mark.slow

PUBLISHED = ROOT / "models/cifar10/published/deploy.prototxt"
FINAL = "acu_plain_cifar10_iter_64000.caffemodel"
DIGITS = ROOT / "models/digits/plain"


def calm(net):
    """Divides the last weights so that a final Softmax gets numbers of at most 1 from an image like
    the tests': its relative error is its input's absolute one, which grows with those numbers."""
    if net.layers[-1].type == "Softmax":
        run(net, np.random.default_rng(1).normal(size=net.blobs["data"].data.shape))
        (logits,) = net.bottom_names[net._layer_names[-1]]
        last = next(layer for layer in reversed(net.layers) if len(layer.blobs))
        for blob in last.blobs:
            blob.data[...] /= np.abs(net.blobs[logits].data).max()


@pytest.fixture(scope="module")
def shaken(tmp_path_factory):
    """Returns (deploy prototxt, .caffemodel) of a checked-in network with random positions and
    averages, batch 1."""
    made = {}

    def make(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("shaken")
            message = messages.read_net(ROOT / "models" / name / "deploy.prototxt")
            message.layer[0].input_param.shape[0].dim[0] = 1
            messages.write(folder / "deploy.prototxt", message)
            locate.caffe().set_random_seed(0)  # of the fillers
            net = locate.caffe().Net(str(folder / "deploy.prototxt"), locate.caffe().TEST)
            shake(net, 0)
            calm(net)
            net.save(str(folder / "weights.caffemodel"))
            made[name] = folder / "deploy.prototxt", folder / "weights.caffemodel"
        return made[name]

    return make


# Each body once, on the first of its data sets, but for the two large ones, which are in ONNX.
ACUS = [*{model.body: f"{model.folder}/acu" for model in reversed(models.MODELS)}.values()]
NETWORKS = [*(name for name in ACUS if not name.startswith("places365")), "cifar10/published"]
LARGE = [name for name in ACUS if name.startswith("places365")]
FIXED = ("places365/alexnet",)  # fully connected layers fix their images' size


def in_opencv(image, *files):
    net = cv2.dnn.readNet(*map(str, files))
    net.setInput(image)
    return net.forward()


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_with_random_positions(name, shaken, tmp_path):
    """In the fork and in OpenCV, whose own folding of what it finds rounds in its own way."""
    model, weights = shaken(name)
    report = export(model, weights, tmp_path / "out", fold=name != "digits/plain/acu")
    files = tmp_path / "out/deploy.prototxt", tmp_path / "out/weights.caffemodel"
    original, exported = nets.load(model, weights), nets.load(*files)
    assert not set(positions.TYPES) & {each.type for each in exported.layers}
    size = original.blobs["data"].data.shape
    image = np.random.default_rng(1).normal(size=size).astype(np.float32)
    expected = run(original, image).reshape(1, -1)
    assert_same(run(exported, image), expected, 1e-4)
    names = [each.name for each in positions.from_caffemodel(weights)]
    assert [row["name"] for row in report["layers"]] == names
    assert all(row["difference"][0] < 1e-4 * row["difference"][1] for row in report["layers"])
    assert_same(in_opencv(image, *reversed(files)), expected, 1e-3)


@pytest.mark.parametrize("name", [*LARGE, "digits/plain/baseline", "cifar10/published"])
def test_onnx(name, shaken, tmp_path):
    """At two image sizes and two batch sizes."""
    model, weights = shaken(name)
    fold = name.startswith("cifar10")
    export(model, weights, tmp_path / "out", format="onnx", fold=fold)
    original = nets.load(model, weights)
    own = original.blobs["data"].data.shape
    sizes = [own, (3, *own[1:])]
    if not name.startswith(FIXED):
        large = name.startswith("places365")
        sizes += [(1, own[1], 96, 128) if large else (2, own[1], own[2] + 8, own[3] + 16)]
    for size in sizes:
        image = np.random.default_rng(1).normal(size=size).astype(np.float32)
        found = onnxruntime_outputs(tmp_path / "out/model.onnx", {"data": image})
        expected = run(original, image)
        assert list(found) == original.outputs
        (values,) = found.values()
        assert values.size == expected.size
        assert_same(values.reshape(expected.shape), expected)
    image = np.random.default_rng(1).normal(size=own).astype(np.float32)
    expected = run(original, image).reshape(1, -1)
    assert_same(in_opencv(image, tmp_path / "out/model.onnx"), expected, 1e-4)


def test_folding_leaves_no_normalisation_in_the_plain_network(shaken, tmp_path):
    report = export(*shaken("digits/plain/acu"), tmp_path / "out", fold=True)
    types = [each.type for each in messages.read_net(tmp_path / "out/deploy.prototxt").layer]
    assert not {"BatchNorm", "Scale"} & set(types) and types.count("Convolution") == 9
    convolutions = ["conv0", *(f"conv{i}/{j}" for i in (1, 2, 3) for j in (1, 2)), "fc1"]
    assert {name: len(of_it) for name, of_it in report["folded"].items()} == dict.fromkeys(
        convolutions, 2
    )


@pytest.mark.quick
def test_report_counts_the_costs(shaken, tmp_path):
    """The first active layer of the digits' network: 16 channels, 48 outputs, 8×8 pixels, nine
    synapses."""
    model, weights = shaken("digits/plain/acu")
    export(model, weights, tmp_path / "out")
    first = json.loads((tmp_path / "out/report.json").read_text())["layers"][0]
    assert first["name"] == "conv1/1" and first["active_kernel"] == [3, 3]
    assert first["active_cost"] == 8 * 8 * 16 * 9 * (48 + 4)
    assert first["cost"] == 8 * 8 * 16 * 48 * np.prod(first["kernel"])
    x, y = (blob.data for blob in nets.load(model, weights).params["conv1/1"][2:])
    assert first["kernel"] == [1 + 2 * int(np.ceil(np.abs(axis).max())) for axis in (y, x)]
    assert 0 < first["difference"][0] < 1e-4 * first["difference"][1]
    text = (tmp_path / "out/report.txt").read_text()
    assert "conv1/1" in text and "output prob on random input: largest difference" in text


# ---- What is written


@pytest.mark.quick
@pytest.mark.parametrize("format", ["caffe", "onnx", "torch"])
def test_outputs_are_classes_and_logits_where_they_are_asked_for(format, tmp_path):
    """Behind a global pooling or fully connected, N×C×1×1 is N×C; a last Softmax can be left
    out."""
    text = (
        IMAGE
        + ACTIVE
        + layer("g", "Pooling", "c", "pooling_param { pool: AVE global_pooling: true }")
    )
    model, weights = written(tmp_path, text + layer("p", "Softmax", "g"))
    image = np.float32(np.random.default_rng(0).normal(size=(2, 3, 9, 9)))
    original = nets.load(model, weights)
    run(original, image)
    for logits, name in ((False, "p"), (True, "g")):
        folder = tmp_path / name
        export(model, weights, folder, format=format, logits=logits)
        expected = original.blobs[name].data.reshape(2, 3)
        if format == "caffe":
            files = folder / "weights.caffemodel", folder / "deploy.prototxt"
            assert nets.load(*reversed(files)).outputs == [name]
            found = in_opencv(image, *files)
        elif format == "onnx":
            found = onnxruntime_outputs(folder / "model.onnx", {"image": image})[name]
        else:
            found = in_torch(folder, image)
        assert_same(found, expected)


def in_torch(folder, image):
    engine("torch")
    return verify._torch({"x": image}, folder / "network.py", folder / "weights.npz")[0][0]


def test_a_map_stays_a_map(tmp_path):
    """Of one pixel, where an image of another size has more."""
    model, weights = written(tmp_path, IMAGE.replace("dim: 9 dim: 9", "dim: 1 dim: 1") + ACTIVE)
    export(model, weights, tmp_path / "out")
    assert messages.read_net(tmp_path / "out/deploy.prototxt").layer[-1].name == "c"


def test_stages(shared_cases, tmp_path):
    """A file for training and deployment in one: what --stage leaves in is written without it."""
    case = shared_cases / "33-stages/net.prototxt"
    net = locate.caffe().Net(str(case), locate.caffe().TEST, stages=["deploy"])
    shake(net, 0)
    net.save(str(tmp_path / "w.caffemodel"))
    given = "export", "--model", case, "--weights", tmp_path / "w.caffemodel", "--output"
    done = acu(*given, tmp_path / "out")
    assert done.returncode == 1 and "give --stage, the file knows deploy" in done.stderr
    done = acu(*given, tmp_path / "out", "--stage", "deploy")
    assert done.returncode == 0, done.stderr
    written = messages.read_net(tmp_path / "out/deploy.prototxt")
    assert [each.name for each in written.layer] == ["data", "conv", "prob"]
    image = np.random.default_rng(0).normal(size=(1, 1, 8, 8))
    files = tmp_path / "out/deploy.prototxt", tmp_path / "out/weights.caffemodel"
    assert_same(run(nets.load(*files), image), run(net, image))


@pytest.mark.quick
def test_weights_in_the_prototxt_give_way_to_those_of_the_file(tmp_path):
    model, weights = written(tmp_path, IMAGE + ACTIVE)
    export(model, weights, tmp_path / "without")
    net = messages.read_net(model)
    net.layer[1].blobs.add(data=[7]).shape.dim.append(1)
    messages.write(model, net)
    export(model, weights, tmp_path / "with")
    for name in ("deploy.prototxt", "weights.caffemodel"):
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()


@pytest.mark.parametrize(
    "helper",
    [
        'type: "Parameter" parameter_param { shape { dim: 3 } }',
        'type: "DummyData" dummy_data_param { shape { dim: 3 } data_filler { type: "gaussian" } }',
    ],
)
def test_layers_that_feed_constants_are_no_source_of_images(helper, tmp_path):
    text = IMAGE + ACTIVE + f'layer {{ name: "f" top: "f" {helper} }}' + layer("s", "Scale", "c f")
    report = export(*written(tmp_path, text), tmp_path / "out", fold=True)
    difference, largest = report["outputs"]["s"]
    assert difference < 1e-5 * largest and not report["folded"]


@pytest.mark.quick
@pytest.mark.parametrize("network", ["acu", "baseline"])
@pytest.mark.parametrize(
    "format, files",
    [
        ("caffe", ["deploy.prototxt", "weights.caffemodel"]),
        ("onnx", ["model.onnx"]),
        ("torch", ["network.py", "weights.npz"]),
    ],
)
def test_the_command(format, files, network, shaken, tmp_path):
    """It prints the report, and the next command, which runs; also of a network without an ACU."""
    model, weights = shaken(f"digits/plain/{network}")
    given = "--model", model, "--weights", weights, "--output", tmp_path / "out"
    done = acu("export", *given, "--format", format)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.json", "report.txt", *files}
    *report, following = done.stdout.splitlines()
    assert "\n".join(report) + "\n" == (tmp_path / "out/report.txt").read_text()
    assert following.startswith("next: python3 -c ") and report[-1].startswith("runs in ")
    if format == "onnx":
        graph = onnx.load(str(tmp_path / "out/model.onnx")).graph
        assert [each.name for each in (*graph.input, *graph.output)] == ["data", "prob"]
    else:
        assert "; the same here in " in report[-1]
        command = following.removeprefix("next: ").replace("python3", "/usr/bin/python3")
        assert subprocess.run(command, shell=True).returncode == 0


def test_no_process_is_started(shaken, tmp_path, monkeypatch):
    """Beside the guard's two: Caffe and all engines run in this one."""
    given = shaken("digits/plain/baseline")

    def refuse(*arguments, **options):
        raise AssertionError(arguments)

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(os, "fork", refuse)
    convert(*given, tmp_path / "acu")
    files = tmp_path / "acu/deploy.prototxt", tmp_path / "acu/weights.caffemodel"
    for format in ("caffe", "onnx", "torch"):
        assert "runs in " in export(*files, tmp_path / format, format=format)["runs"]


# ---- Without the plugin


@pytest.fixture(scope="module")
def published(shared_reference, tmp_path_factory):
    """The authors' final network, exported without and with folding: {fold: folder}."""
    folders = {fold: tmp_path_factory.mktemp("published") / "out" for fold in (False, True)}
    for fold, folder in folders.items():
        export(PUBLISHED, shared_reference / FINAL, folder, fold=fold)
    return folders


@pytest.fixture(scope="module")
def golden(shared_reference):
    """(inputs, logits) of the authors' final network."""
    arrays = np.load(shared_reference / "golden.npz")
    return arrays["inputs"], arrays["logits_64000"]


def plain_caffe_test(model, weights, inputs, folder):
    """Runs `caffe test` of Debian's Caffe without anything of ours on one batch of ``inputs``; a
    CompletedProcess. Its log has a line for every number that the network puts out; the labels
    tell which image it is."""
    message = messages.read_net(model)
    data = locate.caffe_pb2().LayerParameter(name="data", type="Data", top=["data", "label"])
    own = data.data_param
    own.source, own.batch_size, own.backend = str(folder / "lmdb"), len(inputs), own.LMDB
    message.layer[0].CopyFrom(data)
    database.write(folder / "lmdb", inputs, np.arange(len(inputs)))
    messages.write(folder / "test.prototxt", message)
    command = [plain_caffe(), "test", "-model", folder / "test.prototxt", "-weights", weights]
    return subprocess.run(
        [*command, "-iterations", "1"],
        capture_output=True,
        text=True,
        env={**os.environ, "GLOG_minloglevel": "0", "GLOG_logtostderr": "1"},
    )


def plain_caffe():
    program = locate.BUILD / "plain/out/tools/caffe"
    if not program.exists() and "ACTIVE_CONVOLUTION_BUILT" in os.environ:
        pytest.skip("an image of docker/ holds no Caffe without our fork")
    assert program.exists(), "build it with ./scripts/build.sh --plain"
    return program


@pytest.mark.parametrize("fold", [False, True])
def test_golden_logits_in_unpatched_caffe(fold, published, golden, tmp_path):
    inputs, expected = golden
    files = published[fold] / "deploy.prototxt", published[fold] / "weights.caffemodel"
    done = plain_caffe_test(*files, inputs, tmp_path)
    assert done.returncode == 0, done.stderr
    numbers = {
        name: [float(value) for value in re.findall(rf"Batch 0, {name} = (\S+)", done.stderr)]
        for name in ("label", "score")
    }
    logits = np.reshape(numbers["score"], (16, 10))[np.argsort(numbers["label"])]
    assert sorted(numbers["label"]) == list(range(16))
    assert_same(logits, expected, 1e-4)


def test_unpatched_caffe_has_none_of_ours(golden, shared_reference, tmp_path):
    done = plain_caffe_test(PUBLISHED, shared_reference / FINAL, golden[0], tmp_path)
    assert done.returncode != 0 and 'has no field named "aconv_param"' in done.stderr
    for name in (b"ActiveConvolution", b"AConvFast", b"BeforeClipping"):
        for library in (plain_caffe().parent.parent / "lib").glob("libcaffe*.so"):
            assert name not in library.read_bytes()


@pytest.mark.parametrize("fold", [False, True])
def test_golden_logits_in_opencv(fold, published, golden):
    files = published[fold] / "weights.caffemodel", published[fold] / "deploy.prototxt"
    assert_same(in_opencv(golden[0], *files), golden[1], 1e-4)


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("iteration", [10000, 64000])
def test_golden_logits_in_onnxruntime(iteration, fold, golden, shared_reference, tmp_path):
    weights = shared_reference / f"acu_plain_cifar10_iter_{iteration}.caffemodel"
    export(PUBLISHED, weights, tmp_path / "out", format="onnx", fold=fold)
    expected = np.load(shared_reference / "golden.npz")[f"logits_{iteration}"]
    found = onnxruntime_outputs(tmp_path / "out/model.onnx", {"data": golden[0]})["score"]
    assert_same(found, expected, 1e-4)
    assert_same(in_opencv(golden[0], tmp_path / "out/model.onnx"), expected, 1e-4)


# ---- What goes wrong


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(model=DIGITS / "acu/train_val.prototxt"), "of type Data: give the deploy prototxt"),
        (
            dict(model=ROOT / "models/cifar10/plain/acu/deploy.prototxt"),
            "give the weights of this network",
        ),
        (dict(model=('bottom: "conv0"', 'bottom: "nowhere"')), "gives nowhere, which layer"),
        (dict(learnable=True), "--learnable is for --format torch"),
        (dict(output=ROOT / "README.md/out"), "cannot write"),
    ],
)
def test_bad_input(options, message, shaken, tmp_path):
    model, weights = shaken("digits/plain/acu")
    if isinstance(options.get("model"), tuple):
        text = (DIGITS / "acu/deploy.prototxt").read_text().replace(*options["model"])
        options = dict(model=tmp_path / "broken.prototxt")
        options["model"].write_text(text)
    given = {"model": model, "weights": weights, "output": tmp_path / "out", **options}
    with pytest.raises(UserError, match=re.escape(message)) as error:
        export(**given)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("logits", [False, True])
def test_a_network_that_computes_something_else_is_refused(logits, shaken, tmp_path, monkeypatch):
    right = folding.folded

    def wrong(*given):
        weight, bias, *xy = right(*given)
        return [2 * weight, 2 * bias, *xy]

    monkeypatch.setattr(folding, "folded", wrong)
    name = "score" if logits else "prob"
    with pytest.raises(UserError, match=f"^output {name} is not the original's on random input: "):
        export(*shaken("digits/plain/acu"), tmp_path / "out", fold=True, logits=logits)
    assert not list(tmp_path.iterdir())


@pytest.mark.quick
@pytest.mark.parametrize(
    "text, edit, message",
    [
        (
            ACTIVE + layer("b", "BatchNorm", "c", top="c"),
            lambda net, stored: setattr(net.layer[2], "type", "ReLU"),
            "layer b of net.prototxt has no blobs, and net.caffemodel holds 3, 3, 1: give the",
        ),
        (
            ACTIVE,
            lambda net, stored: stored.layer.extend(stored.layer[1:]),
            "net.caffemodel holds 2 layers called c, and weights are stored by name",
        ),
        (
            ACTIVE + layer("c", "ReLU", "c"),
            lambda *_: None,
            "net.prototxt has 2 layers called c",
        ),
    ],
)
def test_blobs_that_caffe_could_not_copy_are_named(text, edit, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, IMAGE + text)
    net, stored = messages.read_net("net.prototxt"), messages.read_weights("net.caffemodel")
    edit(net, stored)
    messages.write("net.prototxt", net)
    messages.write_weights("net.caffemodel", stored)
    with pytest.raises(UserError, match=re.escape(message)):
        export("net.prototxt", "net.caffemodel", "out")
    assert not (tmp_path / "out").exists()


STOCHASTIC = "pooling_param { pool: STOCHASTIC kernel_size: 2 }"
RAISING = "python_param { module: 'broken' layer: 'Raising' }"


@pytest.mark.quick
@pytest.mark.parametrize(
    "more, doing, reason",
    [
        (layer("p", "Pooling", "c", STOCHASTIC), "running", "Not Implemented Yet"),
        (layer("p", "Axpy", "c"), "building", "Unknown layer type: Axpy"),
        (layer("p", "Python", "c", RAISING), "running", "RuntimeError: not today"),
    ],
)
def test_a_network_that_caffe_cannot_run_is_named(more, doing, reason, tmp_path):
    """By the guard, with Caffe's last words."""
    (tmp_path / "broken.py").write_text("""
import caffe
class Raising(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(1)
    def forward(self, bottom, top): raise RuntimeError("not today")
    def backward(self, top, propagate_down, bottom): pass
""")
    model, weights = written(tmp_path, IMAGE + ACTIVE)
    model.write_text(IMAGE + ACTIVE + more)
    paths = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    given = "--model", model, "--weights", weights, "--output", tmp_path / "out"
    done = acu("export", *given, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 1 and reason in done.stderr.splitlines()[-1]
    assert reason.startswith("RuntimeError") or done.stderr.startswith(f"error: {doing} ")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_line(shaken, tmp_path):
    """No file larger than 100 kB can be written; the weights are."""
    model, weights = shaken("digits/plain/acu")
    given = "--model", model, "--weights", weights, "--output", tmp_path / "out"

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = acu("export", *given, preexec_fn=limit)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: writing the weights: ")
    assert not (tmp_path / "out").exists()


def test_what_the_deciding_engine_cannot_run_is_refused(shaken, tmp_path, monkeypatch):
    """Unless the engine is not installed; OpenCV's reason is a sentence."""
    given = shaken("digits/plain/acu")

    def fail(error):
        def run(*_):
            raise error

        readers = {format: dict.fromkeys(of_it, run) for format, of_it in verify._READERS.items()}
        monkeypatch.setattr(verify, "_READERS", readers)

    fail(ImportError("No module named x"))
    for format, first in (("onnx", "onnxruntime"), ("torch", "PyTorch"), ("caffe", "OpenCV")):
        runs = export(*given, tmp_path / format, format=format)["runs"]
        assert f"; not tried here, since missing: {first}" in runs
    fail(ValueError("no such operator\n"))
    for format in ("onnx", "torch"):
        with pytest.raises(UserError, match="cannot run the result .no such operator.$"):
            export(*given, tmp_path / f"{format}2", format=format)
        assert not (tmp_path / f"{format}2").exists()


def test_opencvs_reason_is_a_sentence(tmp_path):
    text = IMAGE + ACTIVE + layer("t", "Threshold", "c")
    runs = export(*written(tmp_path, text), tmp_path / "out")["runs"]
    assert re.search(r"not in OpenCV \(\w+.* \w+.*\)$", runs) and ">" not in runs, runs


def test_the_first_engine_decides_whether_the_files_are_right(shaken, tmp_path, monkeypatch):
    def wrong(inputs, *files):
        found, version = verify._opencv(inputs, *files)
        return [1.1 * np.asarray(values) for values in found], version

    monkeypatch.setitem(verify._READERS, "onnx", {"onnxruntime": wrong})
    with pytest.raises(UserError, match="onnxruntime .* computes something else from the result"):
        export(*shaken("digits/plain/acu"), tmp_path / "out", format="onnx")
    assert not (tmp_path / "out").exists()


def test_a_layer_that_onnx_does_not_have_is_named_first(tmp_path):
    """Before Caffe is asked, or any file is there."""
    more = layer("spp", "SPP", "prob", "spp_param { pyramid_height: 2 }")
    text = (DIGITS / "acu/deploy.prototxt").read_text()
    (tmp_path / "net.prototxt").write_text(text + more)
    with pytest.raises(UserError, match=r"cannot be expressed in ONNX: spp \(SPP\)") as error:
        export(tmp_path / "net.prototxt", "missing.caffemodel", tmp_path / "out", format="onnx")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()
