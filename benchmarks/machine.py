"""What the machine, or its GPU, can do: its best matrix-product rate, and its copy bandwidth."""

import concurrent.futures
import os
import subprocess

import numpy as np
from active_convolution.caffe import locate

from . import pytorch, timing

# On a CPU short enough to go undisturbed now and then on a busy machine, on a GPU long enough to
# fill it: the best of all repeats counts, it is a limit.
SIZE = {False: 640, True: 8192}  # of the square matrices; on a GPU?
COPIED = {False: 64 << 20, True: 2 << 30}  # bytes of the array that is copied: beyond the caches
REPEATS = {False: 60, True: 10}


def limits(threads, gpu, synchronize):
    """A dict: gflops, of the best library for products; gflops_by, its name; gflops_peak, of
    multiply-adds alone (None on a GPU); gigabytes_per_second, read and written."""
    products = _products(gpu)
    times = timing.interleaved(products, REPEATS[gpu], synchronize, least=0)
    best = min(times, key=lambda name: times[name].least)
    copied = timing.interleaved({"copy": _copy(threads, gpu)}, REPEATS[gpu], synchronize, least=0)[
        "copy"
    ]
    return {
        "gflops": 2e-6 * SIZE[gpu] ** 3 / times[best].least,
        "gflops_by": best,
        "gflops_peak": None if gpu else peak(threads),
        "gigabytes_per_second": 2e-6 * COPIED[gpu] / copied.least,
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "processor": pytorch.gpu_name() if gpu else _cpu(),
    }


def peak(threads):
    """GFLOP/s that no product can exceed; a BLAS's best one is no limit. The clock moves: the best
    of several calls counts."""
    done = subprocess.run(
        [locate.BUILD / "out/tools/measure_peak", str(threads)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout)


def _products(gpu):
    a, b = np.random.default_rng(0).standard_normal((2, SIZE[gpu], SIZE[gpu]), np.float32)
    calls = {} if gpu else {"BLAS": lambda: a @ b}
    if pytorch.available():
        left, right = (
            pytorch.torch.tensor(matrix, device=pytorch.device(gpu)) for matrix in (a, b)
        )
        calls["PyTorch"] = lambda: left @ right
    return calls


def _copy(threads, gpu):
    if not gpu:
        return copier(threads, COPIED[gpu])
    source = pytorch.torch.zeros(COPIED[gpu] // 4, device=pytorch.device(gpu))
    target = pytorch.torch.empty_like(source)
    return lambda: target.copy_(source)


def copier(threads, size):
    """A call that copies ``size`` bytes by so many threads."""
    count = size // 8
    source = np.ones(count).reshape(threads, -1) if count % threads == 0 else np.ones((1, count))
    target = np.zeros_like(source)
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    return lambda: list(pool.map(np.copyto, target, source))


def _cpu():
    with open("/proc/cpuinfo") as file:
        return next(
            (line.split(":")[1].strip() for line in file if line.startswith("model name")),
            "unknown",
        )
