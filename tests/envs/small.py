"""Make suites that end their episodes within a few steps, and read how these ended."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from envs import Suite, load_suite
from envs.tasks import Task


def short_suite(name: str = "point_mass", length: int = 12) -> Suite:
    """Return a suite whose training episodes have `length` control steps."""
    suite = load_suite(name)
    return replace(
        suite,
        splits={
            "train": tuple(replace(task, episode_length=length) for task in suite.tasks("train"))
        },
    )


def one_task(suite: Suite) -> list[Task]:
    """Return a suite's first training task."""
    return [suite.tasks("train")[0]]


def final(infos: Mapping[str, Any], key: str) -> np.ndarray:
    """Return one entry of the last observations of the episodes that ended, one a row."""
    return np.stack([last[key] for last in infos["final_obs"] if last is not None])
