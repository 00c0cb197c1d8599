#!/usr/bin/python3
"""Writes a network with active convolutions as one of ordinary convolutions, which runs without the plugin."""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from active_convolution import command  # noqa: E402
from active_convolution.conversion import exporting, forms  # noqa: E402

_DESCRIPTION = """\
Writes a network with active convolutions as one of ordinary convolutions that gives the same output everywhere, for any
size of image, and runs without the plugin. Fills DIR with

  deploy.prototxt, weights.caffemodel   the network (--format caffe), for any Caffe, OpenCV's dnn, whatever reads its files
  model.onnx                            the network (--format onnx), with a free batch axis, and free image sizes where the
                                        network takes them
  report.txt, report.json   each layer's kernel, its cost, and the largest difference between the two on random input"""
_EXAMPLE = """\
example:
  ./scripts/export.py --model models/cifar10/published/deploy.prototxt --weights acu_plain_cifar10_iter_64000.caffemodel \\
      --fold --output runs/exported"""


def main():
    parser = argparse.ArgumentParser(description=_DESCRIPTION, epilog=_EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, metavar="DEPLOY", help="a deploy prototxt")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="its .caffemodel")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--fold", action="store_true", help="let BatchNorm and Scale go into the convolutions")
    parser.add_argument("--format", choices=exporting.FORMATS, default="caffe", help="default: %(default)s")
    parser.add_argument("--form", choices=forms.NAMES, default="auto",
                        help="one dense kernel for each layer, or the sum of a few small ones, which is cheaper where synapses "
                             "stand far apart (default: auto, dense unless that is too large or twice as costly)")
    parser.add_argument("--max-kernel", type=int, default=forms.MAX_KERNEL, metavar="N",
                        help="the most taps of a kernel along an axis (default: %(default)s)")
    parser.add_argument("--max-multiply-adds", type=_count, default=forms.MAX_MULTIPLY_ADDS, metavar="N",
                        help="the most of a layer, for an image, such as 5e9 (default: 1e12)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write report.json here, too")
    arguments = vars(parser.parse_args())
    limits = forms.Limits(*(arguments.pop(name) for name in ("form", "max_kernel", "max_multiply_adds")))
    print(exporting.export(**arguments, limits=limits).text(), end="")


def _count(text):
    return int(float(text))


if __name__ == "__main__":
    command.run(main)
