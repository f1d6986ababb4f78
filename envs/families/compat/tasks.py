"""List the tasks by name, and define the base of their families."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Float32
from torch import Tensor
from typing_extensions import override

from envs.families.description import FamilyDescription
from envs.families.family import Choice, Family, Parameter
from envs.families.success import close_to_best
from envs.simulation.physics import Physics
from envs.tasks import Task

# The order is that of the task vector: new tasks come last.
TASKS = (
    "point_mass-easy",
    "walker-stand",
    "walker-walk",
    "walker-run",
    "cheetah-run",
    "quadruped-walk",
    "quadruped-run",
    "reacher-easy",
    "reacher-hard",
    "cartpole-balance",
    "cartpole-balance_sparse",
    "cartpole-swingup",
    "cartpole-swingup_sparse",
    "hopper-stand",
    "hopper-hop",
    "humanoid-stand",
    "humanoid-walk",
    "humanoid-run",
    "quadruped-fetch",
    "cartpole-two_poles",
    "cartpole-three_poles",
    "quadruped-escape",
    "point_mass-hard",
)


def task_name(task: Task) -> str:
    """Return the name of a task, one of `TASKS`."""
    return str(task.parameters["task"])


HELD = "A reward of at least 0.8 in every control step of one second; dm_control defines none."
SMALL = r"$s = \tfrac1n\sum_i \max(0, 1 - a_i^2)$ is full for small actions $a$."
"""Sentences of descriptions."""


def compat_description(
    body: str,
    goal: str,
    image: str,
    rewards: Mapping[str, str],
    symbols: str,
    start: str,
    state: str = "",
    success: str = HELD,
) -> FamilyDescription:
    """Return what pages of suites say of a body's tasks: the fields of `FamilyDescription`."""
    return FamilyDescription(
        body=body,
        goal=goal,
        image=image,
        task_vector=f"One-hot over the {len(TASKS)} tasks of all `compat` suites.",
        rewards=rewards,
        symbols=symbols,
        success=success,
        start=start,
        reward_parameter="task",
        state=state,
        source="The DeepMind Control Suite (Tassa et al. 2018, arXiv 1801.00690), reward for "
        "reward; only the drawing differs.",
    )


class CompatTask(Family):
    """Define the parameter, task vector and usual success of all bodies' families.

    Success: a reward of at least 0.8 in `hold_steps` successive control steps. dm_control does not
    define success.
    """

    parameters: Mapping[str, Parameter] = MappingProxyType({"task": Choice(TASKS)})
    task_size = len(TASKS)
    hold_steps: int

    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        """Return a one-hot vector over `TASKS`."""
        return np.array([task_name(task) == name for name in TASKS], np.float32)

    @override
    def holding(
        self, physics: Physics, goal: Float[Tensor, "world goal"], reward: Float[Tensor, " world"]
    ) -> Bool[Tensor, " world"]:
        return close_to_best(reward)
