"""Networks with active convolutions as networks of ordinary ones, which any Caffe, and whatever reads its files, can run."""
import dataclasses
import json
import math

import numpy as np

from .. import geometry, positions
from ..columns import aligned
from ..errors import BadValue, UserError
from ..files import whole_file, whole_folder
from ..pycaffe import locate, messages, nets
from ..pycaffe.messages import by
from . import folding, splat, verify

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
        raise BadValue(f"--max-kernel {max_kernel}: give 1 or more")
    net = _for_testing(model)
    with whole_folder(output) as folder:
        original = nets.load_checked(model, weights)
        verify.check_names(original, model)
        blobs = {name: [blob.data.astype(float) for blob in of_layer] for name, of_layer in original.params.items()}
        active = [_cost_before(layer, blobs[layer.name], original) for layer in net.layer if layer.type in positions.TYPES]
        for layer in net.layer:
            if layer.type in positions.TYPES:
                blobs[layer.name] = to_convolution(layer, blobs[layer.name], max_kernel)
        _check_finite(blobs, weights)
        folded = folding.fold(net, blobs) if fold else {}
        messages.write(folder / MODEL, net)
        _write_weights(folder / WEIGHTS, net, blobs)
        report = _report(net, original, nets.load(folder / MODEL, folder / WEIGHTS), active, folded)
        verify.check({layer.name: (layer.difference, layer.largest) for layer in report.layers}, "layer")
        verify.check(report.outputs, "output")
        report.write(folder)
    return report


# ---- The network

def _for_testing(model):
    """The NetParameter of a deploy prototxt without what only training, or a stage that is not its own, sees. Raises
    UserError where it has no ACU, or takes its images from elsewhere than its input."""
    net = messages.read_net(model)
    for index in reversed(range(len(net.layer))):
        if not messages.takes_part(net.layer[index], locate.caffe_pb2().TEST, stages=net.state.stage):
            del net.layer[index]
    source = verify.own_source(net)
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
    stored = locate.caffe_pb2().NetParameter(name=net.name)
    for layer in net.layer:
        messages.fill(stored.layer.add(), layer, blobs.get(layer.name, []))
    messages.write_weights(path, stored)


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
    differences, of_outputs = verify.compare(original, exported, ends)
    rows = []
    for name, kernel, cost in active:
        after = exported.params[name][0].data.shape
        rows.append(LayerReport(name, kernel, after[2:], geometry.pair(layers[name], "dilation", 1), cost,
                                math.prod(after) * _pixels(exported, layers[name]), *differences[name]))
    return Report(rows, of_outputs, folded)


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """One active convolution and the ordinary one in its place; kernels are (vertical, horizontal).

    Costs are multiply-adds an image: those of the ACU count its interpolation. ``difference`` is the largest one between
    the two networks after this layer (and what went into it), on random input; ``largest`` the largest value there.
    """
    name: str
    active_kernel: tuple
    kernel: tuple
    dilation: tuple
    active_cost: int
    cost: int
    difference: float
    largest: float


@dataclasses.dataclass(frozen=True)
class Report:
    """``outputs`` maps the network's outputs to (largest difference, largest value); ``folded`` a convolution's name to
    those of the layers that went into it."""
    layers: list
    outputs: dict
    folded: dict

    def text(self):
        cells = [("layer", "kernel", "multiply-adds", "ratio", "difference")] + [_cells(layer) for layer in self.layers]
        before, after = (sum(getattr(layer, name) for layer in self.layers) for name in ("active_cost", "cost"))
        cells.append(("together", "", *_costs(before, after), ""))
        lines = ["  ".join(row).rstrip() for row in aligned(cells)]
        lines += [f"output {name}: largest difference {difference:.1e} (largest value {largest:.3g})"
                  for name, (difference, largest) in self.outputs.items()]
        if self.folded:
            count = sum(map(len, self.folded.values()))
            lines.append(f"{count} BatchNorm and Scale layers folded into {len(self.folded)} convolutions")
        return "\n".join(lines) + "\n"

    def write(self, folder):
        """Writes report.txt and report.json."""
        with whole_file(folder / "report.txt", encoding="utf-8") as file:
            file.write(self.text())
        with whole_file(folder / "report.json", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(self), file, indent=2)
            file.write("\n")


def _cells(layer):
    dilated = "" if layer.dilation == (1, 1) else f", dilation {by(layer.dilation)}"
    return (layer.name, f"{by(layer.active_kernel)} → {by(layer.kernel)}{dilated}", *_costs(layer.active_cost, layer.cost),
            f"{layer.difference:.1e} of {layer.largest:.3g}")


def _costs(before, after):
    return f"{before / 1e6:.2f} M → {after / 1e6:.2f} M", f"{after / before:.2f}"
