"""Name the cells of a study: each is one command of ours, which continues where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from hrl.run.checkpoints import newest_frames
from hrl.run.folder import RunFolder

LIMITED = ("train", "finetune")
"""Commands that take time_limit=SECONDS."""


@dataclass(frozen=True)
class CellResources:
    """Say what a cell takes while it runs.

    Attributes:
        cores: of the processor.
        memory: in bytes.
        gpus: whole GPUs.
    """

    cores: int
    memory: int
    gpus: int


@dataclass(frozen=True)
class Cell:
    """Hold one command of a study.

    Attributes:
        name: unique in the study, such as "train point_mass/ppo/seed_0".
        command: subcommand of `pixel-hrl`.
        arguments: after it.
        folder: of the run that it writes.
        frames: control steps that training ends at; 0 for an evaluation.
        episodes: per task, of an evaluation.
        splits: that an evaluation plays.
        resources: what it takes.
        log: file that its output is appended to.
        after: names of cells that must be finished first.
    """

    name: str
    command: str
    arguments: tuple[str, ...]
    folder: Path
    resources: CellResources
    log: Path
    frames: int = 0
    episodes: int = 0
    splits: tuple[str, ...] = ()
    after: tuple[str, ...] = field(default=())

    @property
    def done_frames(self) -> int:
        """Return the control steps that the run was trained for so far."""
        return newest_frames(RunFolder(self.folder).checkpoints)

    def is_finished(self) -> bool:
        """Return whether its run has all that the command makes."""
        if self.command == "evaluate":
            return is_evaluated(self.folder, self.episodes, self.splits)
        files = RunFolder(self.folder)
        measured = self.command != "finetune" or files.forgetting.exists()
        return self.done_frames >= self.frames and measured

    def is_running(self) -> bool:
        """Return whether a process trains its run now, of this study or another."""
        return self.command in LIMITED and RunFolder(self.folder).is_locked()


def is_evaluated(folder: Path, episodes: int, splits: Sequence[str]) -> bool:
    """Return whether the newest checkpoint was played often enough on all these splits."""
    files = RunFolder(folder)
    try:
        record = json.loads(files.evaluation.read_text())
        played = set(pd.read_csv(files.scores, usecols=["split"])["split"])
        frames = int(record["frames"])
        most = int(record["episodes"])
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return False
    newest = newest_frames(files.checkpoints)
    return frames == newest and most >= episodes and played.issuperset(splits)


def last_lines(log: Path, count: int = 12) -> str:
    """Return the end of a log, indented; empty where there is none."""
    if not log.exists():
        return ""
    lines = log.read_text(errors="replace").replace("\r", "\n").splitlines()
    return "\n".join(f"    {line}" for line in lines[-count:] if line.strip())
