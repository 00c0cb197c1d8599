#!/usr/bin/python3
"""Compares the layer, forward and all gradients, in float and double, with an oracle in NumPy on random cases."""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from tqdm import tqdm  # noqa: E402

from active_convolution import command  # noqa: E402
from active_convolution.check.cases import LARGEST, TOLERANCE, check, random_case  # noqa: E402
from active_convolution.check.runner import LayerRunner  # noqa: E402
from active_convolution.errors import UserError  # noqa: E402
from active_convolution.pycaffe import locate  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the first case (default: %(default)s)")
    parser.add_argument("--gpu", type=int, metavar="ID", default=locate.GPU,
                        help="run the layer on this GPU (default: ACTIVE_CONVOLUTION_GPU, else the CPU)")
    parser.add_argument("--build", type=Path, metavar="DIR", default=locate.BUILD,
                        help="run the layer of this build, such as build-sanitize (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.cases < 1 or arguments.seed < 0:
        raise UserError("--cases must be 1 or more, and --seed 0 or more")
    seeds = range(arguments.seed, arguments.seed + arguments.cases)
    failed = 0
    for precision in TOLERANCE:
        with LayerRunner(precision, arguments.gpu, arguments.build) as runner:
            failed += _check_all(seeds, precision, runner)
    print(f"{2 * arguments.cases - failed} passed, {failed} failed")
    return 1 if failed else 0


def _check_all(seeds, precision, runner):
    """Checks all cases in one precision, prints the worst differences, and returns the number of failed cases."""
    worst, failed = {}, []
    for seed in tqdm(seeds, desc=precision, unit="case"):
        differences = check(seed, runner)
        for name, difference in differences.items():
            worst[name] = max(worst.get(name, (0, 0)), (difference, seed))
        if max(differences.values()) > TOLERANCE[precision]:
            failed.append(seed)
    for name, (difference, seed) in worst.items():
        print(f"{precision:6} {name:6} worst relative difference {difference:.1e} (case {seed})")
    for seed in failed[:1]:
        print(f"case {seed} (--cases 1 --seed {seed}) exceeds {TOLERANCE[precision]} in {precision}:\n"
              f"{random_case(seed, largest=LARGEST).net()}")
    return len(failed)


if __name__ == "__main__":
    command.run(main)
