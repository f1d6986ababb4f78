"""dm_control's point_mass-easy."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from envs.families.compat.tasks import CompatTask
from envs.families.family import StartState
from envs.families.joints import random_joint_positions
from envs.families.suite_models import suite_model
from envs.physics import Physics, Scene
from envs.rewards import tolerance
from envs.tasks import Task


class CompatPointMass(CompatTask):
    """dm_control's point_mass-easy: a target of 15 mm at the centre. Success: ever within the target."""

    scene = Scene(
        "compat point mass",
        lambda: suite_model("point_mass").compile(),
        substeps=1,
        camera="fixed",
    )
    hold_steps = 1

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """The target's radius in metres."""
        return np.array([self.scene.model.geom("target").size[0]], np.float64)

    def start(self, task: Task, rng: np.random.Generator) -> StartState:
        """See `Family.start`."""
        return StartState(random_joint_positions(self.scene.model, rng), np.zeros(2), np.zeros((0, 3)))

    def reward(self, physics: Physics, goal: Float[Tensor, "world goal"]) -> Float[Tensor, " world"]:
        """Nearness to the target times a bonus for small control. Source: dm_control's `PointMass.get_reward`."""
        radius = goal[:, 0]
        near = tolerance(_distance(physics), (0.0, radius), margin=radius)
        small = tolerance(physics.control, margin=1.0, value_at_margin=0.0, sigmoid="quadratic").mean(dim=-1)
        return near * (small + 4) / 5

    def holding(
        self, physics: Physics, goal: Float[Tensor, "world goal"], reward: Float[Tensor, " world"]
    ) -> Bool[Tensor, " world"]:
        """See `Family.holding`."""
        return _distance(physics) <= goal[:, 0]


def _distance(physics: Physics) -> Tensor:
    distance: Tensor = torch.linalg.vector_norm(
        physics.geom_position("target") - physics.geom_position("pointmass"), dim=-1
    )
    return distance
