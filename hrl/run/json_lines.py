"""Check and continue files of JSON lines, of which a checkpoint remembers where they ended."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from hrl.run.atomic_files import named_errors
from hrl.run.errors import LoggerError


class JsonLines:
    """Continue a file of JSON lines at a byte offset; what follows it is cut off.

    Args:
        path: the file, which need not exist.
        offset: where to continue.
    """

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._file = open(path, "ab")  # noqa: SIM115 - it stays open as long as the run
        self._file.truncate(offset)
        self._file.seek(0, os.SEEK_END)

    @property
    def end(self) -> int:
        """Return where the file ends now."""
        return self._file.tell()

    def append(self, record: Mapping[str, float]) -> None:
        """Write a line."""
        # One write per line, and at once: whoever follows the file sees whole lines.
        with named_errors(self._path):
            self._file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
            self._file.flush()

    def sync(self) -> None:
        """Bring every line to the disk."""
        with named_errors(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def check_lines(path: Path, end: int) -> None:
    """Refuse a file whose first `end` bytes are not whole lines, each an object with "frames".

    Raises:
        LoggerError: says what is wrong with the file.
    """
    size = path.stat().st_size if path.exists() else 0
    if size < end:
        raise LoggerError(
            f"{path} has {size} bytes, but had {end} when the checkpoint was saved: it was cut "
            "or replaced since"
        )
    good, number = _whole_lines(path, end)
    if good < end:
        raise LoggerError(f"{path}: line {number + 1} is damaged")


def read_lines(path: Path, end: int) -> Iterator[dict[str, float]]:
    """Yield the records of a file's first `end` bytes, which `check_lines` has found whole."""
    if not end:
        return
    with open(path, "rb") as file:
        while file.tell() < end:
            yield json.loads(file.readline())


def whole_lines_end(path: Path, end: int) -> int:
    """Return how many of a file's first `end` bytes are whole lines from its beginning on."""
    return _whole_lines(path, end)[0]


def _whole_lines(path: Path, end: int) -> tuple[int, int]:
    """Return the bytes and the number of the whole lines at the beginning of the file."""
    if not path.exists():
        return 0, 0
    position = 0
    number = 0
    with open(path, "rb") as file:
        while position < end:
            line = file.readline()
            position += len(line)
            if position > end or not _is_record(line):
                return position - len(line), number
            number += 1
    return position, number


def _is_record(line: bytes) -> bool:
    try:
        record = json.loads(line)
        return line.endswith(b"\n") and math.isfinite(record["frames"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return False
