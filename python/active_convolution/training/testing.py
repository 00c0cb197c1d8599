"""The tests of a training: each of the solver's test networks, over its whole test set."""

import math

from tqdm import tqdm

from . import schedule
from .outputs import Outputs, mean


class Tests:
    """The test networks of a run with this ``solver`` (SolverParameter) and ``net`` (NetParameter, the prototxt ``path``).

    The loss and the error of the first are a run's; what else there is has a name: ``names``. A test_iter below 1 is one of no
    test, as to Caffe.
    """

    def __init__(self, caffe, solver, net, path):
        self._nets, self._outputs = [], []
        for index, _ in enumerate(solver.test_iter):
            state = schedule.state(solver, net, caffe.TEST, index)
            live = caffe.Net(str(path), caffe.TEST, level=state.level, stages=list(state.stage))
            part = f"test{index}" if index else "test"
            self._nets.append(live)
            self._outputs.append(
                Outputs(live, schedule.layers(solver, net, caffe.TEST, index), part, counts=True)
            )
        self._rounds = list(solver.test_iter)
        more = [
            f"test{index}_{name}"
            for index in range(1, len(self._nets))
            for name in ("loss", "error")
        ]
        self.names = more + [name for outputs in self._outputs for name in outputs.names]

    def __bool__(self):
        return any(rounds > 0 for rounds in self._rounds)

    def run(self, trained, stopped):
        """{column of metrics.csv: value} with the weights of the live net ``trained``; {} where ``stopped()`` meanwhile."""
        values = {}
        for index, (net, outputs, rounds) in enumerate(
            zip(self._nets, self._outputs, self._rounds)
        ):
            if rounds < 1:
                continue
            found = self._one(net, outputs, rounds, trained, stopped)
            if found is None:
                return {}
            part = f"test{index}" if index else "test"
            values.update(
                {f"{part}_loss": found.pop("loss"), f"{part}_error": found.pop("error"), **found}
            )
        return values

    @staticmethod
    def _one(net, outputs, rounds, trained, stopped):
        net.share_with(trained)
        for layer in net.layers:
            if hasattr(layer, "continue_at"):  # every test sees the same images, from the first
                layer.continue_at(0)
        passes = []
        for _ in tqdm(
            range(rounds), desc="testing", unit="batch", leave=False, delay=2, dynamic_ncols=True
        ):
            if stopped():
                return None
            net.forward()
            passes.append(
                {"loss": outputs.loss, "accuracy": outputs.accuracy or 0, **outputs.more()}
            )
        found = mean(passes)
        accuracy = found.pop("accuracy")
        return {
            **found,
            "error": None if outputs.accuracy is None else _error(accuracy, found["loss"]),
        }


def _error(accuracy, loss):
    """1 - ``accuracy``, and 1 for a diverged network: Caffe's Accuracy counts scores that are no numbers as right. None where it
    is no fraction, as of somebody's layer that counts in per cent."""
    if not math.isfinite(loss):
        return 1.0
    return max(1 - accuracy, 0.0) if 0 <= accuracy <= 1 + 1e-6 else None  # a mean is rounded
