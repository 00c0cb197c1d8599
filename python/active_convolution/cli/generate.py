"""``acu generate``: everything it does is in active_convolution.networks.models."""

from . import options


def parser(prog):
    parser = options.Parser(prog, "Writes the prototxt files of the paper's networks.")
    options.output(
        parser,
        "the folder that they go to, <dataset>/<network>/<variant>/ (default: %(default)s)",
        "DIR",
        default=options.networks(),
    )
    return parser


def run(arguments):
    from ..networks import models

    changed = models.write(arguments.output)
    for path in changed:
        print(path)
    print(f"{len(changed)} files changed")
