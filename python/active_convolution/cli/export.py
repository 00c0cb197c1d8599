"""``acu export``: everything it does is in active_convolution.conversion.exporting."""
from . import options

DESCRIPTION = """\
Writes a network with active convolutions as one of ordinary convolutions that gives the same output everywhere, for any
size of image, and runs in any Caffe, OpenCV's dnn, or whatever else reads Caffe's files. Fills --output with

  deploy.prototxt, weights.caffemodel   the network
  report.txt, report.json   each layer's kernel, its cost, and the largest difference between the two on random input"""
EXAMPLES = """\
  acu export --model models/cifar10/published/deploy.prototxt --weights acu_plain_cifar10_iter_64000.caffemodel \\
      --fold --output runs/exported"""
MAX_KERNEL = 63  # exporting's own, which takes a while to import


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION, EXAMPLES)
    options.model(parser, "a deploy prototxt")
    options.weights(parser, required=True)
    options.output(parser, "a new folder", "DIR")
    parser.add_argument("--fold", action="store_true", help="let BatchNorm and Scale go into the convolutions")
    parser.add_argument("--max-kernel", type=options.integer(1), default=MAX_KERNEL, metavar="N",
                        help="the most taps of a kernel along an axis (default: %(default)s)")
    return parser


def run(arguments):
    from ..conversion import exporting
    print(exporting.export(**vars(arguments)).text(), end="")
