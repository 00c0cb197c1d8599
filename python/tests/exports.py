"""What the tests of exports share: layers of random cases, small networks and the commands'
functions."""

import subprocess
import sys

import numpy as np
from active_convolution.caffe import locate
from active_convolution.export import dense, exporting
from active_convolution.training.trained import Trained
from caffe_nets import INPUT, live, shake
from google.protobuf import text_format

IMAGE = INPUT.format("dim: 2 dim: 3 dim: 9 dim: 9")
ACTIVE = (
    'layer { name: "c" type: "ActiveConvolution" bottom: "image" top: "c" convolution_param { '
    'num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "gaussian" } } }\n'
)


def export(model, weights, output, **options):
    return exporting.export(Trained.of_files(model, weights), output, **options)


def acu(*arguments, **options):
    """The CompletedProcess of a command."""
    command = [sys.executable, "-m", "active_convolution", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def to_convolution(layer, blobs):
    """(LayerParameter, blobs) of the Convolution in the place of an ACU."""
    found = dense.windows(layer, *blobs[2:])
    return dense.convolution(layer, *found), dense.kernel(layer, blobs, found)


def parsed(text):
    return text_format.Parse(text, locate.caffe_pb2().LayerParameter())


def layer(name, kind, bottom, more="", top=None):
    bottoms = " ".join(f'bottom: "{each}"' for each in bottom.split())
    return f'layer {{ name: "{name}" type: "{kind}" {bottoms} top: "{top or name}" {more} }}\n'


def conv(name, bottom, more="", own="", outputs=4, kernel="kernel_size: 3 pad: 1"):
    filler = 'weight_filler { type: "msra" }'
    param = f"convolution_param {{ num_output: {outputs} {kernel} {own} {filler} }}"
    return layer(name, "Convolution", bottom, f"{more} {param}")


def written(folder, text):
    """The paths of a prototxt of this text and of random weights for it."""
    net = live(folder / "net.prototxt", text)
    shake(net, 0)
    net.save(str(folder / "net.caffemodel"))
    return folder / "net.prototxt", folder / "net.caffemodel"


def random_blobs(case, seed):
    """Weight, bias, x and y in float64 of a check.cases case: some axes of a layer at rest, some on
    its lattice, the others anywhere."""
    draw, shape = np.random.default_rng(seed), case.shape
    weight = draw.normal(size=(shape.outputs, case.image[1] // shape.group, *shape.kernel))
    bias = draw.normal(size=shape.outputs) if case.bias else np.zeros((1, 1, 1, 1))
    start = shape.grid() if case.positions is None else case.positions.T.astype(float)
    xy = []
    for of_axis, dilation in zip(start, shape.dilation[::-1]):
        of_axis = np.broadcast_to(
            of_axis.reshape(-1, 1, *shape.kernel), (shape.position_group, 1, *shape.kernel)
        )
        places = [
            of_axis,
            dilation * draw.integers(-3, 4, of_axis.shape),
            draw.uniform(-4, 4, of_axis.shape),
            np.zeros(of_axis.shape),
        ]
        xy.append(np.float32(places[draw.integers(0, len(places))]).astype(float))
    return [weight, bias, *xy]
