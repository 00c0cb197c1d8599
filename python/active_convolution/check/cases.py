"""Random configurations of the whole contract, in the layer and in the oracle."""

import dataclasses

import numpy as np
from google.protobuf import text_format

from ..caffe import locate
from . import oracle

FAR = 40.25, -33.5, 1e30, -1e30, np.inf, -np.inf  # outside every image of a case, in pixels
LARGEST = 40  # pixels
# Largest difference, relative to the sum of the terms' absolute values.
TOLERANCE = {"float": 1e-4, "double": 1e-10}


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer's parameters and the shape of its input, N × C × H × W."""

    shape: oracle.Shape
    image: tuple
    bias: bool
    positions: np.ndarray = None  # explicit ones: (K, 2) or (K · position_group, 2)

    def layer(self, layer_type="ActiveConvolution"):
        """The text of the LayerParameter."""
        s = self.shape
        parameters = f"""convolution_param {{
            num_output: {s.outputs} group: {s.group} bias_term: {str(self.bias).lower()}
            kernel_h: {s.kernel[0]} kernel_w: {s.kernel[1]} pad_h: {s.pad[0]} pad_w: {s.pad[1]}
            stride_h: {s.stride[0]} stride_w: {s.stride[1]}
            dilation: {s.dilation[0]} dilation: {s.dilation[1]} }}"""
        if layer_type == "ActiveConvolution":
            positions = [] if self.positions is None else self.positions
            listed = "".join(
                f" position {{ x: {x!r} y: {y!r} }}" for x, y in np.array(positions).tolist()
            )
            parameters += (
                f" active_convolution_param {{ position_group: {s.position_group}{listed} }}"
            )
        return f'name: "layer" type: "{layer_type}" bottom: "image" top: "top" {parameters}'

    def net(self, layer_type="ActiveConvolution"):
        """A net of this layer alone, which wants the gradient of its input, too."""
        dims = " ".join(f"dim: {size}" for size in self.image)
        return f"""force_backward: true
            layer {{ name: "image" type: "Input" top: "image"
                    input_param {{ shape {{ {dims} }} }} }}
            layer {{ {self.layer(layer_type)} }}"""


def random_case(seed, untrained=False, largest=14):
    """Draws the parameters until the layer's outputs are at least one pixel; ``untrained`` keeps
    the grid."""
    draw = np.random.default_rng(seed)
    while True:
        group, position_group = (int(draw.choice([1, 1, 2, 3])) for _ in range(2))
        explicit = not untrained and bool(draw.random() < 0.3)
        shape = oracle.Shape(
            outputs=int(np.lcm(group, position_group) * draw.integers(1, 4)),
            kernel=_pair(draw, 1, 4),
            stride=_pair(draw, 1, 3),
            pad=_pair(draw, 0, 3),
            dilation=(1, 1) if explicit else _pair(draw, 1, 3),
            group=group,
            position_group=position_group,
            explicit=explicit,
        )
        image = (
            int(draw.integers(1, 4)),
            int(group * draw.integers(1, 4)),
            *_pair(draw, 1, largest),
        )
        if all(len(bases) > 0 for bases in shape.base_pixels(image[2:])):
            synapses = np.prod(shape.kernel) * draw.choice([1, position_group])
            positions = draw.uniform(-3, 3, (synapses, 2)).astype(np.float32) if explicit else None
            return Case(shape, image, bool(draw.random() < 0.7), positions)


def _pair(draw, low, high):
    return tuple(int(value) for value in draw.integers(low, high + 1, 2))


# ---- What the layer and the oracle make of one


@dataclasses.dataclass(frozen=True)
class Values:
    """What one case is computed from, float64 numbers that are exact in float32."""

    image: np.ndarray
    parameters: tuple  # weight, bias, x and y, in the blobs' shapes
    top_diff: np.ndarray


def draw_values(case, seed):
    """Random images, weights and gradients; synapses at rest, on the lattice, nearby, and far
    outside."""
    draw, shape = np.random.default_rng(seed), case.shape
    weight = draw.normal(size=(shape.outputs, case.image[1] // shape.group, *shape.kernel))
    bias = draw.normal(size=shape.outputs) if case.bias else np.zeros((1, 1, 1, 1))
    at_rest = shape.grid() if case.positions is None else case.positions.T
    of_a_set = (shape.position_group, 1, *shape.kernel)
    x, y = (
        _move(draw, np.broadcast_to(start.reshape(-1, 1, *shape.kernel), of_a_set))
        for start in at_rest
    )
    outputs = [len(bases) for bases in shape.base_pixels(case.image[2:])]
    arrays = (
        draw.normal(size=case.image),
        weight,
        bias,
        x,
        y,
        draw.normal(size=(case.image[0], shape.outputs, *outputs)),
    )
    image, *parameters, top_diff = (array.astype(np.float32).astype(float) for array in arrays)
    return Values(image, tuple(parameters), top_diff)


def _move(draw, start):
    places = [
        start,
        draw.integers(-4, 5, start.shape),
        draw.choice(FAR, start.shape),
        *draw.uniform(-3, 3, (4, *start.shape)),
    ]
    return np.choose(draw.integers(0, len(places), start.shape), places)


def check(seed, runner):
    """``differences`` of the random case ``seed``; ``runner`` is a LayerRunner."""
    case = random_case(seed, largest=LARGEST)
    values = draw_values(case, seed)
    layer = text_format.Parse(case.layer(), locate.caffe_pb2().LayerParameter())
    return differences(
        case, values, *runner.run(layer, values.parameters, values.image, values.top_diff)
    )


def differences(case, values, top, image, parameters):
    """The relative difference of every quantity between the oracle and what a layer found for
    ``values``.

    ``top``, ``image`` (the input's gradient) and ``parameters`` (list of gradients) are the
    layer's. Returns a dict of top, weight, bias, x, y and image.
    """
    found = dict(zip(("weight", "bias", "x", "y"), parameters), top=top, image=image)
    weight, bias, x, y = values.parameters
    expected = {
        "top": oracle.forward(case.shape, values.image, *values.parameters),
        **oracle.backward(case.shape, values.image, weight, x, y, values.top_diff),
    }
    scale = oracle.magnitudes(case.shape, values.image, *values.parameters, values.top_diff)
    if not case.bias:
        expected["bias"] = scale["bias"] = bias  # a zero that is never updated
    return {name: _difference(found[name], expected[name], scale[name]) for name in expected}


def _difference(found, expected, scale):
    """The largest difference over the largest scale; infinite where shapes or NaNs differ, or zero
    is not met exactly."""
    if found.shape != expected.shape:
        return np.inf
    largest = np.abs(found - expected).max(initial=0)
    if largest == 0:
        return 0.0
    return largest / scale.max() if scale.max() > 0 and np.isfinite(largest) else np.inf
