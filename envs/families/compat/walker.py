"""Provide dm_control's walker-stand, walker-walk and walker-run."""

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from typing_extensions import override

from envs.families import walker
from envs.families.compat.tasks import CompatTask, compat_description, task_name
from envs.families.description import HALF_LINEAR
from envs.families.family import TaskStart
from envs.families.scenery import SKY
from envs.families.suite_models import suite_model
from envs.rewards import tolerance
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task

_SPEEDS = {"walker-stand": 0.0, "walker-walk": 1.0, "walker-run": 8.0}


def _moving(name: str) -> str:
    """Return the formula of a task with a speed."""
    speed = _SPEEDS[name]
    fast = rf"\tfrac16\left(5\, H_{{{speed / 2:g}}}(v \ge {speed:g}) + 1\right)"
    return rf"r = p \cdot {fast}, \qquad {walker.POSTURE}"


class CompatWalker(CompatTask):
    """Provide dm_control's walker-stand, -walk and -run, with one-sided speed rewards.

    Success: a reward of 0.8 for one second.
    """

    scene = Scene(
        "compat walker",
        lambda: suite_model("walker"),
        walker.SUBSTEPS,
        walker.CAMERA,
        SKY,
    )
    hold_steps = walker.STEPS_PER_SECOND
    state_size = walker.STATE_SIZE
    description = compat_description(
        walker.BODY,
        "Stand, walk or run; faster than the task's speed is as good.",
        walker.IMAGE,
        {
            "walker-stand": rf"r = p, \qquad {walker.POSTURE}",
            "walker-walk": _moving("walker-walk"),
            "walker-run": _moving("walker-run"),
        },
        f"$v$ is the speed forwards in m/s. {walker.SYMBOLS} {HALF_LINEAR}",
        walker.START,
        walker.STATE,
    )

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Return the speed from which the reward is full, m/s; 0 rewards standing only."""
        return np.array([_SPEEDS[task_name(task)]])

    @override
    def state(self, physics: Physics) -> Float[Tensor, "world state"]:
        return walker.state(physics)

    @override
    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        return walker.start(self.scene, rng)

    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        """Reward posture times speed; source: dm_control's `PlanarWalker.get_reward`."""
        target = goal[:, 0]
        standing = walker.posture(physics)
        bounds = (target, float("inf"))
        moving = tolerance(
            walker.speed(physics), bounds, target / 2, sigmoid="linear", value_at_margin=0.5
        )
        return torch.where(target == 0, standing, standing * (5 * moving + 1) / 6)
