"""Two networks that should compute the same, on the same random input."""
import collections
import math

import numpy as np

from ..errors import UserError
from ..pycaffe import locate

TOLERANCE = 1e-3    # of the largest value: far more than rounding, far less than what another network gives
_HELPERS = ("Input", "Parameter", "DummyData")      # layers without a bottom that read nothing


def compare(original, other, ends, seed=0):
    """Runs two pycaffe Nets with the same inputs on standard normal input.

    ``ends`` maps a layer's name in ``other`` to that of the layer in ``original`` with the same output. Returns
    ({name in ``other``: (largest difference, largest value)}, {name of an output of the network: the same}).
    """
    draw = np.random.default_rng(seed)
    for name in original.inputs:
        values = draw.normal(size=original.blobs[name].data.shape)
        for net in (original, other):
            net.blobs[name].data[...] = values
    expected, found = _outputs(original, set(ends.values()), seed), _outputs(other, set(ends), seed)
    layers = {name: _difference(expected[end], found[name]) for name, end in ends.items()}
    outputs = zip(original.outputs, other.outputs, strict=True)
    return layers, {name: _difference([original.blobs[name].data], [other.blobs[same].data]) for name, same in outputs}


def check(differences, what):
    """Raises UserError for the first of {name: (largest difference, largest value)}, as ``compare`` returns them, that is
    more than rounding. ``what`` says what the names are those of."""
    for name, (difference, largest) in differences.items():
        if not difference <= TOLERANCE * max(1, largest) < math.inf:    # so is NaN
            raise UserError(f"{what} {name} is not the original's on random input: the largest difference is "
                            f"{difference:.2g} (largest value {largest:.3g}), so nothing is written: look for weights or "
                            "values that are not finite, and for layers that draw at random")


def check_names(net, model):
    """Raises UserError where layers of a pycaffe Net that have weights share a name: Caffe would fill the first alone."""
    counts = collections.Counter(name for name, layer in zip(net._layer_names, net.layers) if len(layer.blobs))
    for name, count in counts.items():
        if count > 1:
            raise UserError(f"{model} has {count} layers called {name} in one phase, and weights are stored by name: "
                            "give each a name of its own")


def own_source(net):
    """The layer of a NetParameter that reads its images itself, None in a network that is fed through its inputs alone."""
    return next((layer for layer in net.layer if not layer.bottom and layer.type not in _HELPERS), None)


def _outputs(net, names, seed):
    """What layers put out, before a later layer works on it in place: {name: list of arrays}."""
    locate.caffe().set_random_seed(seed)      # for DummyData, which draws at each pass
    outputs = {}
    for index, name in enumerate(net._layer_names):
        net._forward(index, index)
        if name in names:
            outputs[name] = [net.blobs[top].data.copy() for top in net.top_names[name]]
    return outputs


def _difference(expected, found):
    largest = [[np.abs(a - b).max(initial=0), np.abs(a).max(initial=0)] for a, b in zip(expected, found, strict=True)]
    return tuple(np.max(largest, axis=0).tolist())      # NaN where one is: Python's max would lose it
