"""What a network says of itself in a pass, and the tests of a training: each of the solver's test
networks, over its whole test set."""

import math

from tqdm import tqdm

from . import schedule


class Outputs:
    """Of the live ``net`` (pycaffe), made of these ``layers`` (LayerParameter): its loss, its
    accuracy, and by name everything else that is one number. ``names`` are the columns of
    metrics.csv, ``split``/<blob>, of what ``loss`` and, where that ``counts``, ``accuracy`` do not
    say already: several losses, other accuracies."""

    def __init__(self, net, layers, split, counts=False):
        self._net = net
        self._weights = {name: weight for name, weight in net.blob_loss_weights.items() if weight}
        accuracy = _accuracy(layers)
        self._accuracy = accuracy if accuracy and net.blobs[accuracy].count == 1 else None
        known = {top for layer in layers if not layer.bottom for top in layer.top}  # data
        known |= {self._accuracy} if counts else set()
        known |= set(self._weights) if list(self._weights.values()) == [1] else set()
        single = [name for name in net.outputs if net.blobs[name].count == 1]
        self._more = {f"{split}/{name}": name for name in single if name not in known}
        self.names = list(self._more)

    def _sum(self, name):
        return float(self._net.blobs[name].data.sum())

    @property
    def loss(self):
        """The sum of all losses of the last forward pass, by their weights."""
        return sum(weight * self._sum(name) for name, weight in self._weights.items())

    @property
    def accuracy(self):
        """A fraction; None where there is no such layer."""
        return None if self._accuracy is None else self._sum(self._accuracy)

    def more(self):
        """{column: value} of the last forward pass."""
        return {column: self._sum(name) for column, name in self._more.items()}


def _accuracy(layers):
    """The blob that counts how often the best answer is right: the one called accuracy, or else the
    last."""
    tops = [
        layer.top[0]
        for layer in layers
        if layer.type == "Accuracy" and layer.accuracy_param.top_k == 1
    ]
    named = [top for layer in layers for top in layer.top if top == "accuracy"]
    return (named or tops or [None])[-1]


def mean(rows):
    """The means of dictionaries with the same keys."""
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]} if rows else {}


class Tests:
    """The test networks of pycaffe's ``solver``, made of this SolverParameter and NetParameter.

    The loss and the error of the first are a run's; what else there is has a name: ``names``. A
    test_iter below 1 is one of no test, as to Caffe.
    """

    def __init__(self, solver, parameter, net):
        self._tests, self.names = [], []
        for index, rounds in enumerate(parameter.test_iter):
            split, (phase, test) = f"test{index or ''}", schedule.phases(parameter)[1 + index]
            live, layers = solver.test_nets[index], schedule.layers(parameter, net, phase, test)
            outputs = Outputs(live, layers, split, counts=True)
            self._tests += [(split, live, outputs, rounds)] if rounds > 0 else []
            self.names += [f"{split}_loss", f"{split}_error"] if index else []
            self.names += outputs.names

    def __bool__(self):
        return bool(self._tests)

    def run(self, trained, stopped):
        """{column of metrics.csv: value} with the weights of the live net ``trained``; {} where
        ``stopped()`` meanwhile."""
        values = {}
        for split, net, outputs, rounds in self._tests:
            net.share_with(trained)
            for layer in net.layers:
                if hasattr(layer, "continue_at"):  # every test sees the same images, from the first
                    layer.continue_at(0)
            passes = []
            for _ in tqdm(
                range(rounds), "testing", unit="batch", leave=False, delay=2, dynamic_ncols=True
            ):
                if stopped():
                    return {}
                net.forward()
                known = {"accuracy": outputs.accuracy or 0, **outputs.more()}
                passes.append({f"{split}_loss": outputs.loss, **known})
            found = mean(passes)
            accuracy, loss = found.pop("accuracy"), found[f"{split}_loss"]
            error = None if outputs.accuracy is None else _error(accuracy, loss)
            values.update({**found, f"{split}_error": error})
        return values


def _error(accuracy, loss):
    """1 - ``accuracy``, and 1 for a diverged network: Caffe's Accuracy counts NaN scores as right.
    None where it is not a fraction, as of somebody's layer that counts in per cent."""
    if not math.isfinite(loss):
        return 1.0
    return max(1 - accuracy, 0.0) if 0 <= accuracy <= 1 + 1e-6 else None  # a mean is rounded
