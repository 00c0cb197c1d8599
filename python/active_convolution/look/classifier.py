"""A trained network that tells classes apart: images in, a score for each class out."""

import numpy as np

from ..caffe import locate, nets
from ..caffe.guard import doing
from ..caffe.messages import by
from ..errors import UserError


class Classifier:
    """The network of a training.trained.Trained, on the CPU or GPU ``gpu``. Raises UserError where
    it takes no images or gives no score for each class."""

    def __init__(self, trained, gpu=None):
        if gpu is not None:
            with doing(f"using GPU {gpu}, which needs a build by ./scripts/build.sh --gpu"):
                locate.caffe().set_device(gpu)
                locate.caffe().set_mode_gpu()
        self.model = model = trained.model
        self.net = nets.load(model, trained.weights, stages=trained.stages)
        hint = "give the deploy prototxt of a network that classifies images"
        if len(self.net.inputs) != 1 or len(self.net.outputs) != 1:
            seen = f"{len(self.net.inputs)} inputs and {len(self.net.outputs)} outputs"
            raise UserError(f"{model} has {seen}, not one of each: {hint}")
        if len(self.shape) != 3:
            raise UserError(
                f"{model} takes {by(self.shape)} for an image, not channels×height×width: {hint}"
            )
        self.output, self.last = self.net.outputs[0], None
        names = list(self.net._layer_names)
        # Before the Softmax: in float, small probabilities can be equal where scores are not.
        if self.net.layers[-1].type == "Softmax" and self.net.top_names[names[-1]] == [self.output]:
            self.output, self.last = self.net.bottom_names[names[-1]][0], names[-2]
        shape = self.net.blobs[self.output].data.shape
        if len(shape) < 2 or np.prod(shape[2:]) != 1:
            raise UserError(f"{model} gives {by(shape[1:])} values for an image: {hint}")

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
        with doing(f"running {self.model} on {len(images)} images at once (less with --batch)"):
            if blob.data.shape != images.shape:
                nets.resize(self.net, {self.net.inputs[0]: images.shape})
            blob.data[...] = images
            self.net.forward(end=self.last)
        return self.net.blobs[self.output].data.reshape(len(images), -1).copy()


def softmax(scores):
    """The probabilities of (N, classes), in float64."""
    scores = scores.astype(np.float64)
    probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
    return probabilities / probabilities.sum(axis=1, keepdims=True)
