"""``pip install ./python`` in a virtual environment that sees Debian's packages, without a
network."""

import ast
import importlib.util
import os
import shutil
import subprocess
import sys

import pytest
from active_convolution import __version__
from active_convolution.caffe.locate import BUILD
from active_convolution.cli import SUBCOMMANDS
from conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The folder of a virtual environment with the package in it."""
    for module in ("pip", "setuptools", "wheel", "venv"):
        if not importlib.util.find_spec(module):
            pytest.skip(f"needs Debian's python3-{module}")
    folder = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(
        ROOT / "python",
        folder / "python",  # pip builds in the source's folder
        ignore=shutil.ignore_patterns("tests", "__pycache__", "build", "*.egg-info"),
    )
    subprocess.run(
        [sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", folder / "venv"],
        check=True,
    )
    done = subprocess.run(
        [
            folder / "venv/bin/python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-build-isolation",
            "--no-deps",
            "--no-index",
            source,
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    return folder / "venv"


def acu(environment, *arguments, **options):
    variables = {
        **os.environ,
        "PYTHONPATH": str(BUILD / "fork/python"),
        "ACTIVE_CONVOLUTION_BUILD": str(BUILD),
    }
    return subprocess.run(
        [environment / "bin/acu", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=variables,
        **options,
    )


def test_acu_is_there_and_sees_pycaffe(environment):
    done = acu(environment, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"acu {__version__} ") and "with ActiveConvolution" in done.stdout


def test_every_file_of_the_package_is_installed(environment):
    (package,) = environment.glob("lib/python*/site-packages/active_convolution")
    ours = ROOT / "python/active_convolution"
    files = {
        path.relative_to(ours)
        for path in ours.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert files and not [path for path in files if not (package / path).is_file()]


def test_networks_go_to_the_working_directory(environment, tmp_path):
    done = acu(environment, "generate", cwd=tmp_path)
    assert (
        done.returncode == 0
        and (tmp_path / "models/cifar10/plain/acu/train_val.prototxt").is_file()
    )


def test_a_run_is_trained_and_shown(environment, tiny, digits_data, tmp_path):
    train = acu(
        environment,
        "train",
        tiny,
        "--variant",
        "acu",
        "--data",
        digits_data,
        "--output",
        "run",
        "--max-iter",
        4,
        cwd=tmp_path,
    )
    assert train.returncode == 0, train.stderr
    report = acu(environment, "report", "run", "--output", "a.html", cwd=tmp_path)
    assert (report.returncode, report.stderr) == (0, "") and "<html" in (
        tmp_path / "a.html"
    ).read_text()


def _imported(node):
    """The projects of others, or modules of Python's, that a node of a syntax tree imports."""
    if isinstance(node, ast.ImportFrom):
        return [node.module.split(".")[0]] if node.level == 0 else []
    return [a.name.split(".")[0] for a in node.names] if isinstance(node, ast.Import) else []


def test_it_asks_for_what_it_imports(environment):
    """Every module of other people that the package imports belongs to a project that
    pyproject.toml names."""
    projects = {
        "cv2": "opencv-python-headless",
        "google": "protobuf",
        "sklearn": "scikit-learn",
        "PIL": "pillow",
    }
    imported = {
        name
        for path in (ROOT / "python/active_convolution").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in _imported(node)
    }
    foreign = (
        imported - set(sys.stdlib_module_names) - {"active_convolution", "caffe", "benchmarks"}
    )
    named = (ROOT / "python/pyproject.toml").read_text()
    assert foreign >= {"numpy", "cv2"}
    assert not [name for name in foreign if f'"{projects.get(name, name)}' not in named], foreign


def test_every_sub_command_is_a_module(environment):
    (package,) = environment.glob("lib/python*/site-packages/active_convolution")
    assert {*SUBCOMMANDS} <= {path.stem for path in (package / "cli").glob("*.py")}
