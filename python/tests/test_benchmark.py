"""The benchmark on tiny layers: what it reports is what it measured. No assertion on speed."""

import json
import math
import subprocess

import numpy as np
import pytest
from active_convolution.check import cases
from active_convolution.errors import UserError
from conftest import ROOT

from benchmarks import bars, contestants, iteration, layers, pytorch, summary, timing


def benchmark(*options):
    return subprocess.run([ROOT / "scripts/benchmark.py", *options], capture_output=True, text=True)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    """(what it printed, its JSON)"""
    path = tmp_path_factory.mktemp("benchmark") / "tiny.json"
    done = benchmark(
        "--layers",
        "tiny",
        "--batch",
        "1",
        "3",
        "--repeats",
        "3",
        "--threads",
        "2",
        "--json",
        str(path),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(path.read_text())


@pytest.mark.slow
def test_json_holds_every_layer_and_batch(tiny_run):
    _, found = tiny_run
    assert found["settings"]["threads"] == 2 and found["settings"]["repeats"] == 3
    assert found["machine"]["gflops"] > 0 and found["machine"]["gigabytes_per_second"] > 0
    assert [(row["layer"], row["batch"]) for row in found["layers"]] == [
        ("small", 1),
        ("grouped", 1),
        ("small", 3),
        ("grouped", 3),
    ]
    for row in found["layers"]:
        assert 0 < row["difference"] < cases.TOLERANCE["float"]
        assert {"active", "Convolution"} <= set(row["times"])
        for times in row["times"].values():
            for which in contestants.PASSES:
                assert (
                    times[which]["median"] > 0
                    and times[which]["spread"] >= 0
                    and times[which]["repeats"] == 3
                )


@pytest.mark.slow
def test_sums_are_those_of_the_layers(tiny_run):
    _, found = tiny_run
    for each in found["sums"]:
        rows = [row for row in found["layers"] if row["batch"] == each["batch"]]
        for name in rows[0]["times"]:
            parts = [
                sum(row["times"][name][which]["median"] for row in rows)
                for which in contestants.PASSES
            ]
            assert [
                each["milliseconds"][name][which] for which in contestants.PASSES
            ] == pytest.approx(parts)
            assert each["milliseconds"][name]["both"] == pytest.approx(sum(parts))


@pytest.mark.slow
def test_table_says_what_is_missing_and_what_was_compared(tiny_run):
    printed, found = tiny_run
    assert ("PyTorch is not installed" in printed) == (found["settings"]["pytorch"] is None)
    assert (
        printed.count("compared with the oracle first") == 2
        and printed.count("peak workspace, MiB") == 2
    )
    assert "of limit" in printed and "sum, ms" in printed


@pytest.mark.slow
def test_ordinary_layers_by_ours_and_by_caffes():
    """The convolution that was asked for, its network's sum, and every elementwise loop beside a
    copy."""
    layer = "GoogLeNet 3a,5×5"
    options = ("--layers", f"ordinary:{layer}", "--batch", "2", "--repeats", "1", "--threads", "1")
    done = benchmark(*options)
    assert done.returncode == 0, done.stderr
    for text in (layer, f"{layer} relative to Caffe's loop", "ReLU", "Softmax", "GB/s"):
        assert text in done.stdout


@pytest.mark.parametrize(
    "options, message",
    [
        (("--layers", "tabel1"), "--layers tabel1: no such layers"),
        (("--layers", "tiny:conv1/1"), "--layers tiny:conv1/1: no such layers"),
        (("--repeats", "0"), "--repeats 0 is out of range"),
        (("--batch", "4", "-1"), "--batch -1 is out of range"),
    ],
)
def test_bad_options(options, message):
    done = benchmark(*options)
    assert (
        done.returncode == 2
        and done.stderr.startswith(f"error: {message}")
        and done.stderr.count("\n") == 1
    )


def test_one_layer_of_a_set():
    (chosen,) = layers.choose(["table1:conv3/2", "table1:conv1/1", "table1:conv3/2"])
    assert [layer.name for layer in chosen.layers] == ["conv3/2", "conv1/1"]


def test_table_1_has_the_operations_that_the_paper_s_layers_have():
    assert sum(layer.gflop(64) for layer in layers.SETS["table1"].layers) == pytest.approx(
        11.8, abs=0.05
    )


@pytest.mark.parametrize("stride, group", [(1, 1), (2, 2)])
def test_operations_and_bytes_are_those_of_the_blobs(stride, group):
    layer = layers.Layer("a", 4, 7, 6, stride=stride, group=group)
    values = layer.values(3)
    image, weight, top = values.image, values.parameters[0], values.top_diff
    assert layer.gflop(3) == pytest.approx(2e-9 * top.size * weight[0].size)
    forward, backward = (
        image.nbytes + top.nbytes + weight.nbytes,
        2 * image.nbytes + top.nbytes + 2 * weight.nbytes,
    )
    assert layer.gigabytes(3) == pytest.approx((1e-9 * forward, 1e-9 * backward))


def test_a_wrong_layer_is_not_timed(monkeypatch):
    class Spoiled(contestants.LayerNet):
        @property
        def top(self):
            return super().top * np.float32(1.01)

    monkeypatch.setattr(contestants, "LayerNet", Spoiled)
    with pytest.raises(UserError, match="small differs from the oracle by .* in top"):
        contestants.Benchmark(threads=1).verify(layers.SETS["tiny"].layers[0])


@pytest.mark.parametrize("wrong", [0, 2, 4])
def test_what_does_not_compute_the_same_is_not_timed(wrong):
    class Other:
        def __init__(self, factor):
            self.factor = factor

        def results(self):
            return [np.full((2, 3), self.factor if index == wrong else 1.0) for index in range(5)]

    name = ("top", "image", "weight", "x", "y")[wrong]
    different = {contestants.ACTIVE: Other(1), contestants.DENSE: Other(1.001)}
    with pytest.raises(
        UserError,
        match=f"^small: DCLS's way differs from active by 1.0e-03 in {name}: nothing is timed$",
    ):
        contestants._agree(layers.SETS["tiny"].layers[0], different)
    contestants._agree(
        layers.SETS["tiny"].layers[0], {contestants.ACTIVE: Other(1), contestants.DENSE: Other(1)}
    )


def test_repeats_are_interleaved():
    called = []
    calls = {
        name: lambda name=name: called.append(name) or timing.time.sleep(0.03) for name in "ab"
    }
    times = timing.interleaved(calls, 3)
    assert (
        called == ["a", "a", "b", "b"] + ["a", "b"] * 3
    )  # the first call, one to see its length, then in turns
    assert all(
        30 <= time.median for time in times.values()
    )  # in milliseconds; how much more, the machine says


def test_time_is_the_median_with_the_quartiles():
    time = timing.Time.of([0.004, 0.001, 0.002, 0.003, 0.100])
    assert (time.median, time.spread, time.repeats) == (pytest.approx(3), pytest.approx(2 / 3), 5)


def test_peak_memory_is_what_was_held():
    with timing.PeakMemory() as peak:
        np.ones(40 << 17)  # 40 MiB, freed again
    assert math.isnan(peak.mebibytes) or 38 < peak.mebibytes < 60


def test_bars_compare_the_sums():
    sums = {
        ("table1", 64): {
            "active": {"forward": 40.0, "backward": 80.0, "both": 120.0},
            "Convolution": {"forward": 80.0, "backward": 320.0, "both": 400.0},
        }
    }
    forward, both = bars.of_times(sums, gpu=False)
    assert (forward.measured, forward.reached, both.measured, both.reached) == (
        0.5,
        False,
        pytest.approx(0.3),
        True,
    )
    assert str(forward).startswith("MISSED") and str(both).startswith("reached")
    assert bars._exponent({2: 10, 4: 20, 8: 40}) == pytest.approx(1)


def test_limit_is_the_slower_of_products_and_copies():
    row = summary.Row("tiny", "a", 1, gflop=3, gigabytes=(5, 1), difference=0, times={})
    limits = {"gflops": 100, "gigabytes_per_second": 50}
    assert row.limit("forward", limits) == pytest.approx(100) and row.limit(
        "backward", limits
    ) == pytest.approx(60)


def test_an_iteration_computes_everything_and_changes_nothing():
    step = iteration.Iteration(iteration.MODEL, "acu", batch=2, gpu=False)
    net = step.solver.net
    parameters = {
        name: [blob.data.copy() for blob in blobs]
        for name, blobs in net.params.items()
        if not name.startswith("bn")
    }  # the statistics of BatchNorm are no parameters
    step()
    assert step.solver.iter == 1
    for name, blobs in parameters.items():
        for before, blob in zip(blobs, net.params[name]):
            np.testing.assert_array_equal(blob.data, before)
    active = step.active_blobs()
    assert len(active) == 6
    net.backward()
    for weight, _, *positions in active:
        assert np.any(weight.diff)
        for blob in positions:
            assert (
                np.any(blob.diff)
                and np.all(blob.data % 1)
                and np.abs(blob.data).max() <= 1 + iteration.REACH
            )


def test_iterations_are_compared_with_the_baseline_s():
    bar, *_ = bars.of_iteration(contestants.Benchmark(threads=1, repeats=1), batch=2)
    assert (
        bar.measured > 0 and "one training iteration of cifar10/plain, batch 2: active" in bar.name
    )
    assert "relative to Convolution's" in bar.name


needs_pytorch = pytest.mark.skipif(not pytorch.available(), reason="needs PyTorch")
needs_torchvision = pytest.mark.skipif(pytorch.torchvision is None, reason="needs torchvision")


@needs_pytorch
@pytest.mark.parametrize("layer", layers.SETS["tiny"].layers)
@pytest.mark.parametrize(
    "kind", ["Dense", "PerSynapse", pytest.param("Deformable", marks=needs_torchvision)]
)
def test_pytorch_computes_the_same(kind, layer):
    assert_the_same(kind, layer, layer.values(2))


@needs_pytorch
@pytest.mark.parametrize("layer", layers.SETS["tiny"].layers)
def test_conv2d_is_an_active_convolution_on_the_grid(layer):
    assert_the_same("Conv2d", layer, layer.values(2, reach=0))


def assert_the_same(kind, layer, values):
    """A contestant in PyTorch gives what the oracle does, where it gives it: an ordinary
    convolution has no positions."""
    contestant = getattr(pytorch, kind)(layer, values, "cpu")
    contestant.forward()
    image, weight, *positions = (tensor.numpy() for tensor in contestant.backward())
    found = cases.differences(
        layer.case(2),
        contestants._exact(values),
        contestant.top.detach().numpy(),
        image,
        [weight, np.zeros((1, 1, 1, 1)), *(positions or values.parameters[2:])],
    )
    compared = ("top", "image", "weight", "x", "y") if positions else ("top", "image", "weight")
    assert max(found[name] for name in compared) < cases.TOLERANCE["float"]
