"""Decide when a run must stop so that it is saved within its time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST_SAVE_SECONDS = 5.0
"""Seconds that a save is expected to take before one was measured."""


class Deadline:
    """Tell whether the time left is too short for another iteration and the save after it.

    Both are expected to take as long as the longest so far. The first iteration is always made, so
    that a run that is started again and again gets on.

    Args:
        seconds: from now; None for no limit.
        clock: seconds that only grow.
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = None if seconds is None else clock() + seconds
        self._iteration = 0.0
        self._save = FIRST_SAVE_SECONDS

    def is_near(self) -> bool:
        """Return whether to stop and save now."""
        if self._end is None or not self._iteration:
            return False
        return self._clock() + self._iteration + self._save > self._end

    @contextmanager
    def iteration(self) -> Iterator[None]:
        """Measure an iteration."""
        started = self._clock()
        yield
        self._iteration = max(self._iteration, self._clock() - started)

    @contextmanager
    def save(self) -> Iterator[None]:
        """Measure a save."""
        started = self._clock()
        yield
        self._save = max(self._save, self._clock() - started)
