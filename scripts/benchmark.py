#!/usr/bin/python3
"""Compares active convolutions with the oracle, then times them beside Caffe's and PyTorch's.

PyTorch (and torchvision, on a GPU) is an optional extra of this program alone. With it in a
virtual environment:

    python3 -m venv --system-site-packages ~/torch && ~/torch/bin/pip install torch torchvision
    ~/torch/bin/python scripts/benchmark.py

Where other work shares the cores, OMP_WAIT_POLICY=passive keeps waiting threads from taking them
from working ones.
"""

import itertools
import json
import math
import os
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = map(str, (_ROOT, _ROOT / "python"))
from active_convolution import command  # noqa: E402
from active_convolution.cli import options  # noqa: E402
from active_convolution.files import whole_file  # noqa: E402
from tqdm import tqdm  # noqa: E402

# What imports Caffe and PyTorch waits until something is timed.
from benchmarks import layers  # noqa: E402


def main():
    arguments = parser().parse_args()
    sets = layers.choose(arguments.layers)
    from benchmarks import machine, pytorch, summary
    from benchmarks.contestants import Benchmark

    benchmark = Benchmark(arguments.gpu, arguments.threads, arguments.repeats)
    for line in pytorch.missing():
        print(line)
    limits = machine.limits(benchmark.threads, benchmark.gpu, benchmark.synchronize)
    peak = "" if benchmark.gpu else f"multiply-adds {limits['gflops_peak']:.0f} GFLOP/s, "
    print(
        f"{limits['processor']}, {benchmark.threads} threads, load {limits['load']:.1f}: {peak}"
        f"best product {limits['gflops']:.0f} GFLOP/s ({limits['gflops_by']}), "
        f"copy {limits['gigabytes_per_second']:.0f} GB/s"
    )
    rows, found = [], []
    for each in sets:
        if each.name == "ordinary":
            found += _ordinary(benchmark, arguments.batch or each.batches, each)
            continue
        for batch in arguments.batch or (
            (64, 256) if benchmark.gpu and each.name == "table1" else each.batches
        ):
            rows += _time(benchmark, each, batch, limits)
    if arguments.bars and rows:
        found += _bars(benchmark, rows, limits)
    if arguments.json:
        settings = {
            "gpu": benchmark.gpu,
            "threads": benchmark.threads,
            "repeats": arguments.repeats,
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
            "pytorch": pytorch.version(),
        }
        with whole_file(arguments.json) as file:
            json.dump(summary.as_json(rows, limits, settings, found), file, indent=1)
            file.write("\n")


def parser():
    parser = options.Parser(Path(sys.argv[0]).name, __doc__)
    options.gpu(
        parser,
        "on this GPU (without ID: on 0); needs PyTorch, and a fork built with --gpu whose "
        "build-gpu/env.sh is sourced",
        nargs="?",
        const=0,
    )
    parser.add_argument(
        "--layers",
        nargs="+",
        default=layers.DEFAULT,
        metavar="SET",
        help=f"of {', '.join(layers.SETS)}; or SET:LAYER for one layer "
        f"(default: {' '.join(layers.DEFAULT)})",
    )
    parser.add_argument(
        "--batch",
        nargs="+",
        type=options.integer(1),
        metavar="N",
        help="images (default: what belongs to the set)",
    )
    parser.add_argument(
        "--threads",
        type=options.integer(1),
        metavar="N",
        help="of everything that is timed (default: one per core)",
    )
    parser.add_argument(
        "--repeats",
        type=options.integer(1),
        default=9,
        metavar="N",
        help="of each measurement (default: %(default)s)",
    )
    parser.add_argument(
        "--bars",
        action="store_true",
        help="say whether the project's bars are reached; times growth and a "
        "whole training iteration, too",
    )
    parser.add_argument(
        "--json", type=options.path, metavar="FILE", help="write everything there, too"
    )
    return parser


def _time(benchmark, each, batch, limits):
    """Verifies and times the layers of a set, prints their table, and returns their Rows."""
    from benchmarks import machine, summary

    rows = []
    for layer in tqdm(each.layers, desc=f"{each.name}, batch {batch}", unit="layer", leave=False):
        if not benchmark.gpu:
            limits["gflops_peak"] = max(limits["gflops_peak"], machine.peak(benchmark.threads))
        difference = benchmark.verify(layer)
        rows.append(
            summary.Row(
                each.name,
                layer.name,
                batch,
                layer.gflop(batch),
                layer.gigabytes(batch),
                difference,
                benchmark.time(layer, batch),
            )
        )
    print("", *summary.table(each.title, rows, limits), sep="\n")
    worst = max(row.difference for row in rows)
    peak = (
        ""
        if benchmark.gpu
        else f"; the best of multiply-adds so far: {limits['gflops_peak']:.0f} GFLOP/s"
    )
    print(
        f"  compared with the oracle first: worst relative difference {worst:.1e}{peak}", flush=True
    )
    return rows


def _ordinary(benchmark, batches, each):
    """Prints what our loops do for Caffe's own layers; returns the Bars."""
    from benchmarks import ordinary

    found = []
    for batch in batches:
        table = ordinary.Convolutions(benchmark, each, batch)
        print(*table.lines(), sep="\n", flush=True)
        found += table.bars()
    print(*ordinary.elementwise(benchmark), "", *found, sep="\n  ", flush=True)
    return found


def _bars(benchmark, rows, limits):
    """Yields, and prints, each bar."""
    from benchmarks import bars, summary

    memory = {(row.set, row.batch, row.layer): row.times["active"]["memory"] for row in rows}
    known = {
        key: value for key, value in memory.items() if value is not None and not math.isnan(value)
    }
    print("\nBars")
    for bar in itertools.chain(
        bars.of_times(summary.sums(rows, limits), benchmark.gpu),
        bars.of_workspace(known),
        bars.of_growth(benchmark),
        bars.of_iteration(benchmark),
    ):
        print(f"  {bar}", flush=True)
        yield bar


if __name__ == "__main__":
    command.run(main)
