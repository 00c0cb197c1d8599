"""A Caffe network as an ONNX model: opset 13, which engines of all ages read, float32, with free axes where Caffe has
them."""

import collections
import itertools

import onnx
from onnx import TensorProto, helper

from ..errors import UserError
from . import onnx_pointwise as pointwise
from . import onnx_shaping as shaping
from . import onnx_weighted as weighted
from .onnx_graph import Layer, Value

OPSET, IR_VERSION = 13, 7
PRODUCER = "active-convolution"
EXTERNAL_ABOVE = 2**31 - 2**20  # bytes of weights: a protocol buffer holds less than 2 GB

TABLE = {
    "AbsVal": pointwise.plain("Abs"),
    "ArgMax": pointwise.argmax,
    "BatchNorm": weighted.batch_norm,
    "BatchReindex": shaping.batch_reindex,
    "Bias": weighted.bias,
    "BNLL": pointwise.plain("Softplus"),
    "Clip": pointwise.clip,
    "Concat": shaping.concat,
    "Convolution": weighted.convolution,
    "ConvolutionDepthwise": weighted.convolution,
    "Crop": shaping.crop,
    "Deconvolution": weighted.deconvolution,
    "DepthwiseConvolution": weighted.convolution,
    "Dropout": pointwise.dropout,
    "Eltwise": pointwise.eltwise,
    "ELU": pointwise.elu,
    "Embed": weighted.embed,
    "Exp": pointwise.exp,
    "Flatten": shaping.flatten,
    "InnerProduct": weighted.inner_product,
    "Interp": shaping.interp,
    "Log": pointwise.log,
    "LRN": pointwise.lrn,
    "MVN": pointwise.mvn,
    "Normalize": pointwise.normalize,
    "Parameter": weighted.parameter,
    "Permute": shaping.permute,
    "Pooling": shaping.pooling,
    "Power": pointwise.power,
    "PReLU": weighted.prelu,
    "Reduction": pointwise.reduction,
    "ReLU": pointwise.relu,
    "ReLU6": pointwise.relu6,
    "Reshape": shaping.reshape,
    "Scale": weighted.scale,
    "ShuffleChannel": shaping.shuffle_channel,
    "Sigmoid": pointwise.plain("Sigmoid"),
    "Slice": shaping.slices,
    "Softmax": pointwise.softmax,
    "Split": shaping.identity,
    "Swish": pointwise.swish,
    "TanH": pointwise.plain("Tanh"),
    "Threshold": pointwise.threshold,
    "Tile": shaping.tile,
    "Upsample": shaping.upsample,
}
_WITHOUT_NODES = ("Input", "Silence")


def check_types(net, table=TABLE):
    """Raises UserError for the layers of a NetParameter whose type ``table`` does not know, before any work is done."""
    unknown = [
        layer for layer in net.layer if layer.type not in table and layer.type not in _WITHOUT_NODES
    ]
    if unknown:
        names = ", ".join(f"{layer.name} ({layer.type})" for layer in unknown)
        raise UserError(
            f"these layers cannot be expressed in ONNX: {names}; take them out of the prototxt, "
            "and do their work behind the network"
        )


def build(net, blobs, sizes, table=TABLE):
    """The ModelProto of ``net`` (NetParameter, for testing, one format, without ACUs unless ``table`` knows them).

    ``blobs`` maps layer names to lists of arrays; ``sizes`` (probing.Sizes) tells the blobs' shapes, which axes are
    free, and the network's inputs and outputs. Layers stand in the order of the network, and its inputs and outputs
    keep their names. Raises UserError naming the layer that cannot be expressed.
    """
    check_types(net, table)
    nodes, initializers, names = [], [], _Names(net, sizes.inputs)
    for index, param in enumerate(net.layer):
        if param.type in _WITHOUT_NODES:
            continue
        bottoms = [
            Value(names.now(blob), sizes.shapes[blob], sizes.free[blob]) for blob in param.bottom
        ]
        layer = Layer(
            param,
            blobs.get(param.name, []),
            bottoms,
            [sizes.shapes[blob] for blob in param.top],
            index,
        )
        layer.finish(table[param.type](layer), [names.next(blob) for blob in param.top])
        nodes += layer.nodes
        initializers += layer.initializers
    outputs = [_described(blob, names.now(blob), sizes) for blob in sizes.outputs]
    for output in outputs:
        if output.name in sizes.inputs:
            raise UserError(f"output {output.name} is an input of the network: nothing is computed")
    graph = helper.make_graph(
        nodes,
        net.name or "network",
        [_described(blob, blob, sizes) for blob in sizes.inputs],
        outputs,
        initializers,
    )
    return helper.make_model(
        graph,
        producer_name=PRODUCER,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )


class _Names:
    """Which name in the graph a Caffe blob has now: its own for what its last layer writes, and for an input; versions
    in between, which a layer overwrites in place, have the layer's beside it."""

    def __init__(self, net, inputs):
        self._left = collections.Counter(
            blob for layer in net.layer if layer.type not in _WITHOUT_NODES for blob in layer.top
        )
        self._inputs, self._now, self._taken = set(inputs), {}, {*inputs, *self._left}

    def now(self, blob):
        return self._now.get(blob, blob)

    def next(self, blob):
        self._left[blob] -= 1
        name = blob
        if self._left[blob] or blob in self._inputs:
            versions = (f"{blob}::{index}" for index in itertools.count(1))
            name = next(version for version in versions if version not in self._taken)
            self._taken.add(name)
        self._now[blob] = name
        return name


def _described(blob, name, sizes):
    dims = [
        sizes.symbol(blob, axis) if axis in sizes.free[blob] else size
        for axis, size in enumerate(sizes.shapes[blob])
    ]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


def write(path, model):
    """Writes a ModelProto, with its weights in a second file beside it where they are 2 GB or more, and has ONNX's own
    checker look at the result, shapes included."""
    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if weights > EXTERNAL_ABOVE:
        onnx.save_model(model, str(path), save_as_external_data=True, location=f"{path.name}.data")
        _check(str(path))  # without shapes: their inference would load all of it
        return
    _check(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def _check(model, **options):
    try:
        onnx.checker.check_model(model, **options)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        why = str(error).strip().splitlines()[0]
        raise UserError(
            f"ONNX's checker refuses the result ({why}): give --format caffe"
        ) from error
