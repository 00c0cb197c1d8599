"""What the fork's loops (fast_layers.hpp) do for Caffe's own layers on the CPU: each layer by ours
and by Caffe's."""

import tempfile

import numpy as np
from active_convolution.caffe import locate
from active_convolution.command import aligned
from active_convolution.errors import UserError

from . import contestants, loops
from .bars import Bar
from .timing import interleaved

LEAST = 0.004  # seconds of one measurement
SHAPE = (32, 96, 32, 32)  # of the elementwise layers: 3.1 million elements, beyond the caches

# name, layer, and how often a pass must read or write all elements: forward, backward
ELEMENTWISE = (
    ("ReLU", 'type: "ReLU"', 2, 3),
    ("Scale", 'type: "Scale" scale_param { bias_term: true }', 2, 3),
    ("Bias", 'type: "Bias"', 2, 2),
    ("BatchNorm", 'type: "BatchNorm" batch_norm_param { use_global_stats: false }', 3, 3),
    ("BatchNorm, stored", 'type: "BatchNorm" batch_norm_param { use_global_stats: true }', 2, 2),
    ("Pooling, MAX 3/2", 'type: "Pooling" pooling_param { kernel_size: 3 stride: 2 }', 1.5, 1.5),
    (
        "Pooling, AVE, global",
        'type: "Pooling" pooling_param { pool: AVE global_pooling: true }',
        1,
        1,
    ),
    ("Eltwise, SUM", 'type: "Eltwise" bottom: "other"', 3, 4),
    ("Split", 'type: "Split" top: "second"', 0, 3),
    ("Softmax", 'type: "Softmax"', 2, 3),
)


class Convolutions:
    """The table of a set of ordinary convolutions; nothing else takes turns, for its threads would
    still be awake."""

    def __init__(self, benchmark, each, batch):
        names = (contestants.CONVOLUTION, contestants.OURS)
        self.title = f"{each.title}, batch {batch}, {benchmark.threads} threads"
        self.rows = [
            (layer.name, benchmark.time(layer, batch, names, LEAST)) for layer in each.layers
        ]

    def ratios(self):
        """{layer or network: ours relative to Caffe's, both passes}; networks are summed."""
        found, sums = {}, {}
        for name, times in self.rows:
            ours, caffes = (
                _both(times[who]) for who in (contestants.OURS, contestants.CONVOLUTION)
            )
            found[name] = ours / caffes
            of_network = sums.setdefault(name.split()[0], np.zeros(2))
            of_network += ours, caffes
        return found, {network: ours / caffes for network, (ours, caffes) in sums.items()}

    def lines(self):
        yield f"\n{self.title}: ms, forward and backward"
        names = list(self.rows[0][1])
        layers, networks = self.ratios()
        cells = [["layer", *names, "ours / Caffe's"]]
        for name, times in self.rows:
            by = (
                " ".join(f"{times[who][which].least:.3g}" for which in contestants.PASSES)
                for who in names
            )
            cells.append([name, *by, f"{layers[name]:.2f}"])
        cells += [
            [network, *("" for _ in names), f"{ratio:.2f}"] for network, ratio in networks.items()
        ]
        for line in aligned(cells, right=True):
            yield "  " + "  ".join(line)

    def bars(self):
        layers, networks = self.ratios()
        slowest = max(layers, key=layers.get)
        yield Bar(f"{self.title}: {slowest} relative to Caffe's loop", layers[slowest], 1.05)
        for network, ratio in networks.items():
            yield Bar(f"{self.title}: {network} relative to Caffe's loops", ratio, 0.85)


def _both(times):
    return times["forward"].least + times["backward"].least


def elementwise(benchmark):
    """Yields the lines of the elementwise layers: milliseconds by Caffe's loop and by ours, and
    ours in GB/s beside a copy of as many elements."""
    elements = int(np.prod(SHAPE))
    copy = _copy_rate(benchmark, elements)
    size = f"{elements / 1e6:.1f} million floats"
    yield f"\nelementwise layers of {size}, {benchmark.threads} threads"
    yield f"a copy: {copy:.1f} GB/s"
    cells = [["layer", "pass", "Caffe's, ms", "ours, ms", "ours, GB/s", "of the copy's"]]
    for name, text, *passes in ELEMENTWISE:
        nets = {of_caffe: _Net(text, of_caffe) for of_caffe in (True, False)}
        for which, moved in zip(contestants.PASSES, passes):
            times = interleaved(
                {of_caffe: getattr(net, which) for of_caffe, net in nets.items()},
                benchmark.repeats,
                least=LEAST,
            )
            if moved:
                rate = 4e-6 * moved * elements / times[False].least
                row = (f"{times[True].least:.3g}", f"{times[False].least:.3g}", f"{rate:.1f}")
                cells.append([name, which, *row, f"{rate / copy:.2f}"])
        found, expected = (net.results() for net in (nets[False], nets[True]))
        for ours, caffes in zip(found, expected):
            if not np.allclose(ours, caffes, rtol=1e-3, atol=1e-4):
                raise UserError(f"{name}: our loop differs from Caffe's")
    for line in aligned(cells, right=True):
        yield "  " + "  ".join(line)


def _copy_rate(benchmark, elements):
    """GB/s, read and written, by as many threads as the layers have."""
    from .machine import copier

    copied = interleaved(
        {"copy": copier(benchmark.threads, 4 * elements)}, benchmark.repeats, least=LEAST
    )
    return 8e-6 * elements / copied["copy"].least


class _Net:
    """One layer in a net of its own."""

    def __init__(self, text, of_caffe):
        self._of_caffe = of_caffe
        dims = " ".join(f"dim: {size}" for size in SHAPE)
        inputs = "".join(
            f'layer {{ name: "{name}" type: "Input" top: "{name}" '
            f"input_param {{ shape {{ {dims} }} }} }}\n"
            for name in ("image", *(["other"] if '"other"' in text else []))
        )
        with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
            file.write(
                f"force_backward: true\n{inputs}"
                f'layer {{ name: "layer" bottom: "image" top: "top" {text} }}\n'
            )
            file.flush()
            with loops.of_caffe(of_caffe):
                self._net = locate.caffe().Net(file.name, locate.caffe().TRAIN)
        self._first = len(self._net.layers) - 1
        draw = np.random.default_rng(0)
        for blob in self._net.blobs.values():
            blob.data[...] = draw.standard_normal(blob.data.shape, np.float32)
            blob.diff[...] = draw.standard_normal(blob.diff.shape, np.float32)

    def forward(self):
        with loops.of_caffe(self._of_caffe):
            self._net._forward(self._first, self._first)

    def backward(self):
        with loops.of_caffe(self._of_caffe):
            self._net._backward(self._first, self._first)

    def results(self):
        self.forward()
        self.backward()
        return self._net.blobs["top"].data, self._net.blobs["image"].diff
