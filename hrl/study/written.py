"""Read what a study's folder holds already, and refuse runs of other settings there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from hrl.config import ConfigError
from hrl.run.checkpoints import newest_frames, newest_policy_path
from hrl.run.config_match import ABSENT, MAY_CHANGE, differing_keys, with_saved_physics
from hrl.run.errors import FolderError
from hrl.run.folder import RunFolder, study_record

SHOWN = 3  # differing keys, in an error


def refuse_other_study(folder: Path, name: str) -> None:
    """Refuse a folder that holds a study of another name, whose record would be replaced.

    Raises:
        FolderError: names both studies.
    """
    try:
        other = json.loads(study_record(folder).read_text())["study"]["name"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return
    if other != name:
        raise FolderError(
            f"{folder} holds the study {other!r}, not {name!r}; give folder=DIR, or remove "
            f"{study_record(folder).name} there for its runs to join this one"
        )


def check_written(folder: Path, plain: dict[str, Any]) -> None:
    """Refuse a folder that holds a run of other settings than those that are planned for it.

    Keys that only one side has are those of another version of the code, which reports show. A run
    may be trained on, and so be one of fewer frames; one of more could not stand beside others.

    Args:
        folder: of a run, which need not exist.
        plain: the configuration that is planned.

    Raises:
        ConfigError: names the folder and the first keys that differ, with both values, or the
            frames.
    """
    files = RunFolder(folder)
    if not files.config.exists():
        return
    ignored = (*MAY_CHANGE, "finetune.source_sha256", "finetune.source_frames")
    try:
        saved = files.read_config()
    except FolderError:  # damaged, or of another version: its own cell says so
        return
    differing = differing_keys(saved, with_saved_physics(plain, saved), ignore=ignored)
    different = {key: pair for key, pair in differing.items() if ABSENT not in pair}
    if different:
        few = list(different.items())[:SHOWN]
        shown = "; ".join(f"{key} is {old!r} there and {new!r} here" for key, (old, new) in few)
        more = f"; and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
        raise ConfigError(
            f"{folder} holds a run of other settings ({shown}{more}): choose another folder=, or "
            "remove it"
        )
    newest, planned = newest_frames(files.checkpoints), plain["frames"]
    if newest > planned and saved.get("frames", planned) > planned:
        raise ConfigError(
            f"{folder} holds a run of {newest:,} frames, and {planned:,} are planned: runs of "
            "different budgets are not compared. Choose another folder=, or remove it"
        )


def check_source(folder: Path, source: Path, frames: int) -> None:
    """Refuse a fine-tuning run whose source was trained on or anew since, or is to be.

    Args:
        folder: of the fine-tuning run, which need not exist.
        source: the run that it started from; without a policy there is nothing to compare with.
        frames: control steps that the source is to be trained for.

    Raises:
        ConfigError: names both folders.
    """
    files = RunFolder(folder)
    policy = newest_policy_path(RunFolder(source).checkpoints)
    if not files.config.exists() or policy is None:
        return
    try:
        record = files.read_config().get("finetune")
    except FolderError:  # as above
        return
    if not isinstance(record, dict):
        return
    started_from = record.get("source_frames")
    if isinstance(started_from, int) and started_from < frames:
        raise ConfigError(
            f"{folder} was fine-tuned from {source} at {started_from:,} frames, and that is to be "
            f"trained for {frames:,}: remove it, or choose another folder="
        )
    if record.get("source_sha256") != hashlib.sha256(policy.read_bytes()).hexdigest():
        raise ConfigError(
            f"{folder} was fine-tuned from another checkpoint of {source} than its newest one: "
            "remove it, or choose another folder="
        )
