"""Decide how long a worker process may be silent before it counts as dead."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

VARIABLE = "PIXEL_HRL_WORKER_SECONDS"
DEFAULT_SECONDS = 300.0
HURRIED_SECONDS = 10.0
"""Seconds of silence that are left to a worker once the process was asked to stop.

Batch systems kill a process about half a minute after they asked.
"""

_asked_to_stop: list[Callable[[], object]] = []


def longest_silence() -> float:
    """Return how many seconds a worker process may take over one answer, at present.

    Raises:
        ValueError: the environment variable that says so holds no positive number.
    """
    if any(asked() for asked in _asked_to_stop):
        return min(HURRIED_SECONDS, _chosen_seconds())
    return _chosen_seconds()


@contextmanager
def hurried_when(asked_to_stop: Callable[[], object]) -> Iterator[None]:
    """Have less patience while `asked_to_stop` returns something true, for the block."""
    _asked_to_stop.append(asked_to_stop)
    try:
        yield
    finally:
        _asked_to_stop.remove(asked_to_stop)


def _chosen_seconds() -> float:
    written = os.environ.get(VARIABLE, "") or str(DEFAULT_SECONDS)
    try:
        seconds = float(written)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ValueError(f"{VARIABLE} must be a positive number of seconds, got {written!r}")
    return seconds
