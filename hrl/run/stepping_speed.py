"""Measure how fast environments step, in wall-clock time and in processor time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import psutil


class SteppingSpeed(NamedTuple):
    """Hold the speed of environments.

    Attributes:
        steps_per_second: agent steps per second of wall-clock time, over all environments.
        cpu_milliseconds: processor time of one agent step of one environment.
    """

    steps_per_second: float
    cpu_milliseconds: float


def measure_speed(
    step: Callable[[np.ndarray], Any], shape: tuple[int, ...], seconds: float, pids: list[int]
) -> SteppingSpeed:
    """Step environments with random actions for some seconds and return their speed.

    Args:
        step: makes one step of all environments.
        shape: of its actions, [env, action].
        seconds: length of the measurement in wall-clock time, above 0.
        pids: the processes that do the work, whose processor time is counted.

    Raises:
        ValueError: `seconds` is not a finite number above 0.
    """
    check_seconds(seconds)
    actions = np.random.default_rng(0).uniform(-1, 1, (64, *shape)).astype(np.float32)
    for action in actions[:3]:
        step(action)  # compiles kernels and fills caches
    count = 0
    cpu_started = _cpu_seconds(pids)
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        step(actions[count // shape[0] % len(actions)])
        count += shape[0]
    elapsed = time.perf_counter() - started
    cpu_elapsed = _cpu_seconds(pids) - cpu_started
    return SteppingSpeed(count / elapsed, 1000 * cpu_elapsed / count)


def check_seconds(seconds: float) -> None:
    """Check the length of a measurement.

    Raises:
        ValueError: it is not a finite number above 0.
    """
    if not (seconds > 0 and math.isfinite(seconds)):
        raise ValueError(f"seconds is {seconds}; it must be a finite number above 0")


def _cpu_seconds(pids: list[int]) -> float:
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(spent.user + spent.system for spent in times)
