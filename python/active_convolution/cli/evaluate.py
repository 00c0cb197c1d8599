"""``acu evaluate``: everything it does is in active_convolution.look.evaluation."""

from . import options

DESCRIPTION = """\
Prints the error of a trained network on test images: those that a RUN tests with, or those of
--data. Where the classes have names, it says with which of them the network errs most."""
EXAMPLES = """\
  acu evaluate runs/acu
  acu evaluate runs/alexnet --iteration 400000 --ten-crop
  acu evaluate --model deploy.prototxt --weights net.caffemodel --data data/places365

Each image is seen once, its middle, as in Caffe's test phase. Mean, scale and crop are those of the
data layer that the network is tested with, in RUN or in train_val.prototxt beside --model."""


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION, EXAMPLES, check=options.check_trained)
    options.trained(parser)
    options.data(parser, "another data set, as acu data makes it (default: train_val's)")
    parser.add_argument(
        "--train-val", type=options.path, metavar="FILE", help="with --model: another train_val"
    )
    help = "average the class probabilities of ten views: four corners, the middle, their mirrors"
    parser.add_argument("--ten-crop", action="store_true", help=help)
    number = options.integer(1, options.ITERATIONS - 1)
    help = "views that the network sees at once; fewer take less memory (default: %(default)s)"
    parser.add_argument("--batch", type=number, default=50, metavar="N", help=help)
    help = (
        "also write the errors of each class, the confusion matrix and the images about which the "
        "network errs most surely; acu report shows what it finds as RUN/evaluation.json"
    )
    parser.add_argument("--json", type=options.result, metavar="FILE", help=help)
    help = "also write the answer to every test image, as CSV, in the order of the data"
    parser.add_argument("--predictions", type=options.result, metavar="FILE", help=help)
    options.gpu(parser, "run on this GPU (default: on the CPU)")
    return parser


def run(arguments):
    from ..look import confusion, evaluation

    answers = confusion.Confusion()
    trained = options.trained_of(arguments, arguments.train_val)
    how = (arguments.data, arguments.ten_crop, arguments.batch, arguments.gpu)
    top1, top5, count = evaluation.evaluate(trained, *how, answers)
    if arguments.json:
        confusion.write(arguments.json, answers.content(top1, top5))
    if arguments.predictions:
        answers.write_predictions(arguments.predictions)
    five = "" if top5 is None else f", top-5 error {top5:.2f} %"
    print(f"top-1 error {top1:.2f} %{five}, {count} images")
    outputs = answers.matrix.shape[1]
    if answers.largest + 1 < outputs:
        print(f"labels go up to {answers.largest}: the network has {outputs} outputs")
    worst = answers.worst()
    if worst:
        print(f"most errors: {', '.join(f'{name} {error:.2f} %' for name, error in worst)}")
    if arguments.run:
        kept = arguments.json == arguments.run / confusion.FILE
        options.say_next("report" if kept else "plot", arguments.run)
