"""Follow files of JSON lines that other processes write, reading each byte once."""

import json
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Record: TypeAlias = Mapping[str, Any]

TAIL_BYTES = 128 * 1024
"""What is read of the end of a file at first."""
MOST_LINES = 32
"""Lines of the end of a file that are kept."""
_REMEMBERED = 64


class FollowedFile:
    """Read the lines that were appended to a file since the last look.

    A run that continues from a checkpoint cuts its logs and writes on: a file whose last bytes are
    no longer there is read again.

    Args:
        path: the file, which need not exist.
        first_bytes: how much of its end is read at first; None for all of it.
        restart: called before anything is read again.
    """

    def __init__(
        self, path: Path, first_bytes: int | None, restart: Callable[[], None] = lambda: None
    ) -> None:
        self.path = path
        self._first_bytes = first_bytes
        self._restart = restart
        self._seen: tuple[int, int, int] | None = None
        self._offset = 0
        self._before = b""

    def new_lines(self) -> list[bytes]:
        """Return the whole lines that are new."""
        try:
            stat = self.path.stat()
        except OSError:
            return []
        seen = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if seen == self._seen:
            return []
        self._seen = seen
        try:
            with open(self.path, "rb") as file:
                content = self._content(file, stat.st_size)
        except OSError:
            return []
        end = content.rfind(b"\n") + 1
        self._offset += end
        self._before = (self._before + content[:end])[-_REMEMBERED:]
        return content[:end].splitlines()

    def _content(self, file: Any, size: int) -> bytes:
        if self._continues(file, size):
            file.seek(self._offset)
            return bytes(file.read())
        self._restart()
        start = 0 if self._first_bytes is None else max(0, size - self._first_bytes)
        file.seek(start)
        content: bytes = file.read()
        cut = content.find(b"\n") + 1 if start else 0  # the first line is cut off
        self._offset = start + cut
        self._before = b""
        return content[cut:]

    def _continues(self, file: Any, size: int) -> bool:
        """Return whether the bytes that were read last are still where they were."""
        if not self._offset or size < self._offset:
            return False
        file.seek(self._offset - len(self._before))
        return bool(file.read(len(self._before)) == self._before)


class Tail:
    """Keep the last lines of a file.

    Args:
        path: the file, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.records: deque[Record] = deque(maxlen=MOST_LINES)
        self._file = FollowedFile(path, TAIL_BYTES, self.records.clear)

    def poll(self) -> None:
        """Read what is new."""
        lines = self._file.new_lines()[-MOST_LINES:]
        self.records.extend(record for line in lines if (record := _record(line)))

    def last(self, key: str, default: float = 0.0) -> float:
        """Return the last value of a key."""
        return next((value for value in reversed(self.values(key))), default)

    def values(self, key: str) -> list[float]:
        """Return the finite values of a key in the kept lines, in their order."""
        return [value for record in self.records if (value := number(record.get(key))) is not None]

    def names(self) -> set[str]:
        """Return the keys of the kept lines."""
        return {key for record in self.records for key in record}


class Columns:
    """Keep some columns of a whole file by `frames`; more are read when they are asked for.

    Numbers are found by their keys, without parsing the rest of a line: the files hold flat objects
    of numbers, so that a key in quotes and a colon can be nothing else.

    Args:
        path: the file, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._points: dict[str, dict[float, float]] = {}
        self._file = self._opened()

    def read(self, keys: Iterable[str]) -> dict[str, tuple[NDArray, NDArray]]:
        """Return (frames, values) of each key, frames increasing; empty where it was not logged."""
        missing = set(keys) - self._points.keys()
        if missing:
            self._points = {key: {} for key in (*self._points, *missing)}
            self._file = self._opened()
        patterns = [(points, _pattern(key)) for key, points in self._points.items()]
        at = _pattern("frames")
        for line in self._file.new_lines():
            frames = _found(at, line)
            for points, pattern in patterns:
                value = _found(pattern, line)
                if frames is not None and value is not None:
                    points[frames] = value
        return {key: _arrays(self._points[key]) for key in keys}

    def _opened(self) -> FollowedFile:
        return FollowedFile(self._path, None, self._forget)

    def _forget(self) -> None:
        for points in self._points.values():
            points.clear()


def number(value: object) -> float | None:
    """Return a number; None for what is none, or is not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= sys.float_info.max else None


def whole_number(value: object) -> int:
    """Return a whole number; 0 for what is none, or is too large for one of the machine."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return int(value) if abs(value) < 2**63 else 0


# Private functions.


def _pattern(key: str) -> re.Pattern[bytes]:
    quoted = re.escape(json.dumps(key).encode())
    return re.compile(quoted + rb"\s*:\s*(-?[0-9][0-9.eE+-]*)")


def _found(pattern: re.Pattern[bytes], line: bytes) -> float | None:
    match = pattern.search(line)
    try:
        return None if match is None else float(match[1])
    except ValueError:
        return None


def _arrays(points: Mapping[float, float]) -> tuple[NDArray, NDArray]:
    ordered = np.array(sorted(points.items()), dtype=np.float64).reshape(-1, 2)
    return ordered[:, 0], ordered[:, 1]


def _record(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
