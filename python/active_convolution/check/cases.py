"""Random configurations of the whole contract."""
import dataclasses

import numpy as np

from . import oracle

FAR = (40.25, -33.5, 1e30, -1e30, np.inf, -np.inf)  # positions outside every image of a case, in pixels


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer's parameters and the shape of its input, N × C × H × W."""
    shape: oracle.Shape
    image: tuple
    bias: bool
    positions: np.ndarray = None      # explicit ones: (K, 2) or (K · position_group, 2)

    def layer(self, layer_type="ActiveConvolution"):
        """The text of the LayerParameter."""
        s = self.shape
        parameters = f"""convolution_param {{
            num_output: {s.outputs} group: {s.group} bias_term: {str(self.bias).lower()}
            kernel_h: {s.kernel[0]} kernel_w: {s.kernel[1]} stride_h: {s.stride[0]} stride_w: {s.stride[1]}
            pad_h: {s.pad[0]} pad_w: {s.pad[1]} dilation: {s.dilation[0]} dilation: {s.dilation[1]} }}"""
        if layer_type == "ActiveConvolution":
            positions = [] if self.positions is None else self.positions
            listed = "".join(f" position {{ x: {x!r} y: {y!r} }}" for x, y in np.array(positions).tolist())
            parameters += f" active_convolution_param {{ position_group: {s.position_group}{listed} }}"
        return f'name: "layer" type: "{layer_type}" bottom: "image" top: "top" {parameters}'

    def net(self, layer_type="ActiveConvolution"):
        """A net of this layer alone, which wants the gradient of its input, too."""
        dims = " ".join(f"dim: {size}" for size in self.image)
        return f"""force_backward: true
            layer {{ name: "image" type: "Input" top: "image" input_param {{ shape {{ {dims} }} }} }}
            layer {{ {self.layer(layer_type)} }}"""


def random_case(seed, untrained=False, largest=14):
    """Draws the parameters until the layer's outputs are at least one pixel; ``untrained`` keeps the grid."""
    draw = np.random.default_rng(seed)
    while True:
        group, position_group = (int(draw.choice([1, 1, 2, 3])) for _ in range(2))
        explicit = not untrained and bool(draw.random() < 0.3)
        shape = oracle.Shape(
            outputs=int(np.lcm(group, position_group) * draw.integers(1, 4)), kernel=_pair(draw, 1, 4),
            stride=_pair(draw, 1, 3), pad=_pair(draw, 0, 3), dilation=(1, 1) if explicit else _pair(draw, 1, 3),
            group=group, position_group=position_group, explicit=explicit)
        image = (int(draw.integers(1, 4)), int(group * draw.integers(1, 4)), *_pair(draw, 1, largest))
        if all(len(bases) > 0 for bases in shape.base_pixels(image[2:])):
            synapses = np.prod(shape.kernel) * draw.choice([1, position_group])
            positions = draw.uniform(-3, 3, (synapses, 2)).astype(np.float32) if explicit else None
            return Case(shape, image, bool(draw.random() < 0.7), positions)


def _pair(draw, low, high):
    return tuple(int(value) for value in draw.integers(low, high + 1, 2))
