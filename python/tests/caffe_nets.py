"""Small networks in pycaffe, for tests that compare what two of them compute."""

import numpy as np
from active_convolution.caffe import locate

INPUT = 'layer {{ name: "image" type: "Input" top: "image" input_param {{ shape {{ {} }} }} }}\n'


def live(path, text, weights=None):
    """The pycaffe Net of a prototxt's text, which is written to ``path`` and printed for the sake
    of failing tests."""
    print(text)
    path.write_text(text)
    net = locate.caffe().Net(str(path), locate.caffe().TEST)
    if weights:
        net.copy_from(str(weights))
    return net


def single(layer, image, path, blobs=None):
    """A net of one layer (LayerParameter, reading "image") with these arrays as its blobs."""
    dims = " ".join(f"dim: {size}" for size in image)
    net = live(path, INPUT.format(dims) + f"layer {{ {layer} }}")
    assert blobs is None or len(blobs) == len(net.layers[-1].blobs)
    for blob, values in zip(net.layers[-1].blobs, blobs or []):
        blob.data[...] = np.reshape(values, blob.data.shape)
    return net


def run(net, image):
    """The output of a net with one input and one output, reshaped to the input's size."""
    blob = net.blobs[net.inputs[0]]
    if blob.data.shape != image.shape:
        blob.reshape(*image.shape)
        net.reshape()
    blob.data[...] = image
    return net.forward()[net.outputs[0]].copy()


def shake(net, seed):
    """Random values for what a fresh net has at rest: positions, averages, factors, shifts, and
    weights without a filler."""
    draw = np.random.default_rng(seed)
    for layer in net.layers:
        blobs = layer.blobs
        if len(blobs) and not blobs[0].data.any():
            blobs[0].data[...] = draw.normal(size=blobs[0].data.shape) * np.sqrt(
                2 * len(blobs[0].data) / blobs[0].count
            )
        if layer.type in ("ActiveConvolution", "AConvFast"):
            for blob in list(blobs)[2:]:
                blob.data[...] += draw.uniform(-1.4, 1.4, blob.data.shape)
        elif layer.type == "BatchNorm":
            count = blobs[2].data[...] = draw.uniform(1, 100)
            blobs[0].data[...] = draw.normal(scale=0.1, size=blobs[0].data.shape) * count
            blobs[1].data[...] = draw.uniform(0.5, 2, blobs[1].data.shape) * count
        elif layer.type == "Scale":
            for blob, centre in zip(blobs, (1, 0)):
                blob.data[...] = centre + draw.normal(scale=0.2, size=blob.data.shape)


def assert_same(found, expected, tolerance=1e-5):
    """Within ``tolerance`` of the largest number."""
    assert found.shape == expected.shape
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())
