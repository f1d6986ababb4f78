"""Tasks of dm_control's suite as published, for comparison with published curves.

Models, start states and rewards are dm_control's (tested against it); pictures have no shadows, no reflections and a
plain sky. The task vector is one-hot over all of them, so that agents trained on some of them fit the others.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor

from envs.families import walker
from envs.families.family import Choice, Family, Parameter, StartState
from envs.families.joints import random_joint_positions
from envs.families.suite_models import suite_model
from envs.physics import Physics, Scene
from envs.rewards import tolerance
from envs.tasks import Task

# The walker's speeds in m/s, by task.
_SPEEDS = {"walker-stand": 0.0, "walker-walk": 1.0, "walker-run": 8.0}
_POINT_MASS = "point_mass-easy"
TASKS = (_POINT_MASS, *_SPEEDS)

_PARAMETERS: Mapping[str, Parameter] = MappingProxyType({"task": Choice(TASKS)})


def one_hot(task: Task) -> Float32[np.ndarray, " task_size"]:
    """Which of `TASKS` it is."""
    return np.array([task.parameters["task"] == name for name in TASKS], np.float32)


class CompatPointMass:
    """dm_control's point_mass-easy: a target of 15 mm at the centre. Success: ever within the target."""

    scene = Scene(
        "compat point mass",
        lambda: suite_model("point_mass").compile(),
        substeps=1,
        camera="fixed",
    )
    parameters = _PARAMETERS
    task_size = len(TASKS)
    hold_steps = 1

    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        """See `Family.task_vector`."""
        return one_hot(task)

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


class CompatWalker:
    """dm_control's walker-stand, -walk and -run: one-sided speed rewards. Success: a reward of 0.8 for one second."""

    scene = Scene(
        "compat walker",
        lambda: suite_model("walker").compile(),
        walker.SUBSTEPS,
        walker.CAMERA,
        walker.SKY,
    )
    parameters = _PARAMETERS
    task_size = len(TASKS)
    hold_steps = walker.SUCCESS_STEPS

    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        """See `Family.task_vector`."""
        return one_hot(task)

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """The speed from which the reward is full, m/s; 0 rewards standing only."""
        return np.array([_SPEEDS[str(task.parameters["task"])]])

    def start(self, task: Task, rng: np.random.Generator) -> StartState:
        """See `Family.start`."""
        return walker.start(self.scene, rng)

    def reward(self, physics: Physics, goal: Float[Tensor, "world goal"]) -> Float[Tensor, " world"]:
        """Posture times speed. Source: dm_control's `PlanarWalker.get_reward`."""
        target, standing = goal[:, 0], walker.posture(physics)
        bounds = (target, float("inf"))
        moving = tolerance(walker.speed(physics), bounds, target / 2, sigmoid="linear", value_at_margin=0.5)
        return torch.where(target == 0, standing, standing * (5 * moving + 1) / 6)

    def holding(
        self, physics: Physics, goal: Float[Tensor, "world goal"], reward: Float[Tensor, " world"]
    ) -> Bool[Tensor, " world"]:
        """See `Family.holding`."""
        return reward >= walker.SUCCESS_REWARD


def compat_families() -> dict[str, Family]:
    """The family of each of `TASKS`: tasks that share a scene share a family."""
    return {_POINT_MASS: CompatPointMass()} | dict.fromkeys(_SPEEDS, CompatWalker())


def _distance(physics: Physics) -> Tensor:
    distance: Tensor = torch.linalg.vector_norm(
        physics.geom_position("target") - physics.geom_position("pointmass"), dim=-1
    )
    return distance
