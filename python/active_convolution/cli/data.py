"""``acu data``: everything it does is in active_convolution.data."""

import argparse
import re

from . import options

DESCRIPTION = """\
Preprocesses a data set and writes it as LMDBs for Caffe, with a manifest. The folder --output appears whole or not
at all.

  digits     scikit-learn's 1797 handwritten digits; needs no --source
  cifar10    contrast normalisation, ZCA whitening, 4 pixels of padding, as in section 3.1 of the paper
  cifar100   the same, with the 100 fine labels
  images     your own: a folder for each class, or a list or CSV of images and classes; a folder, tar archive or zip
  places365  Places365, resized to 256x256 as convert_imageset does it; the validation images are the test set
  adopt DIR  nothing is written but a manifest, for databases in DIR that another tool made: LMDB, LevelDB, HDF5, or
             lists of images for Caffe's ImageData

After an interruption of images and places365 the same command goes on with what the folder DIR.partial holds."""
EXAMPLES = """\
  acu data digits --output data/digits
  acu data digits --size 16x16 --fold 1 --output data/digits16/1
  acu data cifar10 --download --output data/cifar10
  acu data cifar100 --source cifar-100-python.tar.gz --output data/cifar100
  acu data images --source flowers.zip --test-share 0.2 --size 64x64 --resize crop --output data/flowers
  acu data images --source train --val-source val --size 64x64 --output data/mine
  acu data images --source . --list trainLabels.csv --test-share 0.2 --output data/kaggle
  acu data adopt examples/imagenet --label-names synset_words.txt
  acu data places365 --source data_256 --list places365_train_standard.txt \\
      --val-source val_256 --val-list places365_val.txt --output data/places365"""

SMALL = ("digits", "cifar10", "cifar100")
_PLACES_NEEDS = ("source", "list", "val_source", "val_list")
_LISTED = ("images", "places365")
_ONLY = {  # option: the data sets that take it
    "list": _LISTED,
    "val_list": _LISTED,
    "val_source": (*_LISTED, "adopt"),
    "raw": ("places365",),
    "jobs": _LISTED,
    "max_unreadable": _LISTED,
    "size": ("digits", "images", "adopt"),
    "fold": ("digits",),
    "resize": ("images",),
    "encode": ("images",),
    "mean": ("images",),
    "gcn_zca": ("images",),
    "label_names": ("images", "adopt"),
    "test_share": ("images",),
    "folder": ("adopt",),
}


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION, EXAMPLES, check=_check)
    parser.add_argument("dataset", choices=(*SMALL, *_LISTED, "adopt"))
    parser.add_argument(
        "folder",
        type=options.path,
        nargs="?",
        metavar="DIR",
        help="of adopt: where the databases lie",
    )
    parser.add_argument(
        "--source",
        type=options.path,
        metavar="PATH",
        help="where CIFAR lies: the python or the binary archive, packed or unpacked, a folder, tar archive "
        "or zip of images, or an .npz; where your images lie, or those of --list; for places365 the "
        "folder that the paths in --list start from: data_256, data_large, or data_large_standard; "
        "for adopt the database for training, where it cannot be told by its name",
    )
    parser.add_argument(
        "--val-source",
        type=options.path,
        metavar="PATH",
        help="the same for the test images: val_256",
    )
    parser.add_argument(
        "--download",
        action="store_true",
        help="fetch CIFAR from its authors' page, 170 MB, and verify it; it is kept in "
        "~/.cache/active-convolution, or in $XDG_CACHE_HOME",
    )
    options.output(parser, "the folder to make; must not exist", "DIR", required=False)
    options.seed(parser, "shuffles the images (default: %(default)s)")
    parser.add_argument(
        "--fold",
        type=options.integer(1),
        metavar="K",
        help="of digits: test on the 299 images of part K of 6, for a cross-validation (default: on 297 images)",
    )
    _add_lists(parser.add_argument_group("images and places365"))
    _add_images(parser.add_argument_group("images"))
    parser.add_argument_group("places365").add_argument(
        "--raw",
        action="store_true",
        default=None,
        help="store pixels: 370 GB for the whole set, and nothing to decode in training. Without it about 30 GB: the JPEG "
        "files themselves where they are 256x256 already, which gives the same pixels, else JPEG of quality 95; Caffe "
        "decodes about 900 a second on one core",
    )
    return parser


def _add_lists(group):
    group.add_argument(
        "--list",
        type=options.path,
        metavar="FILE",
        help="an image and its label a line, as convert_imageset takes it: places365_train_standard.txt; for "
        "images also a CSV with a column of files and one of classes",
    )
    group.add_argument(
        "--val-list",
        type=options.path,
        metavar="FILE",
        help="the same for the test images: places365_val.txt",
    )
    options.jobs(group, "processes (default: one for each core)")
    group.add_argument(
        "--max-unreadable",
        type=options.integer(0),
        metavar="N",
        help="images that may be missing or damaged; they are left out and named in train_unreadable.txt and "
        "test_unreadable.txt (default: 10)",
    )


def _add_images(group):
    group.add_argument(
        "--size",
        type=_size,
        metavar="WxH",
        help="in pixels (default: that of the images, if all have one); of digits, too",
    )
    group.add_argument(
        "--resize",
        choices=("stretch", "crop", "pad"),
        help="to the --size: stretched; the middle that fills "
        "it; or the whole with black around it (default: stretch)",
    )
    group.add_argument(
        "--encode",
        choices=("jpeg", "png", "raw"),
        help="what is stored: JPEG or PNG, files of the right size "
        "as they are, or pixels (default: jpeg)",
    )
    group.add_argument(
        "--mean",
        action="store_true",
        default=None,
        help="compute the mean training image: mean.binaryproto, and mean_value in the manifest",
    )
    group.add_argument(
        "--gcn-zca",
        action="store_true",
        default=None,
        help="contrast normalisation, ZCA whitening, 4 pixels of padding, as in section 3.1 of the paper",
    )
    group.add_argument(
        "--label-names",
        type=options.path,
        metavar="FILE",
        help="one class a line, in the order of the labels",
    )
    group.add_argument(
        "--test-share",
        type=_share,
        metavar="SHARE",
        help="of each class's images, drawn for testing where there "
        "are no test images, such as 0.2",
    )


def _size(text):
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text)
    if not match or max(map(int, match.groups())) > 4096:
        raise argparse.ArgumentTypeError(
            f"{text} is no size: give a width and a height in pixels up to 4096, such as 64x64"
        )
    return int(match[1]), int(match[2])


def _share(text):
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(
            f"{text} is no share: give a number between 0 and 1, such as 0.2"
        )
    return share


def _check(arguments):
    dataset = arguments.dataset
    if arguments.download and dataset not in ("cifar10", "cifar100"):
        return f"--download is for cifar10 and cifar100, not for {dataset}: leave it out"
    if arguments.download and arguments.source is not None:
        return "--download and --source exclude each other: leave one out"
    given = [
        name
        for name, takers in _ONLY.items()
        if getattr(arguments, name) is not None and dataset not in takers
    ]
    if given:
        what = arguments.folder if given[0] == "folder" else _option(given[0])
        return f"{what} is for {' and '.join(_ONLY[given[0]])} only: leave it out"
    if dataset == "places365":
        missing = [_option(name) for name in _PLACES_NEEDS if getattr(arguments, name) is None]
        if missing:
            return (
                f"places365 needs {', '.join(missing)} too: the folders of unpacked images, such as data_256 and val_256, "
                "and the lists places365_train_standard.txt and places365_val.txt"
            )
    if dataset == "images" and arguments.source is None:
        return "images needs --source: the folder, tar archive or zip with your images"
    if dataset == "images" and arguments.val_list is not None and arguments.list is None:
        return "--val-list needs --list: the list of training images"
    if dataset == "digits" and arguments.source is not None:
        return "digits come with scikit-learn: leave --source out"
    if dataset == "adopt" and arguments.folder is None:
        return "adopt needs the folder where the databases lie: acu data adopt DIR"
    if dataset != "adopt" and arguments.output is None:
        return "--output is missing: name the folder to make"
    return None


def _option(name):
    return f"--{name.replace('_', '-')}"


def run(arguments):
    makers = {"images": _create_images, "places365": _create_places, "adopt": _adopt}
    manifest = makers.get(arguments.dataset, _create_small)(arguments)
    parts = {split: manifest[split] for split in ("train", "test") if split in manifest}
    counts = " and ".join(
        f"{part['images']} {'training' if split == 'train' else 'test'}"
        for split, part in parts.items()
    )
    print(
        f"{arguments.dataset}: {counts} images, {sum(part['bytes'] for part in parts.values()) / 1e6:.0f} MB, "
        f"in {arguments.output or arguments.folder}"
    )
    for split, part in parts.items():
        if part.get("unreadable"):
            print(
                f"{part['unreadable']} more could not be read: see {arguments.output}/{split}_unreadable.txt"
            )


def _create_small(arguments):
    from ..data import download
    from ..data.create import create
    from ..files import check_new

    source = arguments.source
    if arguments.download:
        check_new(arguments.output)  # now, not after the download
        source = download.fetch(download.ARCHIVES[arguments.dataset])
    return create(
        arguments.dataset, arguments.output, source, arguments.seed, arguments.fold, arguments.size
    )


def _create_places(arguments):
    from ..data import places

    return places.create(
        arguments.output,
        places.PlacesPart(arguments.source, arguments.list),
        places.PlacesPart(arguments.val_source, arguments.val_list),
        places.Options(**_given(arguments, "seed", "raw", "jobs", "max_unreadable")),
    )


def _create_images(arguments):
    from ..data import images

    val = (
        images.Files(arguments.val_source or arguments.source, arguments.val_list)
        if arguments.val_source or arguments.val_list
        else None
    )
    manifest, left = images.create(
        arguments.output,
        images.Files(arguments.source, arguments.list),
        val,
        images.ImageOptions(
            **_given(
                arguments,
                "size",
                "resize",
                "encode",
                "mean",
                "gcn_zca",
                "label_names",
                "test_share",
                "seed",
                "jobs",
                "max_unreadable",
            )
        ),
    )
    _print_classes(manifest)
    if left:
        print(f"passed over: {', '.join(f'{count} {why}' for why, count in left.items())}")
    return manifest


def _adopt(arguments):
    from ..data import adopt

    manifest = adopt.adopt(
        arguments.folder,
        arguments.source,
        arguments.val_source,
        arguments.output,
        arguments.label_names,
        arguments.size,
    )
    _print_classes(manifest)
    return manifest


def _print_classes(manifest):
    names, shown = manifest.get("label_names") or [], 10
    listed = f": {', '.join(names[:shown])}{', ...' if len(names) > shown else ''}" if names else ""
    print(f"{manifest['classes']} classes{listed}")


def _given(arguments, *names):
    """The options that were given, for the package to know the others' defaults."""
    return {
        name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None
    }
