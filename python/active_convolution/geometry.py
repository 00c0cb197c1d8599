"""Where synapses start, and where the outputs and the taps of a layer stand.

Of a layer it is what its prototxt says, for Convolution, ActiveConvolution and AConvFast. Positions
are pairs (x, y) in pixels, relative to the base pixel: x = horizontal to the right, y = vertical
downwards (α and β in §2 of the paper).
"""

import dataclasses
import itertools
import math

import numpy as np

from .errors import UserError

# ---- Positions at rest


def grid(kernel, dilation=1):
    """The positions of an ordinary convolution's taps: (kh·kw, 2) float32, row by row.

    ``kernel`` is (kh, kw); ``dilation`` one number or (h, w). Tap (i, j) lies at x = j − ⌊(kw−1)/2⌋
    and y = i − ⌊(kh−1)/2⌋, times the dilation.
    """
    (kh, kw), (dilation_h, dilation_w) = kernel, np.broadcast_to(dilation, 2)
    y, x = np.meshgrid(
        (np.arange(kh) - (kh - 1) // 2) * dilation_h,
        (np.arange(kw) - (kw - 1) // 2) * dilation_w,
        indexing="ij",
    )
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def ring(count, radius=1, angle=0, rounded=True):
    """AConvFast's own order: the base first, then ``count`` − 1 synapses around it, each rounded to
    a pixel or not."""
    angles = [
        2 * math.pi * k / (count - 1) + angle for k in range(count - 1)
    ]  # as the layer, to the last bit: it rounds
    around = radius * np.array([(math.cos(angle), math.sin(angle)) for angle in angles]).reshape(
        -1, 2
    )
    return np.vstack([np.zeros((1, 2)), around.round() if rounded else around]).astype(np.float32)


# ---- A layer's axes


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of a layer at rest, in pixels.

    Output m has its base at input pixel base + stride·m; there are ⌊(size + 2·pad − extent) /
    stride⌋ + 1 of them. With explicit positions, and for AConvFast, that is what a single tap
    gives; ``pad`` may be negative there.
    """

    taps: int
    stride: int
    pad: int
    dilation: int

    @property
    def extent(self):
        return (self.taps - 1) * self.dilation + 1

    @property
    def base(self):
        return (self.taps - 1) // 2 * self.dilation - self.pad


def kernel(layer):
    """(kernel_h, kernel_w) of a LayerParameter; raises UserError where it gives none."""
    return pair(layer, "kernel_size")


def is_planar(layer):
    """Whether a Convolution runs over two axes, as far as its prototxt tells: one kernel_size
    serves any number of them."""
    param = layer.convolution_param
    fields = param.kernel_size, param.pad, param.stride, param.dilation
    return param.axis in (1, -3) and max(map(len, fields)) <= 2


def axes(layer):
    """The (vertical, horizontal) Axis of a LayerParameter with a convolution_param."""
    stride, dilation = pair(layer, "stride", 1), pair(layer, "dilation", 1)
    taps, pad = kernel(layer), pair(layer, "pad", 0)
    if layer.type == "AConvFast":
        pad = _aconv_pad(layer, taps, pad)
    if layer.type == "AConvFast" or layer.active_convolution_param.position:
        taps = dilation = 1, 1
    return tuple(Axis(*of_axis) for of_axis in zip(taps, stride, pad, dilation))


def _aconv_pad(layer, taps, pad):
    """AConvFast's pad as that of a single tap: SQUARE's kernel has its base at its centre, the
    others name it themselves."""
    own = layer.aconv_param
    if own.type == own.SQUARE:
        return tuple(of_axis - count // 2 for of_axis, count in zip(pad, taps))
    return (
        (own.pad_h, own.pad_w)
        if own.HasField("pad_h") or own.HasField("pad_w")
        else (own.pad, own.pad)
    )


# ---- Fields of convolution_param


def pair(layer, field, default=None):
    """(vertical, horizontal) of a field of convolution_param: given once, twice, or as its _h and
    _w."""
    param, (name_h, name_w) = layer.convolution_param, _separate(field)
    if name_h in param.DESCRIPTOR.fields_by_name and (
        param.HasField(name_h) or param.HasField(name_w)
    ):
        return getattr(param, name_h), getattr(param, name_w)
    values = list(getattr(param, field)) or [default]
    if len(values) > 2 or values[0] is None:
        raise UserError(
            f"layer {layer.name} gives convolution_param.{field} {len(getattr(param, field))} "
            "times: give it once, or twice (vertical, horizontal)"
        )
    return values[0], values[-1]


def set_pair(layer, field, values, default=None):
    """Lets convolution_param say (vertical, horizontal) of a field, in the shortest way: nothing
    for the default."""
    param, names = layer.convolution_param, _separate(field)
    names = [name for name in names if name in param.DESCRIPTOR.fields_by_name]
    for name in (field, *names):
        param.ClearField(name)
    if values[0] == values[1]:
        getattr(param, field).extend([values[0]] if values[0] != default else [])
    elif names:
        for name, value in zip(names, values):
            setattr(param, name, value)
    else:
        getattr(param, field).extend(values)


def _separate(field):
    stem = field.split("_")[0]
    return f"{stem}_h", f"{stem}_w"


# ---- Stages


def by_stage(layers, net=None):
    """``layers`` (LayerPositions) as one list per stage of the network, in network order.

    A stage is a run of layers whose outputs have the same resolution, as the NetParameter ``net``
    (a prototxt's or a .caffemodel's) tells from their strides; without it all are in one.
    """
    strides = _output_strides(net) if net is not None else {}
    stages = itertools.groupby(layers, lambda layer: strides.get(layer.name))
    return [list(stage) for _, stage in stages]


def _output_strides(net):
    """{layer name: input pixels per output pixel, vertically} of the layers of ``net``."""
    strides, tops = {}, {}
    for layer in net.layer:
        own, pooling = layer.convolution_param, layer.pooling_param
        stride = own.stride_h or max(own.stride, default=0) or pooling.stride_h or pooling.stride
        strides[layer.name] = stride * max((tops.get(name, 1) for name in layer.bottom), default=1)
        tops.update(dict.fromkeys(layer.top, strides[layer.name]))
    return strides
