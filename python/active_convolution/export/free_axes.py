"""Which axes of a network's blobs follow the size of its input: the batch, and height and width
where no layer fixes them."""

_CUT = ("Reduction", "Flatten", "Reshape", "InnerProduct", "Permute", "ArgMax", "Embed")
_SAME = ("Eltwise", "Concat")  # whose bottoms have to stay as large as each other


class _Fixed(Exception):
    """A layer has weights, or names numbers, for one size of an axis."""


def free_axes(net, shapes):
    """{blob: frozenset of its free axes} of a NetParameter for testing, whose blobs have these
    ``shapes``, {name: shape}, with the input that it names itself.

    A batch of any size first of all, and images of any height and width where every layer takes
    them."""
    for images, batch in ((True, True), (False, True), (False, False)):
        try:
            return _propagated(net, shapes, images, batch)
        except _Fixed:
            continue


def _propagated(net, shapes, images, batch):
    free = {}

    def of_input(blob):
        rank = len(shapes[blob])
        return frozenset([0] * batch * (rank > 0) + [2, 3] * images * (rank == 4))

    for blob in net.input:
        free[blob] = of_input(blob)
    for layer in net.layer:
        bottoms = [free[blob] for blob in layer.bottom]
        ranks = [len(shapes[blob]) for blob in layer.bottom]
        for blob in layer.top:
            if layer.type == "Input":
                free[blob] = of_input(blob)
            else:
                free[blob] = frozenset(_of_top(layer, bottoms, ranks, shapes, blob))
    return free


def _of_top(layer, bottoms, ranks, shapes, top):
    """The free axes of a top, from those of the bottoms."""
    rank, kind = len(shapes[top]), layer.type
    if not bottoms:
        return ()
    first = bottoms[0]
    _check_own_weights(layer, first, ranks)
    if kind in _SAME:
        axis = None if kind == "Eltwise" else _axis(_concat_axis(layer.concat_param), ranks[0])
        if len({each - {axis} for each in bottoms}) > 1:
            raise _Fixed
    if kind == "Pooling" and layer.pooling_param.global_pooling:
        return first & {0, 1}
    if kind == "Crop":
        axis = _axis(layer.crop_param.axis, ranks[0])
        return [*(each for each in first if each < axis), *(e for e in bottoms[1] if e >= axis)]
    if kind == "BatchReindex":
        return [*(first - {0}), *bottoms[1]]
    if kind in _CUT:
        return _reshaped(layer, first, ranks[0], rank)
    return {axis for each, own in zip(bottoms, ranks) if own == rank for axis in each}


def _concat_axis(own):
    return own.concat_dim if own.HasField("concat_dim") else own.axis


def _check_own_weights(layer, free, ranks):
    """Raises _Fixed where a layer with one bottom has a weight for each place along a free axis."""
    if len(ranks) > 1 or layer.type not in ("Scale", "Bias"):
        return
    own = layer.scale_param if layer.type == "Scale" else layer.bias_param
    start = _axis(own.axis, ranks[0])
    count = ranks[0] - start if own.num_axes == -1 else own.num_axes
    if free & set(range(start, start + count)):
        raise _Fixed


def _reshaped(layer, free, rank, rank_of_top):
    """... of the layers whose tops have other axes than their bottoms."""
    kind = layer.type
    if kind == "Embed":
        return free
    if kind == "Permute":
        order = list(layer.permute_param.order)
        order += [axis for axis in range(rank) if axis not in order]
        return [order.index(axis) for axis in free]
    if kind == "ArgMax":
        own = layer.argmax_param
        return free - {_axis(own.axis, rank)} if own.HasField("axis") else free & {0}
    if kind == "Reduction":
        return [axis for axis in free if axis < _axis(layer.reduction_param.axis, rank)]
    if kind == "InnerProduct":
        start = _axis(layer.inner_product_param.axis, rank)
        if any(axis >= start for axis in free):
            raise _Fixed
        return free
    if kind == "Flatten":
        own = layer.flatten_param
        start, end = _axis(own.axis, rank), _axis(own.end_axis, rank) + 1
        inside = [start] * any(start <= axis < end for axis in free)
    else:
        start, end, inside = _in_reshape(layer, free, rank)
    behind = [axis + rank_of_top - rank for axis in free if axis >= end]
    return [*(axis for axis in free if axis < start), *inside, *behind]


def _in_reshape(layer, free, rank):
    """(first axis of the bottom that a Reshape replaces, the one behind the last, free ones among
    those of the top that take their place)."""
    own = layer.reshape_param
    dims = list(own.shape.dim)
    start = own.axis if own.axis >= 0 else own.axis + rank + 1
    end = rank if own.num_axes == -1 else start + own.num_axes
    kept = {start + index for index, dim in enumerate(dims) if dim == 0}
    left = {axis for axis in free if start <= axis < end} - kept
    if left and -1 not in dims:
        raise _Fixed
    return start, end, [*(kept & free), *([start + dims.index(-1)] if left else [])]


def _axis(axis, rank):
    return axis % rank if rank else 0
