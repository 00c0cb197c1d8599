"""Interleaved repeats, medians and spread."""

import contextlib
import ctypes
import dataclasses
import gc
import math
import time

import numpy as np

REST = (
    0.004  # seconds before a measurement: the waiting threads of another OpenMP runtime fall asleep
)
LEAST = 0.02  # seconds of one measurement: short calls are repeated inside it


@dataclasses.dataclass(frozen=True)
class Time:
    """Of one call, in milliseconds."""

    median: float
    least: float
    spread: float  # the distance of the quartiles, relative to the median
    repeats: int

    @classmethod
    def of(cls, seconds):
        lower, median, upper = np.percentile(np.array(seconds) * 1e3, (25, 50, 75))
        return cls(
            float(median), float(min(seconds) * 1e3), float((upper - lower) / median), len(seconds)
        )


def interleaved(calls, repeats, synchronize=lambda: None, least=LEAST):
    """Times ``calls`` (dict of callables) in turns, each ``repeats`` times; returns a dict of
    Times.

    One measurement repeats a call until about ``least`` seconds are over. ``synchronize`` waits
    until the device has done all work. The first call of each is not timed."""
    counts, seconds = {}, {name: [] for name in calls}
    for name, call in calls.items():
        call()
        counts[name] = max(1, math.ceil(least / _measure(call, 1, synchronize)))
    for _ in range(repeats):
        for name, call in calls.items():
            seconds[name].append(_measure(call, counts[name], synchronize))
    return {name: Time.of(times) for name, times in seconds.items()}


def _measure(call, count, synchronize):
    synchronize()
    time.sleep(REST)
    if count > 1:
        call()  # wakes the threads, as in the middle of a network
        synchronize()
    start = time.perf_counter()
    for _ in range(count):
        call()
    synchronize()
    return (time.perf_counter() - start) / count


class PeakMemory:
    """What the process's memory grows by at its peak inside ``with``, in MiB; NaN where the system
    does not tell."""

    def __enter__(self):
        self.mebibytes = math.nan
        gc.collect()
        ctypes.CDLL(None).malloc_trim(
            0
        )  # what is free goes back to the system, and counts when it is used again
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak starts anew
        self._before = _status("VmRSS")
        return self

    def __exit__(self, *_):
        self.mebibytes = max(0, _status("VmHWM") - self._before) / 1024


def _status(field):
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    return math.nan
