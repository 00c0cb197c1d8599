"""One random case, in the layer and in the oracle."""
import dataclasses

import numpy as np
from google.protobuf import text_format

from .. import fork
from . import oracle
from .cases import FAR, random_case

LARGEST = 40  # pixels
# Largest difference, relative to the sum of the terms' absolute values.
TOLERANCE = {"float": 1e-4, "double": 1e-10}


@dataclasses.dataclass(frozen=True)
class Values:
    """What one case is computed from, float64 numbers that are exact in float32."""
    image: np.ndarray
    parameters: tuple       # weight, bias, x and y, in the blobs' shapes
    top_diff: np.ndarray


def draw_values(case, seed):
    """Random images, weights and gradients; synapses at rest, on the lattice, nearby, and far outside."""
    draw, shape = np.random.default_rng(seed), case.shape
    weight = draw.normal(size=(shape.outputs, case.image[1] // shape.group, *shape.kernel))
    bias = draw.normal(size=shape.outputs) if case.bias else np.zeros((1, 1, 1, 1))
    at_rest = shape.grid() if case.positions is None else case.positions.T
    of_a_set = (shape.position_group, 1, *shape.kernel)
    x, y = (_move(draw, np.broadcast_to(start.reshape(-1, 1, *shape.kernel), of_a_set)) for start in at_rest)
    outputs = [len(bases) for bases in shape.base_pixels(case.image[2:])]
    arrays = draw.normal(size=case.image), weight, bias, x, y, draw.normal(size=(case.image[0], shape.outputs, *outputs))
    image, *parameters, top_diff = (array.astype(np.float32).astype(float) for array in arrays)
    return Values(image, tuple(parameters), top_diff)


def _move(draw, start):
    places = [start, draw.integers(-4, 5, start.shape), draw.choice(FAR, start.shape),
              *draw.uniform(-3, 3, (4, *start.shape))]
    return np.choose(draw.integers(0, len(places), start.shape), places)


def check(seed, runner):
    """``differences`` of the random case ``seed``; ``runner`` is a LayerRunner."""
    case = random_case(seed, largest=LARGEST)
    values = draw_values(case, seed)
    layer = text_format.Parse(case.layer(), fork.caffe_pb2().LayerParameter())
    return differences(case, values, *runner.run(layer, values.parameters, values.image, values.top_diff))


def differences(case, values, top, image, parameters):
    """The relative difference of every quantity between the oracle and what a layer found for ``values``.

    ``top``, ``image`` (the input's gradient) and ``parameters`` (list of gradients) are the layer's. Returns a dict of
    top, weight, bias, x, y and image.
    """
    found = dict(zip(("weight", "bias", "x", "y"), parameters), top=top, image=image)
    weight, bias, x, y = values.parameters
    expected = {"top": oracle.forward(case.shape, values.image, *values.parameters),
                **oracle.backward(case.shape, values.image, weight, x, y, values.top_diff)}
    scale = oracle.magnitudes(case.shape, values.image, *values.parameters, values.top_diff)
    if not case.bias:
        expected["bias"] = scale["bias"] = bias  # a zero that is never updated
    return {name: _difference(found[name], expected[name], scale[name]) for name in expected}


def _difference(found, expected, scale):
    """The largest difference over the largest scale; infinite where shapes or NaNs differ, or zero is not met exactly."""
    if found.shape != expected.shape:
        return np.inf
    largest = np.abs(found - expected).max(initial=0)
    if largest == 0:
        return 0.
    return largest / scale.max() if scale.max() > 0 and np.isfinite(largest) else np.inf
