"""Two networks that should compute the same, on the same random input."""
import numpy as np


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
    expected, found = _outputs(original, set(ends.values())), _outputs(other, set(ends))
    layers = {name: _difference(expected[end], found[name]) for name, end in ends.items()}
    outputs = zip(original.outputs, other.outputs)
    return layers, {name: _difference([original.blobs[name].data], [other.blobs[same].data]) for name, same in outputs}


def own_source(net):
    """The layer of a NetParameter that brings its own data, None in a network that is fed through its inputs alone."""
    return next((layer for layer in net.layer if not layer.bottom and layer.type != "Input"), None)


def _outputs(net, names):
    """What layers put out, before a later layer works on it in place: {name: list of arrays}."""
    outputs = {}
    for index, name in enumerate(net._layer_names):
        net._forward(index, index)
        if name in names:
            outputs[name] = [net.blobs[top].data.copy() for top in net.top_names[name]]
    return outputs


def _difference(expected, found):
    return (max(float(np.abs(a - b).max(initial=0)) for a, b in zip(expected, found, strict=True)),
            max(float(np.abs(a).max(initial=0)) for a in expected))
