"""Loads networks that may be wrong: a check that fails inside Caffe ends the process, so one that may die goes first."""
import re
import subprocess
import sys
from pathlib import Path

from . import evaluation
from .errors import UserError

_PACKAGES = Path(__file__).resolve().parents[1]
_LOAD = ("import sys; sys.path.insert(0, sys.argv[1]); from active_convolution import fork; caffe = fork.caffe(); "
         "caffe.Net(sys.argv[2], caffe.TEST)")


def load(model, weights):
    """As evaluation.load; raises UserError with Caffe's own last words, too, where Caffe refuses the network."""
    done = subprocess.run([sys.executable, "-c", _LOAD, _PACKAGES, model], capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        fatal = re.findall(r"^F.*?\] (.*)$", done.stderr, re.MULTILINE)
        reason = fatal or done.stderr.splitlines() or [f"exit status {done.returncode}"]
        raise UserError(f"Caffe does not take {model}: {reason[-1]}")
    return evaluation.load(model, weights)
