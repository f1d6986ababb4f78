"""Provide dm_control's quadruped-walk and quadruped-run."""

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor
from typing_extensions import override

from envs.families import quadruped
from envs.families.compat.tasks import CompatTask, compat_description, task_name
from envs.families.description import HALF_LINEAR
from envs.families.family import TaskStart
from envs.families.scenery import SKY
from envs.rewards import tolerance
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task

_SPEEDS = {"quadruped-walk": 0.5, "quadruped-run": 5.0}


class CompatQuadruped(CompatTask):
    """Provide dm_control's quadruped-walk and -run, with one-sided speed rewards.

    Success: a reward of 0.8 for one second.

    Both tasks have the floor of quadruped-run, which is drawn up to 100 m; dm_control draws that of
    quadruped-walk up to 10 m. For contacts both floors are infinite.
    """

    scene = Scene(
        "compat quadruped",
        lambda: quadruped.spec(floor_half_length=100.0),
        quadruped.SUBSTEPS,
        quadruped.CAMERA,
        SKY,
    )
    hold_steps = quadruped.STEPS_PER_SECOND
    state_size = quadruped.STATE_SIZE
    description = compat_description(
        quadruped.BODY,
        "Walk or run; faster than the task's speed is as good.",
        quadruped.IMAGE,
        {
            name: rf"r = p \cdot H_{{{speed:g}}}(v \ge {speed:g}), \qquad {quadruped.POSTURE}"
            for name, speed in _SPEEDS.items()
        },
        f"$v$ is the speed in the torso's forward direction in m/s. {quadruped.SYMBOLS} "
        f"{HALF_LINEAR}",
        quadruped.START,
        quadruped.STATE,
    )

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Return the speed from which the reward is full, m/s."""
        return np.array([_SPEEDS[task_name(task)]])

    @override
    def state(self, physics: Physics) -> Float[Tensor, "world state"]:
        return quadruped.state(physics)

    @override
    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        return quadruped.start(self.scene, rng)

    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        """Reward uprightness times speed; source: dm_control's `Move.get_reward`."""
        target = goal[:, 0]
        bounds = (target, float("inf"))
        moving = tolerance(
            quadruped.speed(physics), bounds, target, sigmoid="linear", value_at_margin=0.5
        )
        return quadruped.posture(physics) * moving
