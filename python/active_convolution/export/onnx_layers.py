"""Caffe's layers without weights: one function per layer type, which has its name.

Each takes a Layer (onnx_model) and returns the name of its output, or a list of several. The
formulas are Caffe's, as caffe.proto states them."""

import math

import numpy as np

_END = 2**31 - 1  # of an axis, whatever its size


# ---- Of each number


def _plain(kind):
    """For a layer that is one ONNX operator without parameters."""
    return lambda layer: layer.op(kind, layer.bottom)


def ReLU(layer):
    slope = layer.param.relu_param.negative_slope
    if slope:
        return layer.op("LeakyRelu", layer.bottom, alpha=slope)
    return layer.op("Relu", layer.bottom)


AbsVal, BNLL, Sigmoid, TanH = map(_plain, ("Abs", "Softplus", "Sigmoid", "Tanh"))


def Clip(layer):
    own = layer.param.clip_param
    return layer.op("Clip", layer.bottom, layer.constant(own.min), layer.constant(own.max))


def ELU(layer):
    return layer.op("Elu", layer.bottom, alpha=layer.param.elu_param.alpha)


def Exp(layer):
    """base^(shift + scale·x); −1 stands for e."""
    own = layer.param.exp_param
    factor = 1 if own.base == -1 else math.log(own.base)
    return layer.op("Exp", layer.scaled(layer.bottom, factor * own.scale, factor * own.shift))


def Log(layer):
    """log_base(shift + scale·x)."""
    own = layer.param.log_param
    value = layer.op("Log", layer.scaled(layer.bottom, own.scale, own.shift))
    return layer.scaled(value, 1 if own.base == -1 else 1 / math.log(own.base))


def Power(layer):
    """(shift + scale·x)^power."""
    own = layer.param.power_param
    if own.power == 0 or own.scale == 0:  # a constant, whatever x is
        with np.errstate(all="ignore"):  # infinite, or NaN, as in Caffe
            constant = 1 if own.power == 0 else np.float32(own.shift) ** np.float32(own.power)
        zero = layer.op("Mul", layer.bottom, layer.constant(0))
        return layer.op("Add", zero, layer.constant(constant))
    value = layer.scaled(layer.bottom, own.scale, own.shift)
    if own.power == 2:
        return layer.op("Mul", value, value)
    return value if own.power == 1 else layer.op("Pow", value, layer.constant(own.power))


def Swish(layer):
    scaled = layer.scaled(layer.bottom, layer.param.swish_param.beta)
    return layer.op("Mul", layer.bottom, layer.op("Sigmoid", scaled))


def Threshold(layer):
    least = layer.constant(layer.param.threshold_param.threshold)
    return layer.op("Cast", layer.op("Greater", layer.bottom, least), to=1)


def Dropout(layer):
    """Nothing, once trained."""
    ratio = layer.constant(layer.param.dropout_param.dropout_ratio)
    return layer.op("Dropout", layer.bottom, ratio)


def Eltwise(layer):
    own, names = layer.param.eltwise_param, [bottom.name for bottom in layer.bottoms]
    kind = {own.SUM: "Add", own.PROD: "Mul", own.MAX: "Max"}[own.operation]
    if own.coeff and own.operation == own.SUM:
        names = [layer.scaled(name, coeff) for name, coeff in zip(names, own.coeff)]
    value = names[0]
    for name in names[1:]:
        value = layer.op(kind, value, name)
    return value


# ---- Of several numbers


def Softmax(layer):
    axis = layer.bottoms[0].axis(layer.param.softmax_param.axis)
    return layer.op("Softmax", layer.bottom, axis=axis)


def LRN(layer):
    """x / (k + α/n · Σ x²)^β across n channels; within a channel x / (1 + α · mean of x²)^β over n
    × n pixels."""
    own, bottom = layer.param.lrn_param, layer.bottom
    if own.norm_region == own.ACROSS_CHANNELS:
        parameters = dict(alpha=own.alpha, beta=own.beta, bias=own.k, size=own.local_size)
        return layer.op("LRN", bottom, **parameters)
    window = dict(kernel_shape=[own.local_size] * 2, pads=[own.local_size // 2] * 4, strides=[1, 1])
    squares = layer.op("Mul", bottom, bottom)
    mean = layer.op("AveragePool", squares, count_include_pad=1, **window)
    norm = layer.op("Pow", layer.scaled(mean, own.alpha, 1), layer.constant(-own.beta))
    return layer.op("Mul", bottom, norm)


def MVN(layer):
    """(x − mean) / (√variance + ε) of each channel, or of all channels."""
    own, bottom = layer.param.mvn_param, layer.bottom
    axes = [1, 2, 3] if own.across_channels else [2, 3]
    if len(layer.bottoms[0].shape) != 4:  # Caffe itself makes it four axes
        layer.refuse("it does not read images")
    centred = layer.op("Sub", bottom, layer.op("ReduceMean", bottom, axes=axes, keepdims=1))
    if not own.normalize_variance:
        return centred
    variance = layer.op("ReduceMean", layer.op("Mul", centred, centred), axes=axes, keepdims=1)
    return layer.op("Div", centred, layer.scaled(layer.op("Sqrt", variance), 1, own.eps))


def Reduction(layer):
    """Over all axes from ``axis`` on."""
    own, bottom = layer.param.reduction_param, layer.bottoms[0]
    axes = list(range(bottom.axis(own.axis), len(bottom.shape)))
    value = bottom.name
    if own.operation == own.ASUM:
        value = layer.op("Abs", value)
    elif own.operation == own.SUMSQ:
        value = layer.op("Mul", value, value)
    if own.operation == own.MEAN:
        value = layer.op("ReduceMean", value, axes=axes, keepdims=0)
    else:
        value = layer.op("ReduceSum", value, layer.integers(axes), keepdims=0)
    return layer.scaled(value, own.coeff)


def ArgMax(layer):
    """The largest values' indices, their values, or both, as floats; among equals Caffe takes the
    last first."""
    own, bottom = layer.param.argmax_param, layer.bottoms[0]
    has_axis = own.HasField("axis")
    axis = bottom.axis(own.axis) if has_axis else 1
    value = bottom.name if has_axis else layer.op("Flatten", bottom.name, axis=1)
    indices, values = _largest(layer, value, axis, own.top_k)
    if not has_axis:
        dims = layer.integers([0, 1, -1] + [1] * (len(bottom.shape) - 3))
        indices, values = (layer.op("Reshape", each, dims) for each in (indices, values))
        if own.out_max_val:
            return layer.op("Concat", indices, values, axis=1)
    return values if own.out_max_val else indices


def _largest(layer, value, axis, top_k):
    if top_k == 1:
        indices = layer.op("ArgMax", value, axis=axis, keepdims=1, select_last_index=1)
        values = layer.op("ReduceMax", value, axes=[axis], keepdims=1)
        return layer.op("Cast", indices, to=1), values
    backwards = layer.op("Slice", value, *layer.integers([-1], [-(2**31)], [axis], [-1]))
    values, indices = layer.op("TopK", backwards, layer.integers([top_k]), axis=axis, outputs=2)
    size = layer.op("Slice", layer.op("Shape", value), *layer.integers([axis], [axis + 1]))
    last = layer.op("Sub", size, layer.integers([1]))
    return layer.op("Cast", layer.op("Sub", last, indices), to=1), values


# ---- Pooling


def Pooling(layer):
    own, bottom = layer.param.pooling_param, layer.bottoms[0]
    if own.pool == own.STOCHASTIC:
        layer.refuse("Caffe's CPU code has no stochastic pooling for a trained network")
    if len(layer.tops) > 1:
        layer.refuse("its second top, the places of the maxima, counts otherwise in ONNX")
    kind = "MaxPool" if own.pool == own.MAX else "AveragePool"
    if own.global_pooling:
        return layer.op(f"Global{kind}", bottom.name)
    windows = [_window(own, axis) for axis in ("h", "w")]
    sizes = [
        (size + pad + end - kernel) // stride + 1
        for size, (kernel, stride, pad, end) in zip(bottom.shape[2:], windows)
    ]
    if tuple(sizes) != layer.tops[0][2:]:
        layer.refuse("with a stride larger than its kernel, its last windows lie beyond the image")
    kernel, stride, pad, end = (list(of_axes) for of_axes in zip(*windows))
    shape = dict(kernel_shape=kernel, strides=stride)
    if own.pool == own.MAX:
        return layer.op(kind, bottom.name, pads=pad + end, **shape)
    if end == pad:
        return layer.op(kind, bottom.name, pads=pad + pad, count_include_pad=1, **shape)
    value = bottom.name
    if any(pad):  # Caffe counts its own pad in the mean, and nothing that lies beyond
        value = layer.op("Pad", value, layer.integers([0, 0, *pad] * 2))
    beyond = [0, 0, *np.subtract(end, pad).tolist()]
    return layer.op(kind, value, pads=beyond, count_include_pad=0, **shape)


def _window(own, axis):
    """(kernel, stride, pad before, pad behind) of an axis, so that a count that rounds down gives
    as many windows as Caffe has, for any size. Caffe rounds up, which is stride − 1 more pixels
    behind, and with a pad drops a window that starts beyond image and pad, so that kernel − 1
    pixels are the most that lie behind."""
    kernel, stride, pad = (
        getattr(own, f"{field}_{axis}") if own.HasField(f"{field}_{axis}") else getattr(own, whole)
        for field, whole in (("kernel", "kernel_size"), ("stride", "stride"), ("pad", "pad"))
    )
    rounded = 0 if own.round_mode == own.FLOOR else stride - 1
    return kernel, stride, pad, min(pad + rounded, kernel - 1)


# ---- Sizes


def Crop(layer):
    """To the size of the second bottom from ``axis`` on, after ``offset`` pixels."""
    own, (bottom, reference) = layer.param.crop_param, layer.bottoms
    axes = range(bottom.axis(own.axis), len(bottom.shape))
    offsets = list(own.offset) or [0]
    offsets = offsets * len(axes) if len(offsets) == 1 else offsets
    ends = layer.size(reference, axes)
    if any(offsets):
        ends = layer.op("Add", ends, layer.integers(offsets))
    return layer.op("Slice", bottom.name, layer.integers(offsets), ends, layer.integers(list(axes)))


def Tile(layer):
    own, bottom = layer.param.tile_param, layer.bottoms[0]
    repeats = [1] * len(bottom.shape)
    repeats[bottom.axis(own.axis)] = own.tiles
    return layer.op("Tile", bottom.name, layer.integers(repeats))


def Concat(layer):
    own = layer.param.concat_param
    axis = own.concat_dim if own.HasField("concat_dim") else own.axis
    names = [bottom.name for bottom in layer.bottoms]
    return layer.op("Concat", *names, axis=layer.bottoms[0].axis(axis))


def Slice(layer):
    own, bottom = layer.param.slice_param, layer.bottoms[0]
    axis = bottom.axis(own.slice_dim if own.HasField("slice_dim") else own.axis)
    count = len(layer.tops)
    if count == 1:
        return bottom.name
    if not own.slice_point:
        return layer.op("Split", bottom.name, axis=axis, outputs=count)
    points = [0, *own.slice_point, _END]
    return [
        layer.op("Slice", bottom.name, *layer.integers([first], [last], [axis]))
        for first, last in zip(points, points[1:])
    ]


def Permute(layer):
    order = list(layer.param.permute_param.order)
    order += [axis for axis in range(len(layer.bottoms[0].shape)) if axis not in order]
    return layer.op("Transpose", layer.bottom, perm=order)


def Flatten(layer):
    own, bottom = layer.param.flatten_param, layer.bottoms[0]
    first, last = bottom.axis(own.axis), bottom.axis(own.end_axis)
    if first == 1 and last == len(bottom.shape) - 1:
        return layer.op("Flatten", bottom.name, axis=1)
    return layer.op("Reshape", bottom.name, _dims(layer, [0] * first + [-1], last + 1))


def Reshape(layer):
    own, bottom = layer.param.reshape_param, layer.bottoms[0]
    first = own.axis if own.axis >= 0 else own.axis + len(bottom.shape) + 1
    last = len(bottom.shape) if own.num_axes == -1 else first + own.num_axes
    middle = list(own.shape.dim)  # 0 copies an axis, −1 is what remains: ONNX's are the same
    return layer.op("Reshape", bottom.name, _dims(layer, [0] * first + middle, last))


def _dims(layer, head, axis):
    """The sizes for a Reshape: ``head``, then those of the bottom's axes from ``axis`` on."""
    bottom = layer.bottoms[0]
    rest = range(axis, len(bottom.shape))
    if axis == len(head) or not rest:
        return layer.integers(head + [0] * len(rest))
    if all(map(bottom.fixed, rest)):
        return layer.integers(head + list(bottom.shape[axis:]))
    return layer.op("Concat", layer.integers(head), layer.size(bottom, rest), axis=0)


def BatchReindex(layer):
    bottom, index = layer.bottoms
    return layer.op("Gather", bottom.name, layer.op("Cast", index.name, to=7), axis=0)


def Split(layer):
    return [layer.bottom] * len(layer.tops)
