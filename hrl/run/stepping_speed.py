"""Measure how fast environments step, by the clock and by processor time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import psutil


class Measurement(NamedTuple):
    """Agent steps per second of the clock, and processor milliseconds a step."""

    steps_per_second: float
    cpu_milliseconds: float


def measure(
    step: Callable[[np.ndarray], Any], shape: tuple[int, ...], seconds: float, pids: list[int]
) -> Measurement:
    """Speed, all worlds counted, and what the processes that do the work spend."""
    actions = np.random.default_rng(0).uniform(-1, 1, (64, *shape)).astype(np.float32)
    for action in actions[:3]:
        step(action)  # compiles, fills caches
    count, started, spent = 0, time.perf_counter(), _cpu_seconds(pids)
    while time.perf_counter() - started < seconds:
        step(actions[count % len(actions)])
        count += shape[0]
    return Measurement(
        count / (time.perf_counter() - started), 1000 * (_cpu_seconds(pids) - spent) / count
    )


def _cpu_seconds(pids: list[int]) -> float:
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(spent.user + spent.system for spent in times)
