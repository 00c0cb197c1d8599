#!/usr/bin/python3
"""Writes one HTML file about training runs: curves, errors, and the positions of every layer over the iterations.

The file needs nothing else, no network either: open it from the disk, or send it to somebody.
"""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from active_convolution import command  # noqa: E402
from active_convolution.report import page  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN",
                        help="the --output of train.py, finished or not; several are shown side by side")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the page, such as report.html")
    arguments = parser.parse_args()
    size = page.write(arguments.runs, arguments.output)
    print(f"wrote {arguments.output}, {size / 1e3:,.0f} kB")


if __name__ == "__main__":
    command.run(main)
