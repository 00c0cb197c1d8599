#!/usr/bin/python3
"""Makes the LMDBs that the networks train on; everything it does is in active_convolution.data."""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from active_convolution import command  # noqa: E402
from active_convolution.data import places  # noqa: E402
from active_convolution.data.create import DATASETS, create  # noqa: E402
from active_convolution.errors import UserError  # noqa: E402

_DESCRIPTION = """\
Preprocesses a data set and writes it as LMDBs for Caffe, with a manifest. The folder --output appears whole or not
at all.

  digits     scikit-learn's 1797 handwritten digits; needs no --source
  cifar10    contrast normalisation, ZCA whitening, 4 pixels of padding, as in section 3.1 of the paper
  cifar100   the same, with the 100 fine labels
  places365  Places365, resized to 256x256 as convert_imageset does it; the validation images are the test set.
             After an interruption the same command goes on with what DIR.partial holds."""
_EXAMPLES = """\
examples:
  ./scripts/create_lmdb.py digits --output data/digits
  ./scripts/create_lmdb.py cifar10 --source cifar-10-python.tar.gz --output data/cifar10
  ./scripts/create_lmdb.py places365 --source data_256 --list places365_train_standard.txt \\
      --val-source val_256 --val-list places365_val.txt --output data/places365"""


def main():
    arguments = _parse()
    manifest = _create_places(arguments) if arguments.dataset == "places365" else _create_small(arguments)
    train, test = manifest["train"], manifest["test"]
    megabytes = (train["bytes"] + test["bytes"]) / 1e6
    print(f"{arguments.dataset}: {train['images']} training and {test['images']} test images, {megabytes:.0f} MB, "
          f"in {arguments.output}")
    for split in ("train", "test"):
        if manifest[split].get("unreadable"):
            print(f"{manifest[split]['unreadable']} more could not be read: see "
                  f"{arguments.output}/{split}_unreadable.txt")


def _create_small(arguments):
    given = [name for name in _PLACES_ONLY if getattr(arguments, name) is not None]
    if given:
        raise UserError(f"--{given[0].replace('_', '-')} is for places365 only: leave it out")
    return create(arguments.dataset, arguments.output, arguments.source, arguments.seed)


def _create_places(arguments):
    files = {name: getattr(arguments, name) for name in ("source", "list", "val_source", "val_list")}
    missing = [f"--{name.replace('_', '-')}" for name, path in files.items() if path is None]
    if missing:
        raise UserError(f"places365 needs {', '.join(missing)} too: the folders of unpacked images, such as data_256 "
                        "and val_256, and the lists places365_train_standard.txt and places365_val.txt")
    maximum = places.MAX_UNREADABLE if arguments.max_unreadable is None else arguments.max_unreadable
    options = places.Options(arguments.seed, bool(arguments.raw), arguments.jobs, maximum)
    return places.create(arguments.output, places.Part(files["source"], files["list"]),
                         places.Part(files["val_source"], files["val_list"]), options)


_PLACES_ONLY = ("list", "val_source", "val_list", "raw", "jobs", "max_unreadable")


def _parse():
    parser = argparse.ArgumentParser(description=_DESCRIPTION, epilog=_EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=(*DATASETS, "places365"))
    parser.add_argument("--source", type=Path, metavar="PATH",
                        help="where CIFAR lies: the python or the binary archive, packed or unpacked, or a folder or "
                             "tar archive of images, train/<class>/*.png and test/<class>/*.png (or .jpg); for "
                             "places365 the folder that the paths in --list start from: data_256, data_large, or "
                             "data_large_standard")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder to make; must not exist")
    parser.add_argument("--seed", type=int, default=0, help="shuffles the images (default: %(default)s)")
    group = parser.add_argument_group("places365")
    group.add_argument("--list", type=Path, metavar="FILE",
                       help="places365_train_standard.txt: an image and its label a line")
    group.add_argument("--val-source", type=Path, metavar="PATH", help="val_256 or val_large")
    group.add_argument("--val-list", type=Path, metavar="FILE", help="places365_val.txt")
    group.add_argument("--raw", action="store_true", default=None,
                       help="store pixels: 370 GB for the whole set, and nothing to decode in training. Without it "
                            "about 30 GB: the JPEG files themselves where they are 256x256 already, which gives the "
                            "same pixels, else JPEG of quality 95; Caffe decodes about 900 a second on one core")
    group.add_argument("--jobs", type=int, metavar="N", help="processes (default: one for each core)")
    group.add_argument("--max-unreadable", type=int, metavar="N",
                       help="images of a list that may be missing or damaged; they are left out and named in "
                            f"train_unreadable.txt and test_unreadable.txt (default: {places.MAX_UNREADABLE})")
    return parser.parse_args()


command.run(main)
