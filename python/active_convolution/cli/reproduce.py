"""``acu reproduce``: everything it does is in active_convolution.paper."""

import argparse
import sys

from . import options

DESCRIPTION = """\
Trains both sides of every comparison in a table of the paper, ordinary convolutions (baseline) and active ones (acu),
and prints the table with the paper's errors beside the measured ones.

  --table 2   the plain network on CIFAR-10 and CIFAR-100
  --table 3   the basic and the bottleneck residual network on CIFAR-10 and CIFAR-100
  --table 4   AlexNet and the 26-layer residual network on Places365

Each run has a folder <dataset>_<network>_<variant>_seed<S> in --output, as acu train fills it. Finished runs are not
trained again, and unfinished ones go on from their last snapshot: after Ctrl-C, give the same command."""
EXAMPLES = """\
  acu reproduce --table 2 --datasets cifar10 --scale 0.025 --seeds 3 --jobs 2 --data data --output runs"""
FORMATS = ("png", "pdf", "svg")


def parser(prog):
    from ..paper.tables import TABLES

    parser = options.Parser(
        prog, DESCRIPTION, EXAMPLES, check=_check, former=options.joined_devices
    )
    parser.add_argument("--table", type=int, required=True, choices=sorted(TABLES))
    options.data(
        parser,
        "a data set, as acu data makes it, or a folder of several, each under its name: cifar10, cifar100, "
        "places365",
    )
    options.output(parser, "the folder of the runs", "RUNS")
    parser.add_argument(
        "--datasets", nargs="+", metavar="NAME", help="only the rows on these (default: all)"
    )
    parser.add_argument(
        "--scale",
        type=_fraction,
        default=1.0,
        metavar="F",
        help="shorten every schedule to this fraction, warm-up and learning-rate steps included",
    )
    parser.add_argument(
        "--seeds",
        type=options.integer(1, 1024),
        default=1,
        metavar="N",
        help="runs of each network, with the seeds 1 to N (default: %(default)s)",
    )
    options.jobs(
        parser,
        "train this many runs at a time (default: %(default)s), each with OMP_NUM_THREADS threads, or its "
        "share of the cores",
        default=1,
    )
    options.gpus(parser, "train on these GPUs, a run on one (default: on the CPU)")
    parser.add_argument(
        "--models",
        type=options.path,
        default=options.networks(),
        metavar="DIR",
        help="the folder of the networks (default: %(default)s)",
    )
    parser.add_argument(
        "--show", action="store_true", help="train nothing: show what has been trained so far"
    )
    parser.add_argument(
        "--json",
        type=options.result,
        metavar="FILE",
        help="write every number, of each run too, to FILE",
    )
    parser.add_argument(
        "--figures",
        type=options.path,
        metavar="FOLDER",
        help="draw each network's training curves (as Fig. 4, 8 and 10), and of its first active run "
        "the learned positions (5, 9, 12) and how they moved (6)",
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=["png"],
        help="of the figures (default: png)",
    )
    return parser


def _fraction(text):
    fraction = options.number(text)
    if not 0 < fraction <= 1:
        raise argparse.ArgumentTypeError(
            f"{text} is out of range: give a fraction of the full schedule, above 0, 1 at most"
        )
    return fraction


def _check(arguments):
    from ..paper.tables import TABLES

    known = TABLES[arguments.table].datasets
    for name in arguments.datasets or ():
        if name not in known:
            return f"table {arguments.table} has nothing on {name}: its --datasets are {', '.join(known)}"
    return None


def run(arguments):
    from ..paper import figures, results, runs, tables

    table = tables.TABLES[arguments.table]
    gpus = arguments.gpu or ()
    data = arguments.data
    if (data / "manifest.json").exists():  # the one data set: its neighbours are the others
        data = data.absolute().parent
    chosen = runs.plan(
        runs.choose(table, arguments.datasets),
        arguments.models,
        data,
        arguments.output,
        arguments.scale,
        arguments.seeds,
    )
    if not arguments.show:
        runs.check(chosen)
        status = runs.train_all(chosen, arguments.jobs, gpus)
        if status:
            print("stopped: the same command goes on from here", file=sys.stderr)
            return status
    measured = results.measure(table, chosen, *gpus[:1])
    print(results.caption(table, chosen, arguments.scale), end="\n\n")
    print(results.text(table, results.lines(table, chosen, measured)), end="\n\n")
    for run in chosen:
        far = f"{run.iteration():,} of {run.max_iter:,} iterations"
        print(f"{run.name}: {runs.outcome(run) if run in measured else far}")
    if arguments.json:
        results.save(arguments.json, table, chosen, measured)
        print(f"wrote {arguments.json}")
    if arguments.figures:
        for path in figures.draw(chosen, arguments.figures, arguments.format):
            print(f"wrote {path}")
    return 0
