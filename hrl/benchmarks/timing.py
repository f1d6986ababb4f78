"""Time calls on CPUs and GPUs, and check the numbers that a benchmark is run with."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch

from hrl.config import ConfigError

Result = TypeVar("Result")


def timed(call: Callable[[], Result]) -> tuple[float, Result]:
    """Return the seconds that a call takes, a GPU's work included, and its result."""
    synchronize()
    started = time.perf_counter()
    result = call()
    synchronize()
    return time.perf_counter() - started, result


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def check_at_least(least: int, **numbers: int) -> None:
    """Check numbers that are given by name.

    Raises:
        ConfigError: one is below `least`; the message names it.
    """
    for name, number in numbers.items():
        if not number >= least:
            raise ConfigError(f"{name} is {number}; it must be at least {least}")
