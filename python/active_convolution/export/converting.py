"""Networks into active convolutions: ordinary ones into their ACU twins, the authors' AConvFast into
ActiveConvolution."""

import dataclasses
import fnmatch
import math
import tempfile
from pathlib import Path

import numpy as np

from .. import geometry
from ..caffe import messages, nets
from ..caffe.messages import by
from ..columns import aligned
from ..errors import BadValue, UserError
from ..files import whole_folder
from . import account, aconv_fast, dimensions, probing, sharing, verify

WEIGHTS = "weights.caffemodel"
LARGEST = 2**31  # of a number in a prototxt


@dataclasses.dataclass(frozen=True)
class Fields:
    """The fields of active_convolution_param to set; None leaves the default, or what an AConvFast layer says."""

    warmup_iter: int = None
    normalize_gradient: bool = None
    position_lr_mult: float = None
    position_group: int = None
    fix_origin: bool = None

    def apply(self, layer):
        """Sets them in a LayerParameter. Raises UserError for what the layer does not take."""
        for name, value in dataclasses.asdict(self).items():
            if value is not None:
                if not 0 <= value < LARGEST:
                    raise BadValue(
                        f"{name} {value} is out of range: give 0 or more, and less than {LARGEST}"
                    )
                setattr(layer.active_convolution_param, name, value)
        sets, outputs = (
            layer.active_convolution_param.position_group,
            layer.convolution_param.num_output,
        )
        if sets < 1 or outputs % sets:
            raise UserError(
                f"layer {layer.name}: position_group {sets} does not divide its {outputs} outputs"
            )


@dataclasses.dataclass(frozen=True)
class Converted:
    """One converted layer: what it was, its kernel (vertical, horizontal) and number of synapses, the sets of
    positions, what holds its positions still or together with others' (texts), and the largest difference behind it
    with the largest value there, None where nothing was run."""

    name: str
    was: str
    kernel: tuple
    position_group: int
    notes: list
    difference: float = None
    largest: float = None


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What was converted; ``outputs`` is what verify.compare says of the network's outputs, {} where nothing was run;
    ``size`` the inputs' shapes that it was run with, ``unread`` the layers in which a synapse reads nothing at that
    size, and ``runs`` a line that says where the result runs, and how that is known."""

    rows: list
    outputs: dict
    size: dict
    unread: list
    runs: str

    @property
    def layers(self):
        """The names of the converted layers."""
        return [row.name for row in self.rows]

    def text(self):
        cells = [("layer", "was", "kernel", "positions", "difference")]
        for row in self.rows:
            synapses = math.prod(row.kernel) * row.position_group
            compared = (
                "" if row.difference is None else f"{row.difference:.1e} of {row.largest:.3g}"
            )
            cells.append(
                (
                    row.name,
                    row.was,
                    by(row.kernel),
                    ", ".join([str(synapses), *row.notes]),
                    compared,
                )
            )
        lines = [f"{len(self.rows)} layers converted: {', '.join(self.layers)}"]
        lines += [
            f"output {name} on random input: largest difference {difference:.1e} (largest value {largest:.3g})"
            for name, (difference, largest) in self.outputs.items()
        ]
        lines += ["  ".join(row).rstrip() for row in aligned(cells)]
        if self.size:
            lines.append("differences: random input of " + account.sizes_text(self.size))
        return "\n".join([*lines, *account.unread_text(self.unread), self.runs]) + "\n"


def convert(model, weights, output, patterns=(), kernels=(), options=Fields(), seed=0, report=None):
    """Writes ``model`` (any network's prototxt) with active convolutions into the new folder ``output``, under its own
    name, and ``weights`` (its .caffemodel, or None) as weights.caffemodel. What the network computes stays the same.

    Converted are the Convolution and AConvFast layers whose name matches one of ``patterns`` (as in a shell; none: any)
    and whose kernel is one of ``kernels``, pairs (vertical, horizontal) (none: any). With neither given it is every
    AConvFast layer, or in a network without one every Convolution over two axes larger than 1×1. ``seed`` is that of
    the noise in AConvFast's starting positions; ``report`` a place for the Conversion as JSON. Returns the Conversion.
    Raises UserError for files that do not fit, for a layer that cannot be converted, and where the result does not
    compute the same.
    """
    account.check_place(report, output)
    if weights and Path(model).name == WEIGHTS:
        raise UserError(
            f"{model} has the name of the weights that go beside it, {WEIGHTS}: rename the prototxt"
        )
    net = messages.read_net(model)
    stored = messages.read_weights(weights) if weights else None
    _forget_blobs(net, model, stored)
    chosen, draw = _choose(net, stored, model, patterns, kernels), np.random.default_rng(seed)
    for layer in chosen:
        check(layer, options)
    sharing.check_orders(net, chosen, with_weights=bool(stored))
    original = type(net)()
    original.CopyFrom(net)
    # All of them before the first is replaced: a layer for training and one for testing may have one name, and weights.
    before = [_stored_blobs(stored, layer, weights) if stored else None for layer in chosen]
    _check_axes(net, chosen)
    was = [layer.type for layer in chosen]
    with whole_folder(output) as folder:
        for layer, blobs in zip(chosen, before):
            if layer.type == "AConvFast":
                blobs = aconv_fast.translate(layer, blobs, draw)
                options.apply(layer)
            else:
                blobs = to_active(layer, blobs, options)
            if stored:
                messages.fill(_find(stored, layer.name), layer, blobs)
        notes = sharing.carry_over(
            net,
            [layer for layer, kind in zip(chosen, was) if kind == "Convolution"],
            options.position_lr_mult,
        )
        messages.write(folder / Path(model).name, net)
        if stored:
            messages.write_weights(folder / WEIGHTS, stored)
        layers, outputs, size, unread, runs = _compare(
            original, net, chosen, model, weights, folder
        )
        rows = [
            Converted(
                layer.name,
                kind,
                geometry.kernel(layer),
                layer.active_convolution_param.position_group,
                notes.get(layer.name, []),
                *layers.get(layer.name, ()),
            )
            for layer, kind in zip(chosen, was)
        ]
        done = Conversion(rows, outputs, size, unread, runs)
        if report:
            account.write_json(report, done)
    return done


def _forget_blobs(net, model, stored):
    """Removes the weights that the prototxt itself holds; raises UserError where nothing (``stored``) takes their place."""
    holder = next((layer for layer in net.layer if layer.blobs), None)
    if holder is not None and not stored:
        raise UserError(
            f"layer {holder.name} has its weights in {model} itself, where they would be lost: give them as "
            "--weights, or take them out"
        )
    messages.forget_blobs(net)


# ---- The two networks

_RUNS = "runs in a Caffe with the layer ActiveConvolution (./scripts/build.sh); `acu export` writes it for any other engine"


def _compare(original, net, chosen, model, weights, folder):
    """What a run of both networks says: ({layer: (largest difference, largest value)}, the same of the outputs, the
    inputs' shapes, the layers where a synapse reads nothing, and where the result runs). Raises UserError where they
    differ, and where Caffe builds the original and not the twin."""
    source = verify.own_source(original)
    if source is not None:
        return {}, {}, {}, [], f"{_RUNS}; not run here: layer {source.name} reads its images itself"
    with tempfile.TemporaryDirectory() as scratch:
        paths = [Path(scratch) / name for name in ("original.prototxt", "twin.prototxt")]
        for message, path in zip((original, net), paths):
            runnable = type(message)()
            runnable.CopyFrom(message)
            messages.forget_build(runnable)
            messages.write_to_run(path, runnable)
        if weights is None:
            _check_twin(*paths, model)
            return {}, {}, {}, [], f"{_RUNS}; not run here without --weights"
        called = (model, f"that {model} is converted to")
        live, twin = (
            nets.load_checked(*files) for files in zip(paths, (weights, folder / WEIGHTS), called)
        )
        present = set(live._layer_names)
        synapses = {
            layer.name: (
                geometry.axes(layer),
                *(blob.data for blob in list(twin.params[layer.name])[2:]),
            )
            for layer in chosen
            if layer.name in present
        }
        size, unread = probing.comparing_size(paths[1], net, twin, synapses)
        for one, path, name in zip((live, twin), paths, called):
            nets.check_run(path, [size], name)
            nets.resize(one, size)
        layers, outputs = verify.compare(live, twin, {name: name for name in synapses}, original)
        verify.check(outputs, "output")
        verify.check(layers, "layer")
        return layers, outputs, size, unread, _RUNS


def _check_twin(original, twin, model):
    """Raises UserError where Caffe builds the original and not the twin, or would wait for what they read."""
    nets.check_sources(messages.read_net(original), model)
    reason = nets.why_not_built(twin)
    if reason and not nets.why_not_built(original):
        raise UserError(
            f"Caffe builds {model}, but not its twin ({reason}): leave out the layer with --layers"
        )


# ---- Which layers


def _choose(net, stored, model, patterns, kernels):
    """The layers to convert, in order. One that does not run over two axes is chosen by its name alone, and refused."""
    candidates = [layer for layer in net.layer if layer.type in ("Convolution", "AConvFast")]
    axes = dimensions.counted(net)
    planar = [
        layer
        for layer in candidates
        if layer.type == "AConvFast" or _is_planar(layer, stored, axes)
    ]
    if not patterns and not kernels:
        chosen = [layer for layer in planar if layer.type == "AConvFast"] or [
            layer for layer in planar if math.prod(geometry.kernel(layer)) > 1
        ]
        if not chosen:
            others = [
                f"{layer.name} reads a blob of {axes[layer.name]} axes"
                for layer in candidates
                if axes.get(layer.name, 4) != 4
            ]
            raise UserError(
                f"{model} has no convolution larger than 1×1 and no AConvFast layer"
                f"{f' that reads images ({others[0]})' if others else ''}: nothing to convert"
            )
        return chosen
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(layer.name, pattern) for layer in candidates):
            names = ", ".join(layer.name for layer in candidates) or "no convolution"
            raise UserError(f"no convolution of {model} is called {pattern}: it has {names}")
    for kernel in kernels:
        if not any(geometry.kernel(layer) == kernel for layer in planar):
            raise UserError(
                f"no convolution of {model} has a kernel of {kernel[0]}×{kernel[1]}: give another --kernel"
            )
    chosen = [
        layer for layer in (planar if kernels else candidates) if _matches(layer, patterns, kernels)
    ]
    if not chosen:
        raise UserError(
            f"no convolution of {model} has both the name and the kernel: give --layers or --kernel alone"
        )
    return chosen


def _check_axes(net, chosen):
    """Raises UserError for a layer that was chosen by its name and, as nothing else has told, reads no images."""
    axes = dimensions.counted(net)
    for layer in chosen:
        if axes.get(layer.name, 4) != 4:
            raise UserError(
                f"layer {layer.name} reads a blob of {axes[layer.name]} axes, and an active convolution "
                "takes images, of four: leave it out with --layers"
            )


def _matches(layer, patterns, kernels):
    return (
        not patterns or any(fnmatch.fnmatchcase(layer.name, pattern) for pattern in patterns)
    ) and (not kernels or geometry.kernel(layer) in kernels)


def _is_planar(layer, stored, axes):
    """Whether a Convolution runs over two axes, as its prototxt, the blob that it reads (``axes``: dimensions.counted),
    or the .caffemodel, where there is one, tells."""
    found = _find(stored, layer.name) if stored else None
    of_weights = messages.shape(found.blobs[0]) if found is not None and found.blobs else (0,) * 4
    return geometry.is_planar(layer) and len(of_weights) == 4 and axes.get(layer.name, 4) == 4


# ---- One layer


def check(layer, options):
    """Raises UserError for what no ActiveConvolution in the place of this Convolution or AConvFast layer can do."""
    param, own, asked = layer.convolution_param, layer.aconv_param, options.position_group
    if layer.type == "AConvFast":
        aconv_fast.check(layer)
        if asked not in (None, own.position_group):
            raise UserError(
                f"layer {layer.name} has position_group {own.position_group}, which an AConvFast layer keeps: "
                f"leave out --position-group {asked}, or the layer with --layers"
            )
    elif param.force_nd_im2col or not geometry.is_planar(layer):
        field = (
            "force_nd_im2col"
            if param.force_nd_im2col
            else "axis"
            if param.axis not in (1, -3)
            else "kernel_size, pad, stride or dilation for more than two axes"
        )
        raise UserError(
            f"layer {layer.name} has convolution_param.{field}, which no active convolution takes: "
            "leave it out with --layers"
        )


def to_active(layer, blobs, options=Fields()):
    """Makes an ActiveConvolution at rest of the LayerParameter of a Convolution, in place; returns its four blobs.

    ``blobs`` are the Convolution's, or None, and then None is returned. Raises UserError for what the layer cannot do.
    """
    param = layer.convolution_param
    check(layer, options)
    if param.engine == param.CUDNN:
        param.ClearField("engine")
    del layer.param[
        1 + param.bias_term :
    ]  # what more there is had no meaning, and would be the positions'
    layer.type = "ActiveConvolution"
    options.apply(layer)
    if blobs is None:
        return None
    kernel = geometry.kernel(layer)
    grid = geometry.grid(kernel, geometry.pair(layer, "dilation", 1)).T.reshape(2, 1, 1, *kernel)
    x, y = (
        np.repeat(of_set, layer.active_convolution_param.position_group, axis=0) for of_set in grid
    )
    return [blobs[0], blobs[1].ravel() if param.bias_term else np.zeros((1, 1, 1, 1)), x, y]


# ---- Stored weights


def _find(stored, name):
    """The layer of this name in a .caffemodel, None where it holds none."""
    return next((layer for layer in stored.layer if layer.name == name), None)


def _stored_blobs(stored, layer, weights):
    """The arrays of ``layer`` in a .caffemodel. Raises UserError where they are not those that the prototxt
    announces."""
    found = _find(stored, layer.name)
    blobs = [messages.values(blob) for blob in found.blobs] if found is not None else []
    shapes = [messages.shape(blob) for blob in found.blobs] if blobs else []
    param, kernel = layer.convolution_param, geometry.kernel(layer)
    bias = param.num_output if param.bias_term else 1
    expected = [
        param.num_output
        * (shapes[0][1] if shapes and len(shapes[0]) == 4 else 1)
        * math.prod(kernel),
        bias,
    ]
    if layer.type == "AConvFast":
        expected += [layer.aconv_param.position_group * math.prod(kernel)] * 2
    elif not param.bias_term:
        del expected[1]
    if (
        [blob.size for blob in blobs] != expected
        or len(shapes[0]) != 4
        or 0 in shapes[0]
        or shapes[0][0] != param.num_output
        or shapes[0][2:] != kernel
    ):
        seen = ", ".join(messages.by(shape) for shape in shapes) or "no blobs"
        raise UserError(
            f"layer {layer.name} has {seen} in {weights}, which does not fit its prototxt: give the weights of "
            "this network, or choose other --layers"
        )
    return [blobs[0].reshape(shapes[0]), *blobs[1:]]
