"""Nets around one active convolution, for the tests, and the training of them.

Every net has two inputs, filled before each forward pass with what belongs to the solver's
iteration: nothing depends on a data layer's cursor.
"""

import numpy as np
from active_convolution.caffe import locate

CHANNELS, OUTPUTS, SIZE = 2, 4, 8
ORIGIN = 4  # the synapse in the middle of the 3×3 grid


def inputs(batch, channels=CHANNELS, outputs=OUTPUTS, size=SIZE):
    return "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ dim: {batch} '
        f"dim: {count} dim: {size} dim: {size} }} }} }}\n"
        for name, count in (("image", channels), ("target", outputs))
    )


def layer(active="", name="acu", outputs=OUTPUTS, params=""):
    return f"""layer {{ name: "{name}" type: "ActiveConvolution" bottom: "image" top: "{name}"
        {params}
        convolution_param {{ num_output: {outputs} kernel_size: 3 pad: 1
            weight_filler {{ type: "gaussian" std: 0.1 }}
            bias_filler {{ type: "constant" value: 0.1 }} }}
        active_convolution_param {{ {active} }} }}\n"""


def loss(bottom="acu"):
    bottoms = f'bottom: "{bottom}" bottom: "target"'
    return f'layer {{ name: "loss" type: "EuclideanLoss" {bottoms} top: "loss" }}\n'


class Training:
    """A pycaffe solver in ``folder``; ``feed(iteration)`` gives the images and targets of one
    iteration, all iter_size passes together. ``settings`` are the solver's, as its prototxt has
    them."""

    def __init__(self, folder, net, feed, **settings):
        folder.mkdir(exist_ok=True)
        settings = {
            "base_lr": 0.1,
            "lr_policy": '"fixed"',
            "momentum": 0,
            "type": '"SGD"',
            "random_seed": 3,
            "snapshot_after_train": "false",
            "snapshot_prefix": f'"{folder}/s"',
            "net": f'"{folder}/net.prototxt"',
            **settings,
        }
        (folder / "net.prototxt").write_text(net)
        (folder / "solver.prototxt").write_text(
            "".join(f"{name}: {value}\n" for name, value in settings.items())
        )
        self.solver = locate.caffe().get_solver(str(folder / "solver.prototxt"))
        self.net = self.solver.net
        self._feed, self._passes, self._iter_size = feed, 0, settings.get("iter_size", 1)
        self.net.before_forward(self._fill)

    def _fill(self, layer_index):
        if layer_index == 0:
            for name, values in zip(("image", "target"), self._feed(self.solver.iter)):
                blob = self.net.blobs[name]
                blob.data[...] = values[self._passes * blob.num :][: blob.num]
            self._passes += 1

    def run(self, iterations):
        """Trains on; returns self."""
        for _ in range(iterations):
            self._passes = 0
            self.solver.step(1)
        return self

    def run_by_hand(self, iterations):
        """Trains on as a loop of one's own does, without Solver::Step; returns self."""
        for _ in range(iterations):
            self._passes = 0
            self.net.clear_param_diffs()
            for _ in range(self._iter_size):
                self.net.forward()
                self.net.backward()
            self.solver.apply_update()
        return self

    def blobs(self, name="acu"):
        return [blob.data.copy() for blob in self.net.params[name]]

    def positions(self, name="acu"):
        """(K, 2): x and y."""
        return np.stack([blob.data.ravel() for blob in self.net.params[name][2:]], axis=1)

    def path(self, iterations):
        """The positions before and after each of the next iterations: (iterations + 1, K, 2)."""
        return np.array([self.positions()] + [self.run(1).positions() for _ in range(iterations)])


def on_noise(folder, net, batch=4, iter_size=1, outputs=OUTPUTS, **settings):
    """A Training on random images and targets, ``batch`` of them an iteration, over ``iter_size``
    passes."""

    def feed(iteration):
        draw = np.random.default_rng(1000 + iteration)
        return [draw.normal(size=(batch, count, SIZE, SIZE)) for count in (CHANNELS, outputs)]

    return Training(
        folder,
        inputs(batch // iter_size, outputs=outputs) + net,
        feed,
        iter_size=iter_size,
        **settings,
    )
