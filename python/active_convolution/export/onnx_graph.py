"""An ONNX graph as it grows, layer by layer of a Caffe network."""

import dataclasses

import numpy as np
from onnx import helper, numpy_helper

from ..errors import UserError


@dataclasses.dataclass(frozen=True)
class Value:
    """What a layer reads: its name in the graph, its shape at the network's own input size, and which of its axes are
    free, that is have another size with another input."""

    name: str
    shape: tuple
    free: frozenset = frozenset()

    def axis(self, index):
        """A Caffe axis, which may count from the end, as one that counts from the front."""
        return index % len(self.shape) if self.shape else 0

    def fixed(self, axis):
        return axis not in self.free


class Layer:
    """One Caffe layer on its way into the graph: its LayerParameter, its blobs as arrays, the Values that it reads, and
    the shapes of its tops. Its nodes are collected here, so that a layer that cannot be expressed leaves none behind."""

    def __init__(self, param, blobs, bottoms, tops, index=0):
        self.param, self.blobs, self.bottoms, self.tops = param, blobs, bottoms, tops
        self._prefix = f"{param.name}::{index}"  # the index tells layers of one name apart
        self.nodes, self.initializers = [], []

    def op(self, kind, *inputs, outputs=1, **attributes):
        """Adds a node; returns the name of its output, or a list of them where there are ``outputs`` > 1."""
        name = f"{self._prefix}.{len(self.nodes)}.{kind}"
        names = [f"{name}.{index}" for index in range(outputs)] if outputs > 1 else [name]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=name, **attributes))
        return names if outputs > 1 else name

    def constant(self, array, dtype=np.float32):
        """Adds an initializer with the values of ``array``; returns its name."""
        name = f"{self._prefix}.{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array, dtype, order="C"), name))
        return name

    def integers(self, values):
        return self.constant(values, np.int64)

    def scaled(self, value, factor, summand=0):
        """value · factor + summand, without the parts that do nothing."""
        if factor != 1:
            value = self.op("Mul", value, self.constant(factor))
        return self.op("Add", value, self.constant(summand)) if summand else value

    def size(self, value, axes):
        """The sizes of a Value along ``axes`` (consecutive), as an int64 tensor: constant where they are not free."""
        if all(map(value.fixed, axes)):
            return self.integers([value.shape[axis] for axis in axes])
        return self.op(
            "Slice", self.op("Shape", value.name), *map(self.integers, ([axes[0]], [axes[-1] + 1]))
        )

    def refuse(self, why):
        """Raises UserError: this layer has no equal in ONNX."""
        raise UserError(
            f"layer {self.param.name} of type {self.param.type} cannot be expressed in ONNX: {why}"
        )

    def finish(self, values, names):
        """Lets the outputs ``values`` have ``names``."""
        produced = {output for node in self.nodes for output in node.output}
        renamed = {}
        for value, name in zip(values, names, strict=True):
            if value in produced and value not in renamed:
                renamed[value] = name
            else:  # a bottom that is passed on, or one value for several tops
                self.nodes.append(
                    helper.make_node(
                        "Identity",
                        [renamed.get(value, value)],
                        [name],
                        name=f"{self._prefix}.{len(self.nodes)}.Identity",
                    )
                )
        for node in self.nodes:
            for of_node in (node.input, node.output):
                of_node[:] = [renamed.get(name, name) for name in of_node]
