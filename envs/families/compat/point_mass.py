"""Provide dm_control's point_mass-easy and point_mass-hard."""

import mujoco
import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from typing_extensions import override

from envs.families.compat.tasks import SMALL, CompatTask, compat_description, task_name
from envs.families.description import GAUSSIAN
from envs.families.family import TaskStart
from envs.families.joints import random_joint_positions
from envs.families.suite_models import suite_model
from envs.rewards import tolerance
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task

_MAX_COSINE = 0.9


def mix_actuators(model: mujoco.MjModel, seed: int) -> None:
    """Make each actuator push in a direction drawn with this seed.

    Source: dm_control's `PointMass.initialize_episode`.
    """
    rng = np.random.default_rng(seed)
    first = _direction(rng)
    second = _direction(rng)
    while abs(first @ second) > _MAX_COSINE:
        second = _direction(rng)
    model.wrap_prm[:4] = [*first, *second]


def _direction(rng: np.random.Generator) -> Float64[np.ndarray, " 2"]:
    direction = rng.standard_normal(2)
    return np.asarray(direction / np.linalg.norm(direction))


class CompatPointMass(CompatTask):
    """Provide dm_control's point_mass-easy and -hard: a target of 15 mm at the centre.

    In the hard one the actuators push in other directions in every episode. Success: ever within
    the target.
    """

    scene = Scene(
        "compat point mass",
        lambda: suite_model("point_mass"),
        substeps=1,
        camera="fixed",
        remodel=mix_actuators,
    )
    hold_steps = 1
    state_size = 4
    description = compat_description(
        "a point mass with 2 motors, seen from above",
        "Move the ball onto the small target at the centre, with small actions.",
        "A camera above the arena shows all of it.",
        dict.fromkeys(
            ("point_mass-easy", "point_mass-hard"), r"r = G_\rho(d \le \rho) \cdot \tfrac{4 + s}{5}"
        ),
        r"$d$ is the distance from the ball to the target, whose radius is $\rho = 0.015$ m. "
        f"{SMALL} {GAUSSIAN} In `point_mass-hard` the motors push in other directions in every "
        "episode.",
        "At rest, anywhere in the arena.",
        "The ball's place and velocity.",
        "The ball is within the target at any control step.",
    )

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Return the target's radius in metres."""
        return np.array([self.scene.model.geom("target").size[0]], np.float64)

    @override
    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        positions = random_joint_positions(self.scene.model, rng)
        seed = int(rng.integers(1, 2**32)) if task_name(task) == "point_mass-hard" else 0
        return TaskStart(positions, np.zeros(2), np.zeros((0, 3)), seed)

    @override
    def state(self, physics: Physics) -> Float[Tensor, "world state"]:
        """Return place and velocity; source: dm_control's `PointMass.get_observation`."""
        return torch.cat([physics.fields["qpos"], physics.fields["qvel"]], -1)

    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        """Reward nearness to the target times a bonus for small control.

        Source: dm_control's `PointMass.get_reward`.
        """
        radius = goal[:, 0]
        near = tolerance(_distance(physics), (0.0, radius), margin=radius)
        small = tolerance(
            physics.control, margin=1.0, value_at_margin=0.0, sigmoid="quadratic"
        ).mean(dim=-1)
        return near * (small + 4) / 5

    @override
    def holding(
        self, physics: Physics, goal: Float[Tensor, "world goal"], reward: Float[Tensor, " world"]
    ) -> Bool[Tensor, " world"]:
        return _distance(physics) <= goal[:, 0]


def _distance(physics: Physics) -> Tensor:
    distance: Tensor = torch.linalg.vector_norm(
        physics.geom_position("target") - physics.geom_position("pointmass"), dim=-1
    )
    return distance
