#!/usr/bin/python3
"""Executes a notebook from a clean kernel, and writes it back with its outputs."""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from active_convolution import command, notebook  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", type=Path, metavar="FILE", help="such as docs/inspect_positions.ipynb")
    path = parser.parse_args().notebook
    notebook.refresh(path)
    print(f"wrote {path}, {path.stat().st_size / 1e3:,.0f} kB")


if __name__ == "__main__":
    command.run(main)
