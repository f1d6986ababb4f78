"""Say how far a run is, from the files in its folder."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

from hrl.dashboard.alerts import Alert, alerts_of
from hrl.dashboard.followed import Columns, Tail, number, whole_number
from hrl.run.errors import CONTINUE
from hrl.run.folder import RunFolder

State: TypeAlias = Literal["waiting", "running", "stalled", "stopped", "failed", "finished"]
LEAST_PATIENCE = 300.0
"""Seconds without a line after which a run may count as stalled."""
PATIENCE = 10
"""Times the usual seconds between lines after which it does."""
_RATE_LINES = 10


@dataclass(frozen=True)
class RunStatus:
    """Hold what is known of a run.

    label: names it within a study: method and seed.  kind: train or finetune.
    frames, budget: control steps done and wanted.  rate: control steps a second, lately; 0 unknown.
    seconds: of training.  updated: when its logs were last written, seconds since the epoch.
    evaluated: whether it has scores.
    """

    folder: Path
    suite: str
    method: str
    seed: int
    kind: str
    state: State
    frames: int
    budget: int
    rate: float
    seconds: float
    updated: float
    evaluated: bool
    alerts: tuple[Alert, ...]

    @property
    def label(self) -> str:
        """Return suite, method and seed."""
        return f"{self.suite} {self.method} seed {self.seed}"

    @property
    def share(self) -> float:
        """Return how much of its budget is done, 0 to 1."""
        return min(1.0, self.frames / self.budget) if self.budget else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Return the seconds that are left at its speed; None where that is unknown."""
        if self.state == "finished":
            return 0.0
        return max(0, self.budget - self.frames) / self.rate if self.rate else None


class FollowedRun:
    """Follow one run folder.

    Args:
        folder: of the run; it may come into being later.
    """

    def __init__(self, folder: Path) -> None:
        self.files = RunFolder(folder)
        self.metrics = Tail(self.files.metrics)
        self.timing = Tail(self.files.timing)
        self.columns = Columns(self.files.metrics)
        self.timing_columns = Columns(self.files.timing)
        self._config: tuple[int, Mapping[str, Any]] = (0, {})

    @property
    def config(self) -> Mapping[str, Any]:
        """Return the configuration; empty where it cannot be read."""
        try:
            changed = self.files.config.stat().st_mtime_ns
            if changed != self._config[0]:
                text = self.files.config.read_text(encoding="utf-8")
                read = yaml.load(text, Loader=_LOADER)
                self._config = (changed, read if isinstance(read, Mapping) else {})
        except (OSError, ValueError, yaml.YAMLError, RecursionError):
            return self._config[1]
        return self._config[1]

    def status(self, locked: set[int], exit_code: int | None = None) -> RunStatus:
        """Read what is new and return the status.

        Args:
            locked: inodes of locked files, as `locked_inodes` returns them.
            exit_code: of the run's last process, where a study recorded it.
        """
        self.metrics.poll()
        self.timing.poll()
        config = self.config
        agent = config.get("agent")
        name = agent.get("name", "") if isinstance(agent, Mapping) else ""
        suite = config.get("suite")
        budget = whole_number(config.get("frames"))
        frames = int(self.metrics.last("frames"))
        updated = self._updated()
        state = self._state(frames, budget, updated, locked, exit_code)
        return RunStatus(
            folder=self.files.path,
            suite=str(suite.get("name", "?")) if isinstance(suite, Mapping) else "?",
            method=str(config.get("method") or name or self.files.path.name),
            seed=whole_number(config.get("seed")),
            kind="finetune" if config.get("finetune") else "train",
            state=state,
            frames=frames,
            budget=budget,
            rate=self._rate(),
            seconds=self.timing.last("seconds"),
            updated=updated,
            evaluated=self.files.scores.exists(),
            alerts=tuple(
                alerts_of(self.metrics, config, state, frames, self._nonfinite(), updated)
            ),
        )

    # Private methods.

    def _state(
        self, frames: int, budget: int, updated: float, locked: set[int], exit_code: int | None
    ) -> State:
        quiet = time.time() - updated > self._patience()
        if _inode(self.files.path / ".lock") in locked:
            return "stalled" if quiet else "running"
        if budget and frames >= budget:
            return "finished"
        if not quiet and updated:
            return "running"  # on another machine, whose locks are not seen here
        if self._nonfinite() or exit_code not in (None, 0, *CONTINUE):
            return "failed"
        return "stopped" if updated else "waiting"

    def _patience(self) -> float:
        seconds = self.timing.values("seconds")
        usual = (seconds[-1] - seconds[0]) / (len(seconds) - 1) if len(seconds) > 1 else 0.0
        return max(LEAST_PATIENCE, PATIENCE * usual)

    def _rate(self) -> float:
        """Return the control steps a second over the last lines."""
        lines = [
            (frames, seconds)
            for record in list(self.timing.records)[-_RATE_LINES:]
            if (frames := number(record.get("frames"))) is not None
            and (seconds := number(record.get("seconds"))) is not None
        ]
        if len(lines) < 2 or lines[-1][1] <= lines[0][1]:
            return self.timing.last("frames_per_second")
        return (lines[-1][0] - lines[0][0]) / (lines[-1][1] - lines[0][1])

    def _updated(self) -> float:
        times = [_changed(path) for path in (self.files.metrics, self.files.config)]
        return max(times)

    def _nonfinite(self) -> bool:
        return next(self.files.path.glob("nonfinite_*.safetensors"), None) is not None


def locked_inodes() -> set[int]:
    """Return the inodes of the files that processes of this machine hold locks on.

    Nothing is locked to find out, so that no run is disturbed. Empty where the system does not say.
    """
    try:
        with open("/proc/locks") as file:
            lines = file.readlines()
    except OSError:
        return set()
    fields = (line.split() for line in lines)
    return {
        int(part.rpartition(":")[2]) for line in fields for part in line if part.count(":") == 2
    }


# Private functions.

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _inode(path: Path) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0
