"""How often a trained network is right, and how it sees a stored image when it is tested: less the mean, scaled, and
cropped once or ten times."""

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..caffe import locate, messages, nets, reading
from ..caffe.messages import by
from ..caffe.process import check_gpu
from ..data.manifest import read_manifest
from ..errors import BadValue, UserError


def evaluate(
    model, weights, data, ten_crop=False, train_val=None, batch=50, gpu=None, confusion=None
):
    """The errors of a network on the test images of the data set folder ``data``.

    ``model`` is a deploy prototxt with one input and one output of class scores or, after a Softmax, probabilities;
    ``weights`` its .caffemodel. Each image is seen once, its middle as in Caffe's test phase, or with ``ten_crop`` ten
    times: four corners and middle, and their mirror images, the class probabilities averaged. Mean, scale and crop are
    those that the prototxt ``train_val`` tests with, by default train_val.prototxt beside ``model``, if there is one.
    ``batch`` is the number of views of a forward pass (ten crops: of one image at least), ``gpu`` a device number, or
    None for the CPU. ``confusion`` (confusion.Confusion) is told of every image.

    Returns (top-1 error, top-5 error, number of images), errors as fractions; with ten_crop False, those that
    ``caffe test`` finds. Raises UserError for files that do not fit.
    """
    if batch < 1:
        raise BadValue(f"--batch {batch} is out of range: give 1 or more")
    nets.check_deploy(model)
    manifest = read_manifest(data, ("test",))
    test = manifest.test
    stored, count = tuple(test.shape), test.images
    transform = _transform(model, train_val)
    layer = reading.layer(test.path, test.backend, **test.image_data)
    with _device(gpu):
        network = Classifier(model, weights)
        check_sizes(stored, network.shape, transform, ten_crop)
        _check_classes(manifest, network.classes, model, data)
        answer, views, size = (
            (_ten_crop, 10, max(1, batch // 10)) if ten_crop else (_single_view, 1, batch)
        )
        _check_batches(
            network,
            model,
            [views * images for images in (min(size, count), count % size) if images],
        )
        wrong = np.zeros(2, int)
        if confusion:
            confusion.begin(network.classes, manifest.label_names)
        with tqdm(total=count, desc="evaluating", unit="image", delay=2) as bar:
            for tops in reading.batches(layer, size):
                images, labels = tops["data"], tops["label"].reshape(-1).astype(int)
                answers = answer(network, transform(images))
                _check_labels(labels, network.classes, model, data)
                ranks = _ranks(answers, labels)
                wrong += [(ranks >= 1).sum(), (ranks >= 5).sum()]
                if confusion:
                    confusion.add(images, labels, answers if ten_crop else _probabilities(answers))
                bar.update(len(labels))
    return wrong[0] / count, wrong[1] / count, count


def _transform(model, train_val):
    beside = Path(model).with_name("train_val.prototxt")
    if train_val is None and not beside.exists():
        return Transform()
    return read_transform(train_val or beside)


@contextlib.contextmanager
def _device(gpu):
    if gpu is not None:
        check_gpu(gpu)
        locate.caffe().set_device(gpu)
        locate.caffe().set_mode_gpu()
    try:
        yield
    finally:
        if gpu is not None:
            locate.caffe().set_mode_cpu()


class Classifier:
    """A trained network: images in, class scores out. ``model`` and ``weights`` as in ``evaluate``."""

    def __init__(self, model, weights):
        self.net = nets.load(model, weights)
        if len(self.net.inputs) != 1:
            raise UserError(
                f"{model} has {len(self.net.inputs)} inputs for testing, not one: give the network's deploy prototxt"
            )
        if len(self.shape) != 3:
            raise UserError(
                f"{model} takes {by(self.shape)} for an image, not channels×height×width: give the deploy prototxt of "
                "a network for images"
            )
        if len(self.net.outputs) != 1:
            raise UserError(
                f"{model} has the outputs {', '.join(self.net.outputs)}, not one: "
                "give the network's deploy prototxt"
            )
        self.output, self.last = self.net.outputs[0], None
        names = list(self.net._layer_names)
        # Before the Softmax: in float, small probabilities can be equal where their scores are not.
        if self.net.layers[-1].type == "Softmax" and self.net.top_names[names[-1]] == [self.output]:
            self.output, self.last = self.net.bottom_names[names[-1]][0], names[-2]
        shape = self.net.blobs[self.output].data.shape
        if len(shape) < 2 or np.prod(shape[2:]) != 1:
            raise UserError(
                f"{model} gives {by(shape[1:])} values for an image, not one for each class: "
                "give the deploy prototxt of a classifier"
            )

    @property
    def shape(self):
        """Of an image that the network takes: (C, H, W)."""
        return tuple(self.net.blobs[self.net.inputs[0]].data.shape[1:])

    @property
    def classes(self):
        """How many scores an image gets."""
        return self.net.blobs[self.output].data.shape[1]

    def size(self, count):
        """{input: shape} of ``count`` images."""
        return {self.net.inputs[0]: (count, *self.shape)}

    def scores(self, images):
        """The class scores of images (N, C, H, W), in one forward pass: (N, classes)."""
        blob = self.net.blobs[self.net.inputs[0]]
        if blob.data.shape != images.shape:
            nets.resize(self.net, self.size(len(images)))
        blob.data[...] = images
        self.net.forward(end=self.last)
        return self.net.blobs[self.output].data.reshape(len(images), -1)


def _check_batches(network, model, counts):
    """Raises UserError unless the network takes as many views at once as ``counts`` says, one after the other: asks in a process
    that may die of it."""
    reason = nets.why_not_built(model, [network.size(count) for count in counts])
    if reason:
        raise UserError(
            f"{model} cannot take {' and then '.join(map(str, counts))} views at once ({reason}): lower --batch, or give a "
            "network that takes any number"
        )


def _single_view(network, images):
    return network.scores(centre(images, network.shape[1:]))


def _ten_crop(network, images):
    """The mean class probabilities of ten views: (N, classes)."""
    seen = ten(images, network.shape[1:])
    return (
        _probabilities(network.scores(seen.reshape(-1, *network.shape)))
        .reshape(10, len(images), -1)
        .mean(axis=0)
    )


def _probabilities(scores):
    """The softmax of (N, classes)."""
    scores = scores.astype(np.float64)
    probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def _check_classes(manifest, classes, model, data):
    if manifest.classes > classes or manifest.classes < classes and not manifest.adopted:
        raise UserError(
            f"{data} has {manifest.classes} classes, and {model} knows {classes}: give the --data that fits it"
        )


def _check_labels(labels, classes, model, data):
    if not (0 <= labels.min() and labels.max() < classes):
        raise UserError(
            f"{data} has labels from {labels.min()} to {labels.max()}, and {model} knows {classes} classes: "
            "give the --data that fits it"
        )


def _ranks(scores, labels):
    """How many classes score at least as high as the right one, itself left out: (N,). Ties and NaN count as errors."""
    right = scores[np.arange(len(labels)), labels]
    return (~(scores < right[:, None])).sum(axis=1) - 1


# ---- Views of an image


@dataclasses.dataclass(frozen=True)
class Transform:
    """Caffe's transform_param for testing: ``(pixel − mean) · scale``, then the crop. ``mean`` is one number or one per
    channel; ``crop_size`` is in pixels, 0 for none; ``source`` says where they stand."""

    mean: tuple = (0,)
    scale: float = 1
    crop_size: int = 0
    source: str = "no train_val"

    def __call__(self, images):
        """Images (N, C, H, W) float32, without the crop. Raises UserError where the mean has other channels."""
        if len(self.mean) not in (1, images.shape[1]):
            raise UserError(
                f"{self.source} has {len(self.mean)} values mean_value, and the images have {images.shape[1]} "
                "channels: give one value, or one for each channel"
            )
        return (images - np.array(self.mean, np.float32)[:, None, None]) * np.float32(self.scale)


def read_transform(train_val):
    """The Transform of the data layer that the prototxt ``train_val`` tests with. Raises UserError where it has none."""
    test = locate.caffe_pb2().TEST
    net = messages.read_net(train_val)
    for layer in net.layer:
        reads = layer.HasField("data_param") or layer.type in ("ImageData", "HDF5Data")
        if reads and messages.takes_part(layer, test, net.state.stage):
            return _transform_of(layer.transform_param, train_val)
    raise UserError(
        f"{train_val} has no Data layer for testing: give the train_val prototxt of the network"
    )


def _transform_of(parameter, source):
    if parameter.HasField("mean_file"):
        raise UserError(
            f"{source} subtracts the mean_file {parameter.mean_file}, which is not supported here: "
            "give mean_value, one for each channel"
        )
    return Transform(
        tuple(parameter.mean_value) or (0,), parameter.scale, parameter.crop_size, str(source)
    )


def centre(images, size):
    """The middle of images (N, C, H, W), where Caffe's test phase crops: (N, C, *size)."""
    (height, width), (h, w) = images.shape[2:], size
    top, left = (height - h) // 2, (width - w) // 2
    return images[:, :, top : top + h, left : left + w]


def ten(images, size):
    """The four corners and the middle of images (N, C, H, W), and their mirror images: (10, N, C, *size)."""
    h, w = size
    five = [
        images[:, :, :h, :w],
        images[:, :, :h, -w:],
        images[:, :, -h:, :w],
        images[:, :, -h:, -w:],
        centre(images, size),
    ]
    return np.stack([*five, *(view[..., ::-1] for view in five)])


def check_sizes(stored, seen, transform, ten_crop):
    """Raises UserError unless images of shape ``stored`` (C, H, W) give views of shape ``seen``, in the way asked for."""
    sizes = f"the test images are {by(stored)}, and the network takes {by(seen)}"
    if stored[0] != seen[0] or stored[1] < seen[1] or stored[2] < seen[2]:
        raise UserError(f"{sizes}: give the --data that fits it")
    if stored != seen and (transform.crop_size, transform.crop_size) != seen[1:]:
        raise UserError(
            f"{sizes}, and {transform.source} crops them to {transform.crop_size or 'no size'}: give the "
            "--data that fits it, or the network's own train_val prototxt with --train-val"
        )
    if stored == seen and transform.crop_size not in (0, seen[1]):
        raise UserError(
            f"{sizes}, and {transform.source} crops them to {transform.crop_size}: give the network's own "
            "train_val prototxt with --train-val"
        )
    if ten_crop and stored[1:] == seen[1:]:
        raise UserError(f"{sizes}: there is nothing to crop, leave --ten-crop out")
