"""The weights that a training begins with: copied by the names of the layers, those of an ordinary convolution into an
active one, too; and a list of what was copied, and what was not."""

import dataclasses
from pathlib import Path

import numpy as np

from ..caffe import messages
from ..caffe.messages import by
from ..errors import UserError


@dataclasses.dataclass(frozen=True)
class Copied:
    """The layers of a network that got weights from ``file``; ``activated`` are those of them that are active and were
    ordinary there. ``left`` says why other layers got none, ``unused`` names those of the file that the network lacks."""

    file: str
    copied: list
    activated: list
    left: dict
    unused: list

    def lines(self):
        """The list, in lines for a person."""
        name = Path(self.file).name
        active = (
            f", {len(self.activated)} of them ordinary ones into active convolutions"
            if self.activated
            else ""
        )
        yield f"{name}: weights of {len(self.copied)} layers copied{active}"
        if self.left:
            yield "  not copied: " + ", ".join(
                f"{layer} ({why})" for layer, why in self.left.items()
            )
        if self.unused:
            yield "  not in this network: " + ", ".join(self.unused)


def copy(net, path):
    """Copies the weights in the .caffemodel ``path``, of whichever format, into the live ``net`` (pycaffe); Copied.

    Raises UserError where the file cannot be read, and where no layer takes anything from it.
    """
    stored = {layer.name: layer.blobs for layer in messages.read_weights(path).layer if layer.blobs}
    types = dict(zip(net._layer_names, (layer.type for layer in net.layers)))
    copied, activated, left = [], [], {}
    for name, blobs in net.params.items():
        if name not in stored:
            left[name] = f"not in {Path(path).name}"
        elif _fits(stored[name], blobs):
            _fill(blobs, stored[name])
            copied.append(name)
        elif (
            types[name] == "ActiveConvolution"
            and len(stored[name]) <= 2
            and _fits(stored[name], blobs[: len(stored[name])])
        ):
            _fill(blobs, stored[name])
            copied.append(name)
            activated.append(name)
        else:
            left[name] = _reason(types[name], stored[name], blobs)
    if not copied:
        raise UserError(
            f"{path} has no weights for any layer of this network: give the weights of one that shares layers with "
            "it, by name and by shape"
        )
    return Copied(str(path), copied, activated, left, sorted(stored.keys() - net.params.keys()))


def _fits(stored, blobs):
    return len(stored) == len(blobs) and all(
        messages.holds(blob, live.data.shape) for blob, live in zip(stored, blobs)
    )


def _fill(blobs, stored):
    for live, blob in zip(blobs, stored):
        live.data[...] = np.array(blob.data or blob.double_data, np.float32).reshape(
            live.data.shape
        )


def _reason(kind, stored, blobs):
    if (
        kind in ("ActiveConvolution", "AConvFast")
        and len(stored) <= 2
        and messages.shape(stored[0]) == blobs[0].data.shape
    ):
        return "another bias, or AConvFast's order of synapses: see acu convert"
    there, here = (
        ", ".join(map(by, shapes))
        for shapes in (map(messages.shape, stored), (blob.data.shape for blob in blobs))
    )
    return f"{there} there, {here} here"
