"""What an export wants to be fed: pictures as people have them, through what is written beside it,
get the error that Caffe finds."""

import json

import cv2
import numpy as np
import onnx
import pytest
from active_convolution.data.manifest import Manifest
from active_convolution.data.preprocess import Whitening
from active_convolution.export import preprocessing, torch_module
from active_convolution.look import evaluation, predict
from active_convolution.training import imaging
from active_convolution.training.trained import Trained
from engines import engine, onnxruntime_outputs
from exports import acu
from test_export_networks import in_opencv
from test_export_torch import loaded

pytestmark = pytest.mark.slow

CLASSES = ["blue", "green", "red"]
NETWORK = """
layer { name: "data" type: "Data" top: "data" top: "label"
  transform_param { crop_size: 12 scale: 0.02 mean_value: 100 mean_value: 110 mean_value: 120 }
  data_param { source: "train" batch_size: 15 backend: LMDB } include { phase: TRAIN } }
layer { name: "data" type: "Data" top: "data" top: "label"
  transform_param { crop_size: 12 scale: 0.02 mean_value: 100 mean_value: 110 mean_value: 120 }
  data_param { source: "test" batch_size: 10 backend: LMDB } include { phase: TEST } }
layer { name: "conv" type: "ActiveConvolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 3 weight_filler { type: "msra" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc"
  include { phase: TEST } }
"""
SOLVER = 'net: "train_val.prototxt" base_lr: 0.05 momentum: 0.9 lr_policy: "fixed" max_iter: 60'


def pictures(folder, count, seed):
    """RGB PNGs of several sizes, of which the brightest colour is the class, mostly."""
    draw = np.random.default_rng(seed)
    for name, channel in zip(CLASSES, (0, 1, 2)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            size = (40, 30) if number % 2 else (24, 33)
            image = draw.normal(110, 60, (*size, 3)) + draw.normal(0, 25, 3)
            image[..., channel] += 30
            image = np.uint8(np.clip(image, 0, 255))
            assert cv2.imwrite(str(folder / name / f"{number}.png"), image)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(the folder of a run on such pictures, [(one for testing, RGB, and its label)])."""
    folder = tmp_path_factory.mktemp("pictures")
    pictures(folder / "images/train", 30, 0)
    pictures(folder / "images/val", 40, 1)
    (folder / "train_val.prototxt").write_text(NETWORK)
    (folder / "solver.prototxt").write_text(
        f"{SOLVER} test_iter: 12 test_interval: 30 snapshot: 60 snapshot_prefix: 'x' random_seed: 3"
    )
    for command in (
        "data images --source images --size 16x18 --resize crop --encode png --output data",
        "train --solver solver.prototxt --data data --output run",
    ):
        done = acu(*command.split(), cwd=folder)
        assert done.returncode == 0, done.stderr
    seen = [
        (cv2.imread(str(path))[..., ::-1], CLASSES.index(path.parent.name))
        for path in sorted((folder / "images/val").rglob("*.png"))
    ]
    return folder / "run", seen


def test_the_error_is_caffes_everywhere(run, tmp_path):
    """With a picture of another size, cut, blue first, less a mean, scaled, cropped: and not
    otherwise."""
    folder, seen = run
    expected = evaluation.evaluate(Trained.of_run(folder))[0]
    assert 2 < expected < 40
    for format in ("caffe", "onnx", "torch"):
        done = acu("export", folder, "--format", format, "--output", tmp_path / format)
        assert done.returncode == 0, done.stderr
        assert "images: BGR, 0 to 255, crop to 18×16, less [100.0, 110.0, 120.0]" in done.stdout
        content = json.loads((tmp_path / format / "preprocessing.json").read_text())
        assert content["classes"] == CLASSES and content["shape"] == [3, 12, 12]
    told = {each.key: each.value for each in onnx.load(tmp_path / "onnx/model.onnx").metadata_props}
    assert json.loads(told["preprocessing"]) == content and json.loads(told["classes"]) == CLASSES
    engine("torch")
    module = loaded(tmp_path / "torch", whole=True)
    assert module.classes == CLASSES
    labels = np.array([label for _, label in seen])
    images = np.concatenate([module.preprocess(image).numpy() for image, _ in seen])
    swapped = np.concatenate([module.preprocess(image[..., ::-1]).numpy() for image, _ in seen])

    def error(scores):
        assert scores.shape == (len(labels), 3)
        return 100 * np.mean(scores.argmax(axis=1) != labels)

    networks = {
        "PyTorch": lambda x: module.load()(engine("torch").from_numpy(x)).detach().numpy(),
        "onnxruntime": lambda x: onnxruntime_outputs(tmp_path / "onnx/model.onnx", {"data": x})[
            "prob"
        ],
        "OpenCV": lambda x: in_opencv(x, tmp_path / "onnx/model.onnx"),
        "OpenCV, of Caffe's files": lambda x: in_opencv(
            x, tmp_path / "caffe/weights.caffemodel", tmp_path / "caffe/deploy.prototxt"
        ),
    }
    for name, network in networks.items():
        assert error(network(images)) == pytest.approx(expected, abs=0.9), name  # an image's
        assert error(network(swapped)) > expected + 15, name


def test_without_a_data_set_that_is_said(run, tmp_path):
    folder, _ = run
    weights = next((folder / "snapshots").glob("*.caffemodel"))
    files = "--model", folder / "deploy.prototxt", "--weights", weights
    done = acu("export", *files, "--output", tmp_path / "a")
    assert "images: how they were prepared is unknown" in done.stdout
    assert not (tmp_path / "a/preprocessing.json").exists()
    done = acu("export", *files, "--data", folder.parent / "data", "--output", tmp_path / "b")
    assert (tmp_path / "b/preprocessing.json").exists() and "images: BGR" in done.stdout


def test_convert_takes_a_run(run, tmp_path):
    """Its network for training; nothing is left to convert there, where all is active."""
    done = acu("convert", run[0], "--output", tmp_path / "out")
    assert done.returncode == 1 and "train_val.prototxt has no such convolution" in done.stderr


def manifest(folder, how, **more):
    part = dict(images=1, shape=[3, 14, 12], images_per_class=[1])
    folder = dict(folder=str(folder), test=part)
    return Manifest.of({"dataset": "m", "classes": 2, "preprocessing": how, **folder, **more})


CROP = "crop_size: 8 scale: 0.5 mean_value: 3 mean_value: 4 mean_value: 5"
WAYS = {
    "stretch": (dict(resize="stretch"), CROP, dict(channel_order="RGB")),
    "smooth": (dict(resize="crop", smooth=True), CROP, dict(channel_order="BGR")),
    "pad": (dict(resize="pad", smooth=True), CROP, {}),
    "a range": (dict(scale=0.25), "", dict(channel_order="RGB", value_range=[0, 16])),
    "a mean image": (dict(mean_file="mean.npy", scale=0.5), "crop_size: 8", {}),
    "grey": (dict(scale=0.1), "mean_value: 7", dict(channel_order="grey")),
    "whitened": (dict(contrast_scale=55, whitening="w.npz"), "", dict(channel_order="RGB")),
}


@pytest.mark.parametrize("way", WAYS)
def test_preprocess_does_what_predict_does(way, tmp_path):
    """In a module that sees torch alone: with OpenCV's resizing, but for its rounding."""
    how, transform, more = WAYS[way]
    engine("torch")
    (tmp_path / "train_val.prototxt").write_text(
        f'layer {{ name: "data" type: "Data" top: "data" transform_param {{ {transform} }} }}'
    )
    draw = np.random.default_rng(0)
    shape = (1 if way == "grey" else 3, 8, 8)
    np.save(tmp_path / "mean.npy", draw.normal(100, 20, (3, 14, 12)))
    Whitening(*map(np.float32, (draw.normal(size=192), draw.normal(size=(192, 192))))).save(
        tmp_path / "w.npz"
    )
    data = manifest(tmp_path, how, **more)
    trained = Trained(tmp_path, train_val=tmp_path / "train_val.prototxt", data=data)
    prepared = imaging.steps(trained, shape)
    preprocessing.write(tmp_path, prepared)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "g",
        *([onnx.helper.make_tensor_value_info(name, 1, [1, *shape])] for name in "xy"),
    )
    torch_module.write(tmp_path, onnx.helper.make_model(graph), prepared)
    module, prepare = loaded(tmp_path, whole=True), predict.Preparation(trained, shape)
    for size in ((14, 12), (8, 8), (30, 20), (5, 40), (50, 9)):
        image = draw.integers(0, 256, (*size, 3), np.uint8)
        for each in (image, image[..., 0]):
            (expected,) = prepare([each])
            found = module.preprocess(each).numpy()
            assert found.shape == (1, *shape)
            level = max(1e-3, 1.01 * prepared[0]["scale"])
            if way == "whitened":
                level = 0.02 * np.abs(expected).max() if size != (8, 8) else 1e-3
            assert np.abs(found[0] - expected).max() <= level, size
