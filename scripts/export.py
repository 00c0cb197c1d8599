#!/usr/bin/python3
"""Writes a network with active convolutions as one of ordinary convolutions, which runs without the plugin."""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from active_convolution import command  # noqa: E402
from active_convolution.conversion import exporting  # noqa: E402

_DESCRIPTION = """\
Writes a network with active convolutions as one of ordinary convolutions that gives the same output everywhere, for any
size of image, and runs in any Caffe, OpenCV's dnn, or whatever else reads Caffe's files. Fills DIR with

  deploy.prototxt, weights.caffemodel   the network
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
    parser.add_argument("--max-kernel", type=int, default=exporting.MAX_KERNEL, metavar="N",
                        help="the most taps of a kernel along an axis (default: %(default)s)")
    print(exporting.export(**vars(parser.parse_args())).text(), end="")


if __name__ == "__main__":
    command.run(main)
