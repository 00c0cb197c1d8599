"""``acu export``: everything it does is in active_convolution.export.exporting."""

import argparse

from . import options

DESCRIPTION = """\
Writes a network with active convolutions as one of ordinary convolutions that gives the same output everywhere, for any
size of image, and runs without the plugin. Fills --output with

  deploy.prototxt, weights.caffemodel   the network (--format caffe), for any Caffe, OpenCV's dnn, whatever reads its files
  model.onnx                            the network (--format onnx), with a free batch axis, and free height and width where
                                        the network takes other sizes
  network.py, weights.pt                the network (--format torch) as a module that needs torch alone, and its state dict
  report.txt, report.json   each layer's kernel, its cost, and the largest difference between the two on random input"""
EXAMPLES = """\
  acu export --model models/cifar10/published/deploy.prototxt --weights acu_plain_cifar10_iter_64000.caffemodel \\
      --fold --output runs/exported
  acu export --format onnx --model deploy.prototxt --weights net.caffemodel --output runs/onnx"""
FORMATS, FORMS = (
    ("caffe", "onnx", "torch"),
    ("auto", "dense", "sparse"),
)  # exporting's and forms' own, which take a while to import
MAX_KERNEL, MAX_MULTIPLY_ADDS, MOST_KERNEL = 63, 10**12, 2**20


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION, EXAMPLES)
    options.model(parser, "a deploy prototxt")
    options.weights(parser, required=True)
    options.output(parser, "a new folder", "DIR")
    parser.add_argument(
        "--format", choices=FORMATS, default="caffe", help="of the network (default: %(default)s)"
    )
    parser.add_argument(
        "--fold", action="store_true", help="let BatchNorm and Scale go into the convolutions"
    )
    parser.add_argument(
        "--learnable",
        action="store_true",
        help="with --format torch: leave active convolutions what they are, as a class whose positions learn",
    )
    parser.add_argument(
        "--form",
        choices=FORMS,
        default="auto",
        help="one dense kernel for each layer, or the sum of a few small ones, cheaper where synapses stand far "
        "apart (default: auto, dense unless that is too large, or more than twice as costly)",
    )
    parser.add_argument(
        "--max-kernel",
        type=options.integer(1, MOST_KERNEL),
        default=MAX_KERNEL,
        metavar="N",
        help="the most taps of a kernel along an axis (default: %(default)s)",
    )
    parser.add_argument(
        "--max-multiply-adds",
        type=_count,
        default=MAX_MULTIPLY_ADDS,
        metavar="N",
        help="the most of a layer, for an image, such as 5e9 (default: 1e12)",
    )
    parser.add_argument(
        "--report", type=options.result, metavar="FILE", help="write report.json to FILE, too"
    )
    return parser


def _count(text):
    """A whole number, which may be written as 5e9."""
    try:
        number = int(float(text))
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"'{text}' is no number such as 5e9") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is out of range: give 1 or more")
    return number


def run(arguments):
    from ..export import exporting, forms

    arguments = vars(arguments)
    limits = forms.Limits(
        *(arguments.pop(name) for name in ("form", "max_kernel", "max_multiply_adds"))
    )
    print(exporting.export(**arguments, limits=limits).text(), end="")
