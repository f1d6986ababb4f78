"""Run what is missing of a study's cells, whatever happens to single ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hrl.run.atomic_files import write_json
from hrl.run.errors import CONTINUE, FolderError
from hrl.study.cells import Cell
from hrl.study.executors.base import Executor, Job

STARTS_WITHOUT_PROGRESS = 3
"""Starts in a row that may end so without a frame of progress."""
NOT_FINISHED = 70  # EX_SOFTWARE
"""Reported of a cell that leaves with 0 although its run lacks what it was to make."""


@dataclass(frozen=True)
class Failure:
    """Report a cell that failed, or that never started because of another.

    Attributes:
        cell: the cell.
        exit_code: of its command; None where it never started.
        because: name of the failed cell that it needed.
    """

    cell: Cell
    exit_code: int | None
    because: str = ""


@dataclass(frozen=True)
class _Started:
    """Hold a job with the frames that its cell's run had when it was started."""

    cell: Cell
    job: Job
    frames: int


class StudyRunner:
    """Start cells as there is room, continue those that were stopped, and note those that failed.

    Args:
        cells: of the study, in the order of their start.
        executor: where they run.
        show: called with a line for each thing that happens.
        interval: seconds between two looks at what runs.
        check: raises FolderError once the study's folder is another; nothing is started then.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        executor: Executor,
        show: Callable[[str], None] = print,
        interval: float = 0.5,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._executor = executor
        self._show = show
        self._interval = interval
        self._check = check
        self._waiting = _unfinished(cells)
        self._running: dict[str, _Started] = {}
        self._idle: dict[str, int] = {}
        self.failures: dict[str, Failure] = {}

    def run(self, stop: Sequence[int]) -> None:
        """Run until nothing is left to start; save and return early once `stop` holds a signal.

        Raises:
            FolderError: of `check`, once the running cells have left.
        """
        try:
            while (self._waiting or self._running) and not stop:
                self._check()
                self._drop_blocked()
                self._start()
                self._look()
                if self._running or self._waiting:
                    time.sleep(self._interval)
        finally:
            self._stop_running()

    # Private methods.

    def _stop_running(self) -> None:
        """Ask the running cells to save and leave, and wait until they have."""
        for started in self._running.values():
            started.job.stop()
        while self._running:
            self._look()
            time.sleep(self._interval)

    def _drop_blocked(self) -> None:
        """Note the cells that need one that failed."""
        for cell in list(self._waiting):
            failed = next((name for name in cell.after if name in self.failures), "")
            if failed:
                self._waiting.remove(cell)
                if not cell.is_finished():
                    self.failures[cell.name] = Failure(cell, None, failed)

    def _start(self) -> None:
        ready = [cell for cell in self._waiting if self._is_ready(cell)]
        chosen = [cell for cell in self._executor.fitting(ready) if not self._was_finished(cell)]
        for cell, job in zip(chosen, self._executor.start(chosen), strict=True):
            self._waiting.remove(cell)
            self._running[cell.name] = _Started(cell, job, cell.done_frames)
            at = f" at {cell.done_frames:,} frames" if cell.frames and cell.done_frames else ""
            self._show(f"started   {cell.name}{at}")

    def _is_ready(self, cell: Cell) -> bool:
        """Return whether all that the cell needs is there, and nobody else writes its run."""
        pending = {other.name for other in self._waiting} | self._running.keys()
        return not pending.intersection(cell.after) and not cell.is_running()

    def _was_finished(self, cell: Cell) -> bool:
        """Return whether another process has finished the cell since, and note it."""
        if cell.is_finished():
            self._waiting.remove(cell)
            return True
        return False

    def _look(self) -> None:
        for name, started in list(self._running.items()):
            code = started.job.exit_code()
            if code is not None:
                del self._running[name]
                self._ended(started, code)

    def _ended(self, started: _Started, code: int) -> None:
        cell = started.cell
        if code == 0 and not cell.is_finished():
            code = NOT_FINISHED
        self._note(cell, code)
        if code == 0:
            self._show(f"finished  {cell.name}")
        elif code in CONTINUE and self._may_continue(started):
            self._waiting.insert(0, cell)
            self._show(f"stopped   {cell.name} (exit code {code}), continues")
        else:
            self.failures[cell.name] = Failure(cell, code)
            self._show(f"failed    {cell.name} (exit code {code}): {cell.log}")

    def _may_continue(self, started: _Started) -> bool:
        name = started.cell.name
        progress = started.cell.done_frames > started.frames
        self._idle[name] = 0 if progress else self._idle.get(name, 0) + 1
        return self._idle[name] < STARTS_WITHOUT_PROGRESS

    def _note(self, cell: Cell, code: int) -> None:
        """Keep the exit code beside the log, for --status; make no folder that was taken away."""
        try:
            self._check()
        except FolderError:
            return
        cell.log.parent.mkdir(parents=True, exist_ok=True)
        write_json(cell.log.with_suffix(".json"), {"exit_code": code})


def _unfinished(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells that are not finished, and those that may not be once these have run.

    A run that is trained on is to be evaluated again.
    """
    waiting: dict[str, Cell] = {}
    for cell in cells:
        if not cell.is_finished() or any(name in waiting for name in cell.after):
            waiting[cell.name] = cell
    return list(waiting.values())


def failure_text(failures: Mapping[str, Failure], last_lines: Callable[[Cell], str]) -> str:
    """Return each failure with the end of its log."""
    parts = []
    for failure in failures.values():
        if failure.because:
            parts.append(f"  {failure.cell.name}: not started, because {failure.because} failed")
        else:
            parts.append(
                f"  {failure.cell.name}: exit code {failure.exit_code}; the end of "
                f"{failure.cell.log}:\n{last_lines(failure.cell)}"
            )
    return "\n".join(parts)
