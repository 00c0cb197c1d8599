"""Foreign engines for the tests: they are in the running Python, or in the virtual environment that
setup.sh makes."""

import importlib
import os
import site
import sys
from pathlib import Path

import pytest
from conftest import ROOT

ENVIRONMENT = Path(os.environ.get("ACTIVE_CONVOLUTION_TEST_ENV", ROOT / "build/test-env"))


def engine(name):
    """The module ``name``; skips the test where it is nowhere, and fails in CI."""
    packages = next(ENVIRONMENT.glob("lib/python3*/site-packages"), None)
    if packages and str(packages) not in sys.path:
        site.addsitedir(
            str(packages)
        )  # behind Debian's, so that nothing else is another one than in use
    try:
        return importlib.import_module(name)
    except ImportError:
        if os.environ.get("CI"):
            pytest.fail(
                f"{name} is missing, and CI must not skip the tests that need it: "
                "run ./scripts/setup.sh --test"
            )
        pytest.skip(f"needs {name}: ./scripts/setup.sh --test installs it into {ENVIRONMENT}")


def onnxruntime_outputs(model, inputs):
    """The outputs, {name: array}, of an ONNX file or ModelProto on ``inputs``, {name: array}."""
    runtime = engine("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    source = str(model) if isinstance(model, (str, Path)) else model.SerializeToString()
    session = runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    feeds = {name: values.astype("float32") for name, values in inputs.items()}
    return dict(zip(names, session.run(names, feeds)))
