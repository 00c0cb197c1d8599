"""One layer of the fork as a net of its own, in float, on the device that Caffe is set to."""

import tempfile

from active_convolution.caffe import locate

from . import loops


class LayerNet:
    """A net of an Input and one ``layer_type`` (ActiveConvolution or Convolution) with the shape of
    ``case``; by Caffe's own loop, if ``of_caffe``."""

    def __init__(self, case, layer_type, values, of_caffe=False):
        """Gives the blobs, data and gradients, the Values; gradients that the layer computes start
        at zero."""
        self._of_caffe = of_caffe
        with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
            file.write(case.net(layer_type))
            file.flush()
            self._net = locate.caffe().Net(file.name, locate.caffe().TEST)
        for blob, array in zip(self._net.params["layer"], values.parameters):
            blob.data[...] = array.reshape(blob.data.shape)
            blob.diff[...] = 0
        blobs = self._net.blobs
        for array, value in (
            (blobs["image"].data, values.image),
            (blobs["image"].diff, 0),
            (blobs["top"].data, 0),
            (blobs["top"].diff, values.top_diff),
        ):
            array[...] = value

    def forward(self):
        with loops.of_caffe(self._of_caffe):
            self._net._forward(1, 1)

    def backward(self):
        with loops.of_caffe(self._of_caffe):
            self._net._backward(1, 1)

    @property
    def top(self):
        return self._net.blobs["top"].data

    def results(self):
        """The output and, after a single backward pass, the gradients of input, weight and, of an
        ACU, x and y."""
        image, parameters = self.diffs
        return [self.top, image, parameters[0], *parameters[2:]]

    @property
    def diffs(self):
        """(the gradient of the input, the list of those of the parameters)"""
        return self._net.blobs["image"].diff, [blob.diff for blob in self._net.params["layer"]]
