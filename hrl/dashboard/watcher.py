"""Watch studies and run folders: which runs there are, and how far each is."""

import json
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from hrl.dashboard.followed import whole_number
from hrl.dashboard.run_status import FollowedRun, RunStatus, locked_inodes
from hrl.run.errors import FolderError
from hrl.run.folder import RunFolder, find_run_folders
from hrl.run.recorded_cells import RecordedCell, recorded_cells

FRESH = 2.0
"""Seconds for which what was read counts as new."""


@dataclass(frozen=True)
class Snapshot:
    """Hold what was read at one time.

    runs: every run, those of studies in the order of their plans.  taken: seconds since the epoch.
    read_seconds: how long reading took.
    """

    runs: tuple[RunStatus, ...]
    taken: float
    read_seconds: float

    @property
    def share(self) -> float:
        """Return how much of all budgets is done, 0 to 1."""
        wanted = sum(run.budget for run in self.runs)
        return sum(min(run.frames, run.budget) for run in self.runs) / wanted if wanted else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Return the seconds until everything is done, at present speeds and as many runs at once.

        None where nothing runs, or where the speed of what is left is unknown.
        """
        running = [run for run in self.runs if run.state in ("running", "stalled")]
        unfinished = [run for run in self.runs if run.state not in ("finished", "failed")]
        left = [self._left(run) for run in unfinished]
        known = [seconds for seconds in left if seconds is not None]
        if not running or len(known) < len(left):
            return None
        return max(sum(known) / len(running), *(known or [0.0]))

    def _left(self, run: RunStatus) -> float | None:
        """Return the seconds that a run needs, at the speed of its kind where it has none yet."""
        if run.seconds_left is not None:
            return run.seconds_left
        alike = [
            other.rate
            for other in self.runs
            if other.rate and (other.suite, other.method) == (run.suite, run.method)
        ]
        rate = sum(alike) / len(alike) if alike else 0.0
        return (run.budget - run.frames) / rate if rate else None


class Watcher:
    """Read the runs below some paths again and again; each byte of a log is read once.

    Args:
        paths: studies, run folders, globs, or folders that hold runs. What is not there yet is
            looked for each time.

    Raises:
        FolderError: a path names nothing; names it.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._paths = [Path(path) for path in paths]
        self._followed: dict[Path, FollowedRun] = {}
        self._lock = threading.Lock()
        self._last: Snapshot | None = None
        if not self._paths:
            raise FolderError("no run folder was given")
        for path in self._paths:
            if not self._cells(path) and not self._folders(path):
                raise FolderError(f"{path}: no run folder and no study there")

    def snapshot(self) -> Snapshot:
        """Return the present state of all runs, read again where it is older than FRESH."""
        with self._lock:
            if self._last is None or time.time() - self._last.taken > FRESH:
                self._last = self._read()
            return self._last

    def followed(self, run: RunStatus) -> FollowedRun:
        """Return the reader of a run, for its curves and tables."""
        return self._followed[run.folder]

    # Private methods.

    def _read(self) -> Snapshot:
        began = time.perf_counter()
        locked = locked_inodes()
        planned: dict[Path, RecordedCell] = {}
        for path in self._paths:
            planned |= self._cells(path)
        folders = dict.fromkeys(planned)
        for path in self._paths:
            folders |= dict.fromkeys(self._folders(path))
        runs = tuple(self._status(folder, planned.get(folder), locked) for folder in folders)
        runs = tuple(run for run in runs if run.budget or run.folder in planned)
        return Snapshot(runs, time.time(), time.perf_counter() - began)

    def _status(self, folder: Path, cell: RecordedCell | None, locked: set[int]) -> RunStatus:
        if folder not in self._followed:
            self._followed[folder] = FollowedRun(folder)
        if cell is None:
            return self._followed[folder].status(locked)
        status = self._followed[folder].status(locked, _exit_code(cell.log))
        if status.budget:
            return status
        suite, *_, method, seed = _parts(cell.place)
        return replace(
            status,
            suite=suite,
            method=method,
            seed=int(seed) if seed.isdecimal() else 0,
            kind=cell.command,
            budget=whole_number(cell.frames),
        )

    def _folders(self, path: Path) -> list[Path]:
        try:
            return [folder.resolve() for folder in find_run_folders([path])]
        except FolderError:
            return []

    def _cells(self, path: Path) -> dict[Path, RecordedCell]:
        """Return the training and fine-tuning cells of the study in a folder, by their runs."""
        cells = {}
        for cell in recorded_cells(path):
            if cell.command not in ("train", "finetune"):
                continue
            with suppress(OSError, ValueError):  # no path of this system, or none to be read
                cells[cell.folder.resolve()] = cell
        return cells


# Private functions.


def _parts(place: str) -> Sequence[str]:
    """Return suite, ..., method and the number of the seed; "?" for what a place lacks."""
    parts = Path(place).parts
    if len(parts) < 3:
        return ("?", "?", "?")
    return (*parts[:-1], parts[-1].removeprefix("seed_"))


def _exit_code(log: Path) -> int | None:
    try:
        return int(json.loads(log.with_suffix(".json").read_text())["exit_code"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def latest_videos(run: RunStatus, count: int) -> list[Path]:
    """Return the newest videos of a run, newest first."""
    videos = sorted(RunFolder(run.folder).videos.glob("*.mp4"), reverse=True)
    return videos[:count]
