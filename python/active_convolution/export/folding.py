"""Folds BatchNorm and Scale layers into the convolutions whose output they alone read."""

import collections

import numpy as np

from ..caffe import positions
from .dense import forget_sharing


def fold(net, blobs):
    """Removes from ``net`` (NetParameter, for testing) every BatchNorm and Scale that directly
    follows a Convolution over two axes, active or not.

    ``blobs`` maps the layers' names to lists of arrays. Whatever stands elsewhere (after a sum,
    before its convolution, beside another reader of the convolution's output) stays. Returns ({name
    of a convolution: (factor, summand)}, what ``folded`` takes, {name: names of the layers that
    went into it, in order})."""
    readers, sources, shares, gone, removed = _readers(net), {}, {}, {}, []
    for index, (layer, bottoms, tops) in enumerate(_versions(net)):
        convolution = sources.get(bottoms[0]) if len(bottoms) == 1 else None
        share = _share(layer, blobs.get(layer.name, []), convolution)
        if share and len(readers[bottoms[0]]) == 1:
            factor, summand = shares.get(convolution.name, (1, 0))
            shares[convolution.name] = factor * share[0], summand * share[0] + share[1]
            convolution.convolution_param.ClearField("bias_term")
            convolution.top[0] = layer.top[0]
            forget_sharing(convolution, len(blobs[convolution.name]))
            sources[tops[0]] = convolution
            gone.setdefault(convolution.name, []).append(layer.name)
            removed.append(index)
        elif len(tops) == 1 and _can_take(layer, blobs.get(layer.name, [])):
            sources[tops[0]] = layer
    for index in reversed(removed):
        del net.layer[index]
    return shares, gone


def folded(blobs, factor, summand):
    """The weight, bias and, of an ACU, positions of a convolution behind which ``factor`` and
    ``summand``, numbers per output channel, do their work."""
    # An ACU without a bias has one zero.
    weight, bias, *xy = blobs if len(blobs) > 1 else (*blobs, np.zeros(1))
    scaled = weight * factor.astype(np.float32).reshape(-1, 1, 1, 1)
    return [scaled, bias.ravel() * factor + summand, *xy]


def _versions(net):
    """Yields (layer, versions it reads, versions it writes): a blob has another version after each
    layer that writes it."""
    current = {}
    for index, layer in enumerate(net.layer):
        bottoms = [(name, current.get(name)) for name in layer.bottom]
        current.update((name, index) for name in layer.top)
        yield layer, bottoms, [(name, index) for name in layer.top]


def _readers(net):
    readers = collections.defaultdict(list)
    for layer, bottoms, _ in _versions(net):
        for version in bottoms:
            readers[version].append(layer.name)
    return readers


def _can_take(layer, blobs):
    """Whether a layer is a convolution over two axes whose outputs are the channels that BatchNorm
    and Scale work on."""
    return (
        layer.type in ("Convolution", *positions.TYPES)
        and layer.convolution_param.axis in (1, -3)
        and len(blobs) > 0
        and blobs[0].ndim == 4
    )


def _share(layer, blobs, convolution):
    """(factor, summand), float64 per channel, of a layer that can go into ``convolution``; else
    None."""
    if convolution is None or len(layer.top) != 1:
        return None
    if layer.type not in ("BatchNorm", "Scale"):
        return None
    blobs = [blob.astype(float) for blob in blobs]
    outputs, own = convolution.convolution_param.num_output, layer.batch_norm_param
    fixed = own.use_global_stats or not own.HasField("use_global_stats")  # stored averages
    if layer.type == "BatchNorm" and fixed and len(blobs) == 3:
        count = blobs[2].item()
        mean, variance = (blob / count if count else 0 * blob for blob in blobs[:2])
        factor = 1 / np.sqrt(variance + own.eps)
        return factor, -mean * factor
    along_channels = layer.type == "Scale" and layer.scale_param.axis in (1, -3)
    if along_channels and blobs and blobs[0].shape == (outputs,):
        return blobs[0], blobs[1] if layer.scale_param.bias_term else np.zeros(outputs)
    return None
