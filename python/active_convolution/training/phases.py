"""Which layers of a network train, and which test."""
from .. import fork, prototxt


def state(solver, net, phase):
    """The NetState with which Caffe's solver (SolverParameter) makes a net of ``net`` (NetParameter) for ``phase``, TRAIN
    or TEST: its level, and its stages."""
    pb2 = fork.caffe_pb2()
    merged = pb2.NetState()
    merged.MergeFrom(net.state)
    for own in [solver.train_state] if phase == pb2.TRAIN else solver.test_state[:1]:
        merged.MergeFrom(own)
    merged.phase = phase
    return merged


def layers(solver, net, phase):
    """The LayerParameters that take part in ``phase``, in their order."""
    of_phase = state(solver, net, phase)
    return [layer for layer in net.layer if prototxt.takes_part(layer, phase, of_phase.stage, of_phase.level)]


def data_layers(solver, net, phase):
    """The layers of ``phase`` that read a database."""
    return [layer for layer in layers(solver, net, phase) if layer.HasField("data_param")]
