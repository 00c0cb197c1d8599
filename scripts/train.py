#!/usr/bin/python3
"""acu train, under the name that Caffe's users look for."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from active_convolution import cli  # noqa: E402

cli.script("train")
