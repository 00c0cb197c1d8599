"""Whole training iterations of the paper's plain network (Table 1) on CIFAR-10, beside those of its baseline."""
import tempfile
from pathlib import Path

import numpy as np

from active_convolution.networks import models
from active_convolution.pycaffe import locate

from . import contestants
from .timing import interleaved

MODEL = next(model for model in models.MODELS if model.folder == "cifar10/plain")
VARIANTS = {contestants.ACTIVE: "acu", contestants.CONVOLUTION: "baseline"}
REACH = 1.5     # pixels that positions are away from the grid, at most


class Iteration:
    """Both passes and the update, on random images that stay on the device. At a rate of 0, so that all is computed and
    nothing changes: the positions stay off the grid, and every iteration costs the same."""

    def __init__(self, variant, batch):
        with tempfile.TemporaryDirectory() as folder:
            net, solver = Path(folder, "net.prototxt"), Path(folder, "solver.prototxt")
            net.write_text(models.text(_net(variant, batch)))
            solver.write_text(models.text(_solver(variant, net)))
            self.solver = locate.caffe().get_solver(str(solver))
        draw = np.random.default_rng(0)
        blobs = self.solver.net.blobs
        blobs["data"].data[...] = draw.standard_normal(blobs["data"].data.shape)
        blobs["label"].data[...] = draw.integers(MODEL.dataset.classes, size=batch)
        for _, _, *positions in self.active_blobs():
            for blob in positions:
                blob.data[...] += draw.uniform(-REACH, REACH, blob.data.shape)

    def active_blobs(self):
        """The four blobs of each active layer."""
        return [layer.blobs for layer in self.solver.net.layers if layer.type == "ActiveConvolution"]

    def __call__(self):
        self.solver.step(1)


def times(benchmark, batch=64):
    """{contestant: Time} of one iteration."""
    iterations = {name: Iteration(variant, batch) for name, variant in VARIANTS.items()}
    return interleaved(iterations, benchmark.repeats, benchmark.synchronize)


def _net(variant, batch):
    caffe, dataset = locate.caffe(), MODEL.dataset
    net = caffe.NetSpec()
    net["data"] = caffe.layers.Input(shape=dict(dim=[batch, dataset.channels, dataset.size, dataset.size]))
    net["label"] = caffe.layers.Input(shape=dict(dim=[batch]))
    net["loss"] = caffe.layers.SoftmaxWithLoss(MODEL.body(net, net["data"], dataset, variant), net["label"])
    return net.to_proto()


def _solver(variant, net):
    solver = models.solver(MODEL, variant)
    for field in ("test_iter", "test_interval", "test_initialization", "display", "snapshot"):
        solver.ClearField(field)
    solver.net, solver.base_lr = str(net), 0
    return solver
