"""ONNX operators as expressions of PyTorch: one function for each, from the texts of its inputs and its attributes.

HELPERS are functions that the expressions call by name, written out into a module that needs them.
"""

HELPERS = {
    "_reshaped": '''
def _reshaped(x, sizes):
    """ONNX's Reshape: 0 keeps an axis."""
    sizes = sizes.tolist() if torch.is_tensor(sizes) else sizes
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)])
''',
    "_cut": '''
def _cut(x, starts, ends, axes, steps=None):
    """x from starts to ends along axes; a step of -1 turns it round."""
    ends = ends.tolist() if torch.is_tensor(ends) else ends
    if steps:
        return x.flip(axes)
    parts = [slice(None)] * x.dim()
    for start, end, axis in zip(starts, ends, axes):
        parts[axis] = slice(start, min(end, x.shape[axis]))
    return x[tuple(parts)]
''',
    "_max_pool": '''
def _max_pool(x, kernel, stride, pads):
    """Over windows that reach ``pads`` (left, right, top, bottom) pixels beyond the image."""
    return functional.max_pool2d(functional.pad(x, pads, value=-inf), kernel, stride)
''',
    "_mean_pool": '''
def _mean_pool(x, kernel, stride, pads):
    """The mean of what windows find within x; they reach ``pads`` beyond it."""
    seen = functional.pad(torch.ones_like(x[:1, :1]), pads)
    return (functional.avg_pool2d(functional.pad(x, pads), kernel, stride)
            / functional.avg_pool2d(seen, kernel, stride))
''',
    "_last_argmax": '''
def _last_argmax(x, axis):
    """Where the largest value is; of equals the last."""
    return x.shape[axis] - 1 - x.flip(axis).argmax(axis, keepdim=True)
''',
    "_unsqueezed": """
def _unsqueezed(x, axes):
    for axis in axes:
        x = x.unsqueeze(axis)
    return x
""",
    "BatchNorm": '''
class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Of any number of axes."""

    def _check_input_dim(self, x):
        pass
''',
}


def _call(function, *names):
    """For an operator that is a function of its inputs, and of the attributes called ``names``."""
    return lambda inputs, own: (
        f"{function}({', '.join([*inputs, *(repr(own[name]) for name in names)])})"
    )


def _between(sign):
    return lambda inputs, own: f"{inputs[0]} {sign} {inputs[1]}"


def _reduced(function):
    """Over the axes of the attribute, or of the second input."""

    def expression(inputs, own):
        axes = own["axes"] if "axes" in own else inputs[1]
        return f"{inputs[0]}.{function}({axes}, keepdim={bool(own.get('keepdims', 1))})"

    return expression


def _pads(own):
    """ONNX's (top, left, bottom, right) as PyTorch has them."""
    top, left, bottom, right = own.get("pads", [0] * 4)
    return left, right, top, bottom


def _max_pool(inputs, own):
    return f"_max_pool({inputs[0]}, {own['kernel_shape']}, {own['strides']}, {_pads(own)})"


def _average_pool(inputs, own):
    if own["count_include_pad"]:
        padded = f"functional.pad({inputs[0]}, {_pads(own)})" if any(own["pads"]) else inputs[0]
        return f"functional.avg_pool2d({padded}, {own['kernel_shape']}, {own['strides']})"
    return f"_mean_pool({inputs[0]}, {own['kernel_shape']}, {own['strides']}, {_pads(own)})"


def _resize(inputs, own):
    how = "'nearest'" if own["mode"] == "nearest" else "'bilinear', align_corners=True"
    if len(inputs) == 4:
        return f"functional.interpolate({inputs[0]}, {inputs[3]}[2:].tolist(), mode={how})"
    return f"functional.interpolate({inputs[0]}, scale_factor={inputs[2]}[2:].tolist(), mode={how})"


def _pad(inputs, own):
    """Caffe's own pad, equal on both sides: [0, 0, vertical, horizontal] twice."""
    return f"functional.pad({inputs[0]}, [{inputs[1]}[3]] * 2 + [{inputs[1]}[2]] * 2)"


OPERATORS = {
    "Abs": _call("torch.abs"),
    "Add": _between("+"),
    "Sub": _between("-"),
    "Mul": _between("*"),
    "Greater": _between(">"),
    "Div": lambda inputs, own: f"{inputs[0]} / {inputs[1]}",
    "Max": _call("torch.maximum"),
    "MatMul": _between("@"),
    "Pow": _call("torch.pow"),
    "Relu": _call("torch.relu"),
    "LeakyRelu": _call("functional.leaky_relu", "alpha"),
    "Elu": _call("functional.elu", "alpha"),
    "Sigmoid": _call("torch.sigmoid"),
    "Tanh": _call("torch.tanh"),
    "Exp": _call("torch.exp"),
    "Log": _call("torch.log"),
    "Sqrt": _call("torch.sqrt"),
    "Softplus": _call("functional.softplus"),
    "Clip": _call("torch.clamp"),
    "Identity": lambda inputs, own: inputs[0],
    "PRelu": lambda inputs, own: (
        f"torch.where({inputs[0]} > 0, {inputs[0]}, {inputs[0]} * {inputs[1]})"
    ),
    "Cast": lambda inputs, own: f"{inputs[0]}.{'long' if own['to'] == 7 else 'float'}()",
    "Softmax": _call("torch.softmax", "axis"),
    "LRN": lambda inputs, own: (
        f"functional.local_response_norm({inputs[0]}, {own['size']}, {own['alpha']!r}, "
        f"{own['beta']!r}, {own['bias']!r})"
    ),
    "ReduceMean": _reduced("mean"),
    "ReduceSum": _reduced("sum"),
    "ReduceMax": _reduced("amax"),
    "Concat": lambda inputs, own: f"torch.cat([{', '.join(inputs)}], {own['axis']})",
    "Slice": lambda inputs, own: (
        f"_cut({', '.join(inputs)})"
        if len(inputs) > 3
        else f"{inputs[0]}[{inputs[1]}[0]:{inputs[2]}[0]]"
    ),
    "Shape": lambda inputs, own: f"torch.tensor({inputs[0]}.shape)",
    "Flatten": lambda inputs, own: f"torch.flatten({inputs[0]}, {own['axis']})",
    "Reshape": _call("_reshaped"),
    "Transpose": _call("torch.permute", "perm"),
    "Unsqueeze": _call("_unsqueezed"),
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda inputs, own: f"{inputs[0]}.mean((2, 3), keepdim=True)",
    "GlobalMaxPool": lambda inputs, own: f"{inputs[0]}.amax((2, 3), keepdim=True)",
    "Pad": _pad,
    "Tile": lambda inputs, own: f"{inputs[0]}.repeat({inputs[1]})",
    "Gather": lambda inputs, own: f"{inputs[0]}[{inputs[1]}]",
    "ArgMax": _call("_last_argmax", "axis"),
    "TopK": lambda inputs, own: f"torch.topk({inputs[0]}, {inputs[1]}[0], {own['axis']})",
    "Resize": _resize,
}
# "Split" needs the number of its outputs, and stands with the operators that have weights in torch_module.
