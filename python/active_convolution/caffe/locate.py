"""Finds the pycaffe of the fork, wherever the caller started from."""

import functools
import importlib
import os
import subprocess
import sys
from pathlib import Path

from ..errors import UserError
from .guard import doing, last_words

_PACKAGE = Path(__file__).resolve().parents[1]
# A wheel (scripts/wheel.sh) has Caffe beside the package, and here what else a checkout has.
INSTALLED = (_PACKAGE / "share").is_dir()
ROOT = _PACKAGE / "share" if INSTALLED else _PACKAGE.parents[1]
BUILD = ROOT if INSTALLED else Path(os.environ.get("ACTIVE_CONVOLUTION_BUILD", ROOT / "build"))
GPU = os.environ.get("ACTIVE_CONVOLUTION_GPU")  # a device number: nets run there; None: on the CPU


def _import(module):
    pycaffe = BUILD / "fork" / "python"
    if pycaffe.is_dir() and str(pycaffe) not in sys.path:
        sys.path.append(str(pycaffe))
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"cannot import {module} ({error}): build the fork with ./scripts/build.sh"
        ) from error


def built():
    """What the build says of itself, {name: value}; empty where it is not there."""
    path = BUILD / "built.txt"  # from cmake/built.txt.in: NAME=value, a line each
    if not path.exists():
        return {}
    return dict(
        line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines() if "=" in line
    )


def tool(name, *arguments):
    """Runs Caffe's own tool ``name``. Returns its log; raises UserError with its last words where
    it fails."""
    program = BUILD / "out/tools" / name
    if not program.exists():
        raise UserError(f"there is no {program}: build the fork with ./scripts/build.sh")
    said = {**os.environ, "GLOG_minloglevel": "0", "GLOG_logtostderr": "1"}
    done = subprocess.run([program, *arguments], capture_output=True, errors="replace", env=said)
    if done.returncode:
        raise UserError(f"Caffe's {name} fails: {last_words(done.stderr)}")
    return done.stderr


def caffe_pb2():
    """Caffe's protocol buffers with our messages in them (``caffe.proto.caffe_pb2``)."""
    caffe()
    return _import("caffe.proto.caffe_pb2")


def caffe():
    """The fork's pycaffe. Its log keeps to errors unless GLOG_minloglevel says otherwise: it warns
    of old formats, which are read all the same, and a line beside an error would be one too
    many."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    module = _import("caffe")
    if "ActiveConvolution" not in module.layer_type_list():
        raise UserError(
            f"{module.__file__} has no ActiveConvolution layer: it is another Caffe's; "
            "run `. build/env.sh`, or take it off PYTHONPATH"
        )
    _use_gpu_at_first()
    return module


@functools.cache
def _use_gpu_at_first():
    """Once: where a caller goes on to another device, it stays there."""
    if GPU is not None and not GPU.isdecimal():
        raise UserError(f"ACTIVE_CONVOLUTION_GPU is {GPU}: give a device number, or unset it")
    if GPU is not None:
        use_gpu(int(GPU))


def use_gpu(device):
    """Lets nets run on GPU ``device``. Raises UserError where the build is for the CPU."""
    if is_on(built().get("CPU_ONLY", "")):
        raise UserError(
            f"cannot use GPU {device}, since this Caffe is for the CPU: build another one with "
            "./scripts/build.sh --gpu and source its env.sh, or leave --gpu out"
        )
    with doing(f"using GPU {device}"):
        _import("caffe").set_device(device)
        _import("caffe").set_mode_gpu()


def is_on(text):
    """Whether a switch of the build is on, as CMake reads it."""
    return text.upper() in ("ON", "1", "TRUE", "YES", "Y")
