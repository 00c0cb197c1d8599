"""``acu models``: everything it does is in active_convolution.networks."""

from . import options

DESCRIPTION = """\
list: the paper's networks, which acu train takes by these names.
new: writes a network for your own images to begin with, one of the paper's, which is then yours to
change: DIR/{baseline,acu}/{train_val,deploy,solver}.prototxt. `acu train DIR` trains it."""
EXAMPLES = """\
  acu models list
  acu models new models/flowers --like cifar10/plain --data data/flowers
  acu models new models/flowers --like places365/alexnet --classes 17 --size 64 --images 1360"""


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION, EXAMPLES)
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|new")
    actions.add_parser("list", description="The paper's networks, and how long they train.")
    new = actions.add_parser("new", description="Writes a network for your own images.")
    add = new.add_argument
    add("output", type=options.path, metavar="DIR", help="the folder to make; must not exist")
    add("--like", required=True, metavar="NETWORK", help="one of acu models list")
    add(
        "--data",
        type=options.path,
        metavar="DIR",
        help="a data set from which the numbers below are taken, as far as it says them",
    )
    size = "height and width that the network sees, in pixels: larger images are cropped at random"
    for name, most, help in (
        ("--classes", options.ITERATIONS - 1, "how many there are"),
        ("--size", 4096, size),
        ("--channels", 4096, "3 for colour, 1 for grey"),
        ("--images", options.ITERATIONS - 1, "to train on: the schedule follows their number"),
    ):
        least = 2 if name == "--classes" else 1
        add(name, type=options.integer(least, most), metavar="N", help=help)
    options.active(new)
    help = "... and stay within so many pixels of the base pixel (default: anywhere)"
    add("--position-limit", type=options.positive, metavar="R", help=help)
    return parser


def run(arguments):
    from ..networks import models, own

    given = vars(arguments)
    if given.pop("action") == "list":
        for model in models.MODELS:
            task = model.dataset
            print(
                f"{model.folder:20} {task.channels}×{task.size}×{task.size} pixels, {task.classes} "
                f"classes, {task.max_iter:,} iterations of {task.batch * task.gpus} images"
            )
        return
    data = given.pop("data")
    given = {name: value for name, value in given.items() if value is not None}
    given = {**(_of_data(data) if data else {}), **given}
    solver, warmup = own.new(**given)
    steps = " and ".join(f"{step:,}" for step in solver.stepvalue)
    print(
        f"wrote {arguments.output}: {solver.max_iter:,} iterations"
        + (f" for {given['images']:,} images" if given.get("images") else "")
        + f", the rate divided by 10 at {steps}, positions frozen for the first {warmup:,}"
    )
    print(f"next: acu train {arguments.output} --data {data or 'DIR'} --output RUN")


def _of_data(folder):
    from ..data.manifest import read_manifest

    manifest = read_manifest(folder)
    channels, height, width = manifest.test.shape
    return dict(
        classes=manifest.classes,
        size=min(height, width),
        channels=channels,
        images=manifest.train.images,
        test_images=manifest.test.images,
        mean=tuple(manifest.preprocessing.mean_value),
    )
