"""Evaluation against `caffe test` and a second way to the same numbers, and its errors."""

import os
import re
import subprocess

import lmdb
import numpy as np
import pytest
from active_convolution.caffe import locate, messages
from active_convolution.data import database
from active_convolution.data.manifest import Manifest, Part, database_path, source_bytes
from active_convolution.errors import UserError
from active_convolution.look import evaluation
from active_convolution.networks import models
from active_convolution.training.trained import Trained
from active_convolution.training.trainer import train
from commands import acu, refused

CLASSES, COUNT, BATCH = 12, 120, 40  # of the made data; BATCH is that of `caffe test`
STORED, SEEN = (3, 19, 22), (3, 12, 12)  # odd margins: the middle is rounded
MEAN, SCALE = (104, 117, 123), 0.0078125


def write_data(folder, images, labels, classes=CLASSES, **entries):
    """A data set folder with these images for testing; ``entries`` are the Manifest's."""
    path = database_path(folder, "test")
    database.write(path, images, labels)
    counts = np.bincount(labels, minlength=classes).tolist()
    part = Part(len(labels), list(images.shape[1:]), counts, bytes=source_bytes(path, "LMDB"))
    Manifest("made", classes, test=part, **entries).write(folder)
    return folder


def made_images(count=COUNT):
    """Images (count, *STORED) uint8 that differ from place to place, and labels."""
    draw = np.random.default_rng(7)
    coarse = draw.integers(0, 256, (count, 3, 5, 6), np.uint8).repeat(4, axis=2).repeat(4, axis=3)
    return coarse[:, :, : STORED[1], : STORED[2]], draw.integers(0, CLASSES, count)


def write_network(folder, source, std=0.3, softmax=True, outputs=CLASSES, **transform):
    """A small network with an ACU that takes SEEN: deploy and, beside it, train_val with the
    accuracies of both kinds, and its random weights."""
    caffe, layers = locate.caffe(), locate.caffe().layers
    random = dict(weight_filler=dict(type="gaussian", std=std))

    def body(net, data):
        net["conv"] = layers.ActiveConvolution(
            data, convolution_param=dict(num_output=6, kernel_size=3, stride=2, **random)
        )
        net["relu"] = layers.ReLU(net["conv"], in_place=True)
        net["score"] = layers.InnerProduct(net["relu"], num_output=outputs, **random)
        return net["score"]

    deploy, net = caffe.NetSpec(), caffe.NetSpec()
    deploy["data"] = layers.Input(shape=dict(dim=[1, *SEEN]))
    score = body(deploy, deploy["data"])
    if softmax:
        deploy["prob"] = layers.Softmax(score)
    net["data"], net["label"] = layers.Data(
        ntop=2,
        include=dict(phase=caffe.TEST),
        data_param=dict(source=str(source), batch_size=BATCH, backend=1),
        transform_param=transform or dict(crop_size=12, mean_value=list(MEAN), scale=SCALE),
    )
    score = body(net, net["data"])
    net["accuracy"] = layers.Accuracy(score, net["label"])
    net["accuracy_top5"] = layers.Accuracy(score, net["label"], top_k=5)
    folder.mkdir(exist_ok=True)
    (folder / "deploy.prototxt").write_text(models.text(deploy.to_proto()))
    (folder / "train_val.prototxt").write_text(models.text(net.to_proto()))
    caffe.set_random_seed(4)
    live = caffe.Net(str(folder / "deploy.prototxt"), caffe.TEST)
    live.params["conv"][2].data[...] += 0.3  # off the grid
    live.save(str(folder / "made.caffemodel"))
    return folder


def predictions(network, views):
    """Another way to the class probabilities of prepared views (n, *SEEN): one by one."""
    model, weights = (str(network / name) for name in ("deploy.prototxt", "made.caffemodel"))
    net, answers = locate.caffe().Net(model, locate.caffe().TEST, weights=weights), []
    for view in views:
        net.blobs["data"].data[0] = view
        answers.append(net.forward()["prob"].astype(np.float64).ravel())
    return np.array(answers)


def prepared(images):
    return (images.astype(np.float64) - np.reshape(MEAN, (3, 1, 1))) * SCALE


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(data, network): two thirds of the images have the label that the network sees in their
    middle."""
    folder = tmp_path_factory.mktemp("made")
    network = write_network(folder / "network", database_path(folder / "data", "test"))
    images, labels = made_images()
    known = predictions(network, prepared(images)[:, :, 3:15, 5:17]).argmax(axis=1)
    labels[: 2 * COUNT // 3] = known[: 2 * COUNT // 3]
    (folder / "data").mkdir()
    return write_data(folder / "data", images, labels), network


def trained(network, **options):
    return Trained.of_files(network / "deploy.prototxt", network / "made.caffemodel", **options)


def run(network, data=None, **options):
    """``evaluate`` as counts: (wrong, wrong among five, images)."""
    top1, top5, count = evaluation.evaluate(trained(network), data, **options)
    return round(top1 * count / 100), round(top5 * count / 100), count


def caffe_test(network):
    """The same counts, from Caffe's own program."""
    command = [locate.BUILD / "out/tools/caffe", "test", "-model", network / "train_val.prototxt"]
    command += ["-weights", network / "made.caffemodel", "-iterations", str(COUNT // BATCH)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "GLOG_minloglevel": "0"}
    )
    assert done.returncode == 0, done.stderr
    right = [
        float(re.findall(rf"\] {name} = (\S+)", done.stderr)[-1]) * COUNT
        for name in ("accuracy", "accuracy_top5")
    ]
    np.testing.assert_allclose(right, np.round(right), atol=0.01)
    return COUNT - round(right[0]), COUNT - round(right[1]), COUNT


# ---- As Caffe itself


@pytest.mark.parametrize("batch", [COUNT, 7])  # the last one not whole
def test_cropped_images_with_a_mean_agree_with_caffe_test(made, batch):
    data, network = made
    expected = caffe_test(network)
    assert 10 < expected[0] <= COUNT // 3 and 0 < expected[1] < expected[0]
    assert run(network, data, batch=batch) == run(network, batch=batch) == expected


def test_a_mean_file_agrees_with_caffe_test(made, tmp_path):
    data, _ = made
    images, _ = made_images()
    blob = locate.caffe_pb2().BlobProto(num=1, channels=3, height=19, width=22)
    blob.data.extend(images.mean(axis=0).ravel().tolist())
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    transform = dict(crop_size=12, mean_file=str(tmp_path / "mean.binaryproto"), scale=SCALE)
    network = write_network(tmp_path / "net", database_path(data, "test"), **transform)
    assert run(network) == run(network, data) == caffe_test(network)
    assert run(network, data, ten_crop=True)[2] == COUNT


@pytest.mark.slow
def test_probabilities_that_vanish_do_not_tie(tmp_path):
    """exp(−200) is zero in float, whatever the score: the scores decide, as in Caffe's Accuracy."""
    data = write_data(tmp_path, *made_images())
    network = write_network(tmp_path / "network", database_path(data, "test"), std=20)
    probabilities = predictions(network, prepared(made_images()[0])[:, :, 3:15, 5:17])
    assert (probabilities.astype(np.float32) == 0).mean() > 0.8
    assert run(network) == caffe_test(network)


# ---- Ten crops


def test_views_of_one_image():
    image = np.arange(4 * 5).reshape(1, 1, 4, 5)
    corners = [[0, 1], [5, 6]], [[3, 4], [8, 9]], [[10, 11], [15, 16]], [[13, 14], [18, 19]]
    views = np.array([*corners, [[6, 7], [11, 12]]])
    expected = np.concatenate([views, views[:, :, ::-1]])
    np.testing.assert_array_equal(evaluation.ten(image, (2, 2))[:, 0, 0], expected)


def ten_views(image):
    """One after the other, in numbers: STORED less SEEN leaves 7 rows and 10 columns."""
    for top, left in (0, 0), (0, 10), (7, 0), (7, 10), (3, 5):
        view = image[:, top : top + 12, left : left + 12]
        yield from (view, view[:, :, ::-1])


def test_ten_crops_average_the_probabilities(made, tmp_path):
    data, network = made
    wrong = np.zeros(2, int)
    with lmdb.open(str(database_path(data, "test")), lock=False) as store:
        for _, value in store.begin().cursor():
            record = locate.caffe_pb2().Datum.FromString(value)
            image = np.frombuffer(record.data, np.uint8).reshape(STORED)
            mean = predictions(network, ten_views(prepared(image))).mean(axis=0)
            rank = (mean > mean[record.label]).sum()
            wrong += rank >= 1, rank >= 5
    single, ten = run(network, data), run(network, data, ten_crop=True)
    assert ten == (*wrong, COUNT)
    assert ten[0] > single[0], "labels that the middle alone gave"
    assert run(network, ten_crop=True, batch=37) == run(network, ten_crop=True, batch=1) == ten
    bare = write_network(tmp_path / "bare", database_path(data, "test"), softmax=False)
    assert run(bare, ten_crop=True) == ten


# ---- What it says


def test_a_run_is_evaluated_by_its_name(tiny, digits_data, tmp_path):
    assert train(tiny, "acu", digits_data, tmp_path / "run", max_iter=8) == 0
    error = 100 * float((tmp_path / "run/metrics.csv").read_text().splitlines()[-1].split(",")[4])
    done = acu("evaluate", tmp_path / "run", "--json", tmp_path / "run/evaluation.json")
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    assert re.fullmatch(rf"top-1 error {error:.2f} %, top-5 error \d+\.\d\d %, 297 images", first)
    assert last == f"next: acu report {tmp_path}/run"
    assert acu("report", tmp_path / "run").returncode == 0


@pytest.mark.parametrize("outputs, five", [(100, True), (5, False)])
def test_a_part_of_the_networks_classes(tmp_path, outputs, five):
    """Labels up to 4 for a network of more outputs; of five classes, five answers say nothing."""
    data = write_data(tmp_path, made_images()[0], np.arange(COUNT) % 5, classes=5)
    network = write_network(tmp_path / "net", database_path(data, "test"), outputs=outputs)
    files = ("--model", network / "deploy.prototxt", "--weights", network / "made.caffemodel")
    done = acu("evaluate", *files, "--data", data)
    assert done.returncode == 0, done.stderr
    assert ("top-5" in done.stdout) == five
    assert ("labels go up to 4: the network has 100 outputs" in done.stdout) == five


# ---- Errors


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (made_images(10)[0], np.arange(10) + 3, "has the label 12, and .* 12 outputs, for 0 to 11"),
        (made_images(10)[0][:, :1], np.arange(10), "Caffe: .*mean"),
        (np.zeros((10, 3, 11, 22), np.uint8), np.arange(10), "reading .*: Caffe: .*crop_size"),
    ],
)
def test_data_that_does_not_fit(made, tmp_path, images, labels, message):
    data = write_data(tmp_path, images, labels)
    files = [made[1] / name for name in ("deploy.prototxt", "made.caffemodel")]
    said = refused("evaluate", "--model", files[0], "--weights", files[1], "--data", data)
    assert re.search(message, said), said


def test_sizes_that_do_not_fit(made, tmp_path):
    data, network = made
    for name in "deploy.prototxt", "made.caffemodel":
        (tmp_path / name).write_bytes((network / name).read_bytes())
    with pytest.raises(UserError, match="come as 3×19×22, .* takes 3×12×12: .*--train-val"):
        run(tmp_path, data)
    with pytest.raises(UserError, match="give --data or --train-val"):
        run(tmp_path)
    elsewhere = trained(tmp_path, train_val=network / "train_val.prototxt")
    assert evaluation.evaluate(elsewhere)[2] == COUNT
    (tmp_path / "small").mkdir()
    small = write_data(tmp_path / "small", made_images(10)[0][:, :, :12, :12].copy(), np.arange(10))
    assert run(network, small)[2] == 10
    with pytest.raises(UserError, match="leave --ten-crop out"):
        run(network, small, ten_crop=True)


def test_weights_of_another_shape_are_refused(made, tmp_path):
    """With as many values: Caffe itself would end the process."""
    data, network = made
    stored = messages.read_weights(network / "made.caffemodel")
    next(layer for layer in stored.layer if layer.name == "conv").blobs[0].shape.dim[:2] = [3, 6]
    (tmp_path / "w.caffemodel").write_bytes(stored.SerializeToString())
    with pytest.raises(UserError, match="layer conv of .* 6×3×3×3, .* holds 3×6×3×3"):
        evaluation.evaluate(
            Trained.of_files(network / "deploy.prototxt", tmp_path / "w.caffemodel")
        )


INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [%s] } } } '
SCORE = (
    'layer { name: "score" type: "InnerProduct" bottom: "%s" top: "score" '
    "inner_product_param { num_output: 12 } } "
)
FOR_ONE = 'layer { name: "flat" type: "Reshape" bottom: "data" top: "flat" '
FOR_ONE += "reshape_param { shape { dim: [1, 432] } } } "


@pytest.mark.parametrize(
    "text, message",
    [
        (
            INPUT % "1, 3, 12, 12" + FOR_ONE + SCORE % "flat",
            "on 50 images at once .*: Caffe: .*count",
        ),
        (INPUT % "1, 5" + SCORE % "data", "takes 5 for an image, not channels×height×width: give"),
        (INPUT % "1, 3, 12, 12", "gives 3×12×12 values for an image: give the deploy"),
        (INPUT % "1, 3, 12, 12" + SCORE % "dada", "no layer of .* gives dada, which layer score"),
        (
            INPUT % "1, 3, 12, 12" + SCORE.replace("InnerProduct", "Foo") % "data",
            "building the network .*: Caffe: .*Foo",
        ),
    ],
)
def test_a_network_that_classifies_no_batch_of_images(made, tmp_path, text, message):
    """Whatever ends Caffe is one line."""
    (tmp_path / "deploy.prototxt").write_text(text)
    weights = made[1] / "made.caffemodel"
    if "flat" in text or "1, 5" in text:
        weights = tmp_path / "w.caffemodel"
        net = locate.caffe().Net(str(tmp_path / "deploy.prototxt"), locate.caffe().TEST)
        net.save(str(weights))
    files = ("--model", tmp_path / "deploy.prototxt", "--weights", weights)
    said = refused(
        "evaluate", *files, "--data", made[0], "--train-val", made[1] / "train_val.prototxt"
    )
    assert re.search(message, said), said


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "name a RUN, or give --model and --weights"),
        (("run", "--model", "m"), "RUN brings what --model names"),
        (("--model", "m", "--weights", "w", "--iteration", "3"), "--iteration is a RUN's"),
    ],
)
def test_what_goes_together(arguments, message):
    assert message in refused("evaluate", *arguments, status=2)


def test_a_stage(made, shared_cases, tmp_path):
    """Case 33: the network for images has one, its data layer another."""
    net = shared_cases / "33-stages/net.prototxt"
    caffe = locate.caffe()
    caffe.Net(str(net), caffe.TEST, stages=["deploy"]).save(str(tmp_path / "w.caffemodel"))
    files = ("--model", net, "--weights", tmp_path / "w.caffemodel", "--data", made[0])
    assert "give --stage, the file knows deploy, train" in refused("evaluate", *files)
    assert "gives 2×6×6 values" in refused("evaluate", *files, "--stage", "deploy")
