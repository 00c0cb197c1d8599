"""Whole networks as ONNX: in onnxruntime and in OpenCV, at two image sizes and two batch sizes, and from the command
line."""

import json
import subprocess
import sys

import cv2
import numpy as np
import onnx
import pytest
from active_convolution.caffe import nets
from active_convolution.errors import UserError
from active_convolution.export import exporting
from active_convolution.networks import models
from caffe_nets import INPUT, assert_same, live, run
from conftest import ROOT
from engines import onnxruntime_outputs
from test_conversion_exporting import NETWORKS, PUBLISHED  # noqa: F401: a fixture

pytestmark = pytest.mark.slow

BASELINES = [
    f"{model.folder}/baseline"
    for model in models.MODELS
    if model.folder.startswith(("digits", "places365"))
]
FIXED = ("places365/alexnet",)  # fully connected layers fix their images' size


@pytest.mark.parametrize("name", NETWORKS + BASELINES)
def test_networks(name, shaken, tmp_path):  # noqa: F811
    model, weights = shaken(name)
    exporting.export(
        model, weights, tmp_path / "out", format="onnx", fold=name.startswith("cifar10")
    )
    original = nets.load(model, weights)
    own = original.blobs["data"].data.shape
    sizes = [own, (3, *own[1:])]
    if not name.startswith(FIXED):
        sizes += (
            [(2, own[1], own[2] + 8, own[3] + 16)]
            if not name.startswith("places365")
            else [(1, own[1], 96, 128)]
        )
    for size in sizes:
        image = np.random.default_rng(1).normal(size=size).astype(np.float32)
        found = onnxruntime_outputs(tmp_path / "out/model.onnx", {"data": image})
        expected = run(original, image)
        assert list(found) == original.outputs
        assert_same(found[original.outputs[0]], expected)
    image = np.random.default_rng(1).normal(size=own).astype(np.float32)
    opencv = cv2.dnn.readNetFromONNX(str(tmp_path / "out/model.onnx"))
    opencv.setInput(image)
    expected = run(original, image)
    assert_same(opencv.forward().reshape(expected.shape), expected, 1e-4)


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("iteration", [10000, 64000])
def test_golden_logits(iteration, fold, shared_reference, tmp_path):
    golden = np.load(shared_reference / "golden.npz")
    exporting.export(
        PUBLISHED,
        shared_reference / f"acu_plain_cifar10_iter_{iteration}.caffemodel",
        tmp_path / "out",
        format="onnx",
        fold=fold,
    )
    found = onnxruntime_outputs(tmp_path / "out/model.onnx", {"data": golden["inputs"]})["score"]
    assert_same(found.reshape(16, 10), golden[f"logits_{iteration}"], 1e-4)
    opencv = cv2.dnn.readNetFromONNX(str(tmp_path / "out/model.onnx"))
    opencv.setInput(golden["inputs"])
    assert_same(opencv.forward().reshape(16, 10), golden[f"logits_{iteration}"], 1e-4)


def test_a_sum_of_convolutions(tmp_path):
    """The sparse form, with its crops, in onnxruntime; the image's size is free."""
    text = INPUT.format("dim: 1 dim: 64 dim: 30 dim: 40") + (
        'layer { name: "c" type: "ActiveConvolution" bottom: "image" top: "c" convolution_param { num_output: 64 kernel_size: 5 dilation: 4 '
        'pad: 8 weight_filler { type: "msra" } } }\n'
    )
    net = live(tmp_path / "net.prototxt", text)
    for blob in list(net.params["c"])[2:]:
        blob.data.reshape(-1)[7] += 0.3
    net.save(str(tmp_path / "net.caffemodel"))
    done = exporting.export(
        tmp_path / "net.prototxt", tmp_path / "net.caffemodel", tmp_path / "out", format="onnx"
    )
    assert len(done.layers[0].parts) == 2
    for shape in ((1, 64, 30, 40), (2, 64, 41, 37)):
        image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        assert_same(
            onnxruntime_outputs(tmp_path / "out/model.onnx", {"image": image})["c"], run(net, image)
        )


@pytest.mark.quick
def test_the_command(shaken, tmp_path):  # noqa: F811
    model, weights = shaken("digits/plain/acu")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "active_convolution",
            "export",
            "--format",
            "onnx",
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
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "model.onnx",
        "report.json",
        "report.txt",
    ]
    assert done.stdout == (tmp_path / "out/report.txt").read_text()
    assert done.stdout.splitlines()[-1].startswith("runs in whatever reads ONNX; the same here in ")
    report = json.loads((tmp_path / "report.json").read_text())
    assert (
        report == json.loads((tmp_path / "out/report.json").read_text())
        and "OpenCV" in report["engines"]
    )
    written = onnx.load(str(tmp_path / "out/model.onnx"))
    assert [each.name for each in (*written.graph.input, *written.graph.output)] == ["data", "prob"]


def test_a_layer_that_onnx_does_not_have_is_named_first(tmp_path):
    """Before Caffe is asked, or any file is there."""
    text = (ROOT / "models/digits/plain/acu/deploy.prototxt").read_text()
    (tmp_path / "net.prototxt").write_text(
        text
        + 'layer { name: "spp" type: "SPP" bottom: "prob" top: "spp" spp_param { pyramid_height: 2 } }'
    )
    with pytest.raises(
        UserError, match=r"these layers cannot be expressed in ONNX: spp \(SPP\)"
    ) as error:
        exporting.export(
            tmp_path / "net.prototxt", "missing.caffemodel", tmp_path / "out", format="onnx"
        )
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "reason, taken",
    [("Fail: no such operator", False), ("ModuleNotFoundError: No module named 'x'", True)],
)
def test_what_the_deciding_engine_cannot_run_is_refused(
    reason, taken, shaken, tmp_path, monkeypatch
):  # noqa: F811
    """Unless the engine is not installed."""
    from active_convolution.export import engines

    def fail(*_):
        raise engines.Failed(reason)

    monkeypatch.setattr(engines, "outputs", fail)
    for number, format in enumerate(("onnx", "torch")):
        given = (*shaken("digits/plain/acu"), tmp_path / str(number))
        if taken or format == "onnx":
            assert (
                f"not in {'onnxruntime' if format == 'onnx' else 'PyTorch'}"
                in exporting.export(*given, format=format).runs
            )
            continue
        with pytest.raises(
            UserError,
            match="cannot run the result .Fail: no such operator., so nothing is written: give --format",
        ):
            exporting.export(*given, format=format)
        assert not (tmp_path / str(number)).exists()


def test_onnxruntime_decides_whether_the_files_are_right(shaken, tmp_path, monkeypatch):  # noqa: F811
    from active_convolution.export import engines

    real = engines.outputs

    def wrong(engine, inputs, *files):
        found, version = real("OpenCV", inputs, *files)
        return {name: 1.1 * values for name, values in found.items()}, version

    monkeypatch.setattr(engines, "outputs", wrong)
    with pytest.raises(
        UserError,
        match="onnxruntime .* computes something else from the result: .* so nothing is written",
    ):
        exporting.export(*shaken("digits/plain/acu"), tmp_path / "out", format="onnx")
    assert not (tmp_path / "out").exists()
