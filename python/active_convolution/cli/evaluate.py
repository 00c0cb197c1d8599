"""``acu evaluate``: everything it does is in active_convolution.look.evaluation."""

from . import options

DESCRIPTION = """\
Prints the error of a trained network on the test images of a data set made by acu data, and where its classes have names,
with which of them it errs most."""
EXAMPLES = """\
  acu evaluate --model runs/alexnet/deploy.prototxt --data data/places365 --ten-crop \\
      --weights runs/alexnet/snapshots/places365_alexnet_acu_iter_400000.caffemodel

Each image is seen once, its middle, as Caffe's test phase sees it. Mean, scale and crop are those of the data layer in
train_val.prototxt beside the deploy prototxt, where there is one."""


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION, EXAMPLES)
    options.model(parser, "a deploy prototxt")
    options.weights(parser, required=True)
    options.data(parser)
    parser.add_argument(
        "--ten-crop",
        action="store_true",
        help="average the class probabilities of ten views: the four "
        "corners and the middle, and their mirror images",
    )
    parser.add_argument(
        "--train-val", type=options.path, metavar="FILE", help="another train_val prototxt"
    )
    parser.add_argument(
        "--batch",
        type=options.integer(1, options.ITERATIONS - 1),
        default=50,
        metavar="N",
        help="views that the network sees at once, ten or more with --ten-crop; fewer take less memory "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--json",
        type=options.result,
        metavar="FILE",
        help="also write the errors of each class, the confusion matrix and the images about which the network "
        "errs most surely; acu report shows what it finds as RUN/evaluation.json",
    )
    parser.add_argument(
        "--predictions",
        type=options.result,
        metavar="FILE",
        help="also write the answer to every test image, as CSV, in the order of the database",
    )
    options.gpu(parser, "run on this GPU (default: on the CPU)")
    return parser


def run(arguments):
    from ..look import confusion, evaluation

    given = vars(arguments)
    to_json, to_csv = given.pop("json"), given.pop("predictions")
    answers = confusion.Confusion()
    top1, top5, count = evaluation.evaluate(**given, confusion=answers)
    if to_json:
        confusion.write(to_json, answers.content(top1, top5))
    if to_csv:
        answers.write_predictions(to_csv)
    print(f"top-1 error {100 * top1:.2f} %, top-5 error {100 * top5:.2f} %, {count} images")
    worst = answers.worst()
    if worst:
        print(f"most errors: {', '.join(f'{name} {100 * error:.2f} %' for name, error in worst)}")
