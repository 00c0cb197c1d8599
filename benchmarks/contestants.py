"""Compares layers with the oracle, then times them beside what else computes them."""

import ctypes
import gc
import os

import numpy as np
from active_convolution.caffe import locate
from active_convolution.check import cases
from active_convolution.errors import UserError

from . import loops, pytorch
from .layer_net import LayerNet
from .timing import LEAST, PeakMemory, interleaved

ACTIVE, CONVOLUTION, CONV2D, DENSE = "active", "Convolution", "conv2d", "DCLS's way"
OURS = "Convolution, ours"  # our loops in Caffe's layer; the plain name means Caffe's own
DEFORMABLE, PER_SYNAPSE = "deform_conv2d", "1×1 per synapse"
PASSES = ("forward", "backward")


class Benchmark:
    """Where to run (``gpu``: a device number, None: on the CPU), how many threads, and how often to
    repeat."""

    def __init__(self, gpu=None, threads=None, repeats=9):
        self.gpu, self.repeats = gpu is not None, repeats
        self.threads = threads or len(os.sched_getaffinity(0))
        if self.gpu:
            if not pytorch.available():
                raise UserError("--gpu needs PyTorch to wait for the GPU: see --help")
            pytorch.device(self.gpu)
            locate.use_gpu(gpu)
            pytorch.torch.cuda.set_device(gpu)
            locate.caffe().set_device(gpu)
            locate.caffe().set_mode_gpu()
        self.set_threads(self.threads)

    def set_threads(self, threads):
        """Of the calling thread's OpenMP regions: ours, Caffe's BLAS's, and PyTorch's."""
        locate.caffe()  # has loaded this runtime
        ctypes.CDLL("libgomp.so.1").omp_set_num_threads(threads)
        if pytorch.available():
            pytorch.torch.set_num_threads(threads)

    def synchronize(self):
        if self.gpu:
            pytorch.torch.cuda.synchronize()

    def verify(self, layer):
        """The largest relative difference between layer and oracle, on one image; UserError where
        it is too large."""
        case, values = layer.case(1), layer.values(1)
        net = LayerNet(case, "ActiveConvolution", values)
        net.forward()
        net.backward()
        image, parameters = net.diffs
        found = cases.differences(
            case,
            _exact(values),
            net.top.astype(float),
            image.astype(float),
            [diff.astype(float) for diff in parameters],
        )
        worst = max(found, key=found.get)
        if not found[worst] <= cases.TOLERANCE["float"]:
            raise UserError(
                f"{layer.name} differs from the oracle by {found[worst]:.1e} in {worst}: "
                "nothing is timed"
            )
        return found[worst]

    def time(self, layer, batch, names=None, least=LEAST):
        """Times one layer; ``names`` (default: all there are) chooses the contestants, ``least`` is
        timing.interleaved's.

        Returns a dict of dicts: for each contestant forward, backward (Times), and memory (MiB at
        the peak, or None)."""
        values = layer.values(batch)
        contestants = {
            name: make(layer, values)
            for name, make in self._contestants().items()
            if names is None or name in names
        }
        memory = {name: self._first_pass(contestant) for name, contestant in contestants.items()}
        _agree(layer, contestants)
        times = {
            which: interleaved(
                {name: getattr(contestant, which) for name, contestant in contestants.items()},
                self.repeats,
                self.synchronize,
                least,
            )
            for which in PASSES
        }
        del contestants
        gc.collect()
        return {
            name: {
                "forward": times["forward"][name],
                "backward": times["backward"][name],
                "memory": memory[name],
            }
            for name in memory
        }

    def _contestants(self):
        def net(layer_type, of_caffe=False):
            return lambda layer, values: LayerNet(
                layer.case(len(values.image)), layer_type, values, of_caffe
            )

        def torch(kind):
            return lambda layer, values: kind(layer, values, pytorch.device(self.gpu))

        made = {ACTIVE: net("ActiveConvolution"), CONVOLUTION: net("Convolution", of_caffe=True)}
        if not self.gpu and loops.ours_are_built():
            made |= {OURS: net("Convolution")}
        if pytorch.available():
            made |= {CONV2D: torch(pytorch.Conv2d), DENSE: torch(pytorch.Dense)}
            if self.gpu:
                made |= {PER_SYNAPSE: torch(pytorch.PerSynapse)}
                if pytorch.torchvision:
                    made |= {DEFORMABLE: torch(pytorch.Deformable)}
        return made

    def _first_pass(self, contestant):
        """Runs both passes; returns the peak growth of the process's memory in MiB (None on a
        GPU)."""
        with PeakMemory() as peak:
            for which in PASSES:
                getattr(contestant, which)()
            self.synchronize()
        return None if self.gpu else peak.mebibytes


def _exact(values):
    """The same Values in float64, for the oracle."""
    return cases.Values(
        values.image.astype(float),
        tuple(array.astype(float) for array in values.parameters),
        values.top_diff.astype(float),
    )


def _agree(layer, contestants):
    """UserError where contestants that should compute the same do not: then their times say
    nothing."""
    for one, others in ((ACTIVE, (DENSE, DEFORMABLE, PER_SYNAPSE)), (CONVOLUTION, (OURS, CONV2D))):
        for other in others:
            if one in contestants and other in contestants:
                both = (contestants[name].results() for name in (one, other))
                for name, expected, found in zip(("top", "image", "weight", "x", "y"), *both):
                    difference = (
                        np.abs(found.reshape(expected.shape) - expected).max()
                        / np.abs(expected).max()
                    )
                    if not difference <= cases.TOLERANCE["float"]:
                        raise UserError(
                            f"{layer.name}: {other} differs from {one} by {difference:.1e} in "
                            f"{name}: nothing is timed"
                        )
