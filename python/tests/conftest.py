"""Paths for the tests: the package, and the material beside the project where it is there."""

import ctypes
import os
import stat
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = map(str, (ROOT / "python", ROOT))  # the package, and benchmarks/
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (str(ROOT / "python"), os.environ.get("PYTHONPATH")))
)  # of programs
for size in ("COLUMNS", "LINES"):  # of a terminal, to which progress bars would be cut
    os.environ.pop(size, None)
SHARED = ROOT.parent / "shared"


def _shared(part):
    path = SHARED / part
    if not path.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{path} is missing, and CI must not skip the tests that need it")
        pytest.skip(f"needs {path}")
    return path


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "slow: a test, or a file of them, that ./scripts/test.sh --quick leaves out"
    )
    config.addinivalue_line("markers", "quick: of such a file, one that it takes all the same")


def skip_where_others_cannot_look():
    """For tests that run the package as another user."""
    from active_convolution.caffe import locate

    for folder in {*(ROOT / "python").parents, *(locate.BUILD / "fork").resolve().parents}:
        if not folder.stat().st_mode & stat.S_IXOTH:
            pytest.skip(f"another user may not enter {folder}")


def skip_in_a_gpu_build():
    """For tests of what a build for the CPU alone refuses."""
    from active_convolution.caffe import locate

    if hasattr(locate.caffe()._caffe.Blob, "_gpu_data_ptr"):
        pytest.skip("this build may be able to use a GPU")


@pytest.fixture(scope="session")
def shared_reference():
    """The authors' published networks (Path)."""
    return _shared("reference")


@pytest.fixture(scope="session")
def shared_data():
    """CIFAR-10 as JPEG files and part of the original (Path)."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_cases():
    """Small inputs that went wrong once, a folder for each (Path)."""
    return _shared("cases")


@pytest.fixture(scope="session")
def digits_data(tmp_path_factory):
    """The digits, as train.py takes them (Path)."""
    from active_convolution.data.small import create

    folder = tmp_path_factory.mktemp("digits") / "data"
    create("digits", folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The folder of the tiny network of training_runs.py (Path)."""
    from training_runs import write_model

    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="module")
def one_thread():
    """Nets this small gain nothing from two threads, and on a busy machine those wait for each
    other."""
    openmp = ctypes.CDLL("libgomp.so.1")
    before = openmp.omp_get_max_threads()
    openmp.omp_set_num_threads(1)
    yield
    openmp.omp_set_num_threads(before)
