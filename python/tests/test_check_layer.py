"""The oracle at scale, run as a user runs it, and its ability to find fault."""

import subprocess

import numpy as np
import pytest
from active_convolution.caffe import locate
from active_convolution.check import cases
from active_convolution.check.runner import LayerRunner
from active_convolution.errors import UserError
from conftest import ROOT

pytestmark = pytest.mark.slow


def run(*options, timeout=None):
    return subprocess.run(
        [ROOT / "scripts/acu", "check", *options], capture_output=True, text=True, timeout=timeout
    )


def test_a_thousand_cases():
    done = run("--cases", "1000", "--seed", "20000")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("2000 passed, 0 failed\n")
    assert done.stdout.count("worst relative difference") == 12


@pytest.mark.quick
def test_float_differs_by_more_than_double_allows():
    with LayerRunner("float") as runner:
        assert max(cases.check(1, runner).values()) > cases.TOLERANCE["double"]


@pytest.mark.parametrize("wrong", ["top", "image", "weight", "x", "y"])
def test_a_wrong_quantity_is_found(wrong, monkeypatch):
    """One element that is off by a thousandth of the largest."""

    class Spoiled(LayerRunner):
        def run(self, *arguments):
            top, image, parameters = super().run(*arguments)
            array = dict(zip(("weight", "bias", "x", "y"), parameters), top=top, image=image)[wrong]
            array.flat[0] += 1e-3 * np.abs(array).max()
            return top, image, parameters

    with Spoiled("double") as runner:
        differences = cases.check(2, runner)
    assert differences.pop(wrong) > 1e-6
    assert max(differences.values()) < cases.TOLERANCE["double"]


def test_what_the_layer_refuses_is_said():
    layer = locate.caffe_pb2().LayerParameter(name="acu", type="ActiveConvolution")
    said = r"^Caffe ended the layer's process: .* Layer 'acu' .*kernel_size is 0 x 0.*\Z"
    with LayerRunner("float") as runner, pytest.raises(UserError, match=said):
        runner.run(layer, [], np.zeros((1, 1, 3, 3)), np.zeros((1, 1, 3, 3)))


@pytest.mark.parametrize("said", [0, 200_000], ids=["little", "more than a pipe holds"])
def test_a_caffe_that_ends_is_quoted_however_much_it_said(tmp_path, said):
    program = tmp_path / "out/tools/run_layer"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!/bin/sh\n(head -c {said} /dev/zero; echo; echo 'F1 0:00 1 a.cpp:1] on purpose') >&2\n"
    )
    program.chmod(0o755)
    done = run("--cases", "1", "--build", tmp_path, timeout=60)
    assert done.returncode == 1 and done.stderr.endswith(
        "\nerror: Caffe ended the layer's process: on purpose\n"
    )


@pytest.mark.parametrize("options", [("--cases", "0"), ("--seed", "-1")])
def test_bad_options(options):
    done = run(*options)
    assert done.returncode == 2 and done.stderr.startswith(
        f"error: {' '.join(options)} is out of range: give "
    )
    assert done.stdout == "" and done.stderr.count("\n") == 1
