"""A Caffe network as an ONNX model: opset 13, which engines of all ages read, float32, with free
axes where Caffe has them."""

import collections
import dataclasses
import itertools

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..errors import UserError
from ..files import whole_file
from . import onnx_layers, onnx_weighted

OPSET, IR_VERSION = 13, 7
TABLE = {  # of functions that have the names of layer types
    name: function
    for module in (onnx_layers, onnx_weighted)
    for name, function in vars(module).items()
    if name[0].isupper()
}
_WITHOUT_NODES = ("Input", "Silence")
_SMALL = 1000  # numbers that ONNX's checker is given, since it may need their values


@dataclasses.dataclass(frozen=True)
class Value:
    """What a layer reads: its name in the graph, its shape at the network's own input size, and
    which of its axes are free, that is have another size with another input."""

    name: str
    shape: tuple
    free: frozenset = frozenset()

    def axis(self, index):
        """A Caffe axis, which may count from the end, as one that counts from the front."""
        return index % len(self.shape) if self.shape else 0

    def fixed(self, axis):
        return axis not in self.free


class Layer:
    """One Caffe layer on its way into the graph: its LayerParameter, its blobs as arrays, the
    Values that it reads, and the shapes of its tops. Its nodes are collected here, and its
    constants as {name: array}."""

    def __init__(self, param, blobs, bottoms, tops, index=0):
        self.param, self.blobs, self.bottoms, self.tops = param, blobs, bottoms, tops
        self._prefix = f"{param.name}::{index}"  # the index tells layers of one name apart
        self.nodes, self.constants = [], {}

    @property
    def bottom(self):
        """The name of the first one."""
        return self.bottoms[0].name

    def op(self, kind, *inputs, outputs=1, **attributes):
        """Adds a node; returns the name of its output, or a list of them where there are
        several."""
        name = f"{self._prefix}.{len(self.nodes)}.{kind}"
        names = [f"{name}.{index}" for index in range(outputs)] if outputs > 1 else [name]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=name, **attributes))
        return names if outputs > 1 else name

    def constant(self, array, dtype=np.float32):
        """Adds an initializer with the values of ``array``; returns its name."""
        name = f"{self._prefix}.{len(self.constants)}"
        self.constants[name] = np.asarray(array, dtype)
        return name

    def integers(self, *values):
        """The names of initializers, one for each list."""
        names = [self.constant(each, np.int64) for each in values]
        return names if len(names) > 1 else names[0]

    def scaled(self, value, factor, summand=0):
        """value · factor + summand, without what does nothing."""
        if factor != 1:
            value = self.op("Mul", value, self.constant(factor))
        return self.op("Add", value, self.constant(summand)) if summand else value

    def size(self, value, axes):
        """The sizes of a Value along ``axes`` (consecutive), as an int64 tensor: constant where
        they are not free."""
        if all(map(value.fixed, axes)):
            return self.integers([value.shape[axis] for axis in axes])
        ends = self.integers([axes[0]], [axes[-1] + 1])
        return self.op("Slice", self.op("Shape", value.name), *ends)

    def refuse(self, why):
        """Raises UserError: this layer has no equal in ONNX."""
        name, kind = self.param.name, self.param.type
        raise UserError(f"layer {name} of type {kind} cannot be expressed in ONNX: {why}")

    def finish(self, values, names):
        """Lets the outputs ``values`` (one, or a list) have ``names``."""
        values = [values] if isinstance(values, str) else values
        produced = {output for node in self.nodes for output in node.output}
        renamed = {}
        for value, name in zip(values, names):
            if value in produced and value not in renamed:
                renamed[value] = name
            else:  # a bottom that is passed on, or one value for several tops
                made = f"{self._prefix}.{len(self.nodes)}.Identity"
                source = [renamed.get(value, value)]
                self.nodes.append(helper.make_node("Identity", source, [name], name=made))
        for node in self.nodes:
            for of_node in (node.input, node.output):
                of_node[:] = [renamed.get(name, name) for name in of_node]


def check_types(net, table=TABLE):
    """Raises UserError for the layers of a NetParameter whose type ``table`` does not know."""
    unknown = [
        f"{layer.name} ({layer.type})"
        for layer in net.layer
        if layer.type not in table and layer.type not in _WITHOUT_NODES
    ]
    if unknown:
        raise UserError(
            f"these layers cannot be expressed in ONNX: {', '.join(unknown)}; take them out of the "
            "prototxt, and do their work behind the network"
        )


def build(net, live, free, table=TABLE):
    """The ModelProto of ``net`` (NetParameter, for testing, without ACUs unless ``table`` knows
    them).

    ``live`` is its pycaffe Net, with its weights; ``free`` is what free_axes says of its blobs.
    Layers stand in the order of the network, and its inputs and outputs keep their names. Raises
    UserError naming the layer that cannot be expressed."""
    check_types(net, table)
    inputs, shapes = list(live.inputs), {name: tuple(b.shape) for name, b in live.blobs.items()}
    nodes, constants, names = [], {}, _Names(net, inputs)
    for index, param in enumerate(net.layer):
        if param.type in _WITHOUT_NODES:
            continue
        bottoms = [Value(names.now(blob), shapes[blob], free[blob]) for blob in param.bottom]
        blobs = [blob.data for blob in live.params.get(param.name, [])]
        layer = Layer(param, blobs, bottoms, [shapes[blob] for blob in param.top], index)
        layer.finish(table[param.type](layer), [names.next(blob) for blob in param.top])
        nodes += layer.nodes
        constants.update(layer.constants)
    batch = shapes[inputs[0]][:1]
    described = [
        [_info(name, _dims(blob, shapes[blob], free[blob], batch)) for blob, name in blobs]
        for blobs in (zip(inputs, inputs), zip(live.outputs, map(names.now, live.outputs)))
    ]
    for output in described[1]:
        if output.name in inputs:
            raise UserError(f"output {output.name} is an input of the network: nothing is computed")
    graph = helper.make_graph(nodes, net.name or "network", *described)
    return _with_constants(graph, constants, checked=table is TABLE)


def _with_constants(graph, constants, checked):
    """The ModelProto, after ONNX's own checker has looked at it, shapes included. It is given the
    types and shapes of large constants alone, as inputs: it would take three times their memory."""
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(
        graph, producer_name="active-convolution", ir_version=IR_VERSION, opset_imports=opset
    )
    large = {name: array for name, array in constants.items() if array.size > _SMALL}
    for name, array in constants.items():
        if name not in large:
            model.graph.initializer.append(numpy_helper.from_array(array, name))
    count = len(model.graph.input)
    for name, array in large.items():
        model.graph.input.append(_info(name, array.shape))
    if checked:
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            why = str(error).strip().splitlines()[0]
            raise UserError(
                f"ONNX's checker refuses the result ({why}): give --format caffe"
            ) from error
    del model.graph.input[count:]
    for name, array in large.items():
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return model


def _info(name, dims):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


def _dims(blob, shape, free, batch):
    """The sizes of a blob, with a name for a free axis."""
    names = ["batch" if shape[:1] == batch else f"{blob}_0"]
    names += [f"{blob}_{axis}" for axis in range(1, len(shape))]
    return [names[axis] if axis in free else size for axis, size in enumerate(shape)]


class _Names:
    """Which name in the graph a Caffe blob has now: its own for what its last layer writes, and for
    an input; versions in between, which a layer overwrites in place, have the layer's beside it."""

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


def write(path, model, metadata):
    """Writes a ModelProto with ``metadata``, {key: text}, whole or not at all."""
    helper.set_model_props(model, metadata)
    with whole_file(path, "wb") as file:
        file.write(model.SerializeToString())
