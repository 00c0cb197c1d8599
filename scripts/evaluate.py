#!/usr/bin/python3
"""Prints the error of a trained network on the test images of a data set made by create_lmdb.py."""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from active_convolution import command, evaluation  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, metavar="DEPLOY", help="a deploy prototxt")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="its .caffemodel")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the --output of create_lmdb.py")
    top1, top5, count = evaluation.evaluate(**vars(parser.parse_args()))
    print(f"top-1 error {100 * top1:.2f} %, top-5 error {100 * top5:.2f} %, {count} images")


if __name__ == "__main__":
    command.run(main)
