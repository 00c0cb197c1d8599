"""A network as a Python module for PyTorch and its weights, from the graph that the ONNX export
makes: the text of torch_network.py, with the network's own tables."""

from pathlib import Path
from pprint import pformat

import numpy as np
from onnx import helper, numpy_helper

from .. import geometry
from ..errors import UserError
from ..files import whole_file
from . import onnx_model

MODEL, WEIGHTS = "network.py", "weights.npz"
_SOURCE = Path(__file__).with_name("torch_network.py")
_STATE = {  # the names that a module's state has for an operator's constants, its further inputs
    "ActiveConv2d": ("weight", "bias", "x", "y"),
    "BatchNormalization": (None, None, "running_mean", "running_var"),
    "Conv": ("weight", "bias"),
    "ConvTranspose": ("weight", "bias"),
    "Gemm": ("weight", "bias"),
}


def _active(layer):
    """As the functions of onnx_model.TABLE, for an ACU: a node that only this module knows."""
    if len(layer.bottoms) > 1:
        raise UserError(
            f"layer {layer.param.name} reads {len(layer.bottoms)} images, which a class whose "
            "positions learn does not: leave out --learnable"
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


def write(folder, model, prepared=None):
    """Writes network.py and weights.npz of a ModelProto into ``folder``; returns their paths.
    ``prepared`` is what training.imaging says of its images."""
    layers, state = _layers(model.graph)
    inputs, outputs = ([each.name for each in of] for of in (model.graph.input, model.graph.output))
    text = _SOURCE.read_text(encoding="utf-8")
    title = (model.graph.name or "A network").replace("\\", "/").replace('"', "'")
    about = f'"""{title}, exported from Caffe: ``load()`` gives the Network."""'
    text = about + text.split('"""', 2)[2]
    tables = {"INPUTS, OUTPUTS = [], []": f"INPUTS, OUTPUTS = {inputs!r}, {outputs!r}"}
    tables["LAYERS = []"] = f"LAYERS = {pformat(layers, width=100, compact=True, sort_dicts=False)}"
    if prepared:
        content = dict(prepared[0])
        classes = content.pop("classes")
        how = {
            name: content[name]
            for name in content
            if name not in ("whitening", "channel_order_known")
        }
        tables["classes, HOW = None, {}"] = f"classes, HOW = {classes!r}, {how!r}"
    else:
        text = text.split("\n# ---- Preprocessing")[0]
    for placeholder, own in tables.items():
        text = text.replace(placeholder, own, 1)
    with whole_file(folder / MODEL) as file:
        file.write(text)
    with whole_file(folder / WEIGHTS, "wb") as file:
        np.savez(file, **state)
    return [folder / MODEL, folder / WEIGHTS]


def _layers(graph):
    """(the table LAYERS of torch_network for an ONNX graph, the state of its Network, {name:
    array})."""
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    layers, state, taken = [], {}, set()

    def add(name, kind, inputs, outputs, own, arrays):
        base, count = name.split("::")[0], 1
        name = base
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name)
        state.update({f"layers.{name}.{key}": array for key, array in arrays.items()})
        shapes = {key: tuple(array.shape) for key, array in arrays.items()}
        layers.append((name, kind, inputs, outputs, own, shapes))

    for node in graph.node:
        own = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        own = {
            key: list(value) if hasattr(value, "extend") else value for key, value in own.items()
        }
        inputs, arrays = list(node.input), {}
        if node.op_type in _STATE:
            named = zip(_STATE[node.op_type], node.input[1:])
            arrays = {key: constants[name] for key, name in named if key and name}
            inputs = inputs[:1]
            if node.op_type == "BatchNormalization":
                arrays["num_batches_tracked"] = np.int64(0)
            if node.op_type == "Gemm" and not own.pop("transB"):
                arrays["weight"] = np.ascontiguousarray(arrays["weight"].T)
            if node.op_type == "ActiveConv2d":
                at_origin = bool(own["fixed"]) & (arrays["x"] == 0) & (arrays["y"] == 0)
                arrays["moves"] = np.float32(~at_origin)
        elif node.op_type == "Split":
            own["parts"] = len(node.output)
        elif node.op_type == "Dropout":
            inputs, own = inputs[:1], {"p": float(constants[node.input[1]])}
        for index, name in enumerate(inputs):
            array = constants.get(name)
            if array is not None and (array.dtype == np.int64 or array.ndim == 0):
                inputs[index] = array.tolist()
            elif array is not None:
                add(name, "Constant", [], [name], {}, {"value": array})
        add(node.name, node.op_type, inputs, list(node.output), own, arrays)
    return layers, state
