#!/usr/bin/python3
"""Trains what a table of the paper compares, and prints it; everything it does is in active_convolution.paper."""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from active_convolution import command  # noqa: E402
from active_convolution.paper import figures, results, runs, tables  # noqa: E402
from active_convolution.plotting.style import FORMATS  # noqa: E402
from active_convolution.pycaffe import locate  # noqa: E402

_DESCRIPTION = """\
Trains both sides of every comparison in a table of the paper, ordinary convolutions (baseline) and active ones (acu),
and prints the table with the paper's errors beside the measured ones.

  --table 2   the plain network on CIFAR-10 and CIFAR-100
  --table 3   the basic and the bottleneck residual network on CIFAR-10 and CIFAR-100
  --table 4   AlexNet and the 26-layer residual network on Places365

DIR holds the data sets that create_lmdb.py made, each under its name: cifar10, cifar100, places365. Each run has a
folder RUNS/<dataset>_<network>_<variant>_seed<S>, as train.py fills it. Finished runs are not trained again, and
unfinished ones go on from their last snapshot: after Ctrl-C, give the same command."""
_EXAMPLE = """\
example:
  ./scripts/reproduce.py --table 2 --datasets cifar10 --scale 0.025 --seeds 3 --jobs 2 --data data --output runs"""


def main():
    arguments = _arguments()
    table = tables.TABLES[arguments.table]
    chosen = runs.plan(runs.choose(table, arguments.datasets), arguments.models, arguments.data, arguments.output,
                       arguments.scale, arguments.seeds)
    if not arguments.show:
        runs.check(chosen)
        status = runs.train_all(chosen, arguments.jobs, arguments.gpu)
        if status:
            print("stopped: the same command goes on from here", file=sys.stderr)
            return status
    errors = results.measure(table, chosen, *arguments.gpu[:1])
    print(results.caption(table, chosen, arguments.scale), end="\n\n")
    print(results.text(table, results.lines(table, chosen, errors)), end="\n\n")
    for run in chosen:
        far = f"{run.iteration():,} of {run.max_iter:,} iterations"
        print(f"{run.name}: {runs.outcome(run) if run in errors else far}")
    if arguments.json:
        results.save(arguments.json, table, chosen, errors)
        print(f"wrote {arguments.json}")
    if arguments.figures:
        for path in figures.draw(chosen, arguments.figures, arguments.format):
            print(f"wrote {path}")
    return 0


def _arguments():
    parser = argparse.ArgumentParser(description=_DESCRIPTION, epilog=_EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=int, required=True, choices=sorted(tables.TABLES))
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder of the data sets")
    parser.add_argument("--output", type=Path, required=True, metavar="RUNS", help="the folder of the runs")
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="only the rows on these (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, metavar="F",
                        help="shorten every schedule to this fraction, warm-up and learning-rate steps included")
    parser.add_argument("--seeds", type=int, default=1, metavar="N",
                        help="runs of each network, with the seeds 1 to N (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, metavar="K",
                        help="train K runs at a time (default: 1), each with OMP_NUM_THREADS threads, or cores/K")
    parser.add_argument("--gpu", type=int, nargs="+", default=(), metavar="ID",
                        help="train on these GPUs, a run on one (default: on the CPU)")
    parser.add_argument("--models", type=Path, default=locate.ROOT / "models", metavar="DIR",
                        help="the folder of the networks (default: the project's models/)")
    parser.add_argument("--show", action="store_true", help="train nothing: show what has been trained so far")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number, of each run too, to FILE")
    parser.add_argument("--figures", type=Path, metavar="FOLDER",
                        help="draw each network's training curves (as Fig. 4, 8 and 10), and of its first active run "
                        "the learned positions (5, 9, 12) and how they moved (6)")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=["png"], help="of the figures (default: png)")
    return parser.parse_args()


if __name__ == "__main__":
    command.run(main)
