"""``acu models``: everything it does is in active_convolution.networks."""

from . import options

DESCRIPTION = """\
Writes a network for your own images to begin with, DIR/{baseline,acu}/{train_val,deploy,solver}.prototxt: one of the
paper's, which is then yours to change. `acu train DIR --variant acu` trains it."""
EXAMPLES = """\
  acu models new models/flowers --like cifar10/plain --classes 17 --size 64
  acu models new models/flowers --like places365/alexnet --data data/flowers"""


def parser(prog):
    from ..networks.models import MODELS

    parser = options.Parser(prog, DESCRIPTION, EXAMPLES)
    parser.add_argument("action", choices=("new",), help="the only one so far")
    parser.add_argument(
        "output", type=options.path, metavar="DIR", help="the folder to make; must not exist"
    )
    parser.add_argument(
        "--like", required=True, metavar="NETWORK", help=", ".join(model.folder for model in MODELS)
    )
    parser.add_argument(
        "--data",
        type=options.path,
        metavar="DIR",
        help="a data set from which the numbers below and the number of test images are taken, as far as it "
        "says them",
    )
    parser.add_argument(
        "--classes",
        type=options.integer(2, options.ITERATIONS - 1),
        metavar="N",
        help="how many there are",
    )
    parser.add_argument(
        "--size",
        type=options.integer(1, 4096),
        metavar="N",
        help="height and width of the images that the network sees, in pixels; those in the data set may be "
        "larger, and are cropped at random in training",
    )
    parser.add_argument(
        "--channels", type=options.integer(1, 4096), metavar="N", help="3 for colour, 1 for grey"
    )
    return parser


def run(arguments):
    from ..networks import own

    given = {name: getattr(arguments, name) for name in ("classes", "size", "channels")}
    if arguments.data is not None:
        given = {
            **_of_data(arguments.data),
            **{name: value for name, value in given.items() if value is not None},
        }
    own.new(arguments.output, arguments.like, **given)
    print(
        f"wrote {arguments.output}: acu train {arguments.output} --variant acu --data DIR --output RUN trains it"
    )


def _of_data(folder):
    from ..data.manifest import read_manifest

    manifest = read_manifest(folder)
    channels, height, width = manifest.test.shape
    return dict(
        classes=manifest.classes,
        size=min(height, width),
        channels=channels,
        test_images=manifest.test.images,
        mean=manifest.preprocessing.mean_value,
    )
