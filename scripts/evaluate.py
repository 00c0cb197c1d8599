#!/usr/bin/python3
"""Prints the error of a trained network on the test images of a data set made by create_lmdb.py."""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from active_convolution import command, evaluation  # noqa: E402
from active_convolution.pycaffe import nets  # noqa: E402

_EXAMPLE = """\
Each image is seen once, its middle, as Caffe's test phase sees it. Mean, scale and crop are those of the data layer in
train_val.prototxt beside DEPLOY, where there is one.

example:
  ./scripts/evaluate.py --model runs/alexnet/deploy.prototxt --data data/places365 --ten-crop \\
      --weights runs/alexnet/snapshots/places365_alexnet_acu_iter_400000.caffemodel"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog=_EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, metavar="DEPLOY", help="a deploy prototxt")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="its .caffemodel")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the --output of create_lmdb.py")
    parser.add_argument("--ten-crop", action="store_true", help="average the class probabilities of ten views: the four "
                        "corners and the middle, and their mirror images")
    parser.add_argument("--train-val", type=Path, metavar="FILE", help="another train_val prototxt")
    parser.add_argument("--batch", type=int, default=50, metavar="N",
                        help="views that the network sees at once, ten or more with --ten-crop; fewer take less memory "
                             "(default: %(default)s)")
    parser.add_argument("--gpu", type=int, metavar="ID", help="run on this GPU (default: on the CPU)")
    arguments = parser.parse_args()
    nets.check_deploy(arguments.model)
    top1, top5, count = evaluation.evaluate(**vars(arguments))
    print(f"top-1 error {100 * top1:.2f} %, top-5 error {100 * top5:.2f} %, {count} images")


if __name__ == "__main__":
    command.run(main)
