"""How many axes the blobs of a network have, as far as its prototxt tells: no data, no weights, no Caffe."""

_IMAGES = (
    "Data",
    "ImageData",
    "MemoryData",
    "WindowData",
)  # num × channels × height × width, then labels
_SAME = (  # as many as the first bottom's
    "AbsVal",
    "BatchNorm",
    "BatchReindex",
    "Bias",
    "BNLL",
    "Clip",
    "Concat",
    "Convolution",
    "ActiveConvolution",
    "Crop",
    "Deconvolution",
    "Dropout",
    "Eltwise",
    "ELU",
    "Exp",
    "Log",
    "LRN",
    "MVN",
    "Normalize",
    "Permute",
    "Pooling",
    "Power",
    "PReLU",
    "ReLU",
    "Scale",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Split",
    "Swish",
    "TanH",
    "Threshold",
    "Tile",
)


def counted(net):
    """{name of a layer: number of axes of its first bottom} of the layers of a NetParameter where that is known."""
    known = dict(
        zip(
            net.input,
            [len(shape.dim) for shape in net.input_shape] or [4] * (len(net.input_dim) // 4),
        )
    )
    found = {}
    for layer in net.layer:
        bottom = known.get(layer.bottom[0]) if layer.bottom else None
        if bottom is not None:
            found[layer.name] = bottom
        for index, top in enumerate(layer.top):
            known[top] = _of_top(layer, bottom, index)
    return found


def _of_top(layer, bottom, index):
    """The number of axes of a top; None where it is not known."""
    if layer.type in ("Input", "DummyData"):
        shapes = (layer.input_param if layer.type == "Input" else layer.dummy_data_param).shape
        if not shapes:
            return 4 if layer.type == "DummyData" else None
        index = index if len(shapes) > 1 else 0
        return len(shapes[index].dim) if index < len(shapes) else None
    if layer.type in _IMAGES:
        return 4 if index == 0 else 1
    if bottom is None:
        return None
    if layer.type in _SAME:
        return bottom
    if layer.type == "InnerProduct":
        return _front(layer.inner_product_param.axis, bottom) + 1
    if layer.type == "Flatten":
        own = layer.flatten_param
        return bottom - (_front(own.end_axis, bottom) - _front(own.axis, bottom))
    if layer.type == "Reshape":
        own = layer.reshape_param
        first = own.axis if own.axis >= 0 else own.axis + bottom + 1
        replaced = bottom - first if own.num_axes == -1 else own.num_axes
        return bottom - replaced + len(own.shape.dim)
    return bottom + 1 if layer.type == "Embed" else None


def _front(axis, count):
    return axis % count if count else 0
