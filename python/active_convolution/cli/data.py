"""``acu data``: everything it does is in active_convolution.data."""

import argparse
import re

from . import options

DESCRIPTION = (
    "Writes a data set as LMDBs for Caffe, with a manifest: acu data KIND --help says more."
)
_SIZE = "width and height in pixels"


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION)
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    _digits(_kind(kinds, "digits", "scikit-learn's 1797 handwritten digits of 8x8 pixels"))
    for name, classes in (("cifar10", "CIFAR-10"), ("cifar100", "CIFAR-100, its 100 fine labels")):
        _cifar(_kind(kinds, name, f"{classes}, preprocessed as in section 3.1 of the paper"))
    _images(
        _kind(
            kinds,
            "images",
            "your own, in folders of classes or by lists",
            """\
  acu data images --source flowers --test-fraction 0.2 --size 64x64 --output data/flowers
  acu data images --source train --val-source val --size 64x64 --resize crop --output data/mine
  acu data images --source . --list train.csv --columns image,label --val-list val.csv \\
      --output data/listed""",
        )
    )
    _places(
        _kind(
            kinds,
            "places365",
            "Places365, resized to 256x256 as convert_imageset does it; its validation images are the "
            "test set",
            """\
  acu data places365 --source data_256 --list places365_train_standard.txt \\
      --val-source val_256 --val-list places365_val.txt --output data/places365""",
        )
    )
    _adopt(
        _kind(
            kinds,
            "adopt",
            "databases that another tool made: nothing is written but a manifest",
            "  acu data adopt examples/imagenet --label-names synset_words.txt",
        )
    )
    return parser


def _kind(kinds, name, says, examples=None):
    return kinds.add_parser(
        name, help=says, description=f"Makes a data set of {says}.", examples=examples
    )


def _made(parser):
    options.output(parser, "the folder to make; must not exist", "DIR")
    options.seed(parser, "shuffles the images (default: %(default)s)")


def _digits(parser):
    _made(parser)
    parser.add_argument("--size", type=_size, metavar="WxH", help=f"{_SIZE} (default: 8x8)")
    parser.add_argument(
        "--fold",
        type=options.integer(1, 6),
        metavar="K",
        help="test on the 299 images of part K of 6, for a cross-validation (default: on 297 images)",
    )


def _cifar(parser):
    _made(parser)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument(
        "--source",
        type=options.path,
        metavar="PATH",
        help="the python or the binary archive, packed or unpacked, or an .npz with X, Y, xt, yt",
    )
    group.add_argument(
        "--download",
        action="store_true",
        help="fetch the archive from its authors' page, 170 MB, and verify it; it is kept in "
        "~/.cache/active-convolution, or in $XDG_CACHE_HOME",
    )


def _listed(parser, required):
    for name, what in (("", "images"), ("val-", "test images")):
        parser.add_argument(
            f"--{name}source",
            type=options.path,
            metavar="DIR",
            required=required or not name,
            help=f"the folder of the {what}"
            + (" (default: --source)" if name and not required else ""),
        )
        parser.add_argument(
            f"--{name}list",
            type=options.path,
            metavar="FILE",
            required=required,
            help=f"which of the {what} has which label: an image and its label a line, or a CSV with a "
            "heading (default: by folders of classes)",
        )
    options.jobs(parser, "threads (default: one for each core)")
    parser.add_argument(
        "--max-unreadable",
        type=options.integer(0),
        metavar="N",
        default=10,
        help="images of a split that may be missing or damaged; they are named in train_unreadable.txt "
        "and test_unreadable.txt (default: %(default)s)",
    )


def _images(parser):
    _made(parser)
    _listed(parser, False)
    add = parser.add_argument
    add(
        "--columns",
        type=_columns,
        metavar="IMAGE,LABEL",
        help="the columns of the lists, tables both (default: the two that they have)",
    )
    add(
        "--test-fraction", type=_fraction, metavar="F", help="draw so many of each class to test on"
    )
    add(
        "--label-names", type=options.path, metavar="FILE", help="the classes, one a line, by label"
    )
    add(
        "--size", type=_size, metavar="WxH", help=f"{_SIZE} (default: the images', if all have one)"
    )
    add(
        "--resize",
        choices=("stretch", "crop", "pad"),
        default="stretch",
        help="to the --size: stretched; the middle that fills it; or all with black around it "
        "(default: %(default)s)",
    )
    add(
        "--encode",
        choices=("jpeg", "png", "raw"),
        default="jpeg",
        help="what is stored: JPEG or PNG, files of the right size as they are, or pixels "
        "(default: %(default)s)",
    )
    add("--mean", action="store_true", help="compute the mean training image: mean.binaryproto")
    add(
        "--whiten",
        action="store_true",
        help="contrast normalisation, ZCA whitening, 4 pixels of padding, as in section 3.1 of the paper",
    )


def _places(parser):
    _made(parser)
    _listed(parser, True)
    parser.add_argument(
        "--encode",
        choices=("jpeg", "raw"),
        default="jpeg",
        help="jpeg: 30 GB, the files themselves where they are 256x256 already; raw: pixels, 370 GB, "
        "nothing to decode in training (default: %(default)s)",
    )


def _adopt(parser):
    add = parser.add_argument
    add("folder", type=options.path, metavar="DIR", help="LMDB, LevelDB, HDF5, or lists of images")
    add("--source", type=options.path, metavar="PATH", help="to train on (default: by its name)")
    add("--val-source", type=options.path, metavar="PATH", help="to test on (default: by its name)")
    add(
        "--label-names", type=options.path, metavar="FILE", help="the classes, one a line, by label"
    )
    add(
        "--size",
        type=_size,
        metavar="WxH",
        help=f"of lists of images: {_SIZE} (default: as they are)",
    )
    options.output(parser, "where the manifest goes (default: DIR)", "DIR", required=False)


def _size(text):
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text} is no size: give {_SIZE}, such as 64x64")
    return int(match[1]), int(match[2])


def _fraction(text):
    if not 0 < (value := options.number(text)) < 1:
        raise argparse.ArgumentTypeError(
            f"{text} is out of range: give one from 0 to 1, such as 0.2"
        )
    return value


def _columns(text):
    columns = tuple(text.split(","))
    if len(columns) != 2:
        raise argparse.ArgumentTypeError(f"{text} is no two columns: give such as filename,class")
    return columns


def run(arguments):
    make = {"adopt": _run_adopt, "images": _run_images, "places365": _run_images}
    manifest, notes = make.get(arguments.kind, _run_small)(arguments)
    names = manifest.label_names or []
    listed = f": {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}" if names else ""
    print(f"{manifest.classes} classes{listed}")
    for note in notes:
        print(f"note: {note}")
    counts = " and ".join(
        f"{part.images} {'training' if split == 'train' else 'test'}"
        for split, part in manifest.parts.items()
    )
    size = sum(part.bytes for part in manifest.parts.values()) / 1e6
    folder = arguments.output or arguments.folder
    print(f"{arguments.kind}: {counts} images, {size:.0f} MB, in {folder}")
    print(f"next: {_next(arguments.kind, folder)}")


def _next(kind, folder):
    like = {"digits": "digits/plain", "cifar10": "cifar10/plain", "cifar100": "cifar100/plain"}
    like["places365"] = "places365/alexnet"
    if kind in like:
        return f"acu train {like[kind]} --variant acu --data {folder} --output runs/{kind}"
    return f"acu models new models/{folder.name} --like cifar10/plain --data {folder}"


def _run_small(arguments):
    from ..data import small
    from ..files import check_new

    check_new(arguments.output)  # now, not after the download
    source = getattr(arguments, "source", None)
    if getattr(arguments, "download", False):
        source = small.fetch(arguments.kind)
    fold, size = getattr(arguments, "fold", None), getattr(arguments, "size", None)
    return small.create(arguments.kind, arguments.output, source, arguments.seed, fold, size), []


def _run_images(arguments):
    from ..data.images import Files, Options, create

    given = {name: value for name, value in vars(arguments).items() if name in Options._fields}
    if arguments.kind == "places365":
        given.update(size=(256, 256), smooth=False)
    columns = getattr(arguments, "columns", None)
    files = Files(arguments.source, arguments.list, columns)
    val = arguments.val_source or arguments.val_list and arguments.source
    val = val and Files(val, arguments.val_list, columns)
    return create(arguments.output, files, val, Options(**given), arguments.kind)


def _run_adopt(arguments):
    from ..data.adopt import adopt

    names = ("folder", "source", "val_source", "output", "label_names", "size")
    return adopt(*(getattr(arguments, name) for name in names)), []
