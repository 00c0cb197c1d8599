"""``acu export``: everything it does is in active_convolution.export.exporting."""

import dataclasses

from . import options

DESCRIPTION = """\
Writes a network with active convolutions as one of ordinary convolutions that gives the same output
everywhere, for any size of image, and runs without the plugin. Fills --output with

  deploy.prototxt, weights.caffemodel   (--format caffe) for any Caffe, and OpenCV's dnn
  model.onnx                            (--format onnx) with a free batch axis, and free height and
                                        width where the network takes other sizes
  network.py, weights.npz               (--format torch) a module that needs torch alone
  preprocessing.json                    what an image has to become before the network may see it
  report.txt, report.json               each layer's kernel, its cost, and the largest difference"""
EXAMPLES = """\
  acu export runs/flowers --format onnx
  acu export --model deploy.prototxt --weights net.caffemodel --data data/flowers \\
      --output exported"""
_NEXT = {
    "caffe": "import cv2; cv2.dnn.readNet('{0}/weights.caffemodel', '{0}/deploy.prototxt')",
    "onnx": "import onnxruntime; onnxruntime.InferenceSession('{0}/model.onnx')",
    "torch": "import sys; sys.path.append('{0}'); import network; network.load()",
}


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION, EXAMPLES, check=_wrong)
    options.trained(parser)
    parser.add_argument(
        "--data", type=options.path, metavar="DIR", help="its data set (default: RUN's)"
    )
    parser.add_argument(
        "--format", choices=_NEXT, default="caffe", help="of the network (default: %(default)s)"
    )
    options.output(parser, "a new folder (default: RUN/export-FORMAT)", "DIR", default=None)
    parser.add_argument(
        "--fold", action="store_true", help="let BatchNorm and Scale go into the convolutions"
    )
    parser.add_argument(
        "--logits", action="store_true", help="leave out the Softmax at the network's end"
    )
    parser.add_argument(
        "--learnable",
        action="store_true",
        help="with --format torch: leave ACUs what they are, as a class whose positions learn",
    )
    parser.add_argument(
        "--max-kernel",
        type=options.integer(1, 1024),
        default=63,
        metavar="N",
        help="the most taps of a kernel along an axis (default: %(default)s)",
    )
    return parser


def _wrong(arguments):
    if not arguments.run and not arguments.output:
        return "name the folder to write with --output"
    return options.check_trained(arguments)


def run(arguments):
    from ..data.manifest import read_manifest
    from ..export import exporting

    trained = options.trained_of(arguments)
    if arguments.data:
        trained = dataclasses.replace(trained, data=read_manifest(arguments.data, ()))
    output = arguments.output or arguments.run / f"export-{arguments.format}"
    wanted = {
        name: getattr(arguments, name)
        for name in ("format", "fold", "learnable", "logits", "max_kernel")
    }
    print(exporting.text(exporting.export(trained, output, **wanted)), end="")
    print(f'next: python3 -c "{_NEXT[arguments.format].format(output)}"')
