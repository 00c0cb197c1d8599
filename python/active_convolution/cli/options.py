"""What the parsers of several sub-commands share: options that mean the same everywhere, their
values, and how a bad one ends."""

import argparse
import os
import re
import shlex
from pathlib import Path

from ..caffe import locate
from ..errors import out_of_range

SEEDS = 2**32  # what NumPy's and Caffe's generators take
ITERATIONS = 2**31  # what Caffe counts


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action):
        none = action.default in (None, argparse.SUPPRESS, [], ()) or action.default is False
        told = none or "(default" in action.help
        return action.help if told else f"{action.help} (default: %(default)s)"


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that keeps the line breaks of its texts, tells defaults, and says what is
    wrong in one line, with exit status 2."""

    def __init__(self, prog, description, examples=None, check=None):
        """``examples`` follow the options. ``check`` takes the parsed arguments and returns what is
        wrong with them together, a text, or None."""
        super().__init__(
            prog=prog,
            description=description,
            epilog=examples and f"examples:\n{examples}",
            formatter_class=_Formatter,
        )
        self._check = check

    def parse_args(self, args=None, namespace=None):
        arguments = super().parse_args(args, namespace)
        wrong = self._check and self._check(arguments) or self._twice(arguments)
        if wrong:
            self.error(wrong)
        return arguments

    def _twice(self, arguments):
        """What is wrong where two results have one name, so that the second would take the place of
        the first; else None."""
        taken = {}
        for action in self._actions:
            name = getattr(arguments, action.dest, None)
            if action.type is result and name is not None and not _is_device(name):
                other = taken.setdefault(os.path.realpath(name), action)
                if other is not action:
                    names = f"{other.option_strings[0]} and {action.option_strings[0]}"
                    return f"{names} both name {name}: name each once"
        return None

    def error(self, message):
        line = re.sub(
            r"^argument (--[\w-]+): (?=\S+ (is|names) )", r"\1 ", " ".join(message.splitlines())
        )
        self.exit(2, f"error: {line} (see {self.prog} --help)\n")


def _is_device(name):
    """... or a pipe, which takes several results one after the other."""
    return os.path.exists(name) and not os.path.isfile(name) and not os.path.isdir(name)


# ---- Values


def path(text):
    """A Path; an empty one would mean the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("a path is missing")
    return Path(text)


def result(text):
    """The path of what is to be written."""
    return path(text)


def integer(least, most=None):
    """The type of an option that is an integer, ``least`` to ``most`` (None: without end)."""
    return _number(int, "an integer", least, most)


def number(least, most=None, above=False):
    """... that is a number; ``above``: not ``least`` itself."""
    return _number(float, "a number", least, most, above)


def _number(kind, name, *limits):
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text} is not {name}") from None
        wrong = out_of_range(value, *limits)
        if wrong:
            raise argparse.ArgumentTypeError(f"{text} {wrong}")
        return value

    return parse


positive = number(0, above=True)
fraction = number(0, 1, above=True)


def devices(text):
    """The numbers of GPUs, such as 0 or 0,1, each named once."""
    parts = text.split(",")
    if not all(part.isdecimal() and len(part) < 6 for part in parts):
        raise argparse.ArgumentTypeError(
            f"{text} is not a list of device numbers such as 0 or 0,1,2,3"
        )
    numbers = [int(part) for part in parts]
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text} names a GPU twice: name each once")
    return numbers


def device(text):
    """The number of the one GPU."""
    numbers = devices(text)
    if len(numbers) > 1:
        raise argparse.ArgumentTypeError(f"{text} names several GPUs, and this runs on one")
    return numbers[0]


# ---- Options


def weights(parser, help="its .caffemodel", **options):
    parser.add_argument("--weights", type=path, metavar="FILE", help=help, **options)


def trained(parser, model_help="a deploy prototxt"):
    """The options of what takes a trained network: RUN, or --model and --weights."""
    parser.add_argument(
        "run",
        type=path,
        nargs="?",
        metavar="RUN",
        help="the --output of acu train: its deploy.prototxt, its newest snapshot and its data",
    )
    iteration(parser)
    parser.add_argument("--model", type=path, metavar="PROTOTXT", help=model_help)
    weights(parser)
    parser.add_argument(
        "--stage",
        action="append",
        default=[],
        metavar="NAME",
        help="read --model (and its train_val) with this stage; may be given several times",
    )


def iteration(parser):
    """The snapshot of a RUN."""
    parser.add_argument(
        "--iteration",
        type=integer(0, ITERATIONS - 1),
        metavar="N",
        help="RUN's snapshot after N iterations (default: its newest)",
    )


def check_trained(arguments):
    """What is wrong with the options that ``trained`` adds, or None."""
    named = [f"--{name}" for name in ("model", "weights", "stage") if getattr(arguments, name)]
    if arguments.run:
        return f"RUN brings what {named[0]} names: leave one out" if named else None
    if not (arguments.model and arguments.weights):
        return "name a RUN, or give --model and --weights"
    if arguments.iteration is not None:
        return "--iteration is a RUN's: leave it out"
    return None


def say_next(*words):
    """Ends a command with the one that usually follows, to be pasted."""
    print(f"next: acu {shlex.join(map(str, words))}")


def trained_of(arguments, train_val=None):
    """The training.trained.Trained that they name. Raises UserError where it is not there."""
    from ..training.trained import Trained

    if arguments.run:
        return Trained.of_run(arguments.run, arguments.iteration)
    return Trained.of_files(arguments.model, arguments.weights, arguments.stage, train_val)


def data(parser, help):
    parser.add_argument("--data", type=path, metavar="DIR", help=help)


def output(parser, help, metavar="PATH", **options):
    """``options`` (default: required) go to add_argument."""
    parser.add_argument(
        "--output", type=result, metavar=metavar, help=help, **(options or {"required": True})
    )


def seed(parser, help, default=0):
    parser.add_argument(
        "--seed", type=integer(0, SEEDS - 1), default=default, metavar="N", help=help
    )


def jobs(parser, help, default=None):
    parser.add_argument("--jobs", type=integer(1, 1024), default=default, metavar="N", help=help)


def gpus(parser, help):
    """The option of what runs on several GPUs: a list of device numbers, or None for the CPU."""
    parser.add_argument("--gpu", type=devices, metavar="ID[,ID...]", help=help)


def active(parser):
    """How the positions of every active convolution learn."""
    parser.add_argument(
        "--position-lr-mult",
        type=positive,
        metavar="RATE",
        help="of every active convolution: positions learn at this times the solver's rate",
    )
    parser.add_argument(
        "--warmup-iter",
        type=integer(0, ITERATIONS - 1),
        metavar="N",
        help="... and not in the first N iterations",
    )


def gpu(parser, help, **options):
    """The option of what runs on one GPU: a device number, or None for the CPU."""
    parser.add_argument("--gpu", type=device, metavar="ID", help=help, **options)


def networks():
    """The folder of the paper's networks: the project's, or where the package is installed without
    it, models/ here."""
    project = locate.ROOT / "models"
    return project if project.is_dir() else Path("models")
