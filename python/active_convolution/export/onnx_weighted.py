"""Caffe's layers with weights, and those that take their place beside them: one function per layer type."""

import numpy as np

from .. import geometry


def convolution(layer):
    """Over any number of axes; depthwise ones too, which some trees give a type of their own."""
    return _convolved(layer, "Conv", layer.bottoms[0].shape)


def deconvolution(layer):
    return _convolved(layer, "ConvTranspose", layer.tops[0])


def _convolved(layer, kind, wide):
    """Each bottom has a top of its own; ``wide`` is the shape of the side on which a kernel sees a group's channels alone."""
    param, axes = layer.param.convolution_param, layer.blobs[0].ndim - 2
    if layer.bottoms[0].axis(param.axis) != 1:
        layer.refuse("its axis is not 1")
    if not axes:
        layer.refuse("it reads vectors, and has no axis to move along")
    kernel, pad, stride, dilation = (
        _each(layer, field, axes, default)
        for field, default in (("kernel_size", None), ("pad", 0), ("stride", 1), ("dilation", 1))
    )
    weight, bias, group = (
        layer.constant(layer.blobs[0]),
        _bias(layer, param),
        wide[1] // layer.blobs[0].shape[1],
    )
    return [
        layer.op(
            kind,
            bottom.name,
            weight,
            *bias,
            kernel_shape=kernel,
            pads=pad * 2,
            strides=stride,
            dilations=dilation,
            group=group,
        )
        for bottom in layer.bottoms
    ]


def _each(layer, field, axes, default):
    if axes == 2:
        return list(geometry.pair(layer.param, field, default))
    values = list(getattr(layer.param.convolution_param, field)) or [default]
    return values * axes if len(values) == 1 else values


def _bias(layer, param):
    return [layer.constant(layer.blobs[1].ravel())] if param.bias_term else []


def inner_product(layer):
    """Over all axes from ``axis`` on."""
    own, bottom = layer.param.inner_product_param, layer.bottoms[0]
    axis, weight = bottom.axis(own.axis), layer.blobs[0].reshape(layer.blobs[0].shape[-2:])
    if axis == 1:
        value = bottom.name if len(bottom.shape) == 2 else layer.op("Flatten", bottom.name, axis=1)
        return [
            layer.op(
                "Gemm",
                value,
                layer.constant(weight),
                *_bias(layer, own),
                transB=int(not own.transpose),
            )
        ]
    value = bottom.name
    if axis != len(bottom.shape) - 1:
        value = layer.op("Reshape", value, layer.integers([0] * axis + [-1]))
    value = layer.op("MatMul", value, layer.constant(weight if own.transpose else weight.T))
    return [layer.op("Add", value, *_bias(layer, own)) if own.bias_term else value]


def embed(layer):
    """A row of the weights for each index."""
    own = layer.param.embed_param
    indices = layer.op("Cast", layer.bottoms[0].name, to=7)
    value = layer.op(
        "Gather", layer.constant(layer.blobs[0].reshape(layer.blobs[0].shape[-2:])), indices
    )
    return [layer.op("Add", value, *_bias(layer, own)) if own.bias_term else value]


def batch_norm(layer):
    """With the stored averages: sums over batches, and a factor of theirs beside them."""
    own = layer.param.batch_norm_param
    if own.HasField("use_global_stats") and not own.use_global_stats:
        layer.refuse("it uses the statistics of the batch (use_global_stats: false)")
    count = layer.blobs[2].item()
    mean, variance = (
        blob.ravel() / count if count else 0 * blob.ravel() for blob in layer.blobs[:2]
    )
    parts = (np.ones_like(mean), np.zeros_like(mean), mean, variance)
    return [
        layer.op(
            "BatchNormalization",
            layer.bottoms[0].name,
            *map(layer.constant, parts),
            epsilon=own.eps,
        )
    ]


def scale(layer):
    """Times a learned factor, or the second bottom, from ``axis`` on; then plus a learned summand."""
    own = layer.param.scale_param
    value = layer.op(
        "Mul",
        layer.bottoms[0].name,
        _aligned(layer, own.axis, layer.blobs[0] if layer.blobs else None),
    )
    return [
        layer.op("Add", value, _spread(layer, own.axis, layer.blobs[-1]))
        if own.bias_term
        else value
    ]


def bias(layer):
    return [
        layer.op(
            "Add",
            layer.bottoms[0].name,
            _aligned(layer, layer.param.bias_param.axis, layer.blobs[0] if layer.blobs else None),
        )
    ]


def _aligned(layer, axis, blob):
    """The name of the second bottom or else of a constant, shaped so that its first axis is ``axis`` of the bottom."""
    if len(layer.bottoms) == 1:
        return _spread(layer, axis, blob)
    bottom, other = layer.bottoms
    missing = len(bottom.shape) - bottom.axis(axis) - len(other.shape) if other.shape else 0
    if not missing:
        return other.name
    return layer.op("Unsqueeze", other.name, layer.integers(len(other.shape) + np.arange(missing)))


def _spread(layer, axis, blob):
    bottom = layer.bottoms[0]
    missing = len(bottom.shape) - bottom.axis(axis) - blob.ndim if blob.ndim else 0
    return layer.constant(blob.reshape(blob.shape + (1,) * missing))


def prelu(layer):
    """A slope for each channel, or one for all."""
    slope = layer.blobs[0].ravel()
    return [
        layer.op(
            "PRelu",
            layer.bottoms[0].name,
            layer.constant(slope.reshape(-1, *[1] * (len(layer.bottoms[0].shape) - 2))),
        )
    ]


def parameter(layer):
    return [layer.op("Identity", layer.constant(layer.blobs[0]))]
