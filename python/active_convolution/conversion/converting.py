"""Networks into active convolutions: ordinary ones into their ACU twins, the authors' AConvFast into ActiveConvolution."""
import dataclasses
import fnmatch
import itertools
import math
from pathlib import Path

import numpy as np

from .. import geometry, positions
from ..errors import BadValue, UserError
from ..files import whole_folder
from ..pycaffe import messages, nets
from . import aconv_fast, verify

WEIGHTS = "weights.caffemodel"
LARGEST = 2 ** 31       # of a number in a prototxt


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
                    raise BadValue(f"{name} {value} is out of range: give 0 or more, and less than {LARGEST}")
                setattr(layer.active_convolution_param, name, value)
        sets, outputs = layer.active_convolution_param.position_group, layer.convolution_param.num_output
        if sets < 1 or outputs % sets:
            raise UserError(f"layer {layer.name}: position_group {sets} does not divide its {outputs} outputs")


@dataclasses.dataclass(frozen=True)
class Conversion:
    """The names of the converted layers, and what verify.compare says of the network's outputs, {} where it was not
    run: without weights, or where the network reads its images itself."""
    layers: list
    outputs: dict


def convert(model, weights, output, patterns=(), kernels=(), options=Fields(), seed=0):
    """Writes ``model`` (any network's prototxt) with active convolutions into the new folder ``output``, under its own
    name, and ``weights`` (its .caffemodel, or None) as weights.caffemodel. What the network computes stays the same.

    Converted are the Convolution and AConvFast layers whose name matches one of ``patterns`` (as in a shell; none: any)
    and whose kernel is one of ``kernels``, pairs (vertical, horizontal) (none: any). With neither given it is every
    AConvFast layer, or in a network without one every Convolution over two axes larger than 1×1. ``seed`` is that of the
    noise in AConvFast's starting positions. Returns a Conversion. Raises UserError for files that do not fit, for a layer
    that cannot be converted, and where the result does not compute the same.
    """
    net = messages.read_net(model)
    stored = messages.read_weights(weights) if weights else None
    chosen, draw = _choose(net, stored, model, patterns, kernels), np.random.default_rng(seed)
    for layer in chosen:
        check(layer, options)
    _check_sharing(net, chosen, with_weights=bool(stored))
    # All of them before the first is replaced: a layer for training and one for testing may have one name, and weights.
    before = [_stored_blobs(stored, layer, weights) if stored else None for layer in chosen]
    with whole_folder(output) as folder:
        for layer, blobs in zip(chosen, before):
            if layer.type == "AConvFast":
                blobs = aconv_fast.translate(layer, blobs, draw)
                options.apply(layer)
            else:
                blobs = to_active(layer, blobs, options)
            if stored:
                messages.fill(_find(stored, layer.name), layer, blobs)
        messages.write(folder / Path(model).name, net)
        if stored:
            messages.write_weights(folder / WEIGHTS, stored)
        outputs = {} if not stored or verify.own_source(net) else _compare(model, weights, folder)
        verify.check(outputs, "output")
    return Conversion([layer.name for layer in chosen], outputs)


def _compare(model, weights, folder):
    original = nets.load_checked(model, weights)
    verify.check_names(original, model)
    return verify.compare(original, nets.load(folder / Path(model).name, folder / WEIGHTS), {})[1]


# ---- Which layers

def _choose(net, stored, model, patterns, kernels):
    """The layers to convert, in order. One that does not run over two axes is chosen by its name alone, and refused."""
    candidates = [layer for layer in net.layer if layer.type in ("Convolution", "AConvFast")]
    planar = [layer for layer in candidates if layer.type == "AConvFast" or _is_planar(layer, stored)]
    if not patterns and not kernels:
        chosen = ([layer for layer in planar if layer.type == "AConvFast"] or
                  [layer for layer in planar if math.prod(geometry.kernel(layer)) > 1])
        if not chosen:
            raise UserError(f"{model} has no convolution larger than 1×1 and no AConvFast layer: nothing to convert")
        return chosen
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(layer.name, pattern) for layer in candidates):
            names = ", ".join(layer.name for layer in candidates) or "no convolution"
            raise UserError(f"no convolution of {model} is called {pattern}: it has {names}")
    for kernel in kernels:
        if not any(geometry.kernel(layer) == kernel for layer in planar):
            raise UserError(f"no convolution of {model} has a kernel of {kernel[0]}×{kernel[1]}: give another --kernel")
    chosen = [layer for layer in (planar if kernels else candidates) if _matches(layer, patterns, kernels)]
    if not chosen:
        raise UserError(f"no convolution of {model} has both the name and the kernel: give --layers or --kernel alone")
    return chosen


def _matches(layer, patterns, kernels):
    return ((not patterns or any(fnmatch.fnmatchcase(layer.name, pattern) for pattern in patterns)) and
            (not kernels or geometry.kernel(layer) in kernels))


def _is_planar(layer, stored):
    """Whether a Convolution runs over two axes, as its prototxt or the .caffemodel, where there is one, tells."""
    found = _find(stored, layer.name) if stored else None
    of_weights = messages.shape(found.blobs[0]) if found is not None and found.blobs else (0,) * 4
    return geometry.is_planar(layer) and len(of_weights) == 4


# ---- Layers that share weights

def _check_sharing(net, chosen, with_weights):
    """Raises UserError where AConvFast's synapses would get another order in one of two layers that share them."""
    orders = [_new_order(layer, with_weights) if layer.type == "AConvFast" and layer in chosen else None
              for layer in net.layer]
    for (layer, order), (other, others) in itertools.permutations(zip(net.layer, orders), 2):
        if order not in (None, others) and _share(layer, other):
            raise UserError(f"layers {layer.name} and {other.name} share weights, and conversion brings the synapses of "
                            f"{layer.name} into another order: convert both, where they start alike, or neither (--layers)")


def _new_order(layer, with_weights):
    """The synapses of an AConvFast layer as its conversion orders them, None where they keep their own order."""
    order = aconv_fast.grid_order(layer, with_weights)
    return None if order is None or (np.diff(order) == 1).all() else order.tolist()


def _share(layer, other):
    """Whether the weights or positions of an AConvFast layer are another one's, too, by the name of the parameter, or of
    the layer where training and testing have one each. Its bias, parameter 1, has no order."""
    names = {param.name for index, param in enumerate(layer.param) if index != 1 and param.name}
    return (not names.isdisjoint(param.name for param in other.param) or
            layer.name == other.name and other.type in positions.TYPES)


# ---- One layer

def check(layer, options):
    """Raises UserError for what no ActiveConvolution in the place of this Convolution or AConvFast layer can do."""
    param, own, asked = layer.convolution_param, layer.aconv_param, options.position_group
    if layer.type == "AConvFast":
        if asked not in (None, own.position_group):
            raise UserError(f"layer {layer.name} has position_group {own.position_group}, which an AConvFast layer keeps: "
                            f"leave out --position-group {asked}, or the layer with --layers")
    elif param.force_nd_im2col or not geometry.is_planar(layer):
        field = ("force_nd_im2col" if param.force_nd_im2col else "axis" if param.axis not in (1, -3) else
                 "kernel_size, pad, stride or dilation for more than two axes")
        raise UserError(f"layer {layer.name} has convolution_param.{field}, which no active convolution takes: "
                        "leave it out with --layers")


def to_active(layer, blobs, options=Fields()):
    """Makes an ActiveConvolution at rest of the LayerParameter of a Convolution, in place; returns its four blobs.

    ``blobs`` are the Convolution's, or None, and then None is returned. Raises UserError for what the layer cannot do.
    """
    param = layer.convolution_param
    check(layer, options)
    if param.engine == param.CUDNN:
        param.ClearField("engine")
    layer.type = "ActiveConvolution"
    options.apply(layer)
    if blobs is None:
        return None
    kernel = geometry.kernel(layer)
    grid = geometry.grid(kernel, geometry.pair(layer, "dilation", 1)).T.reshape(2, 1, 1, *kernel)
    x, y = (np.repeat(of_set, layer.active_convolution_param.position_group, axis=0) for of_set in grid)
    return [blobs[0], blobs[1].ravel() if param.bias_term else np.zeros((1, 1, 1, 1)), x, y]


# ---- Stored weights

def _find(stored, name):
    """The layer of this name in a .caffemodel, None where it holds none."""
    return next((layer for layer in stored.layer if layer.name == name), None)


def _stored_blobs(stored, layer, weights):
    """The arrays of ``layer`` in a .caffemodel. Raises UserError where they are not those that the prototxt announces."""
    found = _find(stored, layer.name)
    blobs = [np.array(blob.data or blob.double_data) for blob in found.blobs] if found is not None else []
    shapes = [messages.shape(blob) for blob in found.blobs] if blobs else []
    param, kernel = layer.convolution_param, geometry.kernel(layer)
    bias = param.num_output if param.bias_term else 1
    expected = [param.num_output * (shapes[0][1] if shapes and len(shapes[0]) == 4 else 1) * math.prod(kernel), bias]
    if layer.type == "AConvFast":
        expected += [layer.aconv_param.position_group * math.prod(kernel)] * 2
    elif not param.bias_term:
        del expected[1]
    if [blob.size for blob in blobs] != expected or shapes[0][0] != param.num_output or shapes[0][2:] != kernel:
        seen = ", ".join(messages.by(shape) for shape in shapes) or "no blobs"
        raise UserError(f"layer {layer.name} has {seen} in {weights}, which does not fit its prototxt: give the weights of "
                        "this network, or choose other --layers")
    return [blobs[0].reshape(shapes[0]), *blobs[1:]]
