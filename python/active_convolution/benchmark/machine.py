"""What the machine can do: its best matrix-product rate, and its copy bandwidth."""
import concurrent.futures
import os

import numpy as np

from . import pytorch, timing

# Short enough to go undisturbed now and then on a busy machine: the best of all repeats counts, it is a limit.
SIZE = 640              # of the square matrices
COPIED = 64 << 20       # bytes of the array that is copied: beyond the caches
REPEATS = 60


def limits(threads, gpu, synchronize):
    """A dict: gflops, of the best library for products; gflops_by, its name; gigabytes_per_second, read and written."""
    products = _products(gpu)
    times = timing.interleaved(products, REPEATS, synchronize, least=0)
    best = min(times, key=lambda name: times[name].least)
    copied = timing.interleaved({"copy": _copy(threads, gpu)}, REPEATS, synchronize, least=0)["copy"]
    return {"gflops": 2e-6 * SIZE ** 3 / times[best].least, "gflops_by": best,
            "gigabytes_per_second": 2e-6 * COPIED / copied.least, "cpu": _cpu(), "cpus": os.cpu_count(),
            "load": os.getloadavg()[0]}


def _products(gpu):
    a, b = np.random.default_rng(0).standard_normal((2, SIZE, SIZE), np.float32)
    calls = {} if gpu else {"BLAS": lambda: a @ b}
    if pytorch.available():
        left, right = (pytorch.torch.tensor(matrix, device=pytorch.device(gpu)) for matrix in (a, b))
        calls["PyTorch"] = lambda: left @ right
    return calls


def _copy(threads, gpu):
    if gpu:
        source = pytorch.torch.zeros(COPIED // 4, device=pytorch.device(gpu))
        target = pytorch.torch.empty_like(source)
        return lambda: target.copy_(source)
    source = np.ones(COPIED // 8).reshape(threads, -1) if COPIED // 8 % threads == 0 else np.ones((1, COPIED // 8))
    target = np.zeros_like(source)
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    return lambda: list(pool.map(np.copyto, target, source))


def _cpu():
    with open("/proc/cpuinfo") as file:
        return next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")
