"""``acu data``: everything it does is in active_convolution.data."""

import argparse
import re

from . import options

DESCRIPTION = """\
Writes a data set as LMDBs for Caffe, with a manifest. acu data KIND --help lists its options."""
EXAMPLES = """\
  acu data digits --output data/digits
  acu data cifar10 --download --output data/cifar10
  acu data images --source flowers --test-fraction 0.2 --size 64x64 --output data/flowers
  acu data images --source train --val-source val --size 64x64 --resize crop --output data/mine
  acu data images --source . --list train.csv --val-list val.csv --output data/listed
  acu data adopt examples/imagenet --label-names synset_words.txt
  acu data places365 --source data_256 --list places365_train_standard.txt \\
      --val-source val_256 --val-list places365_val.txt --output data/places365"""
_NEXT = {"digits": "digits/plain", "cifar10": "cifar10/plain", "cifar100": "cifar100/plain"}
_NEXT["places365"] = "places365/alexnet"


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION, EXAMPLES)
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")

    def kind(name, says, *parts):
        made = kinds.add_parser(name, help=says, description=f"Makes a data set of {says}.")
        for part in parts:
            part(made)

    kind("digits", "scikit-learn's 1797 handwritten digits of 8x8 pixels", _made, _digits)
    whitened = "contrast-normalised, whitened and padded as in section 3.1 of the paper"
    kind("cifar10", f"CIFAR-10, {whitened}", _made, _cifar)
    kind("cifar100", f"CIFAR-100, its 100 fine labels, {whitened}", _made, _cifar)
    kind("images", "your own, in folders of classes or by lists", _made, _listed, _images)
    kind("places365", "Places365 in 256x256 pixels, as convert_imageset does it", _made, _listed)
    kind("adopt", "databases that another tool made: only a manifest is written", _adopt)
    return parser


def _made(parser):
    options.output(parser, "the folder to make; must not exist", "DIR")
    options.seed(parser, "shuffles the images")


def _digits(parser):
    _size(parser, "(default: 8x8)")
    fold = options.integer(1, 6)
    help = "test on part K of 6, for a cross-validation (default: on 297 images)"
    parser.add_argument("--fold", type=fold, metavar="K", help=help)


def _cifar(parser):
    group = parser.add_mutually_exclusive_group(required=True)
    help = "the python or binary archive, packed or unpacked, or an .npz with X, Y, xt, yt"
    group.add_argument("--source", type=options.path, metavar="PATH", help=help)
    help = "fetch the archive from its authors' page, 170 MB, to $XDG_CACHE_HOME or ~/.cache"
    group.add_argument("--download", action="store_true", help=help)


def _listed(parser):
    _path(parser, "--source", "the folder of the images", required=True)
    listed = "an image and its label a line, or a CSV with a heading (default: folders say it)"
    _path(parser, "--list", listed)
    _path(parser, "--val-source", "the folder of the test images (default: --source)")
    _path(parser, "--val-list", "as --list, of the test images")
    help = "what is stored: files of the right size as they are, or pixels"
    parser.add_argument("--encode", choices=("jpeg", "png", "raw"), default="jpeg", help=help)
    options.jobs(parser, "threads (default: one for each core)")
    help = "images of a split that may be missing or damaged"
    kind = options.integer(0)
    parser.add_argument("--max-unreadable", type=kind, metavar="N", default=10, help=help)


def _images(parser):
    add = parser.add_argument
    help = "the columns of a table that has more than two"
    add("--columns", type=_columns, metavar="IMAGE,LABEL", help=help)
    help = "of each class that is drawn to test on, such as 0.2, where no other images are given"
    add("--test-fraction", type=options.number(0, 1, above=True), metavar="F", help=help)
    _path(parser, "--label-names", "the classes, one a line, in the order of the labels")
    _size(parser, "(default: that of the images)")
    help = "stretch, the middle that fills --size, or all and black"
    add("--resize", choices=("stretch", "crop", "pad"), default="stretch", help=help)
    add("--mean", action="store_true", help="write the mean training image: mean.binaryproto")
    help = "normalise contrast, whiten and pad, as in section 3.1 of the paper"
    add("--whiten", action="store_true", help=help)


def _adopt(parser):
    help = "where LMDB, LevelDB, HDF5 or lists of images lie"
    parser.add_argument("folder", type=options.path, metavar="DIR", help=help)
    _path(parser, "--source", "the one to train on (default: by its name)")
    _path(parser, "--val-source", "the one to test on (default: by its name)")
    _path(parser, "--label-names", "the classes, one a line, in the order of the labels")
    _size(parser, "to which Caffe resizes listed images (default: as they are)")
    options.output(parser, "where the manifest goes (default: DIR)", "DIR", required=False)


def _path(parser, name, help, **more):
    parser.add_argument(name, type=options.path, metavar="PATH", help=help, **more)


def _size(parser, more):
    help = f"width and height in pixels {more}"
    parser.add_argument("--size", type=_pixels, metavar="WxH", help=help)


def _pixels(text):
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text)
    if not match:
        raise argparse.ArgumentTypeError(
            f"{text} is not a size: give width and height, as in 64x64"
        )
    return int(match[1]), int(match[2])


def _columns(text):
    if len(columns := tuple(text.split(","))) != 2:
        raise argparse.ArgumentTypeError(
            f"{text} does not name two columns: give them as in filename,class"
        )
    return columns


def run(arguments):
    make = {"adopt": _run_adopt, "images": _run_images, "places365": _run_images}
    manifest, notes = make.get(arguments.kind, _run_small)(arguments)
    names = manifest.label_names or []
    listed = f": {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}" if names else ""
    print(f"{manifest.classes} classes{listed}", *(f"note: {note}" for note in notes), sep="\n")
    words = {"train": "training", "test": "test"}
    counts = [f"{part.images} {words[split]}" for split, part in manifest.parts.items()]
    size = sum(part.bytes for part in manifest.parts.values()) / 1e6
    folder = arguments.output or arguments.folder
    print(f"{arguments.kind}: {' and '.join(counts)} images, {size:.0f} MB, in {folder}")
    if arguments.kind in _NEXT:
        end = f"--data {folder} --output runs/{folder.name}"
        print(f"next: acu train {_NEXT[arguments.kind]} --variant acu {end}")
    else:
        name = f"models/{folder.absolute().name}"
        print(f"next: acu models new {name} --like cifar10/plain --data {folder}")


def _run_small(arguments):
    from ..data import small
    from ..files import check_new

    check_new(arguments.output)  # now, not after the download
    given = {name: getattr(arguments, name, None) for name in ("source", "fold", "size")}
    if getattr(arguments, "download", False):
        given["source"] = small.fetch(arguments.kind)
    return small.create(arguments.kind, arguments.output, seed=arguments.seed, **given), []


def _run_images(arguments):
    from ..data.images import Files, Options, create

    given = {name: value for name, value in vars(arguments).items() if name in Options._fields}
    if arguments.kind == "places365":
        given.update(size=(256, 256), smooth=False)
    files, val = Files(arguments.source, arguments.list), None
    if arguments.val_source or arguments.val_list:
        val = Files(arguments.val_source or arguments.source, arguments.val_list)
    return create(arguments.output, files, val, Options(**given), arguments.kind)


def _run_adopt(arguments):
    from ..data.adopt import adopt

    names = ("folder", "source", "val_source", "output", "label_names", "size")
    return adopt(*(getattr(arguments, name) for name in names)), []
