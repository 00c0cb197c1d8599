"""``acu convert``: everything it does is in active_convolution.export.converting."""

import argparse

from . import options

DESCRIPTION = """\
Writes a network (train_val or deploy prototxt, new or old format) with active convolutions in the place of ordinary ones,
or of the AConvFast layers of the authors' published code. It computes what it did before, and is ready to finetune. Fills
--output with the prototxt, under its own name and without its comments, and with weights.caffemodel.

By default every AConvFast layer is converted, or in a network without one every convolution larger than 1×1."""
EXAMPLES = """\
  acu convert --model train_val.prototxt --weights alexnet.caffemodel --kernel 3 --warmup-iter 10000 --output acu"""
_FIELDS = ("warmup_iter", "normalize_gradient", "position_lr_mult", "position_group", "fix_origin")


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION, EXAMPLES)
    options.model(parser, "a train_val or deploy prototxt")
    options.weights(parser, "its .caffemodel (default: the prototxt alone)")
    options.output(parser, "a new folder", "DIR")
    parser.add_argument(
        "--layers",
        nargs="+",
        default=(),
        metavar="PATTERN",
        dest="patterns",
        help="convert layers of these names only, such as 'conv[45]' or 'res*_branch2b'",
    )
    parser.add_argument(
        "--kernel",
        nargs="+",
        type=_kernel,
        default=(),
        metavar="N or HxW",
        dest="kernels",
        help="convert layers of these kernels only",
    )
    options.seed(
        parser, "of the noise in the starting positions of AConvFast (default: %(default)s)"
    )
    parser.add_argument(
        "--report", type=options.result, metavar="FILE", help="write what was done to FILE, as JSON"
    )
    field = parser.add_argument_group(
        "active_convolution_param (default: the layer's, or what AConvFast says)"
    )
    field.add_argument("--warmup-iter", type=int, metavar="N")
    field.add_argument("--normalize-gradient", action=argparse.BooleanOptionalAction)
    field.add_argument("--position-lr-mult", type=float, metavar="F")
    field.add_argument("--position-group", type=int, metavar="N")
    field.add_argument("--fix-origin", action=argparse.BooleanOptionalAction)
    return parser


def _kernel(text):
    """N or HxW as (vertical, horizontal)."""
    sizes = text.lower().split("x")
    if len(sizes) > 2 or not all(size.isdecimal() and int(size) for size in sizes):
        raise argparse.ArgumentTypeError(f"{text} is no kernel such as 3 or 3x5")
    return int(sizes[0]), int(sizes[-1])


def run(arguments):
    from ..export import converting

    arguments = vars(arguments)
    fields = converting.Fields(**{name: arguments.pop(name) for name in _FIELDS})
    done = converting.convert(**arguments, options=fields)
    print(done.text(), end="")
