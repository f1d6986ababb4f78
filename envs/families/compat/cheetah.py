"""Provide dm_control's cheetah-run."""

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor
from typing_extensions import override

from envs.families import cheetah
from envs.families.compat.tasks import CompatTask, compat_description
from envs.families.description import LINEAR
from envs.families.family import TaskStart
from envs.families.scenery import SKY
from envs.rewards import tolerance
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task

_RUN_SPEED = 10.0


class CompatCheetah(CompatTask):
    """Provide dm_control's cheetah-run: the faster the better.

    Success: a reward of 0.8 for one second.
    """

    scene = Scene(
        "compat cheetah",
        cheetah.spec,
        cheetah.SUBSTEPS,
        cheetah.CAMERA,
        SKY,
        finish=cheetah.set_mass,
    )
    hold_steps = cheetah.STEPS_PER_SECOND
    state_size = cheetah.STATE_SIZE
    description = compat_description(
        cheetah.BODY,
        f"Run; the reward is full from {_RUN_SPEED:g} m/s on.",
        cheetah.IMAGE,
        {"cheetah-run": rf"r = L_{{{_RUN_SPEED:g}}}(v \ge {_RUN_SPEED:g})"},
        f"$v$ is the speed forwards in m/s. {LINEAR}",
        cheetah.START,
        cheetah.STATE,
    )

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Return the speed from which the reward is full, m/s."""
        return np.array([_RUN_SPEED])

    @override
    def state(self, physics: Physics) -> Float[Tensor, "world state"]:
        return cheetah.state(physics)

    @override
    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        return cheetah.start(self.scene, rng)

    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        """Reward speed; source: dm_control's `Cheetah.get_reward`."""
        target = goal[:, 0]
        bounds = (target, float("inf"))
        return tolerance(
            cheetah.speed(physics), bounds, target, sigmoid="linear", value_at_margin=0.0
        )
