"""Write the logs of runs line by line, as training does."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hrl.run.folder import FORMAT, study_record


def start_run(
    folder: Path, *, method: Any = "flat", seed: Any = 0, frames: Any = 1000, **config: Any
) -> Path:
    """Write what a run writes before its first line of metrics."""
    folder.mkdir(parents=True)
    suite = {"name": "points", "parameter": "target", "reference_return": 100.0}
    content = {"format": FORMAT, "agent": {"name": method}, "suite": suite, "method": ""}
    content |= {"seed": seed, "frames": frames, **config}
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    (folder / ".lock").touch()
    return folder


def log(folder: Path, frames: int, seconds: float, **metrics: float) -> None:
    """Append a line of metrics and one of timing."""
    append(folder / "metrics.jsonl", {"frames": frames, **metrics})
    append(folder / "timing.jsonl", {"frames": frames, "seconds": seconds})


def append(path: Path, record: Mapping[str, Any]) -> None:
    with open(path, "a") as file:
        file.write(json.dumps(record) + "\n")


def log_steadily(folder: Path, lines: int, **metrics: float) -> None:
    """Write lines of 10 frames, 2 seconds and the same metrics each."""
    for line in range(1, lines + 1):
        log(folder, 10 * line, 2.0 * line, **metrics)


def let_pass(folder: Path, seconds: float) -> None:
    """Let the files of a run look as old as they will be then."""
    then = time.time() - seconds
    for path in folder.iterdir():
        os.utime(path, (then, then))


def write_study(folder: Path, frames: int, *places: str) -> None:
    """Write the record of a study of training runs at some places, none of them started."""
    cells = [
        {
            "name": f"train {place}",
            "command": "train",
            "folder": str(folder / place),
            "log": str(folder / "logs" / "train" / f"{place}.log"),
            "frames": frames,
        }
        for place in places
    ]
    study = {"name": "quick", "description": "Does it help?", "methods": {}, "controls": {}}
    folder.mkdir(parents=True, exist_ok=True)
    study_record(folder).write_text(json.dumps({"study": study, "cells": cells}))
