"""evaluate.py against `caffe test` and a second way to the same numbers, and its errors."""

import os
import re
import shutil
import subprocess

import cv2
import lmdb
import numpy as np
import pytest
from active_convolution.caffe import locate, messages
from active_convolution.data import database, datum
from active_convolution.data.folder import database_bytes, database_path, write_manifest
from active_convolution.errors import UserError
from active_convolution.look import evaluation
from active_convolution.networks import models
from active_convolution.training.trainer import train
from conftest import ROOT

CLASSES, COUNT, BATCH = 12, 120, 40  # of the made data; BATCH is that of `caffe test`
STORED, SEEN = (3, 19, 22), (3, 12, 12)  # odd margins: the middle is rounded
MEAN, SCALE = (104, 117, 123), 0.0078125


def write_data(folder, images, labels, **entries):
    """A data set folder with these images for testing (and training); ``entries`` are more ones of its manifest."""
    for split in "train", "test":
        database.write(database_path(folder, split), images, labels)
    return describe(folder, images=len(labels), shape=list(images.shape[1:]), **entries)


def describe(folder, **entries):
    """Writes the manifest of the databases in ``folder``."""
    write_manifest(
        folder,
        {
            "dataset": "made",
            **{
                split: {**entries, "bytes": database_bytes(folder, split)}
                for split in ("train", "test")
            },
        },
    )
    return folder


def made_images(count=COUNT):
    """Images (count, *STORED) uint8 that differ from place to place, and labels."""
    draw = np.random.default_rng(7)
    coarse = draw.integers(0, 256, (count, STORED[0], 5, 6))
    images = (
        coarse.repeat(4, axis=2).repeat(4, axis=3)[:, :, : STORED[1], : STORED[2]].astype(np.uint8)
    )
    return images, draw.integers(0, CLASSES, count)


def write_network(folder, source, std=0.3, softmax=True, transform=True):
    """A small network with an ACU that takes SEEN: deploy and, beside it, train_val with the accuracies of both kinds, and
    its random weights."""
    caffe, layers = locate.caffe(), locate.caffe().layers

    def body(net, data):
        net["conv"] = layers.ActiveConvolution(
            data,
            convolution_param=dict(
                num_output=6, kernel_size=3, stride=2, weight_filler=dict(type="gaussian", std=std)
            ),
        )
        net["relu"] = layers.ReLU(net["conv"], in_place=True)
        net["score"] = layers.InnerProduct(
            net["relu"], num_output=CLASSES, weight_filler=dict(type="gaussian", std=std)
        )
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
        **dict(transform_param=dict(crop_size=SEEN[1], mean_value=list(MEAN), scale=SCALE))
        if transform
        else {},
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


def predictions(network, images):
    """Another way to the class probabilities of prepared views (n, *SEEN): one by one."""
    net = locate.caffe().Net(
        str(network / "deploy.prototxt"),
        locate.caffe().TEST,
        weights=str(network / "made.caffemodel"),
    )
    answers = []
    for image in images:
        net.blobs["data"].data[0] = image
        answers.append(net.forward()["prob"].astype(np.float64).ravel())
    return np.array(answers)


def prepared(images):
    return (images.astype(np.float64) - np.reshape(MEAN, (3, 1, 1))) * SCALE


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(data, network): two thirds of the images have the label that the network sees in their middle."""
    folder = tmp_path_factory.mktemp("made")
    network = write_network(folder / "network", database_path(folder / "data", "test"))
    images, labels = made_images()
    middle = prepared(images)[:, :, 3:15, 5:17]
    known = predictions(network, middle).argmax(axis=1)
    labels[: 2 * COUNT // 3] = known[: 2 * COUNT // 3]
    return write_data(folder / "data", images, labels), network


def run(network, data, **options):
    """``evaluate`` as counts: (wrong, wrong among five, images)."""
    top1, top5, count = evaluation.evaluate(
        network / "deploy.prototxt", network / "made.caffemodel", data, **options
    )
    return round(top1 * count), round(top5 * count), count


def caffe_test(train_val, weights, iterations, batch):
    """The same counts, from Caffe's own program."""
    done = subprocess.run(
        [
            locate.BUILD / "out/tools/caffe",
            "test",
            "-model",
            train_val,
            "-weights",
            weights,
            "-iterations",
            str(iterations),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "GLOG_minloglevel": "0"},
    )
    assert done.returncode == 0, done.stderr
    count = iterations * batch
    right = [
        float(re.findall(rf"\] {name} = (\S+)", done.stderr)[-1]) * count
        for name in ("accuracy", "accuracy_top5")
    ]
    np.testing.assert_allclose(right, np.round(right), atol=0.01)
    return count - round(right[0]), count - round(right[1]), count


# ---- As Caffe itself


@pytest.mark.parametrize("batch", [COUNT, 7])  # the last one not whole
def test_cropped_images_with_a_mean_agree_with_caffe_test(made, batch):
    data, network = made
    expected = caffe_test(
        network / "train_val.prototxt", network / "made.caffemodel", COUNT // BATCH, BATCH
    )
    assert 10 < expected[0] <= COUNT // 3 and 0 < expected[1] < expected[0]
    assert run(network, data, batch=batch) == expected


def test_jpeg_records_agree_with_caffe_test(made, tmp_path):
    """As create_lmdb.py writes Places365: whoever decodes them, the pixels are the same."""
    images, labels = made_images()
    data = write_data(tmp_path / "data", images, labels)
    with (
        lmdb.open(str(database_path(data, "test"))) as store,
        store.begin(write=True) as transaction,
    ):
        for key, value in transaction.cursor():
            record = locate.caffe_pb2().Datum.FromString(value)
            record.data = cv2.imencode(".jpg", datum.pixels(record).transpose(1, 2, 0))[1].tobytes()
            record.encoded = True
            transaction.put(key, record.SerializeToString())
    describe(data, images=COUNT, shape=list(STORED))
    network = write_network(tmp_path / "network", database_path(data, "test"))
    expected = caffe_test(
        network / "train_val.prototxt", network / "made.caffemodel", COUNT // BATCH, BATCH
    )
    assert run(network, data) == expected


@pytest.mark.slow
def test_a_trained_network_agrees_with_caffe_test(tiny, digits_data, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert train(tiny, "acu", digits_data, tmp_path / "run", max_iter=4) == 0
    folder = tmp_path / "run"
    weights = folder / "snapshots/digits_tiny_acu_iter_4.caffemodel"
    net = messages.read_net(folder / "train_val.prototxt")
    accuracy = next(layer for layer in net.layer if layer.type == "Accuracy")
    five = net.layer.add(
        type="Accuracy",
        name="five",
        bottom=accuracy.bottom,
        top=["accuracy_top5"],
        include=accuracy.include,
    )
    five.accuracy_param.top_k = 5
    messages.write(tmp_path / "five.prototxt", net)
    expected = caffe_test(tmp_path / "five.prototxt", weights, 3, 99)
    top1, top5, count = evaluation.evaluate(folder / "deploy.prototxt", weights, digits_data)
    assert (round(top1 * count), round(top5 * count), count) == expected


@pytest.mark.slow
def test_probabilities_that_vanish_do_not_tie(tmp_path):
    """exp(−200) is zero in float, whatever the score: the scores decide, as in Caffe's Accuracy layer."""
    network = write_network(tmp_path / "network", database_path(tmp_path / "data", "test"), std=20)
    data = write_data(tmp_path / "data", *made_images())
    expected = caffe_test(
        network / "train_val.prototxt", network / "made.caffemodel", COUNT // BATCH, BATCH
    )
    probabilities = predictions(network, prepared(made_images()[0])[:, :, 3:15, 5:17])
    assert (probabilities.astype(np.float32) == 0).mean() > 0.8
    assert run(network, data) == expected


# ---- Ten crops


def ten_views(image):
    """One after the other, in numbers: STORED less SEEN leaves 7 rows and 10 columns."""
    for top, left in (0, 0), (0, 10), (7, 0), (7, 10), (3, 5):
        view = image[:, top : top + 12, left : left + 12]
        yield from (view, view[:, :, ::-1])


def test_ten_crops_average_the_probabilities(made):
    data, network = made
    wrong = np.zeros(2, int)
    for images, labels in database.batches(database_path(data, "test"), STORED, COUNT, 30):
        for image, label in zip(prepared(images), labels):
            mean = predictions(network, ten_views(image)).mean(axis=0)
            rank = (mean > mean[label]).sum()
            wrong += rank >= 1, rank >= 5
    single, ten = run(network, data), run(network, data, ten_crop=True)
    assert ten == (*wrong, COUNT)
    assert ten[0] > single[0], "labels that the middle alone gave"
    assert (
        run(network, data, ten_crop=True, batch=37)
        == run(network, data, ten_crop=True, batch=1)
        == ten
    )


@pytest.mark.slow
def test_scores_without_softmax_are_averaged_as_probabilities(made, tmp_path):
    data, network = made
    bare = write_network(tmp_path / "bare", database_path(data, "test"), softmax=False)
    assert run(bare, data, ten_crop=True) == run(network, data, ten_crop=True)


# ---- Where mean and crop come from


def test_the_train_val_may_lie_elsewhere(made, tmp_path):
    data, network = made
    for name in "deploy.prototxt", "made.caffemodel":
        (tmp_path / name).write_bytes((network / name).read_bytes())
    with pytest.raises(
        UserError,
        match="images are 3×19×22, and the network takes 3×12×12, and no train_val .*--train-val",
    ):
        run(tmp_path, data)
    assert run(tmp_path, data, train_val=network / "train_val.prototxt") == run(network, data)


# ---- Errors


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (
            made_images(10)[0],
            np.arange(10) + 3,
            "labels from 3 to 12, and .*deploy.prototxt knows 12 classes",
        ),
        (
            made_images(10)[0][:, :1],
            np.arange(10),
            "test images are 1×19×22, and the network takes 3×12×12",
        ),
        (made_images(10)[0][:, :, :11], np.arange(10), "test images are 3×11×22"),
    ],
)
def test_data_that_does_not_fit(made, tmp_path, images, labels, message):
    with pytest.raises(UserError, match=message):
        run(made[1], write_data(tmp_path / "data", images, labels))


def test_data_with_fewer_classes(made, tmp_path):
    """CIFAR-10 for a network of CIFAR-100: every label is one that the network knows."""
    data = write_data(tmp_path / "data", *made_images(10), images_per_class=[1] * 10)
    with pytest.raises(
        UserError,
        match="data has 10 classes, and .*deploy.prototxt knows 12: give the --data that fits",
    ):
        run(made[1], data)


def test_data_without_a_shape(made, tmp_path):
    data = write_data(tmp_path / "data", *made_images(10))
    describe(data, images=10)
    with pytest.raises(UserError, match=f"{data} is no data set.*acu data, --output {data}$"):
        run(made[1], data)


def test_ten_crops_need_something_to_crop(made, tmp_path):
    data = write_data(tmp_path / "data", made_images(10)[0][:, :, :12, :12].copy(), np.arange(10))
    assert run(made[1], data)[2] == 10
    with pytest.raises(UserError, match="nothing to crop, leave --ten-crop out"):
        run(made[1], data, ten_crop=True)


def test_weights_of_another_shape_are_refused(made, tmp_path):
    """With as many values: Caffe itself would end the process."""
    data, network = made
    weights = messages.read_weights(network / "made.caffemodel")
    blob = next(layer for layer in weights.layer if layer.name == "conv").blobs[0]
    blob.shape.dim[:] = [3, 6, 3, 3]
    (tmp_path / "w.caffemodel").write_bytes(weights.SerializeToString())
    with pytest.raises(
        UserError,
        match="layer conv of .* has blobs 6×3×3×3, 6, 1×1×3×3, 1×1×3×3, and .*holds 3×6×3×3, .*"
        "give the weights of this network",
    ):
        evaluation.evaluate(network / "deploy.prototxt", tmp_path / "w.caffemodel", data)


def test_a_train_val_is_no_deploy(made):
    data, network = made
    with pytest.raises(
        UserError,
        match="train_val.prototxt has 0 inputs, not one: give the network's deploy prototxt",
    ):
        evaluation.evaluate(network / "train_val.prototxt", network / "made.caffemodel", data)


def test_a_batch_of_none(made):
    with pytest.raises(UserError, match="--batch 0 is out of range: give 1 or more"):
        run(made[1], made[0], batch=0)


def test_the_script_refuses_in_one_line(made):
    done = script(*reversed(made), "--train-val", "missing")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: cannot read missing: ") and done.stderr.count("\n") == 1


def test_a_network_that_caffe_cannot_build(made, tmp_path):
    """Caffe would end the process."""
    data, network = made
    text = (network / "deploy.prototxt").read_text()
    (tmp_path / "deploy.prototxt").write_text(
        text.replace('bottom: "relu"', 'bottom: "rely"').replace("dim: 12", "dim: 1")
    )
    (tmp_path / "made.caffemodel").write_bytes((network / "made.caffemodel").read_bytes())
    done = script(tmp_path, data)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        rf"error: Caffe cannot build the network {tmp_path}/deploy.prototxt \(.*\): mend the file, or give "
        "another\n",
        done.stderr,
    ), done.stderr


INPUT = 'layer { name: "data" type: "Input" top: "data" %s input_param { shape { dim: [%s] } } } '
SCORE = 'layer { name: "score" type: "InnerProduct" bottom: "%s" top: "score" inner_product_param { num_output: 12 } } '
FOR_ITSELF = (
    INPUT
    % ("", "1, 3, 12, 12")
    + 'layer { name: "flat" type: "Reshape" bottom: "data" top: "flat" '
    "reshape_param { shape { dim: [1, 432] } } } " + SCORE % "flat"
)
WIDE = (
    INPUT % ("", "1, 3, 12, 12")
    + """
    layer { name: "wide" type: "Tile" bottom: "data" top: "wide" tile_param { axis: 1 tiles: 100000 } }
    layer { name: "sum" type: "Pooling" bottom: "wide" top: "sum" pooling_param { global_pooling: true } }
    layer { name: "twelve" type: "Reshape" bottom: "sum" top: "twelve" reshape_param { shape { dim: [0, 12, 25000, 1] } } }
    layer { name: "score" type: "Pooling" bottom: "twelve" top: "score" pooling_param { global_pooling: true } }"""
)
UNTESTED = (
    INPUT
    % ("include { phase: TRAIN }", "1, 3, 12, 12")
    + 'layer { name: "made" type: "DummyData" top: "data" '
    "dummy_data_param { shape { dim: [1, 3, 12, 12] } } } " + SCORE % "data"
)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            FOR_ITSELF,
            r"deploy.prototxt cannot take 50 and then 20 views at once \(.*output count must match.*\): lower --batch, or",
        ),
        (
            WIDE,
            r"deploy.prototxt cannot take 50 and then 20 views at once \(.*exceeds INT_MAX\): lower --batch, or give a network that",
        ),
        (
            INPUT % ("", "1, 5") + SCORE % "data",
            "deploy.prototxt takes 5 for an image, not channels×height×width: give the deploy",
        ),
        (
            UNTESTED,
            "deploy.prototxt has 0 inputs for testing, not one: give the network's deploy prototxt",
        ),
    ],
    ids=[
        "built for its own batch",
        "too wide for many",
        "no images",
        "an input for training alone",
    ],
)
def test_a_network_that_takes_no_batch_of_images(made, tmp_path, text, message):
    """Caffe would end the process, or NumPy the program."""
    (tmp_path / "deploy.prototxt").write_text(text)
    locate.caffe().Net(str(tmp_path / "deploy.prototxt"), locate.caffe().TEST).save(
        str(tmp_path / "made.caffemodel")
    )
    with pytest.raises(UserError, match=message):
        run(tmp_path, made[0], train_val=made[1] / "train_val.prototxt")


def test_the_last_smaller_batch_is_tried_too(made, monkeypatch):
    tried = []
    monkeypatch.setattr(
        evaluation, "_check_batches", lambda *arguments: tried.append(arguments[-1])
    )
    for options in (
        dict(batch=50),
        dict(batch=COUNT),
        dict(batch=500),
        dict(batch=57, ten_crop=True),
    ):
        run(made[1], made[0], **options)
    assert tried == [[50, 20], [COUNT], [COUNT, COUNT], [50]]


def test_a_caller_in_python_survives_one_too(made, tmp_path):
    """As acu reproduce evaluates one."""
    data, network = made
    (tmp_path / "deploy.prototxt").write_text(
        (network / "deploy.prototxt").read_text().replace('"ReLU"', '"Foo"')
    )
    with pytest.raises(
        UserError,
        match=r"^Caffe cannot build the network .*deploy.prototxt \(.*Foo.*\): mend the file",
    ):
        evaluation.evaluate(tmp_path / "deploy.prototxt", network / "made.caffemodel", data)


def test_the_script_prints_both_errors(made):
    data, network = made
    wrong, among_five, count = run(network, data, ten_crop=True)
    done = script(network, data, "--ten-crop")
    assert (done.returncode, done.stdout) == (
        0,
        f"top-1 error {100 * wrong / count:.2f} %, top-5 error "
        f"{100 * among_five / count:.2f} %, {count} images\n",
    )


def test_caffes_warnings_are_unheard(made, tmp_path, monkeypatch):
    """Of a deploy prototxt in the old style, which is read all the same."""
    data, network = made
    text = (network / "deploy.prototxt").read_text()
    old = re.sub(
        r'layer \{\s+name: "data"\s+type: "Input".*?\n\}\n',
        'input: "data" input_shape { dim: 1 dim: 3 dim: 12 dim: 12 }\n',
        text,
        count=1,
        flags=re.DOTALL,
    )
    assert old != text
    (tmp_path / "deploy.prototxt").write_text(old)
    for name in ("train_val.prototxt", "made.caffemodel"):
        shutil.copy(network / name, tmp_path)
    monkeypatch.delenv("GLOG_minloglevel", raising=False)  # which this process has set for itself
    done = script(tmp_path, data)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def script(network, data, *arguments):
    return subprocess.run(
        [
            ROOT / "scripts/evaluate.py",
            "--model",
            network / "deploy.prototxt",
            "--weights",
            network / "made.caffemodel",
            "--data",
            data,
            *arguments,
        ],
        capture_output=True,
        text=True,
    )
