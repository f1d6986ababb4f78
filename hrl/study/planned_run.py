"""Hold one training run of a study, and say what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from envs import Suite
from hrl.config import ComposedConfig
from hrl.evaluation.episodes import worlds_at_once
from hrl.run.memory_estimate import (
    acting_memory_estimate,
    checkpoint_disk_estimate,
    memory_estimates,
)

PROCESS_BYTES = 2**30
"""Bytes of a process beside what the estimates count: libraries, weights, compiled kernels."""


@dataclass(frozen=True)
class PlannedRun:
    """Hold one training run of a study.

    Attributes:
        method: its column.
        suite: its suite, as the study names it.
        composed: its configuration, its folder included.
        overrides: KEY=VALUE that make it.
        reused: whether its folder is that of a finished run of another study.
    """

    method: str
    suite: str
    composed: ComposedConfig
    overrides: tuple[str, ...]
    reused: bool = False

    @property
    def seed(self) -> int:
        """Return its seed."""
        return self.composed.config.seed

    @property
    def folder(self) -> Path:
        """Return its folder."""
        return Path(self.composed.config.folder)

    @cached_property
    def tasks(self) -> Suite:
        """Return its suite with all tasks."""
        return Suite.from_dict(self.composed.plain["suite"])


def training_memory(run: PlannedRun) -> int:
    """Return the bytes of the machine's memory that training takes."""
    config = run.composed.config
    return memory_estimates(config, run.tasks, torch.device("cpu"))[0].total


def checkpoint_disk(run: PlannedRun) -> int:
    """Return the bytes that a run's checkpoints take, but for weights."""
    return checkpoint_disk_estimate(run.composed.config, run.tasks, run.folder).total


def evaluation_memory(run: PlannedRun, splits: Sequence[str], episodes: int) -> int:
    """Return the bytes of memory that playing these splits takes."""
    suite = run.tasks
    worlds = max(worlds_at_once(suite, len(suite.tasks(split)), episodes) for split in splits)
    config = run.composed.config
    return acting_memory_estimate(config, suite, worlds, config.tracking.video_steps).total


def placed_run(
    name: str,
    suite: str,
    composed: ComposedConfig,
    overrides: Sequence[str],
    seed: int,
    folder: Path,
) -> PlannedRun:
    """Return a run with its seed and its folder."""
    changed: dict[str, Any] = {"seed": seed, "folder": str(folder)}
    placed = ComposedConfig(replace(composed.config, **changed), {**composed.plain, **changed})
    return PlannedRun(name, suite, placed, (*overrides, f"seed={seed}", f"folder={folder}"))
