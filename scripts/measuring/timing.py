"""Timing on a machine that others use too: alternating measurements, paired ratios.

    timings = measure({"ours": train_ours, "theirs": train_theirs}, num_rounds=5)
    compare(timings["ours"], timings["theirs"])       # {ratio, lowest, highest, ...}

A task is a function without arguments that works, waits until its work is done and
returns for how many faces. In every round each task is measured once, in an order that
turns round from one round to the next, so that what else the machine does falls on all
of them alike; a ratio is the median of the rounds' ratios.
"""

import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jaxlib
import numpy as np

Task = Callable[[], int]


class Timings(NamedTuple):
    """What a task took: faces and seconds, both [rounds, calls]."""

    faces: np.ndarray
    seconds: np.ndarray

    @property
    def rates(self) -> np.ndarray:
        """Faces a second, float [rounds]."""
        return self.faces.sum(1) / self.seconds.sum(1)


def measure(
    tasks: dict[str, Task], num_rounds: int, num_calls: int = 1
) -> dict[str, Timings]:
    """Measures tasks that have been warmed up.

    Args:
      tasks: by name.
      num_rounds: measurements of each task.
      num_calls: calls of the task in one measurement.
    """
    names = list(tasks)
    faces = {name: np.zeros((num_rounds, num_calls), int) for name in names}
    seconds = {name: np.zeros((num_rounds, num_calls)) for name in names}
    for number in range(num_rounds):
        for name in names if number % 2 == 0 else reversed(names):
            for call in range(num_calls):
                start = time.perf_counter()
                faces[name][number, call] = tasks[name]()
                seconds[name][number, call] = time.perf_counter() - start
    return {name: Timings(faces[name], seconds[name]) for name in names}


def percentiles(call: Callable[[], Any], num_calls: int) -> dict[str, float]:
    """p50_ms and p95_ms of a call, alone, after three that are not counted."""

    def task() -> int:
        call()
        return 1

    times = measure({"call": task}, 1, 3 + num_calls)["call"]
    p50, p95 = np.percentile(1e3 * times.seconds[0, 3:], [50, 95])
    return {"p50_ms": round(float(p50), 3), "p95_ms": round(float(p95), 3)}


def num_calls_in(task: Task, seconds: float) -> int:
    """How many calls of a warmed-up task fill so many seconds; at least 1."""
    start = time.perf_counter()
    task()
    return max(1, round(seconds / (time.perf_counter() - start)))


def compare(ours: Timings, theirs: Timings) -> dict[str, Any]:
    """Faces a second of one task over those of another measured beside it.

    Returns:
      ratio: the median over rounds; lowest, highest; num_pairs: how many rounds.
    """
    ratios = ours.rates / theirs.rates
    return {
        "ratio": round(float(np.median(ratios)), 4),
        "lowest": round(float(ratios.min()), 4),
        "highest": round(float(ratios.max()), 4),
        "num_pairs": len(ratios),
    }


def peak_memory() -> dict[str, Any]:
    """The largest memory in use so far; a high-water mark, it never falls.

    Returns:
      peak_memory_mb, and peak_memory_of: "device" where the accelerator counts its own,
      else "process" (resident set).
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        num_bytes, of = stats["peak_bytes_in_use"], "device"
    else:
        import resource  # which Windows lacks

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        num_bytes, of = peak * (1 if sys.platform == "darwin" else 1024), "process"
    return {"peak_memory_mb": round(num_bytes / 1e6, 1), "peak_memory_of": of}


def num_threads() -> int:
    """Processors this process may use: as many threads XLA's CPU backend has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_machine() -> dict[str, Any]:
    """Device, threads, load and versions, for the head of a report."""
    devices = jax.local_devices()
    return {
        "device": {
            "platform": devices[0].platform,
            "kind": devices[0].device_kind,
            "count": len(devices),
        },
        "threads": num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "jaxlib": jaxlib.__version__,
        },
    }
