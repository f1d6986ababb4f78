"""Load the runs that a command line names: run folders, or a policy that learns nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from hrl.cli.parser import UsageError, split_targets
from hrl.config import load
from hrl.reporting.runs import find_run_folders
from hrl.run.load import LoadedRun, load_run, load_scripted


def chosen_runs(targets: Sequence[str], device: str) -> dict[Path, Callable[[], LoadedRun]]:
    """Return the run folders, each with a function that loads its run; a scripted run comes last.

    Args:
        targets: run folders, globs, folders that hold run folders, and KEY=VALUE overrides.
        device: where the policies act; empty for where they were trained.

    Raises:
        UsageError: no target.
        RunFolderError: there is no run folder at a target.
        ConfigError: overrides that cannot be a run.
    """
    if not targets:
        raise UsageError("give run folders, or agent=random|zero with suite=NAME")
    paths, overrides = split_targets(targets)
    runs: dict[Path, Callable[[], LoadedRun]] = {}
    if paths:
        runs = {folder: partial(load_run, folder, device) for folder in find_run_folders(paths)}
    if overrides:
        given = [*overrides, f"device={device}"] if device else overrides
        runs[Path(load(given).config.folder)] = partial(load_scripted, given)
    return runs
