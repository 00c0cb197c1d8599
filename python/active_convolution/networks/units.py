"""What the networks are made of: convolutions, active or not, and the layers that follow them."""

from ..caffe import locate


def rates(lr_mult, decay_mult):
    return dict(lr_mult=lr_mult, decay_mult=decay_mult)


def active(task, variant, **parameters):
    """The active_convolution_param of a convolution that the paper makes active; None in the
    baseline."""
    return dict(warmup_iter=task.warmup_iter, **parameters) if variant == "acu" else None


def convolution(net, name, bottom, param, convolution_param, active_param=None):
    """Adds the convolution ``name``; it is active where ``active_param`` is given."""
    given = dict(param=param, convolution_param=convolution_param)
    layers = locate.caffe().layers
    if active_param is None:
        net[name] = layers.Convolution(bottom, **given)
    else:
        net[name] = layers.ActiveConvolution(bottom, active_convolution_param=active_param, **given)
    return net[name]


def unbiased(net, name, bottom, active_param=None, kernel_size=1, **convolution_param):
    """Adds a convolution without bias, for a batch normalisation to follow."""
    convolution_param.update(kernel_size=kernel_size, bias_term=False)
    convolution_param["weight_filler"] = dict(type="msra")
    return convolution(net, name, bottom, [rates(1, 1)], convolution_param, active_param)


def activation(net, suffix, bottom, in_place=True):
    """Adds batch normalisation and ReLU; ``in_place`` for a ``bottom`` that nothing else reads."""
    layers = locate.caffe().layers
    # The average over some hundred iterations follows the weights closely in short trainings, too.
    average = dict(eps=1e-5, moving_average_fraction=0.99)
    top = layers.BatchNorm(bottom, in_place=in_place, batch_norm_param=average)
    net[f"bn_{suffix}"] = top
    top = layers.Scale(top, in_place=True, param=[rates(1, 0)] * 2, bias_term=True)
    net[f"scale_{suffix}"] = top
    net[f"relu_{suffix}"] = layers.ReLU(top, in_place=True)
    return net[f"relu_{suffix}"]


def unit(net, suffix, bottom, active_param=None, name=None, **convolution_param):
    """Adds convolution, batch normalisation and ReLU."""
    top = unbiased(net, name or f"conv{suffix}", bottom, active_param, **convolution_param)
    return activation(net, suffix, top)


def pool(net, name, bottom, kind, **parameters):
    """Adds a pooling, MAX or AVE."""
    caffe = locate.caffe()
    net[name] = caffe.layers.Pooling(bottom, pool=getattr(caffe.params.Pooling, kind), **parameters)
    return net[name]


def scores(net, bottom, classes):
    """Adds global average pooling and the class scores."""
    top = pool(net, "prescore", bottom, "AVE", global_pooling=True)
    score = dict(num_output=classes, kernel_size=1, weight_filler=dict(type="msra"))
    return convolution(net, "score", top, [rates(1, 1), rates(1, 0)], score)
