"""Measure the wall-clock time of work that is stopped and started again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

from hrl.config import ConfigError
from hrl.run.atomic_files import write_json


class Stopwatch:
    """Sum the seconds that processes spend in `with` blocks, one process after the other.

    Args:
        path: keeps the sum; a file that is not there yet counts as zero. Its folder is made.
        interval: seconds between two writes: what a process that is killed may lose.
        clock: seconds that only grow.

    Raises:
        ConfigError: the file is there and holds no such sum; it is named.
    """

    def __init__(
        self, path: Path, interval: float = 2.0, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._path = path
        self._interval = interval
        self._clock = clock
        self._before = _saved(path)
        self._started = clock()
        self._done = threading.Event()
        self._writer = threading.Thread(target=self._keep_writing, daemon=True)

    @property
    def seconds(self) -> float:
        """Return the sum up to now."""
        return self._before + self._clock() - self._started

    def __enter__(self) -> Stopwatch:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._started = self._clock()
        self._writer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._writer.join()
        self._write()

    # Private methods.

    def _keep_writing(self) -> None:
        while not self._done.wait(self._interval):
            self._write()

    def _write(self) -> None:
        write_json(self._path, {"wall_seconds": round(self.seconds, 3)})


def _saved(path: Path) -> float:
    if not path.exists():
        return 0.0
    try:
        return float(json.loads(path.read_text())["wall_seconds"])
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{path} holds no wall_seconds: remove it to count from zero") from error
