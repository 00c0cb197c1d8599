"""``acu convert``: everything it does is in active_convolution.export.converting."""

import argparse
from pathlib import Path

from . import options

DESCRIPTION = """\
Writes a network (train_val or deploy prototxt, new or old format; of a RUN the one that trains)
with active convolutions in the place of ordinary ones, or of the AConvFast layers of the authors'
published code. It computes what it did before, and is ready to finetune. Fills --output with the
prototxt, under its own name and without its comments, weights.caffemodel and a report.

By default every AConvFast layer is converted, or in a network without one every convolution larger
than 1×1."""
EXAMPLES = """\
  acu convert runs/ordinary --kernel 3 --warmup-iter 10000
  acu convert --model train_val.prototxt --weights alexnet.caffemodel --output acu"""
_FIELDS = {
    "warmup_iter": options.integer(0, options.ITERATIONS - 1),
    "position_lr_mult": options.number(0),
    "position_group": options.integer(1),
    "position_limit": options.number(0),
}
_FLAGS = ("normalize_gradient", "fix_origin")


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION, EXAMPLES, check=_wrong)
    options.trained(parser, "a train_val or deploy prototxt")
    options.output(parser, "a new folder (default: RUN/converted)", "DIR", default=None)
    several = dict(nargs="+", default=())
    only = "convert layers of these names only, such as 'conv[45]' or 'res*_branch2b'"
    parser.add_argument("--layers", **several, metavar="PATTERN", help=only)
    only = "convert layers of these kernels only"
    parser.add_argument("--kernel", **several, type=_kernel, metavar="N or HxW", help=only)
    options.seed(parser, "of the noise in AConvFast's starting positions (default: %(default)s)")
    said = "active_convolution_param (default: the layer's, or what AConvFast says)"
    field = parser.add_argument_group(said)
    for name, kind in _FIELDS.items():
        field.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N")
    for name in _FLAGS:
        field.add_argument(f"--{name.replace('_', '-')}", action=argparse.BooleanOptionalAction)
    return parser


def _kernel(text):
    """N or HxW as (vertical, horizontal)."""
    sizes = text.lower().split("x")
    if len(sizes) > 2 or not all(size.isdecimal() and int(size) for size in sizes):
        raise argparse.ArgumentTypeError(f"{text} is not a kernel size such as 3 or 3x5")
    return int(sizes[0]), int(sizes[-1])


def _wrong(arguments):
    if arguments.run:
        return options.check_trained(arguments)
    given = arguments.model and arguments.output
    return None if given else "name a RUN, or give --model and --output"


def run(arguments):
    from ..export import converting

    trained, output = options.trained_of(arguments), arguments.output
    model = trained.train_val if arguments.run else trained.model
    output = output or arguments.run / "converted"
    fields = {name: getattr(arguments, name) for name in (*_FIELDS, *_FLAGS)}
    fields = {name: value for name, value in fields.items() if value is not None}
    choice = arguments.layers, arguments.kernel
    files = model, trained.weights, output
    done = converting.convert(*files, *choice, fields, arguments.seed, trained.stages)
    print(converting.text(done), end="")
    weights = ["--weights", output / "weights.caffemodel"] if trained.weights else []
    if Path(model).name.startswith("deploy"):
        words = ["export", "--model", output / Path(model).name]
        options.say_next(*words, *weights, "--output", f"{output}-exported")
        return
    solver = ["--solver", arguments.run / "solver.prototxt"] if arguments.run else []
    data = ["--data", trained.data.folder] if trained.data else []
    options.say_next("train", output, *solver, *data, *weights, "--output", f"{output}-run")
