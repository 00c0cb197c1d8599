"""Caffe's layers without weights that work on each number, and those that normalise: one function per layer type.

Each takes a Layer (onnx_graph) and returns the names of its outputs. The formulas are Caffe's, as caffe.proto states
them.
"""

import math

import numpy as np


def relu(layer):
    slope = layer.param.relu_param.negative_slope
    bottom = layer.bottoms[0].name
    return [layer.op("LeakyRelu", bottom, alpha=slope) if slope else layer.op("Relu", bottom)]


def relu6(layer):
    return [layer.op("Clip", layer.bottoms[0].name, layer.constant(0), layer.constant(6))]


def elu(layer):
    return [layer.op("Elu", layer.bottoms[0].name, alpha=layer.param.elu_param.alpha)]


def plain(kind):
    """For a layer that is one ONNX operator without parameters."""
    return lambda layer: [layer.op(kind, layer.bottoms[0].name)]


def exp(layer):
    """base^(shift + scale·x); −1 stands for e."""
    own = layer.param.exp_param
    factor = 1 if own.base == -1 else math.log(own.base)
    return [
        layer.op("Exp", layer.scaled(layer.bottoms[0].name, factor * own.scale, factor * own.shift))
    ]


def log(layer):
    """log_base(shift + scale·x)."""
    own = layer.param.log_param
    value = layer.op("Log", layer.scaled(layer.bottoms[0].name, own.scale, own.shift))
    return [layer.scaled(value, 1 if own.base == -1 else 1 / math.log(own.base))]


def power(layer):
    """(shift + scale·x)^power."""
    own = layer.param.power_param
    if own.power == 0 or own.scale == 0:  # a constant, whatever x is
        with np.errstate(all="ignore"):  # infinite, or no number, as in Caffe
            constant = 1 if own.power == 0 else np.float32(own.shift) ** np.float32(own.power)
        return [
            layer.op(
                "Add",
                layer.op("Mul", layer.bottoms[0].name, layer.constant(0)),
                layer.constant(constant),
            )
        ]
    value = layer.scaled(layer.bottoms[0].name, own.scale, own.shift)
    if own.power == 2:
        return [layer.op("Mul", value, value)]
    return [value if own.power == 1 else layer.op("Pow", value, layer.constant(own.power))]


def clip(layer):
    own = layer.param.clip_param
    return [
        layer.op("Clip", layer.bottoms[0].name, layer.constant(own.min), layer.constant(own.max))
    ]


def swish(layer):
    bottom = layer.bottoms[0].name
    return [
        layer.op(
            "Mul", bottom, layer.op("Sigmoid", layer.scaled(bottom, layer.param.swish_param.beta))
        )
    ]


def threshold(layer):
    above = layer.op(
        "Greater", layer.bottoms[0].name, layer.constant(layer.param.threshold_param.threshold)
    )
    return [layer.op("Cast", above, to=1)]


def dropout(layer):
    """Nothing, once trained."""
    return [
        layer.op(
            "Dropout",
            layer.bottoms[0].name,
            layer.constant(layer.param.dropout_param.dropout_ratio),
        )
    ]


def softmax(layer):
    return [
        layer.op(
            "Softmax",
            layer.bottoms[0].name,
            axis=layer.bottoms[0].axis(layer.param.softmax_param.axis),
        )
    ]


def eltwise(layer):
    own, names = layer.param.eltwise_param, [bottom.name for bottom in layer.bottoms]
    kind = {own.SUM: "Add", own.PROD: "Mul", own.MAX: "Max"}[own.operation]
    if own.coeff and own.operation == own.SUM:
        names = [layer.scaled(name, coeff) for name, coeff in zip(names, own.coeff)]
    value = names[0]
    for name in names[1:]:
        value = layer.op(kind, value, name)
    return [value]


def lrn(layer):
    """x / (k + α/n · Σ x²)^β across n channels; within a channel x / (1 + α · mean of x²)^β over n × n pixels."""
    own, bottom = layer.param.lrn_param, layer.bottoms[0].name
    if own.norm_region == own.ACROSS_CHANNELS:
        return [
            layer.op("LRN", bottom, alpha=own.alpha, beta=own.beta, bias=own.k, size=own.local_size)
        ]
    mean = layer.op(
        "AveragePool",
        layer.op("Mul", bottom, bottom),
        kernel_shape=[own.local_size] * 2,
        strides=[1, 1],
        pads=[own.local_size // 2] * 4,
        count_include_pad=1,
    )
    return [
        layer.op(
            "Mul",
            bottom,
            layer.op("Pow", layer.scaled(mean, own.alpha, 1), layer.constant(-own.beta)),
        )
    ]


def mvn(layer):
    """(x − mean) / (√variance + ε) of each channel, or of all channels."""
    own, bottom = layer.param.mvn_param, layer.bottoms[0].name
    axes = [1, 2, 3] if own.across_channels else [2, 3]
    if len(layer.bottoms[0].shape) != 4:  # Caffe itself makes it four axes
        layer.refuse("it does not read images")
    centred = layer.op("Sub", bottom, layer.op("ReduceMean", bottom, axes=axes, keepdims=1))
    if not own.normalize_variance:
        return [centred]
    variance = layer.op("ReduceMean", layer.op("Mul", centred, centred), axes=axes, keepdims=1)
    return [layer.op("Div", centred, layer.scaled(layer.op("Sqrt", variance), 1, own.eps))]


def normalize(layer):
    """SSD's: x / √(Σ x² + ε) over the channels, or with across_spatial over the image, times a learned scale."""
    own, (bottom, *_) = layer.param.norm_param, layer.bottoms
    squares = layer.op("Mul", bottom.name, bottom.name)
    axes = layer.integers([1, 2, 3] if own.across_spatial else [1])
    norm = layer.op(
        "Sqrt", layer.scaled(layer.op("ReduceSum", squares, axes, keepdims=1), 1, own.eps)
    )
    scale = layer.constant(np.reshape(layer.blobs[0], (-1, 1, 1)))
    return [layer.op("Mul", layer.op("Div", bottom.name, norm), scale)]


def reduction(layer):
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
    return [layer.scaled(value, own.coeff)]


def argmax(layer):
    """The largest values' indices, their values, or both, as floats; among equals Caffe takes the last first."""
    own, bottom = layer.param.argmax_param, layer.bottoms[0]
    has_axis = own.HasField("axis")
    axis = bottom.axis(own.axis) if has_axis else 1
    value = bottom.name if has_axis else layer.op("Flatten", bottom.name, axis=1)
    indices, values = _largest(layer, value, axis, own.top_k)
    if not has_axis:
        dims = [0, 1, -1] + [1] * (len(bottom.shape) - 3)
        indices, values = (
            layer.op("Reshape", each, layer.integers(dims)) for each in (indices, values)
        )
        if own.out_max_val:
            return [layer.op("Concat", indices, values, axis=1)]
    return [values if own.out_max_val else indices]


def _largest(layer, value, axis, top_k):
    if top_k == 1:
        indices = layer.op("ArgMax", value, axis=axis, keepdims=1, select_last_index=1)
        return layer.op("Cast", indices, to=1), layer.op(
            "ReduceMax", value, axes=[axis], keepdims=1
        )
    backwards = layer.op("Slice", value, *map(layer.integers, ([-1], [-(2**31)], [axis], [-1])))
    values, indices = layer.op("TopK", backwards, layer.integers([top_k]), axis=axis, outputs=2)
    size = layer.op("Slice", layer.op("Shape", value), *map(layer.integers, ([axis], [axis + 1])))
    last = layer.op("Sub", size, layer.integers([1]))
    return layer.op("Cast", layer.op("Sub", last, indices), to=1), values
