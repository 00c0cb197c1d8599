"""Caffe's layers with weights, and those that take their place: one function per layer type, as in
onnx_layers."""

import numpy as np

from .. import geometry


def Convolution(layer):
    """Over any number of axes."""
    return _convolved(layer, "Conv", layer.bottoms[0].shape)


def Deconvolution(layer):
    return _convolved(layer, "ConvTranspose", layer.tops[0])


# Types that some trees give to convolutions whose groups are channels.
ConvolutionDepthwise = DepthwiseConvolution = Convolution


def _convolved(layer, kind, wide):
    """Each bottom has a top of its own; ``wide`` is the shape of the side on which a kernel sees a
    group's channels alone."""
    param, axes = layer.param.convolution_param, layer.blobs[0].ndim - 2
    if layer.bottoms[0].axis(param.axis) != 1:
        layer.refuse("its axis is not 1")
    if not axes:
        layer.refuse("it reads vectors, and has no axis to move along")
    fields = dict(
        kernel_shape=_each(layer, "kernel_size", axes, None),
        pads=_each(layer, "pad", axes, 0) * 2,
        strides=_each(layer, "stride", axes, 1),
        dilations=_each(layer, "dilation", axes, 1),
        group=wide[1] // layer.blobs[0].shape[1],
    )
    weights = [layer.constant(layer.blobs[0]), *_bias(layer, param)]
    return [layer.op(kind, bottom.name, *weights, **fields) for bottom in layer.bottoms]


def _each(layer, field, axes, default):
    if axes == 2:
        return list(geometry.pair(layer.param, field, default))
    values = list(getattr(layer.param.convolution_param, field)) or [default]
    return values * axes if len(values) == 1 else values


def _bias(layer, param):
    return [layer.constant(layer.blobs[1].ravel())] if param.bias_term else []


def _with_bias(layer, value, own):
    return layer.op("Add", value, *_bias(layer, own)) if own.bias_term else value


def InnerProduct(layer):
    """Over all axes from ``axis`` on."""
    own, bottom = layer.param.inner_product_param, layer.bottoms[0]
    axis, weight = bottom.axis(own.axis), layer.blobs[0].reshape(layer.blobs[0].shape[-2:])
    value = bottom.name
    if axis == 1:
        value = value if len(bottom.shape) == 2 else layer.op("Flatten", value, axis=1)
        weights = [layer.constant(weight), *_bias(layer, own)]
        return layer.op("Gemm", value, *weights, transB=int(not own.transpose))
    if axis != len(bottom.shape) - 1:
        value = layer.op("Reshape", value, layer.integers([0] * axis + [-1]))
    value = layer.op("MatMul", value, layer.constant(weight if own.transpose else weight.T))
    return _with_bias(layer, value, own)


def Embed(layer):
    """A row of the weights for each index."""
    rows = layer.constant(layer.blobs[0].reshape(layer.blobs[0].shape[-2:]))
    value = layer.op("Gather", rows, layer.op("Cast", layer.bottom, to=7))
    return _with_bias(layer, value, layer.param.embed_param)


def BatchNorm(layer):
    """With the stored averages: sums over batches, and a factor of theirs beside them."""
    own = layer.param.batch_norm_param
    if own.HasField("use_global_stats") and not own.use_global_stats:
        layer.refuse("it uses the statistics of the batch (use_global_stats: false)")
    count, (mean, variance) = layer.blobs[2].item(), (blob.ravel() for blob in layer.blobs[:2])
    mean, variance = (blob / count if count else 0 * blob for blob in (mean, variance))
    learned = np.ones_like(mean), np.zeros_like(mean), mean, variance
    names = map(layer.constant, learned)
    return layer.op("BatchNormalization", layer.bottom, *names, epsilon=own.eps)


def Scale(layer):
    """Times a learned factor, or the second bottom, from ``axis`` on; then plus a learned
    summand."""
    own = layer.param.scale_param
    value = layer.op("Mul", layer.bottom, _aligned(layer, own.axis))
    if not own.bias_term:
        return value
    return layer.op("Add", value, _spread(layer, own.axis, layer.blobs[-1]))


def Bias(layer):
    return layer.op("Add", layer.bottom, _aligned(layer, layer.param.bias_param.axis))


def _aligned(layer, axis):
    """The name of the second bottom or else of the first blob, shaped so that its first axis is
    ``axis`` of the bottom."""
    if len(layer.bottoms) == 1:
        return _spread(layer, axis, layer.blobs[0])
    bottom, other = layer.bottoms
    missing = len(bottom.shape) - bottom.axis(axis) - len(other.shape) if other.shape else 0
    if not missing:
        return other.name
    return layer.op("Unsqueeze", other.name, layer.integers(len(other.shape) + np.arange(missing)))


def _spread(layer, axis, blob):
    bottom = layer.bottoms[0]
    missing = len(bottom.shape) - bottom.axis(axis) - blob.ndim if blob.ndim else 0
    return layer.constant(blob.reshape(blob.shape + (1,) * missing))


def PReLU(layer):
    """A slope for each channel, or one for all."""
    slope = layer.blobs[0].reshape(-1, *[1] * (len(layer.bottoms[0].shape) - 2))
    return layer.op("PRelu", layer.bottom, layer.constant(slope))


def Parameter(layer):
    return layer.op("Identity", layer.constant(layer.blobs[0]))
