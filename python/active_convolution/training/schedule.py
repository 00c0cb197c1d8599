"""How far synapses come in a training, and which layers of a network train and which test."""

import numpy as np

from ..caffe import locate, messages


def warmup_iter(net):
    """The longest warm-up of the active convolutions of ``net``, in iterations; 0 without any."""
    return max((layer.active_convolution_param.warmup_iter for layer in net.layer), default=0)


def images_per_iteration(solver, net):
    """How many images one process trains on in an iteration: batch_size, in each of the iter_size
    passes. 0 for a network that has its data from elsewhere than from ``READERS``."""
    train = data_layers(solver, net, locate.caffe_pb2().TRAIN)
    return solver.iter_size * sum(reader(layer).batch_size for layer in train)


# ---- How far a synapse can go


def rates(solver):
    """The learning rate of every iteration, by the solver's lr_policy: (max_iter,) float64."""
    iterations = np.arange(solver.max_iter)
    base, gamma, power = solver.base_lr, solver.gamma, solver.power
    with np.errstate(all="ignore"):
        return np.broadcast_to(
            {
                "step": lambda: base * gamma ** (iterations // max(solver.stepsize, 1)),
                "exp": lambda: base * gamma ** iterations.astype(float),
                "inv": lambda: base * (1 + gamma * iterations) ** -power,
                "multistep": lambda: (
                    base * gamma ** np.searchsorted(sorted(solver.stepvalue), iterations, "right")
                ),
                "poly": lambda: base * (1 - iterations / solver.max_iter) ** power,
                "sigmoid": lambda: base / (1 + np.exp(-gamma * (iterations - solver.stepsize))),
            }.get(solver.lr_policy, lambda: base)(),
            iterations.shape,
        )


def reach(solver, net):
    """How far a synapse can move in the whole training, in pixels: each step, of a normalised
    gradient, is the rate × position_lr_mult, and momentum m repeats it up to 1 / (1 − m) times.

    None where no layer's positions learn by normalised gradients, or the solver is neither SGD
    nor Nesterov.
    """
    if solver.type not in ("SGD", "Nesterov"):
        return None
    steps, found = rates(solver), []
    for layer in layers(solver, net, locate.caffe_pb2().TRAIN):
        active = layer.active_convolution_param
        if layer.type == "ActiveConvolution" and active.normalize_gradient:
            own = [param.lr_mult for param in layer.param[2:4]] or [active.position_lr_mult]
            found.append(max(own) * steps[active.warmup_iter :].sum() / (1 - solver.momentum))
    return max(found, default=None)


# ---- Which layers of a network train, and which test

READERS = {"Data": "data_param", "HDF5Data": "hdf5_data_param", "ImageData": "image_data_param"}


def state(solver, net, phase, test=0):
    """The NetState with which Caffe's ``solver`` makes a net of ``net`` for ``phase``, TRAIN or
    TEST, and there its ``test``-th: its level, and its stages."""
    pb2 = locate.caffe_pb2()
    merged = pb2.NetState()
    merged.MergeFrom(net.state)
    for own in [solver.train_state] if phase == pb2.TRAIN else solver.test_state[test : test + 1]:
        merged.MergeFrom(own)
    return merged


def layers(solver, net, phase, test=0):
    """The LayerParameters that take part in ``phase``, in their order."""
    own = state(solver, net, phase, test)
    return [layer for layer in net.layer if messages.takes_part(layer, phase, own.stage, own.level)]


def data_layers(solver, net, phase, test=0):
    """The layers of ``phase`` that read a data set: those of the types in ``READERS``."""
    return [layer for layer in layers(solver, net, phase, test) if layer.type in READERS]


def phases(solver):
    """(phase, test) of the training and of every test."""
    pb2 = locate.caffe_pb2()
    return [(pb2.TRAIN, 0), *((pb2.TEST, test) for test in range(len(solver.test_iter)))]


def reader(layer):
    """What one of ``data_layers`` reads: the message with its source and its batch_size."""
    return getattr(layer, READERS[layer.type])
