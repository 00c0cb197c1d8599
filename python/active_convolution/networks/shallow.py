"""A network of two 3×3 convolutions, to see what moving synapses are good for within a minute. It
is none of the paper's."""

from . import units

WIDTHS = (24, 48)  # outputs of the two convolutions
# The paper moves positions at a hundredth of the weights' rate over 64,000 iterations; in 400, that
# is half a pixel at most.
POSITION_RATE = 0.1


def shallow(net, data, dataset, variant):
    """Two 3×3 convolutions (24 and 48 outputs, the second with stride 2), each with batch
    normalisation and ReLU, global average pooling and the scores. On the grid, a score sees strokes
    of 5×5 pixels and not where they are, so how far the synapses of the two active convolutions
    reach decides what it can tell apart."""
    top = data
    for index, outputs in enumerate(WIDTHS, start=1):
        top = units.unit(
            net,
            str(index),
            top,
            units.active(dataset, variant, position_lr_mult=POSITION_RATE),
            num_output=outputs,
            kernel_size=3,
            pad=1,
            stride=index,
        )
    return units.scores(net, top, dataset.classes)
