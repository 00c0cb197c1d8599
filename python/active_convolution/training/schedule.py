"""How long a training takes: a shorter one with the same shape, and how much it sees. And which layers take part."""

from ..caffe import locate, messages
from ..errors import UserError

_MOST, _MOST_FLOAT = 2**31 - 1, 3.4e38
_LOOKS = 4  # tests and snapshots of a run, at least
_LINES = 100  # lines of metrics.csv, at least


def shorten(solver, net, max_iter):
    """Brings the SolverParameter ``solver`` and the NetParameter ``net`` to ``max_iter`` iterations, in place.

    The learning rate, whatever its policy, and the warm-up of every active convolution move in proportion. Tests,
    snapshots and recorded lines keep their intervals, but come at least 4, 4 and 100 times. Raises UserError where the
    learning rate's policy knows no other length.
    """
    scale = max_iter / solver.max_iter
    solver.max_iter = max_iter
    solver.stepvalue[:] = [_step(step, scale) for step in solver.stepvalue]
    if solver.HasField("stepsize"):
        solver.stepsize = _step(solver.stepsize, scale)
    if solver.lr_policy == "exp":  # gamma ** iter
        solver.gamma = _root(solver.gamma, scale)
    elif solver.lr_policy in ("inv", "sigmoid"):  # functions of gamma * iter
        solver.gamma /= scale
    for name, times in (("test_interval", _LOOKS), ("snapshot", _LOOKS), ("display", _LINES)):
        if solver.HasField(name):
            setattr(solver, name, min(getattr(solver, name), max(1, max_iter // times)))
    for layer in net.layer:
        if layer.HasField("active_convolution_param"):
            parameter = layer.active_convolution_param
            parameter.warmup_iter = min(round(parameter.warmup_iter * scale), _MOST)


def _step(iteration, scale):
    """Where a step of the learning rate comes. Not at 0: there Caffe would lower the rate before the first iteration."""
    return min(max(1, round(iteration * scale)), _MOST)


def _root(gamma, scale):
    """gamma ** (1 / scale), which for a negative one is no real number, and for a large one may be none."""
    try:
        root = gamma ** (1 / scale)
        if not isinstance(root, complex) and abs(root) < _MOST_FLOAT:
            return root
    except OverflowError:
        pass
    raise UserError(
        f"lr_policy exp with gamma {gamma:g} cannot be brought to another number of iterations: give a gamma "
        "from 0 to 1, or leave the length as it is"
    )


def warmup_iter(net):
    """The longest warm-up of the active convolutions of ``net`` (NetParameter), in iterations; 0 without any."""
    return max((layer.active_convolution_param.warmup_iter for layer in net.layer), default=0)


def images_per_iteration(solver, net):
    """How many images one process trains on in an iteration of ``solver`` (SolverParameter): batch_size, in each of the
    iter_size passes. 0 for a network that has its data from elsewhere than from ``READERS``."""
    train = data_layers(solver, net, locate.caffe_pb2().TRAIN)
    return solver.iter_size * sum(reader(layer).batch_size for layer in train)


# ---- Which layers of a network train, and which test

READERS = {"Data": "data_param", "HDF5Data": "hdf5_data_param", "ImageData": "image_data_param"}


def state(solver, net, phase, test=0):
    """The NetState with which Caffe's solver (SolverParameter) makes a net of ``net`` (NetParameter) for ``phase``, TRAIN
    or TEST, and there its ``test``-th net for testing: its level, and its stages."""
    pb2 = locate.caffe_pb2()
    merged = pb2.NetState()
    merged.MergeFrom(net.state)
    for own in [solver.train_state] if phase == pb2.TRAIN else solver.test_state[test : test + 1]:
        merged.MergeFrom(own)
    merged.phase = phase
    return merged


def layers(solver, net, phase, test=0):
    """The LayerParameters that take part in ``phase``, in their order."""
    of_phase = state(solver, net, phase, test)
    return [
        layer
        for layer in net.layer
        if messages.takes_part(layer, phase, of_phase.stage, of_phase.level)
    ]


def data_layers(solver, net, phase, test=0):
    """The layers of ``phase`` that read a data set: those of the types in ``READERS``."""
    return [layer for layer in layers(solver, net, phase, test) if layer.type in READERS]


def all_data_layers(solver, net):
    """``data_layers`` of the training and of every test, in this order; one that takes part in several comes as often."""
    pb2 = locate.caffe_pb2()
    tests = range(len(solver.test_iter))
    return [
        *data_layers(solver, net, pb2.TRAIN),
        *(layer for test in tests for layer in data_layers(solver, net, pb2.TEST, test)),
    ]


def reader(layer):
    """What one of ``data_layers`` reads: the message with its source and its batch_size."""
    return getattr(layer, READERS[layer.type])
