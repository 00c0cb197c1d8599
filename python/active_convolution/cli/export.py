"""``acu export``: everything it does is in active_convolution.export.exporting."""

import dataclasses
import shlex

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
    "caffe": 'import cv2; cv2.dnn.readNet("{0}/weights.caffemodel", "{0}/deploy.prototxt")',
    "onnx": 'import onnxruntime; onnxruntime.InferenceSession("{0}/model.onnx")',
    "torch": 'import sys; sys.path.append("{0}"); import network; network.load()',
}
_FLAGS = {
    "fold": "let BatchNorm and Scale go into the convolutions",
    "logits": "leave out the Softmax at the network's end",
    "learnable": "with --format torch: leave ACUs what they are, as a class whose positions learn",
}


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION, EXAMPLES, check=_wrong)
    options.trained(parser)
    options.data(parser, "its data set (default: RUN's)")
    formats = "of the network (default: %(default)s)"
    parser.add_argument("--format", choices=_NEXT, default="caffe", help=formats)
    options.output(parser, "a new folder (default: RUN/export-FORMAT)", "DIR", default=None)
    for name, help in _FLAGS.items():
        parser.add_argument(f"--{name}", action="store_true", help=help)
    kernel = dict(type=options.integer(1, 1024), default=63, metavar="N")
    taps = "the most taps of a kernel along an axis (default: %(default)s)"
    parser.add_argument("--max-kernel", **kernel, help=taps)
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
    wanted = {name: getattr(arguments, name) for name in ("format", "max_kernel", *_FLAGS)}
    print(exporting.text(exporting.export(trained, output, **wanted)), end="")
    print(f"next: python3 -c {shlex.quote(_NEXT[arguments.format].format(output))}")
