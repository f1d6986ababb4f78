"""Load the runs that a command line names: run folders, or a policy that learns nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hrl.cli.parser import UsageError, split_targets
from hrl.run.load import LoadedRun, load_run, load_scripted


def chosen_runs(targets: Sequence[str], device: str) -> list[tuple[LoadedRun, Path]]:
    """Return the runs with their folders, in the given order; a scripted policy comes last.

    Args:
        targets: run folders and KEY=VALUE overrides.
        device: where the policies act; empty for where they were trained.

    Raises:
        UsageError: no target.
        ConfigError: a folder that is no run, or overrides of an agent that learns.
    """
    folders, overrides = split_targets(targets)
    if not targets:
        raise UsageError("give run folders, or agent=random|zero with suite=NAME")
    runs = [(load_run(Path(folder), device), Path(folder)) for folder in folders]
    if overrides:
        given = [f"device={device}"] if device else []
        scripted = load_scripted([*overrides, *given])
        runs.append((scripted, Path(scripted.config.folder)))
    return runs
