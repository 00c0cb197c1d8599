"""``acu data``: everything it does is in active_convolution.data."""
from . import options

DESCRIPTION = """\
Preprocesses a data set and writes it as LMDBs for Caffe, with a manifest. The folder --output appears whole or not
at all.

  digits     scikit-learn's 1797 handwritten digits; needs no --source
  cifar10    contrast normalisation, ZCA whitening, 4 pixels of padding, as in section 3.1 of the paper
  cifar100   the same, with the 100 fine labels
  places365  Places365, resized to 256x256 as convert_imageset does it; the validation images are the test set.
             After an interruption the same command goes on with what DIR.partial holds."""
EXAMPLES = """\
  acu data digits --output data/digits
  acu data cifar10 --download --output data/cifar10
  acu data cifar100 --source cifar-100-python.tar.gz --output data/cifar100
  acu data places365 --source data_256 --list places365_train_standard.txt \\
      --val-source val_256 --val-list places365_val.txt --output data/places365"""

SMALL = ("digits", "cifar10", "cifar100")
_PLACES_NEEDS = ("source", "list", "val_source", "val_list")
_PLACES_ONLY = ("list", "val_source", "val_list", "raw", "jobs", "max_unreadable")


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION, EXAMPLES, check=_check)
    parser.add_argument("dataset", choices=(*SMALL, "places365"))
    parser.add_argument("--source", type=options.path, metavar="PATH",
                        help="where CIFAR lies: the python or the binary archive, packed or unpacked, or a folder or "
                             "tar archive of images, train/<class>/*.png and test/<class>/*.png (or .jpg); for "
                             "places365 the folder that the paths in --list start from: data_256, data_large, or "
                             "data_large_standard")
    parser.add_argument("--download", action="store_true",
                        help="fetch CIFAR from its authors' page, 170 MB, and verify it; it is kept in "
                             "~/.cache/active-convolution, or in $XDG_CACHE_HOME")
    options.output(parser, "the folder to make; must not exist", "DIR")
    options.seed(parser, "shuffles the images (default: %(default)s)")
    group = parser.add_argument_group("places365")
    group.add_argument("--list", type=options.path, metavar="FILE",
                       help="places365_train_standard.txt: an image and its label a line")
    group.add_argument("--val-source", type=options.path, metavar="PATH", help="val_256 or val_large")
    group.add_argument("--val-list", type=options.path, metavar="FILE", help="places365_val.txt")
    group.add_argument("--raw", action="store_true", default=None,
                       help="store pixels: 370 GB for the whole set, and nothing to decode in training. Without it "
                            "about 30 GB: the JPEG files themselves where they are 256x256 already, which gives the "
                            "same pixels, else JPEG of quality 95; Caffe decodes about 900 a second on one core")
    options.jobs(group, "processes (default: one for each core)")
    group.add_argument("--max-unreadable", type=options.integer(0), metavar="N",
                       help="images of a list that may be missing or damaged; they are left out and named in "
                            "train_unreadable.txt and test_unreadable.txt (default: 10)")
    return parser


def _check(arguments):
    if arguments.download and arguments.dataset not in ("cifar10", "cifar100"):
        return f"--download is for cifar10 and cifar100, not for {arguments.dataset}: leave it out"
    if arguments.download and arguments.source is not None:
        return "--download and --source exclude each other: leave one out"
    if arguments.dataset == "places365":
        missing = [_option(name) for name in _PLACES_NEEDS if getattr(arguments, name) is None]
        return missing and (f"places365 needs {', '.join(missing)} too: the folders of unpacked images, such as data_256 "
                            "and val_256, and the lists places365_train_standard.txt and places365_val.txt")
    given = [_option(name) for name in _PLACES_ONLY if getattr(arguments, name) is not None]
    if given:
        return f"{given[0]} is for places365 only: leave it out"
    if arguments.dataset == "digits" and arguments.source is not None:
        return "digits come with scikit-learn: leave --source out"
    return None


def _option(name):
    return f"--{name.replace('_', '-')}"


def run(arguments):
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
    from ..data import download
    from ..data.create import create
    from ..files import check_new
    source = arguments.source
    if arguments.download:
        check_new(arguments.output)  # now, not after the download
        source = download.fetch(download.ARCHIVES[arguments.dataset])
    return create(arguments.dataset, arguments.output, source, arguments.seed)


def _create_places(arguments):
    from ..data import building, places
    maximum = building.MAX_UNREADABLE if arguments.max_unreadable is None else arguments.max_unreadable
    return places.create(arguments.output, places.Part(arguments.source, arguments.list),
                         places.Part(arguments.val_source, arguments.val_list),
                         places.Options(arguments.seed, bool(arguments.raw), arguments.jobs, maximum))
