"""Which axes of a network's blobs follow the size of its input: the batch, and height and width
where no layer fixes them."""


class _Fixed(Exception):
    """A layer has weights, or names numbers, for one size of an axis."""


def free_axes(net, shapes):
    """{blob: frozenset of its free axes} of a NetParameter for testing, whose blobs have these
    ``shapes``, {name: shape}, with the input that it names itself.

    A batch of any size first of all, and images of any height and width where every layer takes
    them."""
    for images, batch in ((True, True), (False, True), (False, False)):
        try:
            return _propagated(net, shapes, [0] * batch, [2, 3] * images)
        except _Fixed:
            continue


def _propagated(net, shapes, batch, images):
    free = {}
    inputs = {*net.input, *(top for x in net.layer if x.type == "Input" for top in x.top)}
    for blob in inputs:
        rank = len(shapes[blob])
        free[blob] = frozenset(batch * (rank > 0) + images * (rank == 4))
    for layer in net.layer:
        bottoms = [free[blob] for blob in layer.bottom]
        ranks = [len(shapes[blob]) for blob in layer.bottom]
        for blob in layer.top:
            if layer.type != "Input":
                rank = len(shapes[blob])
                free[blob] = frozenset(_of_top(layer, bottoms, ranks, rank) if bottoms else ())
    return free


def _of_top(layer, bottoms, ranks, rank):
    """The free axes of a top of ``rank`` axes, from those of the bottoms."""
    first, kind = bottoms[0], layer.type

    def axis(index):
        return index % ranks[0] if ranks[0] else 0

    if kind in ("Eltwise", "Concat"):  # whose bottoms have to stay as large as each other
        own = layer.concat_param
        along = {axis(own.concat_dim if own.HasField("concat_dim") else own.axis)}
        if len({each - along if kind == "Concat" else each for each in bottoms}) > 1:
            raise _Fixed
    if kind in ("Scale", "Bias") and len(bottoms) == 1:  # a weight for each place
        own = layer.scale_param if kind == "Scale" else layer.bias_param
        count = ranks[0] if own.num_axes == -1 else own.num_axes
        if first & set(range(axis(own.axis), axis(own.axis) + count)):
            raise _Fixed
    if kind == "InnerProduct" and max(first, default=-1) >= axis(layer.inner_product_param.axis):
        raise _Fixed
    if kind == "Pooling" and layer.pooling_param.global_pooling:
        return first & {0, 1}
    if kind == "Crop":
        start = axis(layer.crop_param.axis)
        return [*(x for x in first if x < start), *(x for x in bottoms[1] if x >= start)]
    if kind == "BatchReindex":
        return [*(first - {0}), *bottoms[1]]
    if kind == "Permute":
        order = list(layer.permute_param.order)
        order += [index for index in range(rank) if index not in order]
        return map(order.index, first)
    if kind == "ArgMax":
        own = layer.argmax_param
        return first - {axis(own.axis)} if own.HasField("axis") else first & {0}
    if kind == "Reduction":
        return (x for x in first if x < axis(layer.reduction_param.axis))
    if kind in ("Embed", "InnerProduct"):
        return first
    if kind in ("Flatten", "Reshape"):
        start, end, inside = _replaced(layer, first, ranks[0], axis)
        before = (x for x in first if x < start)
        return [*before, *inside, *(x + rank - ranks[0] for x in first if x >= end)]
    return {x for each, own in zip(bottoms, ranks) if own == rank for x in each}


def _replaced(layer, free, rank, axis):
    """(first axis of the bottom that a Flatten or Reshape replaces, the one behind the last, free
    ones among those of the top that take their place)."""
    if layer.type == "Flatten":
        start, end = axis(layer.flatten_param.axis), axis(layer.flatten_param.end_axis) + 1
        return start, end, [start] * any(start <= x < end for x in free)
    own, dims = layer.reshape_param, list(layer.reshape_param.shape.dim)
    start = own.axis if own.axis >= 0 else own.axis + rank + 1
    end = rank if own.num_axes == -1 else start + own.num_axes
    kept = {start + index for index, dim in enumerate(dims) if dim == 0}
    left = {x for x in free if start <= x < end} - kept
    if left and -1 not in dims:
        raise _Fixed
    return start, end, [*(kept & free), *([start + dims.index(-1)] if left else [])]
