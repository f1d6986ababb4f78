"""dm_control's four tasks of a cart with one pole."""

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from envs.families.compat.tasks import CompatTask, task_name
from envs.families.family import StartState
from envs.families.scenery import SKY
from envs.families.suite_models import suite_model
from envs.physics import Physics, Scene
from envs.rewards import tolerance
from envs.tasks import Task

_CART_RANGE, _ANGLE_COSINE_RANGE = (-0.25, 0.25), (0.995, 1.0)
_START_SPEED = 0.01


class CompatCartpole(CompatTask):
    """dm_control's cartpole-balance and -swingup, smooth and sparse.

    Success: a reward of 0.8 for five seconds, because a pole that starts upright takes a second to fall by itself.
    """

    scene = Scene(
        "compat cartpole",
        lambda: suite_model("cartpole").compile(),
        substeps=1,
        camera="fixed",
        background=SKY,
    )
    hold_steps = 500

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """1 for the sparse reward, 0 for the smooth one."""
        return np.array([float(task_name(task).endswith("_sparse"))])

    def start(self, task: Task, rng: np.random.Generator) -> StartState:
        """Hanging near the middle, or nearly upright anywhere near it. Source: dm_control's `Balance`."""
        if "swingup" in task_name(task):
            positions = np.array([0.0, np.pi]) + 0.01 * rng.standard_normal(2)
        else:
            positions = rng.uniform((-0.1, -0.034), (0.1, 0.034))
        return StartState(positions, _START_SPEED * rng.standard_normal(2), np.zeros((0, 3)))

    def reward(self, physics: Physics, goal: Float[Tensor, "world goal"]) -> Float[Tensor, " world"]:
        """Source: dm_control's `Balance.get_reward`."""
        return torch.where(goal[:, 0] == 1, _sparse(physics), _smooth(physics))


def _sparse(physics: Physics) -> Tensor:
    return tolerance(_cart(physics), _CART_RANGE) * tolerance(_upright(physics), _ANGLE_COSINE_RANGE)


def _smooth(physics: Physics) -> Tensor:
    upright = (_upright(physics) + 1) / 2
    centred = (1 + tolerance(_cart(physics), margin=2.0)) / 2
    small = tolerance(physics.control[:, 0], margin=1.0, value_at_margin=0.0, sigmoid="quadratic")
    slow = (1 + tolerance(physics.fields["qvel"][:, 1], margin=5.0)) / 2
    return upright * (4 + small) / 5 * slow * centred


def _cart(physics: Physics) -> Tensor:
    return physics.body_position("cart")[:, 0]


def _upright(physics: Physics) -> Tensor:
    """Cosine of the pole's angle."""
    return physics.body_rotation("pole_1")[:, 2, 2]
