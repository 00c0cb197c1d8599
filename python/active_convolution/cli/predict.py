"""``acu predict``: everything it does is in active_convolution.look.predict."""

import json

from . import options

DESCRIPTION = """\
Says what a trained network sees in images: a line for each, with the names and the probabilities of
up to five classes. The images become what the run's own were: size, colours, mean, crop."""
EXAMPLES = """\
  acu predict runs/flowers rose.jpg tulip.jpg
  acu predict runs/flowers photos --json answers.json"""
_MOST = 5  # classes of a line


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "run", type=options.path, metavar="RUN", help="the --output folder of acu train"
    )
    parser.add_argument(
        "images", type=options.path, nargs="+", metavar="IMAGE", help="a file, or a folder of files"
    )
    options.iteration(parser)
    help = "also write every class's probability for every image"
    parser.add_argument("--json", type=options.result, metavar="FILE", help=help)
    return parser


def run(arguments):
    from ..files import whole_file
    from ..look import predict

    paths = predict.files(arguments.images)
    network = predict.load(arguments.run, arguments.iteration)
    probabilities = network.predict(paths)
    if arguments.json:
        with whole_file(arguments.json) as file:
            rows = zip(map(str, paths), probabilities.tolist())
            images = [dict(image=path, probabilities=row) for path, row in rows]
            answers = dict(classes=network.classes, images=images)
            json.dump(answers, file, indent=1, ensure_ascii=False)
            file.write("\n")
    for path, row in zip(paths, probabilities):
        best = row.argsort()[::-1][:_MOST]
        said = ", ".join(f"{network.classes[index]} {100 * row[index]:.1f} %" for index in best)
        print(f"{path}: {said}")
    options.say_next("export", arguments.run)
