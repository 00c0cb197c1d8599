"""Two networks that should compute the same, on the same random input."""

import math

import numpy as np

from ..caffe import locate
from ..errors import UserError

TOLERANCE = (
    1e-3  # of the largest value: far more than rounding, far less than what another network gives
)
_HELPERS = ("Input", "Parameter", "DummyData")  # layers without a bottom that read nothing
_INDEXED = {  # which bottom, and the number of indices, from the layer and the shape of its first bottom
    "Embed": (0, lambda layer, shape: layer.embed_param.input_dim),
    "BatchReindex": (1, lambda layer, shape: shape[0]),
    "Filter": (-1, lambda layer, shape: 2),
    "SoftmaxWithLoss": (
        1,
        lambda layer, shape: shape[layer.softmax_param.axis],
    ),  # of these a label
    "Accuracy": (1, lambda layer, shape: shape[layer.accuracy_param.axis]),
    "InfogainLoss": (1, lambda layer, shape: shape[layer.infogain_loss_param.axis]),
    **dict.fromkeys(
        ("HingeLoss", "MultinomialLogisticLoss"), (1, lambda layer, shape: math.prod(shape[1:]))
    ),
}
_MOVERS = (
    "Split",
    "Reshape",
    "Flatten",
    "Slice",
    "Concat",
    "Permute",
    "Crop",
    "Tile",
)  # leave the numbers as they are
# What is drawn, in this order, until the original computes finite numbers: a logarithm or root wants positive ones.
_DRAWS = (
    lambda draw, shape: draw.normal(size=shape),
    lambda draw, shape: np.abs(draw.normal(size=shape)),
    lambda draw, shape: draw.uniform(0.1, 1, shape),
)


def compare(original, other, ends, net=None, seed=0):
    """Runs two pycaffe Nets with the same inputs, of the size that they have.

    ``ends`` maps a layer's name in ``other`` to that of the layer in ``original`` with the same output. ``net``, the
    NetParameter of ``original``, tells which inputs are indices. All others are standard normal, or positive where the
    original computes no numbers from that. Returns ({name in ``other``: (largest difference, largest value)}, {name of an
    output of the network: the same}); the inputs stay in the nets' blobs.
    """
    for numbers in _DRAWS:
        for name, values in _inputs(original, net, numbers, np.random.default_rng(seed)).items():
            for live in (original, other):
                live.blobs[name].data[...] = values
        expected = _outputs(original, set(ends.values()), seed)
        outputs = {name: [original.blobs[name].data.copy()] for name in original.outputs}
        if all(
            np.isfinite(array).all()
            for arrays in [*expected.values(), *outputs.values()]
            for array in arrays
        ):
            break
    found = _outputs(other, set(ends), seed)
    layers = {name: _difference(expected[end], found[name]) for name, end in ends.items()}
    same = zip(original.outputs, other.outputs, strict=True)
    return layers, {
        name: difference(outputs[name][0], other.blobs[again].data) for name, again in same
    }


def check(differences, what):
    """Raises UserError for the first of {name: (largest difference, largest value)}, as ``compare`` returns them, that is
    more than rounding. ``what`` says what the names are those of."""
    for name, (difference, largest) in differences.items():
        if not difference <= TOLERANCE * max(1, largest) < math.inf:  # so is NaN
            raise UserError(
                f"{what} {name} is not the original's on random input: the largest difference is "
                f"{difference:.2g} (largest value {largest:.3g}), so nothing is written: look for weights or "
                "values that are not finite, and for layers that draw at random"
            )


def own_source(net):
    """The layer of a NetParameter that reads its images itself, None in a network that is fed through its inputs alone."""
    return next(
        (layer for layer in net.layer if not layer.bottom and layer.type not in _HELPERS), None
    )


def difference(expected, found):
    """(largest difference, largest value) of two arrays; NaN where one is."""
    return _difference([expected], [found])


def _inputs(live, net, numbers, draw):
    """{input: values}: indices where a layer takes indices."""
    shapes = {name: live.blobs[name].data.shape for name in live.blobs}
    bounds = _bounds(net, shapes) if net is not None else {}
    return {
        name: draw.integers(0, bounds[name], shapes[name])
        if name in bounds
        else numbers(draw, shapes[name])
        for name in live.inputs
    }


def _bounds(net, shapes):
    """{blob: number of values} of the blobs that reach, unchanged, a layer that takes them for indices."""
    bounds = {}
    for layer in reversed(net.layer):
        if (
            layer.type in _INDEXED and layer.bottom[0] in shapes
        ):  # in training alone, it takes no part
            bottom, count = _INDEXED[layer.type]
            bounds[layer.bottom[bottom]] = min(
                count(layer, shapes[layer.bottom[0]]), bounds.get(layer.bottom[bottom], math.inf)
            )
        elif layer.type in _MOVERS:
            of_tops = [bounds[top] for top in layer.top if top in bounds]
            if of_tops:
                for bottom in layer.bottom:
                    bounds[bottom] = min([*of_tops, bounds.get(bottom, math.inf)])
    return bounds


def _outputs(net, names, seed):
    """What layers put out, before a later layer works on it in place: {name: list of arrays}."""
    locate.caffe().set_random_seed(seed)  # for DummyData, which draws at each pass
    outputs = {}
    for index, name in enumerate(net._layer_names):
        net._forward(index, index)
        if name in names:
            outputs[name] = [net.blobs[top].data.copy() for top in net.top_names[name]]
    return outputs


def _difference(expected, found):
    largest = [
        [np.abs(a - b).max(initial=0), np.abs(a).max(initial=0)]
        for a, b in zip(expected, found, strict=True)
    ]
    return tuple(np.max(largest, axis=0).tolist())  # NaN where one is: Python's max would lose it
