"""What sizes a network takes, asked of Caffe in a process of its own: a size that does not fit would end it."""
import dataclasses
import json
import subprocess
import sys

from ..training.guard import environment

_ASK = """
import json, sys
from active_convolution import fork
net = fork.caffe().Net(sys.argv[1], fork.caffe().TEST)
for sizes in json.loads(sys.argv[2]):
    for name, size in sizes.items():
        net.blobs[name].reshape(*size)
    net.reshape()
    print(json.dumps({name: list(blob.data.shape) for name, blob in net.blobs.items()}), flush=True)
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
    done = subprocess.run([sys.executable, "-c", _ASK, str(model), json.dumps(candidates)], env=environment(),
                          capture_output=True, text=True, errors="replace")
    found = [{name: tuple(size) for name, size in json.loads(line).items()} for line in done.stdout.splitlines()]
    return found + [None] * (len(candidates) - len(found))


def sizes(model, live):
    """The Sizes of the prototxt ``model``, which is loaded as the pycaffe Net ``live``. An axis of an input is free where
    Caffe takes twice as much of it: the batch, and height and width together."""
    own = {name: tuple(live.blobs[name].data.shape) for name in live.inputs}
    planes = [name for name, size in own.items() if len(size) == 4]
    tries = [{name: (2 * size[0], *size[1:]) for name, size in own.items() if size}]
    if planes:
        tries.append({**own, **{name: (*own[name][:2], 2 * own[name][2], 2 * own[name][3]) for name in planes}})
    taken = [shapes(model, [one])[0] for one in tries]
    base = {name: tuple(blob.data.shape) for name, blob in live.blobs.items()}
    free = {name: frozenset(axis for other in taken if other is not None and len(other[name]) == len(size)
                            for axis in range(len(size)) if other[name][axis] != size[axis])
            for name, size in base.items()}
    return Sizes(list(live.inputs), list(live.outputs), base, free, _symbols(own, free))


def _symbols(inputs, free):
    """Names of the inputs' free axes: the same where inputs have the same size."""
    symbols, taken = {}, {}
    for name, size in inputs.items():
        symbols[name] = {}
        for axis in free[name]:
            word = ("batch", "channels", "height", "width")[axis] if len(size) in (1, 2, 4) and axis < 4 else f"axis{axis}"
            if taken.setdefault(word, size[axis]) != size[axis]:
                word = f"{name}_{word}"
            symbols[name][axis] = word
    return symbols
