"""What keeps Caffe from training, or lets it train otherwise than anybody means, found in a solver and its network before
Caffe is asked: it would end the process in words of its own, or wait for ever."""

from ..caffe import locate, nets
from ..errors import UserError
from . import schedule


def check(found):
    """Raises UserError where the Definition ``found`` cannot be trained as it stands."""
    check_solver(found.solver, found.source)
    _check_phases(found.solver, found.net, found.source)
    _check_readers(found)
    nets.check_python_layers(found.net, found.source)
    nets.check_sources(found.net, found.source)


def check_solver(solver, source):
    """Raises UserError where the SolverParameter ``solver``, which messages name ``source``, says no length, or no passes."""
    if solver.max_iter < 1:
        raise UserError(
            f"{source} does not say how long to train: give its solver.prototxt max_iter"
        )
    if solver.iter_size < 1:
        raise UserError(
            f"{source} has iter_size {solver.iter_size}: give the number of passes of an iteration, 1 or more"
        )


def _check_phases(solver, net, source):
    """A phase among the stages would turn the training into a test, or a test into a training."""
    pb2 = locate.caffe_pb2()
    tests_say = len(solver.test_iter) == sum(state.HasField("phase") for state in solver.test_state)
    states = [
        ("the network's state", net.state, pb2.TRAIN if tests_say else None),
        ("train_state", solver.train_state, pb2.TRAIN),
        *(("test_state", state, pb2.TEST) for state in solver.test_state),
    ]
    for name, state, phase in states:
        if state.HasField("phase") and state.phase != phase:
            raise UserError(
                f"{source} has a phase in {name}, for training and testing alike: leave it out"
            )
    if not schedule.layers(solver, net, pb2.TRAIN):
        raise UserError(
            f"{source} has no layer that takes part in training: mend the layers' include and exclude rules"
        )


def _check_readers(found):
    for layer in schedule.all_data_layers(found.solver, found.net):
        if schedule.reader(layer).batch_size < 1:
            raise UserError(
                f"layer {layer.name} of {found.source} has batch_size 0: give the number of images of a pass"
            )
        if layer.data_param.prefetch < 1:
            raise UserError(
                f"layer {layer.name} of {found.source} has prefetch 0, and would wait for ever: leave it out"
            )
