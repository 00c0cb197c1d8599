"""Where the synapses of active convolutions sit: read from snapshots and live nets, and kept over a
training run.

A position is a pair (x, y) in pixels, relative to the base pixel: x = horizontal to the right, y =
vertical downwards (α and β in §2 of the paper). Neither the network's data nor the layer's code is
needed to read them.

In a notebook, a LayerPositions, a list of them as the readers here give it, and a History show as
their pictures.
"""

import dataclasses
import importlib
import json
import math
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import load_npz, reading, save_npz
from ..geometry import by_stage, grid, ring  # noqa: F401
from . import messages

TYPES = ("ActiveConvolution", "AConvFast")  # ours, and the name in the authors' published code
RUN_FILE = "positions.npz"  # the History in the folder that acu train fills
_FIXED32 = 5  # how protocol buffers mark a number of 32 bits
_RESERVED = "iterations", "about", "file"  # keys of its own there, and np.savez's argument


class _Shown:
    """What a notebook shows as the picture that ``_draw`` makes, and as text where there is nothing
    to draw."""

    def _repr_png_(self):
        synapses = importlib.import_module("active_convolution.look.synapses")  # draws, from above
        try:
            return self._draw(synapses)._repr_png_()
        except UserError:
            return None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LayerPositions(_Shown):
    """The synapses of one layer, at one moment.

    ``kernel`` is (kh, kw), and K = kh·kw the number of synapses. ``xy`` is float32 (position_group,
    K, 2) in pixels. ``start`` has the same shape and says where each synapse began; None where that
    is not known.
    """

    name: str
    type: str
    kernel: tuple
    xy: np.ndarray
    start: np.ndarray = None

    def farthest(self):
        """The (x, y) that lies farthest from the base pixel."""
        points = self.xy.reshape(-1, 2)
        return points[np.hypot(*points.T).argmax()]

    def displacement(self):
        """How far each synapse is from its start, in pixels: (position_group, K); None where no
        start is known."""
        return (
            None
            if self.start is None
            else np.hypot(*np.moveaxis(self.xy.astype(float) - self.start, -1, 0))
        )

    def __repr__(self):
        (kh, kw), (x, y) = self.kernel, self.farthest()
        return f"<{self.name}: {self.type} {kh}×{kw}, the farthest synapse at ({x:.2f}, {y:.2f})>"

    def _draw(self, synapses):
        return synapses.draw_positions([self])


class Layers(_Shown, list):
    """LayerPositions in network order."""

    def _draw(self, synapses):
        return synapses.draw_positions(self)


# ---- Of a snapshot, and of a live net


def from_caffemodel(path):
    """The active convolutions of a binary .caffemodel, in network order: a Layers list of
    LayerPositions.

    Raises UserError where the file cannot be read, is damaged, or holds no active convolution.
    """
    layers = Layers()
    for layer in messages.read_weights(path).layer:
        if layer.type in TYPES:
            blobs = [messages.values(blob).reshape(messages.shape(blob)) for blob in layer.blobs]
            found = _positions(layer.name, layer.type, blobs, f"layer {layer.name} of {path}")
            start = _start(layer, found.kernel, found.xy.shape)
            layers.append(dataclasses.replace(found, start=start))
    if not layers:
        raise UserError(
            f"{path} has no {' or '.join(TYPES)} layer: name the snapshot of a network that has one"
        )
    return layers


def from_net(net):
    """The active convolutions of a pycaffe Net: a Layers list of LayerPositions (copies, no start
    known). The list is empty for a network without one."""
    return Layers(
        _positions(name, layer.type, [blob.data for blob in layer.blobs], f"layer {name}")
        for name, layer in zip(net._layer_names, net.layers)
        if layer.type in TYPES
    )


def _positions(name, kind, blobs, where):
    """The LayerPositions of a layer's blobs, arrays: weight, bias, x, y."""
    shapes = [blob.shape for blob in blobs]
    if not (len(shapes) == 4 and shapes[2] == shapes[3] and len(shapes[2]) == 4) or (
        shapes[2][1] != 1 or not all(shapes[2])
    ):
        seen = ", ".join(map(messages.by, shapes)) or "none"
        raise UserError(
            f"{where} has blobs {seen}: an active convolution has four, weight, bias, and the "
            "positions x and y, both position_group×1×kernel_h×kernel_w"
        )
    xy = np.stack([blob.reshape(len(blob), -1) for blob in blobs[2:]], axis=-1)
    return LayerPositions(name, kind, shapes[2][2:], xy.astype(np.float32))


# ---- Where the synapses of a snapshot began


def _start(layer, kernel, shape):
    """The starting positions that the parameters of ``layer`` give, as ``shape``: None where they
    leave it open."""
    if layer.type == "AConvFast":
        start = _aconv_start(layer, shape[1])
    elif layer.active_convolution_param.position:
        start = np.array([(p.x, p.y) for p in layer.active_convolution_param.position], np.float32)
    else:
        dilation = list(layer.convolution_param.dilation) or [1]
        start = grid(kernel, dilation) if len(dilation) <= 2 else None
    if (
        start is None
        or start.size not in (shape[1] * 2, math.prod(shape))
        or not np.isfinite(start).all()
    ):
        return None
    return np.broadcast_to(start.reshape(-1, *shape[1:]), shape)


def _aconv_start(layer, count):
    """The start of an AConvFast layer of ``count`` synapses; None where it was random, or its
    parameters are unknown."""
    if layer.HasField("aconv_param"):
        own = layer.aconv_param
        return (
            None
            if own.pos_filler_std > 0
            else ring(count, own.base_radius, own.base_angle, own.pos_filler_std < 0)
        )
    # The authors' files hold its parameters under number 147, which has become swish_param's: there
    # they are unknown fields. Theirs are 10 pos_filler_std, 11 normalize, 25 position_group; any
    # other one could change the shape.
    fields = {
        field.field_number: field for field in _unknown_fields(getattr(layer, "swish_param", layer))
    }
    if 10 not in fields or fields[10].wire_type != _FIXED32 or not set(fields) <= {10, 11, 25}:
        return None
    return ring(count) if np.uint32(fields[10].data).view(np.float32) < 0 else None


def _unknown_fields(message):
    """Those that the message has and its type does not: each with a ``field_number`` and
    ``data``."""
    try:
        return message.UnknownFields()
    except (NotImplementedError, AttributeError):  # of protobuf 4.22 and later
        from google.protobuf.unknown_fields import UnknownFieldSet

        return UnknownFieldSet(message)


# ---- A training run


class History(_Shown):
    """Positions over the iterations of one training run.

    ``warmup_iter`` is the iteration until which positions are frozen (§2.6), so that a record up to
    it is the start. The file is an .npz: ``iterations`` (T,) int64, under each layer's name (T,
    position_group, K, 2) float32, and ``about``, a JSON text with warmup_iter and every layer's
    name, type and kernel in network order.
    """

    def __init__(self, warmup_iter=0):
        self.warmup_iter = warmup_iter
        self._layers = []  # of LayerPositions: name, type, kernel and shape of what is recorded
        self._records = {}  # iteration → a (position_group, K, 2) array per layer, ascending

    @property
    def iterations(self):
        """The recorded iterations, ascending: (T,) int64."""
        return np.array(list(self._records), np.int64)

    @property
    def names(self):
        """The layers' names, in network order."""
        return [layer.name for layer in self._layers]

    def positions(self, name):
        """The positions of layer ``name`` over time, in pixels: (T, position_group, K, 2)
        float32."""
        index = self.names.index(name)
        records = [record[index] for record in self._records.values()]
        return np.array(records, np.float32).reshape(-1, *self._layers[index].xy.shape)

    def layers(self):
        """The newest positions: a Layers list, with their start where the first record still is
        it."""
        if not self._records:
            return Layers()
        records = list(self._records.values())
        frozen = min(self._records) <= self.warmup_iter
        return Layers(
            dataclasses.replace(layer, xy=xy, start=start if frozen else None)
            for layer, xy, start in zip(self._layers, records[-1], records[0])
        )

    def __repr__(self):
        span = f", iterations {min(self._records)} to {max(self._records)}" if self._records else ""
        return f"<History of {len(self._layers)} layers, {len(self._records)} records{span}>"

    def _draw(self, synapses):
        return synapses.draw_movement(self)

    def append(self, iteration, layers):
        """Records ``layers`` (LayerPositions, as from_net gives them) after ``iteration`` solver
        iterations.

        Records of this iteration and later ones are dropped: training has gone back. Raises
        UserError where the layers are not those recorded before, or one has a name that the file
        needs for itself.
        """
        self.truncate(iteration - 1)
        if self._layers and list(map(_identity, layers)) != list(map(_identity, self._layers)):
            raise UserError(
                "the network's active convolutions are not those whose positions this run "
                "recorded: resume with the network that it began with, or train into another folder"
            )
        for layer in layers:
            if layer.name in _RESERVED:
                raise UserError(f"a layer called {layer.name} cannot be recorded: rename the layer")
        self._layers = self._layers or list(layers)
        self._records[int(iteration)] = [np.array(layer.xy, np.float32) for layer in layers]

    def truncate(self, after_iteration):
        """Drops the records of iterations > ``after_iteration``, as a resumed run must."""
        self._records = {
            iteration: record
            for iteration, record in self._records.items()
            if iteration <= after_iteration
        }

    def save(self, path):
        """Writes the .npz, whole or not at all."""
        about = {
            "warmup_iter": self.warmup_iter,
            "layers": [
                {"name": layer.name, "type": layer.type, "kernel": layer.kernel}
                for layer in self._layers
            ],
        }
        arrays = {name: self.positions(name) for name in self.names}
        save_npz(path, iterations=self.iterations, about=json.dumps(about), **arrays)

    @classmethod
    def load(cls, path):
        """Reads what ``save`` wrote. Raises UserError where the file is missing, damaged or
        something else."""
        remedy = "remove it, or name another run"
        arrays = load_npz(path, remedy)
        with reading(path, "is not a record of positions", remedy, reason=True):
            about = json.loads(arrays["about"].item())
            history = cls(int(about["warmup_iter"]))
            over_time = []
            for layer in about["layers"]:
                name, (kh, kw) = layer["name"], layer["kernel"]
                xy = arrays[name]
                right = xy.shape[2:] == (kh * kw, 2) and len(xy) == len(arrays["iterations"])
                if not right or xy.dtype.kind != "f":
                    raise ValueError(f"{name} is {xy.dtype} {messages.by(xy.shape)}")
                over_time.append(xy.astype(np.float32, copy=False))
                at_rest = np.zeros(xy.shape[1:])
                history._layers.append(LayerPositions(name, layer["type"], (kh, kw), at_rest))
            if not over_time or (np.diff(arrays["iterations"], prepend=-1) <= 0).any():
                raise ValueError("it has no layers, or its iterations do not ascend")
        history._records = {
            int(iteration): record for iteration, *record in zip(arrays["iterations"], *over_time)
        }
        return history


def _identity(layer):
    return layer.name, layer.type, layer.kernel, layer.xy.shape


def load_run(folder):
    """The History of a folder that acu train fills. Raises UserError where ``folder`` holds
    none."""
    path = Path(folder) / RUN_FILE
    if not path.exists():
        raise UserError(
            f"{folder} has no {RUN_FILE}: name the --output folder of acu train, or a .caffemodel"
        )
    return History.load(path)
