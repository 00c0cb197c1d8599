"""How often a trained network is right."""
import contextlib
from pathlib import Path

import numpy as np
from tqdm import tqdm

from . import formats, fork, prototxt, views
from .data.lmdb_reader import batches
from .data.manifest import check_manifest, database
from .errors import UserError
from .prototxt import by
from .training.guard import check_gpu, failure


def evaluate(model, weights, data, ten_crop=False, train_val=None, batch=50, gpu=None):
    """The errors of a network on the test images of the data set folder ``data``.

    ``model`` is a deploy prototxt with one input and one output of class scores or, after a Softmax, probabilities;
    ``weights`` its .caffemodel. Each image is seen once, its middle as in Caffe's test phase, or with ``ten_crop`` ten
    times: four corners and middle, and their mirror images, the class probabilities averaged. Mean, scale and crop are
    those that the prototxt ``train_val`` tests with, by default train_val.prototxt beside ``model``, if there is one.
    ``batch`` is the number of views of a forward pass (ten crops: of one image at least), ``gpu`` a device number, or
    None for the CPU.

    Returns (top-1 error, top-5 error, number of images), errors as fractions; with ten_crop False, those that
    ``caffe test`` finds. Raises UserError for files that do not fit.
    """
    if batch < 1:
        raise UserError(f"--batch {batch} is out of range: give 1 or more")
    manifest = check_manifest(data)["test"]
    stored, count = tuple(manifest["shape"]), manifest["images"]
    transform = _transform(model, train_val)
    with _device(gpu):
        network = Classifier(model, weights)
        views.check_sizes(stored, network.shape, transform, ten_crop)
        _check_classes(manifest, network.classes, model, data)
        answer, size = (_ten_crop, max(1, batch // 10)) if ten_crop else (_single_view, batch)
        wrong = np.zeros(2, int)
        with tqdm(total=count, desc="evaluating", unit="image", delay=2) as bar:
            for images, labels in batches(database(data, "test"), stored, count, size):
                answers = answer(network, transform(images))
                _check_labels(labels, network.classes, model, data)
                ranks = _ranks(answers, labels)
                wrong += [(ranks >= 1).sum(), (ranks >= 5).sum()]
                bar.update(len(labels))
    return wrong[0] / count, wrong[1] / count, count


def _transform(model, train_val):
    beside = Path(model).with_name("train_val.prototxt")
    if train_val is None and not beside.exists():
        return views.Transform()
    return views.read_transform(train_val or beside)


@contextlib.contextmanager
def _device(gpu):
    if gpu is not None:
        check_gpu(gpu)
        fork.caffe().set_device(gpu)
        fork.caffe().set_mode_gpu()
    try:
        yield
    finally:
        if gpu is not None:
            fork.caffe().set_mode_cpu()


def load(model, weights):
    """The pycaffe Net of a deploy prototxt for testing, with the weights of a .caffemodel, every layer of it matched.

    Raises UserError where a file is missing or damaged, or has no weights, or others, for a layer of the network:
    Caffe itself would leave such a layer as it was filled, or end the process.
    """
    prototxt.read_net(model)  # says what is wrong with it; Caffe would end the process
    live = fork.caffe().Net(str(model), fork.caffe().TEST)
    _check_weights(live, model, weights)
    live.copy_from(str(weights))
    return live


def check_deploy(model):
    """Raises UserError unless ``model`` is a deploy prototxt of one input that Caffe can build."""
    _check_inputs(model)
    check_net(model)


def check_net(model):
    """Raises UserError unless Caffe can build the prototxt ``model``: asks in a process that may die of it."""
    reason = failure("caffe.Net(sys.argv[1], caffe.TEST)", model)
    if reason:
        raise UserError(f"Caffe cannot build the network {model} ({reason}): mend the file, or give another")


def load_checked(model, weights):
    """As ``load``; raises UserError, too, where Caffe cannot build the network."""
    check_net(model)
    return load(model, weights)


def _check_inputs(model):
    net = prototxt.read_net(model)
    inputs = list(net.input) or [top for layer in net.layer if layer.type == "Input" for top in layer.top]
    if len(inputs) != 1:
        raise UserError(f"{model} has {len(inputs)} inputs, not one: give the network's deploy prototxt")


def _check_weights(live, model, weights):
    stored = {layer.name: layer.blobs for layer in formats.read_weights(weights).layer}
    for name, blobs in live.params.items():
        expected, found = [blob.data.shape for blob in blobs], stored.get(name, [])
        if len(found) != len(expected) or not all(map(prototxt.holds, found, expected)):
            seen = ", ".join(by(prototxt.shape(blob)) for blob in found) or "none"
            raise UserError(f"layer {name} of {model} has blobs {', '.join(map(by, expected))}, and {weights} holds "
                            f"{seen}: give the weights of this network")


class Classifier:
    """A trained network: images in, class scores out. ``model`` and ``weights`` as in ``evaluate``."""

    def __init__(self, model, weights):
        _check_inputs(model)
        self.net = load(model, weights)
        if len(self.net.outputs) != 1:
            raise UserError(f"{model} has the outputs {', '.join(self.net.outputs)}, not one: "
                            "give the network's deploy prototxt")
        self.output, self.last = self.net.outputs[0], None
        names = list(self.net._layer_names)
        # Before the Softmax: in float, small probabilities can be equal where their scores are not.
        if self.net.layers[-1].type == "Softmax" and self.net.top_names[names[-1]] == [self.output]:
            self.output, self.last = self.net.bottom_names[names[-1]][0], names[-2]
        shape = self.net.blobs[self.output].data.shape
        if len(shape) < 2 or np.prod(shape[2:]) != 1:
            raise UserError(f"{model} gives {by(shape[1:])} values for an image, not one for each class: "
                            "give the deploy prototxt of a classifier")

    @property
    def shape(self):
        """Of an image that the network takes: (C, H, W)."""
        return tuple(self.net.blobs[self.net.inputs[0]].data.shape[1:])

    @property
    def classes(self):
        """How many scores an image gets."""
        return self.net.blobs[self.output].data.shape[1]

    def scores(self, images):
        """The class scores of images (N, C, H, W), in one forward pass: (N, classes)."""
        blob = self.net.blobs[self.net.inputs[0]]
        if blob.data.shape != images.shape:
            blob.reshape(*images.shape)
            self.net.reshape()
        blob.data[...] = images
        self.net.forward(end=self.last)
        return self.net.blobs[self.output].data.reshape(len(images), -1)


def _single_view(network, images):
    return network.scores(views.centre(images, network.shape[1:]))


def _ten_crop(network, images):
    """The mean class probabilities of ten views: (N, classes)."""
    seen = views.ten(images, network.shape[1:])
    scores = network.scores(seen.reshape(-1, *network.shape)).astype(np.float64)
    probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities.reshape(10, len(images), -1).mean(axis=0)


def _check_classes(manifest, classes, model, data):
    known = len(manifest.get("images_per_class", ())) or classes
    if known != classes:
        raise UserError(f"{data} has {known} classes, and {model} knows {classes}: give the --data that fits it")


def _check_labels(labels, classes, model, data):
    if not (0 <= labels.min() and labels.max() < classes):
        raise UserError(f"{data} has labels from {labels.min()} to {labels.max()}, and {model} knows {classes} classes: "
                        "give the --data that fits it")


def _ranks(scores, labels):
    """How many classes score at least as high as the right one, itself left out: (N,). Ties and NaN count as errors."""
    right = scores[np.arange(len(labels)), labels]
    return (~(scores < right[:, None])).sum(axis=1) - 1
