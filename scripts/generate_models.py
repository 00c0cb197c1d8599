#!/usr/bin/python3
"""Writes the prototxt files under models/ from python/active_convolution/networks/."""
import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "python"))
from active_convolution import command  # noqa: E402
from active_convolution.networks import models  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "models", metavar="DIR", help="default: models/")
    changed = models.write(parser.parse_args().output)
    for path in changed:
        print(path)
    print(f"{len(changed)} files changed")


if __name__ == "__main__":
    command.run(main)
