"""How often a trained network is right on the images that it is tested with: read, scaled and
cropped by Caffe as in a test, cropped once or ten times."""

import numpy as np
from tqdm import tqdm

from ..caffe import reading
from ..caffe.messages import by
from ..data.manifest import read_manifest
from ..errors import UserError
from .classifier import Classifier, softmax


def evaluate(trained, data=None, ten_crop=False, batch=50, gpu=None, confusion=None):
    """The errors of a network on test images.

    ``trained`` is a training.trained.Trained whose model has one input and one output of class
    scores or, after a Softmax, probabilities. The images are those of the data set folder ``data``,
    by default what the network's train_val reads in its test; its transform_param counts in any
    case. Each image is seen once, its middle as in Caffe's test phase, or with ``ten_crop`` ten
    times: four corners and middle, and their mirror images, the class probabilities averaged.
    ``batch`` is the number of views of a forward pass (ten crops: of one image at least), ``gpu`` a
    device number, or None for the CPU. ``confusion`` (confusion.Confusion) is told of every image.

    Returns (top-1 error, top-5 error, number of images), errors in %; the second is None for at
    most five classes. Without ten_crop they are those of ``caffe test``. Raises UserError for files
    that do not fit.
    """
    network = Classifier(trained, gpu)
    layer = trained.test_layer()
    manifest = read_manifest(data, ("test",)) if data else trained.data
    if data:
        part = manifest.test
        transform = layer.transform_param if layer and layer.HasField("transform_param") else None
        layer = reading.layer(part.path, part.backend, transform, **part.image_data)
    if layer is None:
        raise UserError(
            f"{trained.model} has no train_val.prototxt beside it: give --data or --train-val"
        )
    if layer.HasField("transform_param"):  # HDF5Data must not have one
        for name in ("mirror", "crop_size") if ten_crop else ("mirror",):
            layer.transform_param.ClearField(name)
    wrong, seen = np.zeros(2, int), 0
    if confusion:
        confusion.begin(network.classes, manifest, layer.transform_param)
    size = max(1, batch // 10) if ten_crop else batch
    with tqdm(total=reading.count(layer), desc="evaluating", unit="image", delay=2) as bar:
        for images, labels in _batches(layer, size):
            _check_sizes(images.shape[1:], network, ten_crop)
            _check_labels(labels, network, reading.source(layer))
            answers = _ten_crop(network, images) if ten_crop else network.scores(images)
            ranks = _ranks(answers, labels)
            wrong += [(ranks >= 1).sum(), (ranks >= 5).sum()]
            seen += len(labels)
            if confusion:
                confusion.add(images, labels, answers if ten_crop else softmax(answers))
            bar.update(len(labels))
    top1, top5 = map(float, 100 * wrong / seen)
    return top1, top5 if network.classes > 5 else None, seen


def _batches(layer, size):
    """Yields (images (n, C, H, W), labels (n,), integers)."""
    if len(layer.top) < 2:
        raise UserError(f"layer {layer.name} gives no labels: give it a second top")
    for tops in reading.batches(layer, size):
        yield tops[layer.top[0]], tops[layer.top[1]].reshape(-1).astype(int)


def _check_labels(labels, network, source):
    """Raises UserError where the network has no score for one."""
    wrong = labels[(labels < 0) | (labels >= network.classes)]
    if len(wrong):
        raise UserError(
            f"{source} has the label {wrong.max()}, and {network.model} has {network.classes} "
            f"outputs, for 0 to {network.classes - 1}: give the data that fits it"
        )


def _check_sizes(stored, network, ten_crop):
    """Raises UserError unless images of shape ``stored`` (C, H, W) are what the network takes, or
    for ten crops larger."""
    seen = network.shape
    larger = stored[0] == seen[0] and stored[1] >= seen[1] and stored[2] >= seen[2]
    if ten_crop and stored == seen:
        raise UserError(f"the images have the network's size, {by(seen)}: leave --ten-crop out")
    if not (larger if ten_crop else stored == seen):
        raise UserError(
            f"the test images come as {by(stored)}, and {network.model} takes {by(seen)}: give the "
            "data that fits it, or with --train-val the network that crops it so"
        )


# ---- Views and ranks


def _ten_crop(network, images):
    """The mean class probabilities of ten views: (N, classes)."""
    views = ten(images, network.shape[1:])
    scores = network.scores(views.reshape(-1, *network.shape))
    return softmax(scores).reshape(10, len(images), -1).mean(axis=0)


def ten(images, size):
    """The four corners and the middle of images (N, C, H, W), and their mirror images:
    (10, N, C, *size)."""
    (height, width), (h, w) = images.shape[2:], size
    down, right = height - h, width - w
    corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
    five = [images[:, :, top : top + h, left : left + w] for top, left in corners]
    return np.stack([*five, *(view[..., ::-1] for view in five)])


def _ranks(scores, labels):
    """How many classes score at least as high as the right one, itself left out: (N,). Ties and
    NaN count as errors."""
    right = scores[np.arange(len(labels)), labels]
    return (~(scores < right[:, None])).sum(axis=1) - 1
