"""What the layer must reach, and whether it does."""

import dataclasses
import itertools

import numpy as np

from . import contestants, iteration, layers


@dataclasses.dataclass(frozen=True)
class Bar:
    """``measured`` should lie in [least, most]."""

    name: str
    measured: float
    most: float
    least: float = 0

    @property
    def reached(self):
        return self.least <= self.measured <= self.most

    def __str__(self):
        wanted = (
            f"at most {self.most:.2f}" if not self.least else f"{self.least:.2f} to {self.most:.2f}"
        )
        wanted = f"at least {self.least:.2f}" if self.most == np.inf else wanted
        outcome = "reached" if self.reached else "MISSED "
        return f"{outcome}  {self.measured:6.2f}  ({wanted})  {self.name}"


# (set, batch, passes) -> the most that ours may take relative to Caffe's Convolution and to
# PyTorch's conv2d
CPU = {
    ("table1", 64, "forward"): (0.40, 1.00),
    ("table1", 64, "both"): (0.45, 1.05),
    ("alexnet", 32, "both"): (0.60, 1.15),
    ("residual", 32, "both"): (0.60, 1.15),
    ("table1", 1, "forward"): (1.0, 1.0),
    ("table1", 1, "both"): (None, 1.0),
    **{
        (name, batch, passes): (1.0, 1.5)
        for name in ("depthwise", "grouped")
        for batch in (1, 32)
        for passes in ("forward", "both")
    },
}
GPU = {
    ("table1", batch, passes): (None, most)
    for batch in (64, 256)
    for passes, most in (("forward", 1.2), ("both", 1.4))
}


def of_times(sums, gpu):
    """The bars on what was timed; ``sums`` as summary.sums returns them."""
    for (name, batch, passes), most in (GPU if gpu else CPU).items():
        times = sums.get((name, batch), {})
        for other, limit in zip((contestants.CONVOLUTION, contestants.CONV2D), most):
            if limit is not None and other in times:
                yield Bar(
                    f"{name}, batch {batch}, {passes}: relative to {other}",
                    times[contestants.ACTIVE][passes] / times[other][passes],
                    limit,
                )
        for other in (contestants.DEFORMABLE, contestants.PER_SYNAPSE) if gpu else ():
            if other in times:
                yield Bar(
                    f"{name}, batch {batch}, {passes}: {other} relative to ours",
                    times[other][passes] / times[contestants.ACTIVE][passes],
                    np.inf,
                    2,
                )


def of_workspace(rows):
    """``rows``: {(set, batch, layer): MiB}; what the process's memory grew by in the first pass of
    each layer."""
    worst = max(rows, key=rows.get, default=None)
    if worst:
        yield Bar(f"MiB of workspace, {worst[0]} {worst[2]}, batch {worst[1]}", rows[worst], 64)


def of_growth(benchmark, layer=layers.SETS["table1"].layers[3]):
    """Times ``layer`` over batches, kernels and threads: exponents of the growth, and the speed-up.
    Not on a GPU, which small batches do not fill."""
    if benchmark.gpu:
        return
    by_batch = {batch: _both(benchmark, layer, batch) for batch in (16, 32, 64, 128)}
    yield Bar(
        f"growth in batch, {list(by_batch)}, {layer.name}: exponent", _exponent(by_batch), 1.1, 0.95
    )
    by_synapses = {
        kernel**2: _both(benchmark, dataclasses.replace(layer, kernel=kernel), 32)
        for kernel in (3, 5, 7)
    }
    yield Bar(
        f"growth in K, {list(by_synapses)}, {layer.name}: exponent",
        _exponent(by_synapses),
        1.1,
        0.95,
    )
    if benchmark.threads >= 2:
        by_threads = {}
        for threads in (1, 2):
            benchmark.set_threads(threads)
            by_threads[threads] = _both(benchmark, layer, 64)
        benchmark.set_threads(benchmark.threads)
        yield Bar(
            f"2 threads relative to 1, {layer.name}: times as fast",
            by_threads[1] / by_threads[2],
            np.inf,
            1.8,
        )


def of_iteration(benchmark, batch=64):
    """Times a training iteration of the whole plain network: on a GPU by the clock, else beside its
    baseline and PyTorch's iteration of that."""
    times = iteration.times(benchmark, batch=batch)
    title = f"one training iteration of {iteration.MODEL.folder}, batch {batch}"
    pairs = [
        (contestants.ACTIVE, contestants.CONVOLUTION),
        *itertools.product((contestants.ACTIVE, contestants.OURS), iteration.PYTORCH),
    ]
    for ours, other in pairs:
        if ours in times and other in times:
            yield Bar(
                f"{title}: {ours} ({times[ours].median:.3g} ms) relative to {other}'s "
                f"{times[other].median:.3g} ms",
                times[ours].median / times[other].median,
                1,
            )
    if benchmark.gpu:
        yield Bar(f"{title}: ms", times[contestants.ACTIVE].median, 5)


def _both(benchmark, layer, batch):
    times = benchmark.time(layer, batch, (contestants.ACTIVE,))[contestants.ACTIVE]
    return times["forward"].median + times["backward"].median


def _exponent(times):
    """The slope of a straight line through log time over log size."""
    return float(np.polyfit(np.log(list(times)), np.log(list(times.values())), 1)[0])
