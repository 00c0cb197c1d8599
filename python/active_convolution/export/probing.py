"""What sizes a network takes, asked of Caffe in a process of its own: a size that does not fit would end it."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np

from ..caffe.process import environment

_ASK = """
import json, os, sys
from active_convolution.caffe import locate, nets
answers = open(os.dup(1), "w")
os.dup2(2, 1)       # what layers print is no answer
model, candidates = json.load(sys.stdin)
net = locate.caffe().Net(os.fsencode(model), locate.caffe().TEST)
for size in candidates:
    nets.resize(net, size)
    print(json.dumps({name: list(blob.data.shape) for name, blob in net.blobs.items()}), file=answers, flush=True)
"""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of a network's blobs: ``inputs`` and ``outputs`` are names, ``shapes`` {name: shape at the network's own size},
    ``free`` {name: axes whose size follows the input's}, ``symbols`` {name of an input: {axis: its name}}."""

    inputs: list
    outputs: list
    shapes: dict
    free: dict
    symbols: dict

    def symbol(self, blob, axis):
        """A name for a free axis."""
        return self.symbols.get(blob, {}).get(axis) or f"{blob}_{axis}"


def shapes(model, candidates):
    """For each of ``candidates``, {input: shape}, the shapes of all blobs that the prototxt ``model`` then has, {blob:
    shape}; None where Caffe cannot do it, and for all that come after that."""
    done = subprocess.run(
        [sys.executable, "-c", _ASK],
        input=json.dumps([os.fspath(model), candidates]),
        env=environment(),
        capture_output=True,
        text=True,
        errors="replace",
    )
    found = [
        {name: tuple(size) for name, size in json.loads(line).items()}
        for line in done.stdout.splitlines()
    ]
    return found + [None] * (len(candidates) - len(found))


def sizes(model, live):
    """The Sizes of the prototxt ``model``, which is loaded as the pycaffe Net ``live``. An axis of an input is free
    where Caffe takes twice as much of it: the batch, and height and width together."""
    own = input_shapes(live)
    batch = {name: (2 * size[0], *size[1:]) for name, size in own.items() if size}
    image = {
        name: (*size[:2], 2 * size[2], 2 * size[3]) if len(size) == 4 else size
        for name, size in own.items()
    }
    taken = shapes(model, [batch, image])
    if taken[0] is None:  # the process has ended there
        (taken[1],) = shapes(model, [image])
    base = {name: tuple(blob.data.shape) for name, blob in live.blobs.items()}
    free = {
        name: frozenset(
            axis
            for other in taken
            if other is not None and len(other[name]) == len(size)
            for axis in range(len(size))
            if other[name][axis] != size[axis]
        )
        for name, size in base.items()
    }
    return Sizes(list(live.inputs), list(live.outputs), base, free, _symbols(own, base, free))


def _symbols(inputs, base, free):
    """Names of the inputs' free axes, the same where inputs have the same size; and of the batch in other blobs."""
    symbols, taken = {}, {}
    for name, size in inputs.items():
        symbols[name] = {}
        for axis in free[name]:
            word = (
                ("batch", "channels", "height", "width")[axis]
                if len(size) in (1, 2, 4) and axis < 4
                else f"axis{axis}"
            )
            if taken.setdefault(word, size[axis]) != size[axis]:
                word = f"{name}_{word}"
            symbols[name][axis] = word
    for name, size in base.items():
        if name not in inputs and 0 in free[name] and size[0] == taken.get("batch"):
            symbols[name] = {0: "batch"}
    return symbols


# ---- A size to compare at

_SIDES = (32, 64, 128, 256, 512)
_SMALLEST = 8  # pixels along an axis


def comparing_size(model, net, live, synapses):
    """The inputs' shapes, {name: shape}, at which every synapse reads a pixel, and the names of the layers where some
    does not: the network's own size or, where that is too small, the first larger image that will do.

    ``model`` is the prototxt, ``net`` its NetParameter and ``live`` its pycaffe Net; ``synapses`` maps the names of
    layers to ((vertical, horizontal) Axis, x and y of their synapses). Where no size will do it is the one that leaves
    out fewest.
    """
    own = input_shapes(live)
    base = {name: tuple(blob.data.shape) for name, blob in live.blobs.items()}
    unread = _unread(net, base, synapses)
    if not unread:
        return own, []
    larger = [
        {
            name: (*size[:2], max(size[2], side), max(size[3], side)) if len(size) == 4 else size
            for name, size in own.items()
        }
        for side in _SIDES
    ]
    larger = [sizes for sizes in larger if sizes != own]
    found = [(own, unread)] + [
        (sizes, _unread(net, after, synapses))
        for sizes, after in zip(larger, shapes(model, larger))
        if after is not None
    ]
    return min(found, key=lambda each: len(each[1]))


def input_shapes(live):
    """{input: shape} of a pycaffe Net."""
    return {name: tuple(live.blobs[name].data.shape) for name in live.inputs}


def is_sensible(size):
    """Whether images of these inputs' shapes are any, rather than a place for whatever comes (OpenPose names 1×1)."""
    return all(min(shape[2:]) >= _SMALLEST for shape in size.values() if len(shape) == 4)


def _unread(net, shapes, synapses):
    """The names of the layers in which a synapse reads no pixel, whatever the output."""
    return [
        layer.name
        for layer in net.layer
        if layer.name in synapses
        and not _reads_all(shapes[layer.bottom[0]][2:], *synapses[layer.name])
    ]


def _reads_all(size, axes, x, y):
    for length, axis, places in zip(size, axes, (y, x)):
        bases = axis.base + axis.stride * np.arange(
            (length + 2 * axis.pad - axis.extent) // axis.stride + 1
        )
        read = bases[:, np.newaxis] + places.ravel()
        if not np.any((read >= 0) & (read <= length - 1), axis=0).all():
            return False
    return True
