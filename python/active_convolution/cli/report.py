"""``acu report``: everything it does is in active_convolution.look.report."""

from . import options

DESCRIPTION = """\
Writes one HTML file about training runs: errors, curves, the positions of every layer over the
iterations, and what acu evaluate RUN --json RUN/evaluation.json found.

The file needs nothing else, no network either: open it from the disk, or send it to somebody."""
EXAMPLES = """\
  acu report runs/demo/baseline-1 runs/demo/acu-1 --output report.html"""


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "runs",
        type=options.path,
        nargs="+",
        metavar="RUN",
        help="the --output of acu train, finished or not; several are shown beside each other",
    )
    options.output(
        parser, "the page (default: report.html in the first RUN)", "FILE", required=False
    )
    return parser


def run(arguments):
    from ..look import report

    output = arguments.output or arguments.runs[0] / "report.html"
    size = report.write(arguments.runs, output)
    print(f"wrote {output}, {size / 1e6:,.1f} MB: open it in a browser")
    options.say_next("export", arguments.runs[0])
