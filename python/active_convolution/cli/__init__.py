"""The command ``acu``: a module for each of its sub-commands, which parses the command line and
calls the package.

Such a module has ``parser(prog)``, an ``options.Parser``, and ``run(arguments)``, which does the
work and returns the exit status. Only the module of the sub-command that is called is imported:
what all of them need together takes seconds.
"""

import importlib
import sys
from pathlib import Path

from ..caffe import guard
from ..errors import BadValue

SUBCOMMANDS = {  # in the order in which one uses them
    "demo": "train on handwritten digits, in about a minute: does it work, and what does it give?",
    "data": "make the databases that the networks train on",
    "models": "write a network for your own images, to begin with",
    "train": "train a network, in one process or several",
    "evaluate": "print the error of a trained network on test images",
    "predict": "say what a trained network sees in images",
    "convert": "put active convolutions in the place of ordinary or of AConvFast layers",
    "export": "write a network as one of ordinary convolutions, which runs without the plugin",
    "plot": "draw the synapse positions that a network learned",
    "report": "write one HTML page about training runs",
    "reproduce": "train what a table of the paper compares, and print it",
    "check": "compare the layer with an oracle in NumPy on random cases",
    "generate": "write the prototxt files under models/",
}

_HELP = """\
usage: acu SUBCOMMAND [ARGUMENT ...]

Active convolutions for Caffe: convolutions whose synapses move.

{subcommands}

acu SUBCOMMAND --help says more; acu --version says what this is, and how its Caffe was built."""


def main():
    """The program ``acu``."""
    guard.run(lambda: _acu(*sys.argv[1:]))


def script(subcommand):
    """A program of its own that does what ``acu subcommand`` does."""
    guard.run(lambda: _run(subcommand, Path(sys.argv[0]).name, sys.argv[1:]))


def parser(subcommand, prog=None):
    """The options.Parser of a sub-command; in its messages it is called ``prog``."""
    return _module(subcommand).parser(prog or f"acu {subcommand}")


def _acu(first="--help", *rest):
    if first in ("-h", "--help", "help"):
        lines = (f"  {name:10} {text}" for name, text in SUBCOMMANDS.items())
        print(_HELP.format(subcommands="\n".join(lines)))
        return 0
    if first == "--version":
        from . import version

        print(version.text())
        return 0
    if first not in SUBCOMMANDS:
        raise BadValue(f"there is no sub-command {first}: acu --help lists them")
    return _run(first, f"acu {first}", rest)


def _run(subcommand, prog, arguments):
    module = _module(subcommand)
    return module.run(module.parser(prog).parse_args(arguments))


def _module(subcommand):
    return importlib.import_module(f".{subcommand}", __name__)
