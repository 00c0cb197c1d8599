"""A network as a Python module for PyTorch and a state dict, from the graph that the ONNX export makes.

Convolutions, fully connected layers and normalisations become PyTorch's own modules, other weights parameters;
ActiveConv2d takes the place of an ACU whose positions are to go on learning.
"""

import keyword
import re
from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper

from .. import geometry
from ..errors import UserError
from ..files import whole_file
from . import onnx_model, torch_file
from .torch_ops import HELPERS, OPERATORS

MODEL, WEIGHTS = "network.py", "weights.pt"
_ACTIVE = Path(__file__).with_name("active_conv2d.py")
_OF_MODULE = (  # what nn.Module has names for
    "add_module",
    "apply",
    "bfloat16",
    "buffers",
    "call_super_init",
    "children",
    "compile",
    "cpu",
    "cuda",
    "double",
    "dump_patches",
    "eval",
    "extra_repr",
    "float",
    "forward",
    "get_buffer",
    "get_extra_state",
    "get_parameter",
    "get_submodule",
    "half",
    "ipu",
    "load_state_dict",
    "modules",
    "mtia",
    "named_buffers",
    "named_children",
    "named_modules",
    "named_parameters",
    "parameters",
    "register_buffer",
    "register_forward_hook",
    "register_module",
    "register_parameter",
    "requires_grad_",
    "set_extra_state",
    "set_submodule",
    "share_memory",
    "state_dict",
    "to",
    "to_empty",
    "train",
    "training",
    "type",
    "xpu",
    "zero_grad",
    "list",
    "slice",
    "min",
    "enumerate",
    "zip",
    "super",
    "tuple",
    "bool",
    "int",
)
_HEAD = '''"""{title}, exported from Caffe: ``Network`` takes {inputs} and gives {outputs}.

    net = Network()
    net.load_state_dict(torch.load("weights.pt"))
    net.eval()
"""
from math import inf, nan

import torch
from torch import nn
from torch.nn import functional
'''


def active(layer):
    """The function of onnx_model.TABLE for an ACU: a node that only this module knows."""
    if len(layer.bottoms) > 1:
        raise UserError(
            f"layer {layer.param.name} reads {len(layer.bottoms)} images, which a class whose positions learn does not: "
            "leave out --learnable"
        )
    rows, columns = geometry.axes(layer.param)
    own, weight = layer.param.active_convolution_param, layer.blobs[0]
    authors = layer.param.type == "AConvFast"
    bias = (
        [layer.constant(layer.blobs[1].ravel())]
        if layer.param.convolution_param.bias_term
        else [""]
    )
    x, y = (position.reshape(len(position), -1) for position in layer.blobs[2:])
    return [
        layer.op(
            "ActiveConv2d",
            layer.bottoms[0].name,
            layer.constant(weight.reshape(*weight.shape[:2], -1)),
            *bias,
            layer.constant(x),
            layer.constant(y),
            base=[rows.base, columns.base],
            span=[2 * axis.pad - axis.extent for axis in (rows, columns)],
            stride=[rows.stride, columns.stride],
            groups=layer.param.convolution_param.group,
            domain="active_convolution",
            normalize=int(layer.param.aconv_param.normalize if authors else own.normalize_gradient),
            fix_origin=int(authors or own.fix_origin),
        )
    ]


TABLE = {**onnx_model.TABLE, "ActiveConvolution": active, "AConvFast": active}


def write(folder, model):
    """Writes network.py and weights.pt of a ModelProto into ``folder``; returns their paths."""
    module = _Module(model.graph)
    with whole_file(folder / MODEL, encoding="utf-8") as file:
        file.write(module.text())
    with whole_file(folder / WEIGHTS, "wb") as file:
        torch_file.write(file, module.state)
    return [folder / MODEL, folder / WEIGHTS]


class _Module:
    """The text of a module, line by line, and its ``state``, {name: array}."""

    def __init__(self, graph):
        self.graph, self.state = graph, {}
        self._constants = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer
        }
        self._names = {"": "None"}
        self._taken = {
            "self",
            "torch",
            "nn",
            "functional",
            "inf",
            "nan",
            "inputs",
            "outputs",
            "Network",
            "ActiveConv2d",
            *_OF_MODULE,
        }
        self._made, self._run = [], []
        self._inputs = [self._name(value.name) for value in graph.input]
        for node in graph.node:
            self._add(node)

    def text(self):
        run = "\n".join(self._run)
        outputs = [value.name for value in self.graph.output]
        parts = [
            _HEAD.format(
                title=self.graph.name.replace("\\", "/").replace('"', "'"),
                inputs=", ".join(self._inputs),
                outputs=", ".join(map(self._name, outputs)),
            )
        ]
        everything = run + "\n".join(self._made)
        parts += [
            "\n" + text for name, text in HELPERS.items() if re.search(rf"\b{name}\(", everything)
        ]
        if "ActiveConv2d(" in everything:
            parts.append("\n\nclass" + _ACTIVE.read_text(encoding="utf-8").split("\nclass", 1)[1])
        answers = ", ".join(map(self._name, outputs))
        parts.append(
            f"""

class Network(nn.Module):
    inputs, outputs = {[value.name for value in self.graph.input]!r}, {outputs!r}

    def __init__(self):
        super().__init__()
"""
            + "\n".join(self._made)
            + f"""

    def forward(self, {", ".join(self._inputs)}):
{run}
        return {answers}
"""
        )
        return "".join(parts)

    # ---- Nodes

    def _add(self, node):
        own = {
            attribute.name: _plain(helper.get_attribute_value(attribute))
            for attribute in node.attribute
        }
        if node.op_type in ("Conv", "ConvTranspose"):
            value = self._convolution(node, own)
        elif node.op_type == "Gemm":
            value = self._linear(node, own)
        elif node.op_type == "BatchNormalization":
            value = self._batch_norm(node, own)
        elif node.op_type == "ActiveConv2d":
            value = self._active(node, own)
        elif node.op_type == "Dropout":
            made = self._member(node, f"nn.Dropout({float(self._constants[node.input[1]])!r})")
            value = f"{made}({self._name(node.input[0])})"
        elif node.op_type == "Split":
            value = f"torch.chunk({self._name(node.input[0])}, {len(node.output)}, {own['axis']})"
        else:
            value = OPERATORS[node.op_type](
                [self._argument(node, name) for name in node.input], own
            )
            if (
                node.op_type == "Div"
                and node.input[1] in self._constants
                and self._constants[node.input[1]].dtype == np.int64
            ):
                value = value.replace(" / ", " // ")
        self._run.append(f"        {', '.join(map(self._name, node.output))} = {value}")

    def _convolution(self, node, own):
        weight = self._constants[node.input[1]]
        axes, transposed = weight.ndim - 2, node.op_type == "ConvTranspose"
        channels = [weight.shape[0], weight.shape[1] * own["group"]]
        channels = channels if transposed else channels[::-1]
        sizes = [tuple(own[name]) for name in ("kernel_shape", "strides")] + [
            tuple(own["pads"][:axes])
        ]
        options = (
            f"dilation={tuple(own['dilations'])}, groups={own['group']}, bias={len(node.input) > 2}"
        )
        kind = f"nn.Conv{'Transpose' if transposed else ''}{axes}d"
        arguments = ", ".join(map(str, [*channels, *sizes]))
        return self._called(
            node, f"{kind}({arguments}, {options})", weight=weight, **self._bias(node)
        )

    def _linear(self, node, own):
        weight = self._constants[node.input[1]]
        weight = weight if own.get("transB") else np.ascontiguousarray(weight.T)
        made = f"nn.Linear({weight.shape[1]}, {weight.shape[0]}, bias={len(node.input) > 2})"
        return self._called(node, made, weight=weight, **self._bias(node))

    def _batch_norm(self, node, own):
        _, _, mean, variance = (self._constants[name] for name in node.input[1:])
        made = f"BatchNorm({len(mean)}, eps={own['epsilon']!r}, affine=False)"
        return self._called(
            node,
            made,
            running_mean=mean,
            running_var=variance,
            num_batches_tracked=np.zeros((), np.int64),
        )

    def _active(self, node, own):
        arrays = dict(
            zip(
                ("weight", "bias", "x", "y"), (self._constants.get(name) for name in node.input[1:])
            )
        )
        shapes = ", ".join(
            "None" if array is None else f"torch.zeros({array.shape})" for array in arrays.values()
        )
        own = {
            name: bool(value)
            if name in ("normalize", "fix_origin")
            else tuple(value)
            if isinstance(value, list)
            else value
            for name, value in own.items()
        }
        fixed = own["fix_origin"] & (arrays["x"] == 0) & (arrays["y"] == 0)
        moves = np.where(fixed, np.float32(0), np.float32(1))
        told = ("base", "span", "stride", "groups", "normalize", "fix_origin")
        options = ", ".join(f"{name}={own[name]!r}" for name in told)
        arrays = {name: array for name, array in arrays.items() if array is not None}
        return self._called(node, f"ActiveConv2d({shapes}, {options})", moves=moves, **arrays)

    def _bias(self, node):
        return {"bias": self._constants[node.input[2]]} if len(node.input) > 2 else {}

    def _called(self, node, made, **state):
        return f"{self._member(node, made, **state)}({self._name(node.input[0])})"

    def _member(self, node, made, **state):
        """Makes an attribute of the module for ``node``, with these arrays as its state."""
        name = self._fresh(node.name.split("::")[0])
        self._made.append(f"        self.{name} = {made}")
        self.state.update({f"{name}.{key}": array for key, array in state.items()})
        return f"self.{name}"

    # ---- Names

    def _argument(self, node, name):
        """An input in an expression: a number or a list where it is a small constant, else a parameter or a
        variable."""
        array = self._constants.get(name)
        if array is None:
            return self._name(name)
        if array.dtype == np.int64:
            listed = node.op_type not in ("Add", "Sub", "Mul", "Div", "Concat")
            return repr(array.tolist()) if listed else f"torch.tensor({array.tolist()})"
        if array.ndim == 0:
            if node.op_type in (
                "Max",
                "Pow",
                "Clip",
                "Add",
                "Sub",
                "Mul",
                "Div",
                "Greater",
                "PRelu",
            ):
                return repr(float(array))
        if node.op_type == "Resize":
            return f"torch.tensor({array.tolist()})"
        if name not in self._names:
            self._names[name] = f"self.{self._fresh(name.split('::')[0])}"
            self._made.append(
                f"        {self._names[name]} = nn.Parameter(torch.zeros({array.shape}))"
            )
            self.state[self._names[name].removeprefix("self.")] = array
        return self._names[name]

    def _name(self, value):
        if value not in self._names:
            self._names[value] = self._fresh(value.split("::")[0])
        return self._names[value]

    def _fresh(self, name):
        """A Python identifier like ``name`` that nothing else has. One that begins with _ may be nn.Module's own, or Python's."""
        name = re.sub(r"\W", "_", name, flags=re.ASCII).lstrip("_") or "x"
        name = f"_{name}" if name[0].isdigit() or keyword.iskeyword(name) else name
        fresh, count = name, 1
        while fresh in self._taken:
            count += 1
            fresh = f"{name}_{count}"
        self._taken.add(fresh)
        return fresh


def _plain(value):
    return (
        value.decode()
        if isinstance(value, bytes)
        else list(value)
        if not isinstance(value, (int, float, str))
        else value
    )
