"""Whole training iterations of the paper's networks, beside those of their baselines, and of these
in PyTorch."""

import tempfile
from pathlib import Path

import lmdb
import numpy as np
from active_convolution.caffe import locate
from active_convolution.networks import models

from . import contestants, loops, pytorch, pytorch_net
from .timing import interleaved

MODEL = next(model for model in models.MODELS if model.folder == "cifar10/plain")
# name: the variant, and whether by Caffe's own loops
VARIANTS = {
    contestants.ACTIVE: ("acu", False),
    contestants.CONVOLUTION: ("baseline", True),
    contestants.OURS: ("baseline", False),
}
PYTORCH = {
    "PyTorch": "contiguous_format",
    "PyTorch, channels_last": "channels_last",
}  # name: its memory format
REACH = 1.5  # pixels that positions are away from the grid, at most
IMAGES = 256  # of the database
DROPOUT = 1e-9  # the ratio: a Dropout layer's work, and nothing dropped, to compare networks


class Iteration:
    """Both passes and the update, on random images: on a CPU from a database as in training, on a
    GPU such as stay on the device. At a rate of 0, so that all is computed and nothing changes: the
    positions stay off the grid, and every iteration costs the same."""

    def __init__(self, model, variant, batch, gpu, of_caffe=False):
        self._of_caffe = of_caffe
        self.proto, self.solver_proto = _net(model, variant, batch, gpu), _solver(model, variant)
        draw = np.random.default_rng(0)
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        for layer in self.proto.layer:
            if layer.type == "Data":
                layer.data_param.source = str(_database(folder / "lmdb", model.dataset, draw))
        (folder / "net.prototxt").write_text(models.text(self.proto))
        self.solver_proto.net = str(folder / "net.prototxt")
        (folder / "solver.prototxt").write_text(models.text(self.solver_proto))
        self.solver = locate.caffe().get_solver(str(folder / "solver.prototxt"))
        if gpu:
            blobs = self.solver.net.blobs
            blobs["data"].data[...] = draw.standard_normal(blobs["data"].data.shape)
            blobs["label"].data[...] = draw.integers(model.dataset.classes, size=batch)
        for _, _, *positions in self.active_blobs():
            for blob in positions:
                blob.data[...] += draw.uniform(-REACH, REACH, blob.data.shape)

    def active_blobs(self):
        """The four blobs of each active layer."""
        return [
            layer.blobs for layer in self.solver.net.layers if layer.type == "ActiveConvolution"
        ]

    def compute_gradients(self):
        """Both passes alone: afterwards the net holds the gradients, which an update at a rate of 0
        would make zero."""
        with loops.of_caffe(self._of_caffe):
            self.solver.net.clear_param_diffs()
            self.solver.net.forward()
            self.solver.net.backward()

    def __call__(self):
        with loops.of_caffe(self._of_caffe):
            self.solver.step(1)


def times(benchmark, model=MODEL, batch=64):
    """{contestant: Time} of one iteration; PyTorch's, on a CPU, is that of the baseline, compared
    with it first."""
    variants = {
        name: of
        for name, of in VARIANTS.items()
        if name != contestants.OURS or (not benchmark.gpu and loops.ours_are_built())
    }
    iterations = {
        name: Iteration(model, variant, batch, benchmark.gpu, of_caffe)
        for name, (variant, of_caffe) in variants.items()
    }
    if pytorch.available() and not benchmark.gpu:
        baseline = iterations[contestants.CONVOLUTION]
        baseline.compute_gradients()
        for name, memory_format in PYTORCH.items():
            iterations[name] = pytorch_net.Iteration(
                baseline.solver.net,
                baseline.proto,
                baseline.solver_proto,
                getattr(pytorch.torch, memory_format),
            )
            iterations[name].check()
    return interleaved(iterations, benchmark.repeats, benchmark.synchronize)


def _net(model, variant, batch, gpu):
    """The network of training; on a GPU with an Input in place of the Data layer."""
    proto = models.train_val(model, variant)
    layers = [
        layer
        for layer in proto.layer
        if not any(rule.phase == locate.caffe().TEST for rule in layer.include)
    ]
    del proto.layer[:]
    if gpu:
        caffe, dataset, net = locate.caffe(), model.dataset, locate.caffe().NetSpec()
        net["data"] = caffe.layers.Input(
            shape=dict(dim=[batch, dataset.channels, dataset.size, dataset.size])
        )
        net["label"] = caffe.layers.Input(shape=dict(dim=[batch]))
        layers = list(net.to_proto().layer) + layers[1:]
    else:
        layers[0].data_param.batch_size = batch
    for layer in layers:
        if layer.type == "Dropout":
            layer.dropout_param.dropout_ratio = DROPOUT
    proto.layer.extend(layers)
    return proto


def _database(path, dataset, draw):
    """Random images, four pixels larger than what is cropped from them."""
    size = dataset.size + 4
    with (
        lmdb.open(str(path), map_size=1 << 30) as database,
        database.begin(write=True) as transaction,
    ):
        for i in range(IMAGES):
            pixels = draw.integers(256, size=(dataset.channels, size, size), dtype=np.uint8)
            datum = locate.caffe_pb2().Datum(
                channels=dataset.channels,
                height=size,
                width=size,
                data=pixels.tobytes(),
                label=int(draw.integers(dataset.classes)),
            )
            transaction.put(b"%08d" % i, datum.SerializeToString())
    return path


def _solver(model, variant):
    solver = models.solver(model, variant)
    for field in ("test_iter", "test_interval", "test_initialization", "display", "snapshot"):
        solver.ClearField(field)
    solver.base_lr = 0
    return solver
