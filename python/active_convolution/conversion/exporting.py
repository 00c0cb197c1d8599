"""Networks with active convolutions as networks of ordinary ones, which any Caffe, and whatever reads its files, can run."""
import math

import numpy as np

from .. import evaluation, formats, fork, positions, prototxt
from ..errors import UserError
from ..files import whole_folder
from . import comparing, folding, geometry, splat, storing
from .report import LayerReport, Report

MODEL, WEIGHTS = "deploy.prototxt", "weights.caffemodel"
MAX_KERNEL = 63     # taps: what a position that has run away must not exceed unasked


def export(model, weights, output, fold=False, max_kernel=MAX_KERNEL):
    """Writes deploy.prototxt, weights.caffemodel, report.txt and report.json into the new folder ``output``.

    ``model`` is a deploy prototxt with ActiveConvolution or AConvFast layers and ``weights`` its .caffemodel. ``fold``
    lets BatchNorm and Scale go into the convolutions; ``max_kernel`` is the most taps that a kernel may have along an
    axis. Returns the Report. Raises UserError for files that do not fit, naming layer and synapse for a position that is
    not finite or beyond ``max_kernel``, and where the result does not compute the same.
    """
    if max_kernel < 1:
        raise UserError(f"--max-kernel {max_kernel}: give 1 or more")
    net = _for_testing(model)
    with whole_folder(output) as folder:
        original = evaluation.load_checked(model, weights)
        comparing.check_names(original, model)
        blobs = {name: [blob.data.astype(float) for blob in of_layer] for name, of_layer in original.params.items()}
        active = [_cost_before(layer, blobs[layer.name], original) for layer in net.layer if layer.type in positions.TYPES]
        for layer in net.layer:
            if layer.type in positions.TYPES:
                blobs[layer.name] = to_convolution(layer, blobs[layer.name], max_kernel)
        _check_finite(blobs, weights)
        folded = folding.fold(net, blobs) if fold else {}
        prototxt.write(folder / MODEL, net)
        _write_weights(folder / WEIGHTS, net, blobs)
        report = _report(net, original, evaluation.load(folder / MODEL, folder / WEIGHTS), active, folded)
        comparing.check({layer.name: (layer.difference, layer.largest) for layer in report.layers}, "layer")
        comparing.check(report.outputs, "output")
        report.write(folder)
    return report


# ---- The network

def _for_testing(model):
    """The NetParameter of a deploy prototxt without what only training, or a stage that is not its own, sees. Raises
    UserError where it has no ACU, or takes its images from elsewhere than its input."""
    net = formats.read_net(model)
    for index in reversed(range(len(net.layer))):
        if not prototxt.takes_part(net.layer[index], fork.caffe_pb2().TEST, stages=net.state.stage):
            del net.layer[index]
    source = comparing.own_source(net)
    if source is not None:
        raise UserError(f"{model} reads its images itself, in layer {source.name} of type {source.type}: "
                        "give the deploy prototxt")
    if not any(layer.type in positions.TYPES for layer in net.layer):
        raise UserError(f"{model} has no {' or '.join(positions.TYPES)} layer: there is nothing to export")
    return net


def to_convolution(layer, blobs, max_kernel=MAX_KERNEL):
    """Makes a Convolution of the LayerParameter of an ACU, in place; returns the blobs of it, float64.

    ``blobs`` are the ACU's: weight, bias, x, y. Raises UserError naming the synapse that cannot be held.
    """
    weight, bias, *xy = blobs
    x, y = (position.reshape(len(position), -1) for position in xy)
    rows, columns = _windows(layer, x, y, max_kernel)
    layer.type = "Convolution"
    layer.ClearField("active_convolution_param")
    layer.ClearField("aconv_param")
    for field, default in (("kernel_size", None), ("pad", 0), ("dilation", 1)):
        name = field.split("_")[-1]
        geometry.set_pair(layer, field, (getattr(rows, name), getattr(columns, name)), default)
    kernel = splat.splat(weight, x, y, rows, columns)
    result = [kernel, bias] if layer.convolution_param.bias_term else [kernel]
    folding.forget_sharing(layer, len(result))
    return result


def _windows(layer, x, y, max_kernel):
    """The kernel's (vertical, horizontal) Window."""
    for index in zip(*np.nonzero(~np.isfinite(x + y))):
        raise UserError(f"layer {layer.name}: {_synapse(x, y, index)} is nowhere: training has gone wrong there, "
                        "name an earlier snapshot")
    axes = geometry.axes(layer)
    for axis, position in zip(axes, (y, x)):
        for index in np.ndindex(position.shape):
            size = splat.window(axis, position[index].reshape(1)).size
            if size > max_kernel:
                raise UserError(f"layer {layer.name}: {_synapse(x, y, index)} needs a kernel of {size} taps, more than "
                                f"--max-kernel {max_kernel}: raise that, or name another snapshot")
    windows = [splat.window(axis, position.ravel()) for axis, position in zip(axes, (y, x))]
    if max(window.size for window in windows) > max_kernel:  # off its lattice, a dilated kernel takes more than any synapse
        raise UserError(f"layer {layer.name} needs a kernel of {windows[0].size}×{windows[1].size} taps, more than "
                        f"--max-kernel {max_kernel}: raise that")
    return windows


def _synapse(x, y, index):
    position_set, synapse = index
    of_set = f" of position set {position_set}" if len(x) > 1 else ""
    return f"synapse {synapse}{of_set}, at ({x[index]:.6g}, {y[index]:.6g}),"


# ---- The weights

def _check_finite(blobs, weights):
    for name, of_layer in blobs.items():
        if not all(np.isfinite(blob).all() for blob in of_layer):
            raise UserError(f"layer {name} of {weights} has weights that are not finite: name an earlier snapshot")


def _write_weights(path, net, blobs):
    stored = fork.caffe_pb2().NetParameter(name=net.name)
    for layer in net.layer:
        storing.fill(stored.layer.add(), layer, blobs.get(layer.name, []))
    storing.write(path, stored)


# ---- The report

def _cost_before(layer, blobs, net):
    """(name, kernel, multiply-adds an image) of an ACU in ``net``: the interpolation, four for each value that is read,
    and the sum over channels and synapses."""
    weight, x = blobs[0], blobs[2]
    outputs, channels, kernel = len(weight), weight.shape[1], weight.shape[2:]
    read = len({(d * layer.convolution_param.group // outputs, d * len(x) // outputs) for d in range(outputs)})
    return layer.name, kernel, _pixels(net, layer) * math.prod(kernel) * channels * (outputs + 4 * read)


def _pixels(net, layer):
    """Output pixels of a layer for each image."""
    return sum(math.prod(net.blobs[top].data.shape[2:]) for top in layer.top)


def _report(net, original, exported, active, folded):
    layers = {layer.name: layer for layer in net.layer}
    ends = {name: folded.get(name, [name])[-1] for name, *_ in active}
    differences, of_outputs = comparing.compare(original, exported, ends)
    rows = []
    for name, kernel, cost in active:
        after = exported.params[name][0].data.shape
        rows.append(LayerReport(name, kernel, after[2:], geometry.pair(layers[name], "dilation", 1), cost,
                                math.prod(after) * _pixels(exported, layers[name]), *differences[name]))
    return Report(rows, of_outputs, folded)
