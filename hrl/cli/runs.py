"""Load the runs that a command line names: run folders, or a policy that learns nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from hrl.cli.parser import UsageError, split_targets
from hrl.config import load
from hrl.run.build import learns
from hrl.run.folder import find_run_folders
from hrl.run.load import LoadedRun, check_scripted, load_run, load_scripted


def chosen_runs(targets: Sequence[str], device: str) -> dict[Path, Callable[[], LoadedRun]]:
    """Return what loads each run, by folder, in the given order; a scripted policy comes last.

    Args:
        targets: run folders, globs of them or folders that hold them, and KEY=VALUE overrides.
        device: where the policies act; empty for where they were trained.

    Raises:
        UsageError: no target, or overrides that would change a run.
        ConfigError: no run folder where one is named, or overrides of an agent that learns.
    """
    if not targets:
        raise UsageError("give run folders, or agent=random|zero with suite=NAME")
    folders, overrides = split_targets(targets)
    found = find_run_folders(folders) if folders else []
    loaders: dict[Path, Callable[[], LoadedRun]] = {
        folder: partial(load_run, folder, device) for folder in found
    }
    if overrides:
        given = [*overrides, f"device={device}"] if device else overrides
        config = load(given).config
        if found and learns(config):
            raise UsageError(
                f"{' '.join(overrides)} is for agent=random or agent=zero with suite=NAME; a run "
                "keeps the settings it was trained with, and --help lists the options for playing "
                "it"
            )
        check_scripted(config)
        loaders[Path(config.folder)] = partial(load_scripted, given)
    return loaders
