"""What a network says of itself in a pass: its loss, its accuracy, and by name everything else that is one number."""


class Outputs:
    """Of the live ``net`` (pycaffe), made of these ``layers`` (LayerParameter). ``names`` are the columns of metrics.csv,
    ``part``/<blob>, of what ``loss`` and, where that ``counts``, ``accuracy`` do not say already: several losses, other
    accuracies."""

    def __init__(self, net, layers, part, counts=False):
        self._net = net
        self._weights = {name: weight for name, weight in net.blob_loss_weights.items() if weight}
        accuracy = _accuracy(layers)
        self._accuracy = accuracy if accuracy and net.blobs[accuracy].count == 1 else None
        known = {top for layer in layers if not layer.bottom for top in layer.top}  # data
        known |= {self._accuracy} if counts else set()
        known |= set(self._weights) if list(self._weights.values()) == [1] else set()
        self._more = {
            f"{part}/{name}": name
            for name in net.outputs
            if net.blobs[name].count == 1 and name not in known
        }
        self.names = list(self._more)

    @property
    def loss(self):
        """The sum of all losses of the last forward pass, by their weights."""
        return float(
            sum(weight * self._net.blobs[name].data.sum() for name, weight in self._weights.items())
        )

    @property
    def accuracy(self):
        """A fraction; None where there is no such layer."""
        return None if self._accuracy is None else float(self._net.blobs[self._accuracy].data.sum())

    def more(self):
        """{column: value} of the last forward pass."""
        return {
            column: float(self._net.blobs[name].data.sum()) for column, name in self._more.items()
        }


def _accuracy(layers):
    """The blob that counts how often the best answer is right: the one called accuracy, or else the last."""
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
