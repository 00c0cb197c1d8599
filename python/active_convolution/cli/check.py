"""``acu check``: everything it does is in active_convolution.check."""

from . import options

DESCRIPTION = """\
Compares the layer, forward and all gradients, in float and double, with an oracle in NumPy on
random cases."""


def parser(prog):
    from ..caffe import locate

    parser = options.Parser(prog, DESCRIPTION)
    parser.add_argument(
        "--cases",
        type=options.integer(1, options.SEEDS),
        default=1000,
        metavar="N",
        help="how many, in each precision",
    )
    options.seed(parser, "of the first case")
    options.gpu(
        parser,
        "run the layer on this GPU (default: ACTIVE_CONVOLUTION_GPU, else the CPU)",
        default=locate.GPU,
    )
    parser.add_argument(
        "--build",
        type=options.path,
        metavar="DIR",
        default=locate.BUILD,
        help="run the layer of this build, such as build-sanitize",
    )
    return parser


def run(arguments):
    from ..check import runner

    return runner.check_all(arguments.cases, arguments.seed, arguments.gpu, arguments.build)
