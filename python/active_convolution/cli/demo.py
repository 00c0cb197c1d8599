"""``acu demo``: everything it does is in active_convolution.paper.demo."""

from pathlib import Path

from . import options

DESCRIPTION = """\
Trains a network of two 3x3 convolutions on handwritten digits, with ordinary convolutions and with
active ones, six times each (a cross-validation), prints both test errors, and draws where the
synapses went. On two idle cores it takes about a minute. Run again, it goes on where it was
stopped."""


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION)
    options.output(
        parser,
        "data, runs and the picture (default: %(default)s)",
        "DIR",
        default=Path("runs/demo"),
    )
    return parser


def run(arguments):
    from ..caffe import positions
    from ..look import style, synapses
    from ..paper import demo

    print("Training 2 x 6 small networks on handwritten digits, two at a time", flush=True)
    status, errors = demo.cross_validate(arguments.output)
    if status:
        return status
    layers = positions.load_run(arguments.output / "acu-1").layers()
    picture = (arguments.output / "positions.png").resolve()
    style.save(synapses.draw_positions(layers), picture)
    print(
        "Test error of two 3x3 convolutions on handwritten digits: mean ± standard error, 6 folds"
    )
    print("\n".join(demo.summary(errors)))
    print(f"Learned positions: {picture}")
    options.say_next("report", *(arguments.output / f"{variant}-1" for variant in errors))
    return 0
