"""A network as a Python module for PyTorch and its weights, from the graph that the ONNX export
makes.

Convolutions, fully connected layers and normalisations become PyTorch's own modules, other weights
parameters; ActiveConv2d takes the place of an ACU whose positions are to go on learning.
"""

import ast
import keyword
import re
from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper

from .. import geometry
from ..errors import UserError
from ..files import whole_file
from . import onnx_model

MODEL, WEIGHTS = "network.py", "weights.npz"
_PARTS = Path(__file__).with_name("torch_parts.py")
# What the module itself, nn.Module and Python call so.
_TAKEN = """self torch nn functional inf nan numpy Path inputs outputs Network load preprocess
classes file add_module apply bfloat16 buffers call_super_init children compile cpu cuda double
dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu
load_state_dict modules mtia named_buffers named_children named_modules named_parameters
parameters register_buffer register_forward_hook register_module register_parameter requires_grad_
set_extra_state set_submodule share_memory state_dict to to_empty train training type xpu
zero_grad list slice min enumerate zip super tuple bool int ActiveConv2d BatchNorm reshaped cut
max_pool mean_pool last_argmax unsqueezed prepared resampling middle"""
_HEAD = '''"""{title}, exported from Caffe: ``Network`` takes {inputs} and gives {outputs}.

    net = network.load()  # with its weights, for testing
"""
from math import inf, nan
from pathlib import Path

import numpy
import torch
from torch import nn
from torch.nn import functional
'''
_LOAD = '''

def load(weights=Path(__file__).with_name("weights.npz")):
    """The Network with its trained weights, for testing."""
    net = Network()
    with numpy.load(weights, allow_pickle=False) as arrays:
        net.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays.files})
    return net.eval()
'''


def _active(layer):
    """As the functions of onnx_model.TABLE, for an ACU: a node that only this module knows."""
    if len(layer.bottoms) > 1:
        raise UserError(
            f"layer {layer.param.name} reads {len(layer.bottoms)} images, which a class whose "
            f"positions learn does not: leave out --learnable"
        )
    axes, param = geometry.axes(layer.param), layer.param.convolution_param
    own, authors = layer.param.active_convolution_param, layer.param.type == "AConvFast"
    weight, bias, x, y = layer.blobs
    arrays = [weight.reshape(*weight.shape[:2], -1), bias.ravel() if param.bias_term else None]
    arrays += [position.reshape(len(position), -1) for position in (x, y)]
    names = ["" if array is None else layer.constant(array) for array in arrays]
    options = dict(
        base=[axis.base for axis in axes],
        span=[2 * axis.pad - axis.extent for axis in axes],
        stride=[axis.stride for axis in axes],
        groups=param.group,
        normalize=int(layer.param.aconv_param.normalize if authors else own.normalize_gradient),
        fixed=int(authors or own.fix_origin),
    )
    return layer.op("ActiveConv2d", layer.bottom, *names, **options)


TABLE = {**onnx_model.TABLE, "ActiveConvolution": _active, "AConvFast": _active}


def write(folder, model, more=""):
    """Writes network.py, which ends with the text ``more``, and weights.npz of a ModelProto into
    ``folder``; returns their paths."""
    module = _Module(model.graph)
    with whole_file(folder / MODEL) as file:
        file.write(module.text(_LOAD + more))
    with whole_file(folder / WEIGHTS, "wb") as file:
        np.savez(file, **module.state)
    return [folder / MODEL, folder / WEIGHTS]


class _Module:
    """The text of a module, line by line, and its ``state``, {name: array}."""

    def __init__(self, graph):
        self.graph, self.state = graph, {}
        self._constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self._names, self._taken = {"": "None"}, set(_TAKEN.split())
        self._made, self._run = [], []
        self._inputs = [self._name(value.name) for value in graph.input]
        for node in graph.node:
            self._add(node)

    def text(self, more):
        """``more`` stands behind it, and may call the parts, too."""
        outputs = [value.name for value in self.graph.output]
        body = "\n".join(self._run)
        answers = ", ".join(map(self._name, outputs))
        title = self.graph.name.replace("\\", "/").replace('"', "'")
        inputs = ", ".join(self._inputs)
        head = _HEAD.format(title=title, inputs=inputs, outputs=answers)
        source, called = _PARTS.read_text(encoding="utf-8"), "\n".join([body, *self._made, more])
        for part in ast.parse(source).body:
            if re.search(rf"\b{getattr(part, 'name', '!')}\(", called):
                own = ast.get_source_segment(source, part)
                head, called = f"{head}\n\n{own}\n", called + own  # which calls later ones
        return f"""{head}

class Network(nn.Module):
    inputs, outputs = {[value.name for value in self.graph.input]!r}, {outputs!r}

    def __init__(self):
        super().__init__()
{chr(10).join(self._made)}

    def forward(self, {inputs}):
{body}
        return {answers}
{more}"""

    # ---- Nodes

    def _add(self, node):
        own = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        own = {
            name: list(value) if hasattr(value, "extend") else value for name, value in own.items()
        }
        if node.op_type in _MODULES:
            made, state = _MODULES[node.op_type](*map(self._constants.get, node.input[1:]), **own)
            value = f"{self._member(node, made, state)}({self._name(node.input[0])})"
        elif node.op_type == "Split":
            value = f"torch.chunk({self._name(node.input[0])}, {len(node.output)}, {own['axis']})"
        else:
            inputs = [self._argument(node, name) for name in node.input]
            value = _OPERATORS[node.op_type](inputs, own)
        self._run.append(f"        {', '.join(map(self._name, node.output))} = {value}")

    def _member(self, node, made, state):
        """Makes an attribute of the module for ``node``, with these arrays as its state."""
        name = self._fresh(node.name.split("::")[0])
        self._made.append(f"        self.{name} = {made}")
        self.state.update({f"{name}.{key}": a for key, a in state.items() if a is not None})
        return f"self.{name}"

    # ---- Names

    def _argument(self, node, name):
        """An input in an expression: a number or a list where it is a small constant, else a
        parameter or a variable."""
        array = self._constants.get(name)
        if array is None:
            return self._name(name)
        if array.dtype == np.int64:
            listed = node.op_type not in ("Add", "Sub", "Concat")
            return repr(array.tolist()) if listed else f"torch.tensor({array.tolist()})"
        if array.ndim == 0:
            return repr(float(array))
        if name not in self._names:
            self._names[name] = f"self.{self._fresh(name.split('::')[0])}"
            zeros = f"nn.Parameter(torch.zeros({array.shape}))"
            self._made.append(f"        {self._names[name]} = {zeros}")
            self.state[self._names[name].removeprefix("self.")] = array
        return self._names[name]

    def _name(self, value):
        if value not in self._names:
            self._names[value] = self._fresh(value.split("::")[0])
        return self._names[value]

    def _fresh(self, name):
        """A Python identifier like ``name`` that nothing else has. One that begins with _ may be
        nn.Module's own, or Python's."""
        name = re.sub(r"\W", "_", name, flags=re.ASCII).lstrip("_") or "x"
        name = f"_{name}" if name[0].isdigit() or keyword.iskeyword(name) else name
        fresh, count = name, 1
        while fresh in self._taken:
            count += 1
            fresh = f"{name}_{count}"
        self._taken.add(fresh)
        return fresh


# ---- ONNX operators that become modules: (text that makes it, {name in its state: array})


def _convolution(weight, bias=None, *, kernel_shape, strides, pads, dilations, group, kind="Conv"):
    axes = weight.ndim - 2
    channels = weight.shape[1] * group, weight.shape[0]
    channels = channels if kind == "Conv" else channels[::-1]
    sizes = [tuple(kernel_shape), tuple(strides), tuple(pads[:axes])]
    arguments = ", ".join(map(str, [*channels, *sizes]))
    options = f"dilation={tuple(dilations)}, groups={group}, bias={bias is not None}"
    return f"nn.{kind}{axes}d({arguments}, {options})", {"weight": weight, "bias": bias}


def _linear(weight, bias=None, *, transB):
    weight = weight if transB else np.ascontiguousarray(weight.T)
    made = f"nn.Linear({weight.shape[1]}, {weight.shape[0]}, bias={bias is not None})"
    return made, {"weight": weight, "bias": bias}


def _batch_norm(_, __, mean, variance, *, epsilon):
    state = {"running_mean": mean, "running_var": variance, "num_batches_tracked": np.int64(0)}
    return f"BatchNorm({len(mean)}, eps={epsilon!r}, affine=False)", state


def _active_convolution(weight, bias, x, y, **own):
    own = {name: tuple(value) if isinstance(value, list) else value for name, value in own.items()}
    at_origin = own.pop("fixed") & (x == 0) & (y == 0)
    arrays = {"weight": weight, "bias": bias, "x": x, "y": y}
    zeros = ["None" if a is None else f"torch.zeros({a.shape})" for a in arrays.values()]
    options = [f"{name}={value!r}" for name, value in own.items()]
    made = f"ActiveConv2d({', '.join(zeros + options)})"
    return made, {**arrays, "moves": np.float32(~at_origin)}


_MODULES = {
    "Conv": _convolution,
    "ConvTranspose": lambda *arrays, **own: _convolution(*arrays, **own, kind="ConvTranspose"),
    "Gemm": _linear,
    "BatchNormalization": _batch_norm,
    "ActiveConv2d": _active_convolution,
    "Dropout": lambda ratio: (f"nn.Dropout({float(ratio)!r})", {}),
}

# ---- ... and those that are expressions, of the texts of their inputs and their attributes


def _pads(own):
    """ONNX's (top, left, bottom, right) as PyTorch has them."""
    top, left, bottom, right = own["pads"]
    return left, right, top, bottom


def _average_pool(inputs, own):
    window = f"{own['kernel_shape']}, {own['strides']}"
    if own["count_include_pad"]:
        return f"functional.avg_pool2d(functional.pad({inputs[0]}, {_pads(own)}), {window})"
    return f"mean_pool({inputs[0]}, {window}, {_pads(own)})"


def _reduced(inputs, own, function):
    """Over the axes of the attribute, or of the second input."""
    axes = own["axes"] if "axes" in own else inputs[1]
    return f"{inputs[0]}.{function}({axes}, keepdim={bool(own['keepdims'])})"


# {i}: the inputs, each; {all}: with commas between them; {o[…]}: an attribute
_PATTERNS = {
    **{
        kind: f"{{i[0]}} {sign} {{i[1]}}"
        for kind, sign in zip(("Add", "Sub", "Mul", "Div", "MatMul", "Greater"), "+-*/@>")
    },
    **dict(Abs="torch.abs({all})", Relu="torch.relu({all})", Sigmoid="torch.sigmoid({all})"),
    **dict(Tanh="torch.tanh({all})", Exp="torch.exp({all})", Log="torch.log({all})"),
    **dict(Sqrt="torch.sqrt({all})", Softplus="functional.softplus({all})", Identity="{all}"),
    **dict(Max="torch.maximum({all})", Pow="torch.pow({all})", Clip="torch.clamp({all})"),
    "Elu": "functional.elu({all}, {o[alpha]!r})",
    "LeakyRelu": "functional.leaky_relu({all}, {o[alpha]!r})",
    "PRelu": "torch.where({i[0]} > 0, {i[0]}, {i[0]} * {i[1]})",
    "Softmax": "torch.softmax({all}, {o[axis]})",
    "LRN": "functional.local_response_norm({all}, {o[size]}, {o[alpha]}, {o[beta]}, {o[bias]})",
    "Shape": "torch.tensor({all}.shape)",
    "Flatten": "torch.flatten({all}, {o[axis]})",
    "Reshape": "reshaped({all})",
    "Transpose": "torch.permute({all}, {o[perm]})",
    "Unsqueeze": "unsqueezed({all})",
    "GlobalAveragePool": "{all}.mean((2, 3), keepdim=True)",
    "GlobalMaxPool": "{all}.amax((2, 3), keepdim=True)",
    # Caffe's own pad, equal on both sides: [0, 0, vertical, horizontal] twice
    "Pad": "functional.pad({i[0]}, [{i[1]}[3]] * 2 + [{i[1]}[2]] * 2)",
    "Tile": "{i[0]}.repeat({i[1]})",
    "Gather": "{i[0]}[{i[1]}]",
    "ArgMax": "last_argmax({all}, {o[axis]})",
    "TopK": "torch.topk({i[0]}, {i[1]}[0], {o[axis]})",
}
_OPERATORS = {
    **{
        kind: lambda inputs, own, pattern=pattern: pattern.format(
            i=inputs, all=", ".join(inputs), o=own
        )
        for kind, pattern in _PATTERNS.items()
    },
    "AveragePool": _average_pool,
    "MaxPool": lambda inputs, own: (
        f"max_pool({inputs[0]}, {own['kernel_shape']}, {own['strides']}, {_pads(own)})"
    ),
    "ReduceMean": lambda inputs, own: _reduced(inputs, own, "mean"),
    "ReduceSum": lambda inputs, own: _reduced(inputs, own, "sum"),
    "ReduceMax": lambda inputs, own: _reduced(inputs, own, "amax"),
    "Cast": lambda inputs, own: f"{inputs[0]}.{'long' if own['to'] == 7 else 'float'}()",
    "Concat": lambda inputs, own: f"torch.cat([{', '.join(inputs)}], {own['axis']})",
    "Slice": lambda inputs, own: (
        f"cut({', '.join(inputs)})"
        if len(inputs) > 3
        else f"{inputs[0]}[{inputs[1]}[0]:{inputs[2]}[0]]"
    ),
}
