"""``acu report``: everything it does is in active_convolution.report."""
from . import options

DESCRIPTION = """\
Writes one HTML file about training runs: curves, errors, and the positions of every layer over the iterations.

The file needs nothing else, no network either: open it from the disk, or send it to somebody."""
EXAMPLES = """\
  acu report runs/demo/baseline runs/demo/acu --output report.html"""


def parser(prog):
    parser = options.Parser(prog, DESCRIPTION, EXAMPLES)
    parser.add_argument("runs", type=options.path, nargs="+", metavar="RUN",
                        help="the --output of acu train, finished or not; several are shown side by side")
    options.output(parser, "the page, such as report.html", "FILE")
    return parser


def run(arguments):
    from ..report import page
    size = page.write(arguments.runs, arguments.output)
    print(f"wrote {arguments.output}, {size / 1e3:,.0f} kB")
