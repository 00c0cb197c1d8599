"""Caffe's layers that pool, resize, join, cut and reorder: one function per layer type."""

import numpy as np

_END = 2**31 - 1  # of an axis, whatever its size


# ---- Pooling


def pooling(layer):
    own, bottom = layer.param.pooling_param, layer.bottoms[0]
    if own.pool == own.STOCHASTIC:
        layer.refuse("Caffe's CPU code has no stochastic pooling for a trained network")
    if len(layer.tops) > 1:
        layer.refuse("its second top, the places of the maxima, counts otherwise in ONNX")
    kind = "MaxPool" if own.pool == own.MAX else "AveragePool"
    if own.global_pooling:
        return [layer.op(f"Global{kind}", bottom.name)]
    windows = [_window(own, axis) for axis in ("h", "w")]
    sizes = [
        (size + pad + end - kernel) // stride + 1
        for size, (kernel, stride, pad, end) in zip(bottom.shape[2:], windows)
    ]
    if tuple(sizes) != layer.tops[0][2:]:
        layer.refuse("with a stride larger than its kernel, its last windows lie beyond the image")
    kernel, stride, pad, end = (list(of_axes) for of_axes in zip(*windows))
    shape = dict(kernel_shape=kernel, strides=stride)
    if own.pool == own.MAX:
        return [layer.op(kind, bottom.name, pads=pad + end, **shape)]
    if end == pad:
        return [layer.op(kind, bottom.name, pads=pad + pad, count_include_pad=1, **shape)]
    value = bottom.name
    if any(pad):  # Caffe counts its own pad in the mean, and nothing that lies beyond
        value = layer.op("Pad", value, layer.integers([0, 0, *pad] * 2))
    return [
        layer.op(
            kind, value, pads=[0, 0, *np.subtract(end, pad).tolist()], count_include_pad=0, **shape
        )
    ]


def _window(own, axis):
    """(kernel, stride, pad before, pad behind) of an axis, so that a count that rounds down gives as many windows as
    Caffe has, for any size. Caffe rounds up, which is stride − 1 more pixels behind, and with a pad drops a window that
    starts beyond image and pad, so that kernel − 1 pixels are the most that lie behind."""
    kernel = getattr(own, f"kernel_{axis}") if own.HasField(f"kernel_{axis}") else own.kernel_size
    stride = getattr(own, f"stride_{axis}") if own.HasField(f"stride_{axis}") else own.stride
    pad = getattr(own, f"pad_{axis}") if own.HasField(f"pad_{axis}") else own.pad
    rounded = 0 if own.round_mode == own.FLOOR else stride - 1
    return kernel, stride, pad, min(pad + rounded, kernel - 1)


# ---- Sizes


def interp(layer):
    """DeepLab's and PSPNet's: crop, then bilinear between corners that stay."""
    own, bottom = layer.param.interp_param, layer.bottoms[0]
    value, crop = bottom.name, (own.pad_beg, own.pad_end)
    if any(crop):
        starts, ends = [-crop[0]] * 2, [crop[1] or _END] * 2
        value = layer.op("Slice", value, *map(layer.integers, (starts, ends, [2, 3])))
    sizes = layer.tops[0][2:]
    if not (bottom.fixed(2) and bottom.fixed(3)) and not own.height:
        sizes = layer.size(
            bottom, (2, 3)
        )  # (((H + crop) − 1) / shrink)·zoom + 1 is Caffe's way of both
        sizes = layer.op("Add", sizes, layer.integers([sum(crop) - 1]))
        sizes = layer.op("Div", sizes, layer.integers([own.shrink_factor]))
        sizes = layer.op(
            "Add", layer.op("Mul", sizes, layer.integers([own.zoom_factor])), layer.integers([1])
        )
    else:
        sizes = layer.integers(sizes)
    return [
        _resized(layer, value, sizes, mode="linear", coordinate_transformation_mode="align_corners")
    ]


def _resized(layer, value, sizes, **how):
    head = layer.op("Slice", layer.op("Shape", value), *map(layer.integers, ([0], [2])))
    return layer.op("Resize", value, "", "", layer.op("Concat", head, sizes, axis=0), **how)


def upsample(layer):
    """Each pixel several times; SegNet's, which undoes a pooling by its mask, has no equal."""
    if len(layer.bottoms) > 1:
        layer.refuse("it undoes a pooling by its mask")
    scales = np.divide(layer.tops[0], layer.bottoms[0].shape)
    return [
        layer.op(
            "Resize",
            layer.bottoms[0].name,
            "",
            layer.constant(scales),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
    ]


def crop(layer):
    """To the size of the second bottom from ``axis`` on, after ``offset`` pixels."""
    own, (bottom, reference) = layer.param.crop_param, layer.bottoms
    axes = range(bottom.axis(own.axis), len(bottom.shape))
    offsets = list(own.offset) or [0]
    offsets = offsets * len(axes) if len(offsets) == 1 else offsets
    ends = layer.size(reference, axes)
    if any(offsets) and not all(map(reference.fixed, axes)):
        ends = layer.op("Add", ends, layer.integers(offsets))
    elif any(offsets):
        ends = layer.integers(
            [reference.shape[axis] + offset for axis, offset in zip(axes, offsets)]
        )
    return [
        layer.op("Slice", bottom.name, layer.integers(offsets), ends, layer.integers(list(axes)))
    ]


def tile(layer):
    own, bottom = layer.param.tile_param, layer.bottoms[0]
    repeats = [1] * len(bottom.shape)
    repeats[bottom.axis(own.axis)] = own.tiles
    return [layer.op("Tile", bottom.name, layer.integers(repeats))]


# ---- Order


def concat(layer):
    own = layer.param.concat_param
    axis = own.concat_dim if own.HasField("concat_dim") else own.axis
    return [
        layer.op(
            "Concat", *[bottom.name for bottom in layer.bottoms], axis=layer.bottoms[0].axis(axis)
        )
    ]


def slices(layer):
    own, bottom = layer.param.slice_param, layer.bottoms[0]
    axis = bottom.axis(own.slice_dim if own.HasField("slice_dim") else own.axis)
    count = len(layer.tops)
    if count == 1:
        return [bottom.name]
    if not own.slice_point:
        return layer.op("Split", bottom.name, axis=axis, outputs=count)
    points = [0, *own.slice_point, _END]
    return [
        layer.op("Slice", bottom.name, *map(layer.integers, ([first], [last], [axis])))
        for first, last in zip(points, points[1:])
    ]


def permute(layer):
    order = list(layer.param.permute_param.order)
    order += [axis for axis in range(len(layer.bottoms[0].shape)) if axis not in order]
    return [layer.op("Transpose", layer.bottoms[0].name, perm=order)]


def shuffle_channel(layer):
    """Channel i of group g becomes channel g of group i."""
    group, bottom = layer.param.shuffle_channel_param.group, layer.bottoms[0]
    apart = layer.op(
        "Reshape", bottom.name, layer.integers([0, group, bottom.shape[1] // group, -1])
    )
    turned = layer.op("Transpose", apart, perm=[0, 2, 1, 3])
    return [_reshaped(layer, turned, layer.tops[0], bottom)]


def flatten(layer):
    own, bottom = layer.param.flatten_param, layer.bottoms[0]
    first, last = bottom.axis(own.axis), bottom.axis(own.end_axis)
    if first == 1 and last == len(bottom.shape) - 1:
        return [layer.op("Flatten", bottom.name, axis=1)]
    return [layer.op("Reshape", bottom.name, _dims(layer, [0] * first + [-1], last + 1))]


def reshape(layer):
    own, bottom = layer.param.reshape_param, layer.bottoms[0]
    first = own.axis if own.axis >= 0 else own.axis + len(bottom.shape) + 1
    last = len(bottom.shape) if own.num_axes == -1 else first + own.num_axes
    middle = list(own.shape.dim)  # 0 copies an axis, −1 is what remains: ONNX's are the same
    return [layer.op("Reshape", bottom.name, _dims(layer, [0] * first + middle, last))]


def _dims(layer, head, axis):
    """The sizes for a Reshape: ``head``, then those of the bottom's axes from ``axis`` on."""
    bottom = layer.bottoms[0]
    rest = range(axis, len(bottom.shape))
    if axis == len(head) or not rest:
        return layer.integers(head + [0] * len(rest))
    if all(map(bottom.fixed, rest)):
        return layer.integers(head + list(bottom.shape[axis:]))
    return layer.op("Concat", layer.integers(head), layer.size(bottom, rest), axis=0)


def _reshaped(layer, value, shape, like):
    """``value`` with this shape; its free axes are those of the Value ``like``."""
    free = [axis for axis in range(1, len(shape)) if not like.fixed(axis)]
    if len(free) < 2:
        return layer.op(
            "Reshape",
            value,
            layer.integers(
                [
                    0 if axis == 0 else -1 if axis in free else size
                    for axis, size in enumerate(shape)
                ]
            ),
        )
    return layer.op("Reshape", value, layer.op("Shape", like.name))


def batch_reindex(layer):
    bottom, index = layer.bottoms
    return [layer.op("Gather", bottom.name, layer.op("Cast", index.name, to=7), axis=0)]


def identity(layer):
    return [layer.bottoms[0].name] * len(layer.tops)
