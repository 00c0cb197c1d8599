"""How often a trained network is right."""
import math

import lmdb
import numpy as np
from tqdm import tqdm

from . import fork, formats, prototxt
from .data.manifest import check_manifest, database
from .errors import UserError


def evaluate(model, weights, data, batch=100):
    """The errors of a network on the test images of the data set folder ``data``, single view.

    ``model`` is a deploy prototxt with one input and one output of class scores, ``weights`` its .caffemodel. Returns
    (top-1 error, top-5 error, number of images), errors as fractions. Raises UserError for files that do not fit.
    """
    manifest = check_manifest(data)["test"]
    net = load(model, weights)
    shape, count = tuple(manifest["shape"]), manifest["images"]
    blob = net.blobs[net.inputs[0]]
    if tuple(blob.data.shape[1:]) != shape:
        raise UserError(f"{model} takes images of {_by(blob.data.shape[1:])}, and {data} holds {_by(shape)}: give the --data "
                        "that fits it")
    wrong = np.zeros(2, int)
    with tqdm(total=count, desc="evaluating", unit="image", delay=2) as bar:
        for images, labels in _batches(database(data, "test"), shape, batch):
            ranks = _ranks(_scores(net, images), labels)
            wrong += [(ranks >= 1).sum(), (ranks >= 5).sum()]
            bar.update(len(labels))
    return wrong[0] / count, wrong[1] / count, count


def load(model, weights):
    """The pycaffe Net of a deploy prototxt for testing, with the weights of a .caffemodel, every layer of it matched.

    Raises UserError where a file is missing or damaged, or has no weights, or too few, for a layer of the network:
    Caffe itself would leave such a layer as it was filled, or end the process.
    """
    prototxt.read_net(model)  # says what is wrong with it; Caffe would end the process
    live = fork.caffe().Net(str(model), fork.caffe().TEST)
    _check_weights(live, model, weights)
    live.copy_from(str(weights))
    return live


def _check_weights(live, model, weights):
    stored = formats.read_weights(weights)
    counts = {layer.name: [len(blob.data) or len(blob.double_data) for blob in layer.blobs] for layer in stored.layer}
    for name, blobs in live.params.items():
        expected = [blob.count for blob in blobs]
        if counts.get(name) != expected:
            raise UserError(f"layer {name} of {model} has blobs of {expected} values, and {weights} holds "
                            f"{counts.get(name, 'none')}: give the weights of this network")


def _by(shape):
    return "×".join(map(str, shape))


def _batches(path, shape, size):
    """Yields (images, labels) of at most ``size`` records of an LMDB of Datum."""
    datum = fork.caffe_pb2().Datum()
    with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin(buffers=True) as transaction:
        images, labels = [], []
        for _, value in transaction.cursor():
            datum.ParseFromString(bytes(value))
            pixels = datum.float_data if len(datum.float_data) else np.frombuffer(datum.data, np.uint8)
            images.append(np.array(pixels, np.float32).reshape(shape))
            labels.append(datum.label)
            if len(labels) == size:
                yield np.array(images), np.array(labels)
                images, labels = [], []
        if labels:
            yield np.array(images), np.array(labels)


def _scores(net, images):
    """The class scores of a batch: (N, classes)."""
    blob = net.blobs[net.inputs[0]]
    if blob.num != len(images):
        blob.reshape(*images.shape)
        net.reshape()
    blob.data[...] = images
    scores = net.forward()[net.outputs[0]]
    return scores.reshape(len(images), math.prod(scores.shape[1:]))


def _ranks(scores, labels):
    """How many classes score at least as high as the right one, itself left out: (N,). Ties and NaN count as errors."""
    right = scores[np.arange(len(labels)), labels]
    return (~(scores < right[:, None])).sum(axis=1) - 1
