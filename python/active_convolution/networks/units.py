"""What the networks are made of: convolutions, active or not, and the layers that follow them."""

from ..caffe import locate


def rates(lr_mult, decay_mult):
    return dict(lr_mult=lr_mult, decay_mult=decay_mult)


def active(dataset, variant, **parameters):
    """The active_convolution_param of a convolution that the paper makes active; None in the
    baseline."""
    return dict(warmup_iter=dataset.warmup_iter, **parameters) if variant == "acu" else None


def convolution(net, name, bottom, param, convolution_param, active_param=None):
    """Adds the convolution ``name``; it is active where ``active_param`` is given."""
    layers = locate.caffe().layers
    if active_param is None:
        net[name] = layers.Convolution(bottom, param=param, convolution_param=convolution_param)
    else:
        net[name] = layers.ActiveConvolution(
            bottom,
            param=param,
            convolution_param=convolution_param,
            active_convolution_param=active_param,
        )
    return net[name]


def unbiased(net, name, bottom, active_param=None, **convolution_param):
    """Adds a convolution without bias, for a batch normalisation to follow."""
    return convolution(
        net,
        name,
        bottom,
        [rates(1, 1)],
        dict(convolution_param, bias_term=False, weight_filler=dict(type="msra")),
        active_param,
    )


def activation(net, suffix, bottom, in_place=True):
    """Adds batch normalisation and ReLU; ``in_place`` for a ``bottom`` that nothing else reads."""
    layers = locate.caffe().layers
    # The average over some hundred iterations follows the weights closely enough for short
    # trainings, too.
    net[f"bn_{suffix}"] = layers.BatchNorm(
        bottom, in_place=in_place, batch_norm_param=dict(eps=1e-5, moving_average_fraction=0.99)
    )
    net[f"scale_{suffix}"] = layers.Scale(
        net[f"bn_{suffix}"], in_place=True, param=[rates(1, 0)] * 2, bias_term=True
    )
    net[f"relu_{suffix}"] = layers.ReLU(net[f"scale_{suffix}"], in_place=True)
    return net[f"relu_{suffix}"]


def unit(net, suffix, bottom, active_param=None, name=None, **convolution_param):
    """Adds convolution, batch normalisation and ReLU."""
    return activation(
        net,
        suffix,
        unbiased(net, name or f"conv{suffix}", bottom, active_param, **convolution_param),
    )


def scores(net, bottom, classes):
    """Adds global average pooling and the class scores."""
    caffe = locate.caffe()
    net["prescore"] = caffe.layers.Pooling(
        bottom, pool=caffe.params.Pooling.AVE, global_pooling=True
    )
    return convolution(
        net,
        "score",
        net["prescore"],
        [rates(1, 1), rates(1, 0)],
        dict(num_output=classes, kernel_size=1, weight_filler=dict(type="msra")),
    )
