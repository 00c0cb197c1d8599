#!/usr/bin/python3
"""Makes the LMDBs that the networks train on; everything it does is in active_convolution.data."""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from active_convolution import command  # noqa: E402
from active_convolution.data.create import DATASETS, create  # noqa: E402

_DESCRIPTION = """\
Preprocesses a data set and writes it as LMDBs for Caffe, with a manifest. The folder --output appears whole or not
at all.

  digits     scikit-learn's 1797 handwritten digits; needs no --source
  cifar10    contrast normalisation, ZCA whitening, 4 pixels of padding, as in section 3.1 of the paper
  cifar100   the same, with the 100 fine labels"""
_EXAMPLES = """\
examples:
  ./scripts/create_lmdb.py digits --output data/digits
  ./scripts/create_lmdb.py cifar10 --source cifar-10-python.tar.gz --output data/cifar10"""


def main():
    arguments = _parse()
    manifest = create(arguments.dataset, arguments.output, arguments.source, arguments.seed)
    train, test = manifest["train"], manifest["test"]
    megabytes = (train["bytes"] + test["bytes"]) / 1e6
    print(f"{arguments.dataset}: {train['images']} training and {test['images']} test images, {megabytes:.0f} MB, "
          f"in {arguments.output}")


def _parse():
    parser = argparse.ArgumentParser(description=_DESCRIPTION, epilog=_EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--source", type=Path, metavar="PATH",
                        help="where CIFAR lies: the python or the binary archive, packed or unpacked, or a folder or "
                             "tar archive of images, train/<class>/*.png and test/<class>/*.png (or .jpg)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder to make; must not exist")
    parser.add_argument("--seed", type=int, default=0, help="shuffles the images (default: %(default)s)")
    return parser.parse_args()


command.run(main)
