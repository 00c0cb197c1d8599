#!/usr/bin/python3
"""Writes a network with active convolutions in the place of ordinary ones, or of the authors' AConvFast layers."""
import argparse
import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from active_convolution import command  # noqa: E402
from active_convolution.conversion import converting  # noqa: E402

_DESCRIPTION = """\
Writes a network (train_val or deploy prototxt, new or old format) with active convolutions in the place of ordinary ones,
or of the AConvFast layers of the authors' published code. It computes what it did before, and is ready to finetune. Fills
DIR with the prototxt, under its own name and without its comments, and with weights.caffemodel.

By default every AConvFast layer is converted, or in a network without one every convolution larger than 1×1."""
_EXAMPLE = """\
example:
  ./scripts/convert.py --model train_val.prototxt --weights alexnet.caffemodel --kernel 3 --warmup-iter 10000 --output acu"""


def main():
    parser = argparse.ArgumentParser(description=_DESCRIPTION, epilog=_EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, metavar="PROTOTXT", help="a train_val or deploy prototxt")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="its .caffemodel (default: the prototxt alone)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--layers", nargs="+", default=(), metavar="PATTERN", dest="patterns",
                        help="convert layers of these names only, such as 'conv[45]' or 'res*_branch2b'")
    parser.add_argument("--kernel", nargs="+", type=_kernel, default=(), metavar="N or HxW", dest="kernels",
                        help="convert layers of these kernels only")
    parser.add_argument("--seed", type=int, default=0, metavar="N",
                        help="of the noise in the starting positions of AConvFast (default: %(default)s)")
    field = parser.add_argument_group("active_convolution_param (default: the layer's, or what AConvFast says)")
    field.add_argument("--warmup-iter", type=int, metavar="N")
    field.add_argument("--normalize-gradient", action=argparse.BooleanOptionalAction)
    field.add_argument("--position-lr-mult", type=float, metavar="F")
    field.add_argument("--position-group", type=int, metavar="N")
    field.add_argument("--fix-origin", action=argparse.BooleanOptionalAction)
    arguments = vars(parser.parse_args())
    fields = {field.name: arguments.pop(field.name) for field in dataclasses.fields(converting.Fields)}
    done = converting.convert(**arguments, options=converting.Fields(**fields))
    print(f"{len(done.layers)} layers converted: {', '.join(done.layers)}")
    for name, (difference, largest) in done.outputs.items():
        print(f"output {name} on random input: largest difference {difference:.1e} (largest value {largest:.3g})")


def _kernel(text):
    """N or HxW as (vertical, horizontal)."""
    sizes = [int(part) for part in text.lower().split("x")]
    if len(sizes) > 2 or min(sizes) < 1:
        raise ValueError
    return sizes[0], sizes[-1]


if __name__ == "__main__":
    command.run(main)
