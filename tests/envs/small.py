"""Make suites that end their episodes within a few steps."""

from dataclasses import replace

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
