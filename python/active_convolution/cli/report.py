"""``acu report``: everything it does is in active_convolution.look.report."""

from . import options

DESCRIPTION = """\
Writes one HTML file about training runs: curves, errors, and the positions of every layer over the iterations.

The file needs nothing else, no network either: open it from the disk, or send it to somebody."""
EXAMPLES = """\
  acu report runs/demo/1/baseline runs/demo/1/acu --output report.html
  acu report runs/demo/1/acu --serve"""


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION, EXAMPLES, check=_check)
    parser.add_argument(
        "runs",
        type=options.path,
        nargs="+",
        metavar="RUN",
        help="the --output of acu train, finished or not; several are shown side by side",
    )
    options.output(parser, "the page, such as report.html", "FILE", default=None)
    parser.add_argument(
        "--serve",
        type=options.integer(0, 65535),
        nargs="?",
        const=8080,
        metavar="PORT",
        help="instead of a file: serve the page on this machine (default: at port %(const)s), made anew at each "
        "look, and looked at every ten seconds while a run goes on; Ctrl-C ends it",
    )
    return parser


def _check(arguments):
    if (arguments.output is None) == (arguments.serve is None):
        return (
            "give --output FILE, or --serve"
            if arguments.serve is None
            else "--output and --serve exclude each other: leave one out"
        )
    return None


def run(arguments):
    if arguments.serve is not None:
        from ..look.report import server

        return server.serve(
            arguments.runs, arguments.serve, lambda address: print(f"serving {address}", flush=True)
        )
    from ..look.report import page

    size = page.write(arguments.runs, arguments.output)
    print(f"wrote {arguments.output}, {size / 1e3:,.0f} kB")
