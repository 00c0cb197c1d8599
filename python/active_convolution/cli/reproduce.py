"""``acu reproduce``: everything it does is in active_convolution.paper."""

import sys

from . import options

DESCRIPTION = """\
Trains both sides of every comparison in a table of the paper, ordinary convolutions (baseline) and
active ones (acu), and prints the table with the paper's errors beside the measured ones.

  --table 2   the plain network on CIFAR-10 and CIFAR-100
  --table 3   the basic and the bottleneck residual network on CIFAR-10 and CIFAR-100
  --table 4   AlexNet and the 26-layer residual network on Places365

Each run has a folder RUNS/table<N>/<data>-<network>-<variant>-<seed>, or RUNS/table<N>-<F>/… with
--scale F, as acu train fills it; RUNS/table<N>.csv has a row for each finished one. Finished runs
are not trained again, and unfinished ones go on from their last snapshot: after Ctrl-C, give the
same command."""
EXAMPLES = """\
  acu reproduce --table 2 --datasets cifar10 --scale 0.025 --seeds 3 --data data --runs runs
  acu reproduce --table 2 --show --runs results --figures figures
  acu reproduce --table 2 --publish runs/table2/cifar10-plain-acu-1 --runs results"""
FORMATS = ("png", "pdf", "svg")


def parser(prog):
    from ..paper.tables import TABLES

    parser = options.Parser(prog, DESCRIPTION, EXAMPLES, check=_check)
    add = parser.add_argument
    add("--table", type=int, required=True, choices=sorted(TABLES))
    add("--runs", type=options.path, required=True, metavar="RUNS", help="the folder of the runs")
    add(
        "--data",
        type=options.path,
        metavar="DIR",
        help="a folder of data sets, each under its name: cifar10, cifar100, places365",
    )
    add("--datasets", nargs="+", metavar="NAME", help="only the rows on these (default: all)")
    add(
        "--scale",
        type=options.fraction,
        default=1.0,
        metavar="F",
        help="shorten every schedule to this fraction, warm-up and learning-rate steps included",
    )
    add(
        "--seeds",
        type=options.integer(1, 1024),
        default=1,
        metavar="N",
        help="runs of each network, with the seeds 1 to N (default: %(default)s)",
    )
    options.jobs(
        parser,
        "train this many runs at a time (default: %(default)s), each with OMP_NUM_THREADS threads, "
        "or its share of the cores",
        default=1,
    )
    options.gpus(parser, "train on these GPUs, a run on one (default: on the CPU)")
    add(
        "--models",
        type=options.path,
        metavar="DIR",
        help="a folder of networks under the names of the paper's (default: those themselves)",
    )
    add("--show", action="store_true", help="train nothing: show all that is in --runs")
    add(
        "--publish",
        type=options.path,
        metavar="RUN",
        help="train nothing: copy what this finished run recorded to its place in --runs",
    )
    add(
        "--figures",
        type=options.path,
        metavar="FOLDER",
        help="draw each network's training curves (as Fig. 4, 8 and 10), and of its first active "
        "run the learned positions (5, 9, 12) and how they moved (6)",
    )
    formats = dict(nargs="+", choices=FORMATS, default=["png"])
    add("--format", help="of the figures (default: png)", **formats)
    return parser


def _check(arguments):
    from ..paper.tables import TABLES

    known = TABLES[arguments.table].datasets
    for name in arguments.datasets or ():
        if name not in known:
            return f"table {arguments.table} has --datasets {', '.join(known)}, and not {name}"
    if arguments.data is None and not (arguments.show or arguments.publish):
        return "there is nothing to train on: give --data, or --show"
    return None


def run(arguments):
    from ..paper import figures, results, runs, tables

    table, folder, gpus = tables.TABLES[arguments.table], arguments.runs, arguments.gpu or ()
    if arguments.publish:
        print(f"wrote {runs.publish(arguments.publish, folder)}")
        return 0
    if arguments.show:
        chosen = runs.found(table, folder, arguments.datasets)
    else:
        chosen = runs.plan(table, folder, arguments.scale, arguments.seeds, arguments.datasets)
        commands = runs.commands(chosen, arguments.data, arguments.models)
        status = runs.train_all(commands, arguments.jobs, gpus)
        if status:
            print("stopped: the same command goes on from here", file=sys.stderr)
            return status
    figured = results.measure(table, chosen, *gpus[:1])
    print(results.caption(table), end="\n\n")
    print(results.text(table, results.lines(table, figured)), end="\n\n")
    for run in chosen:
        print(f"{run.name}: {runs.outcome(run)}")
    results.save(folder / f"table{table.number}.csv", table, figured)
    print(f"wrote {folder / f'table{table.number}.csv'}")
    for path in (
        figures.draw(chosen, arguments.figures, arguments.format) if arguments.figures else ()
    ):
        print(f"wrote {path}")
    return 0
