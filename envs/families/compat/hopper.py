"""Provide dm_control's hopper-stand and hopper-hop."""

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from typing_extensions import override

from envs.families.compat.tasks import SMALL, CompatTask, compat_description, task_name
from envs.families.constants import constant
from envs.families.description import HALF_LINEAR
from envs.families.family import TaskStart
from envs.families.joints import random_joint_positions
from envs.families.scenery import SKY
from envs.families.suite_models import suite_model
from envs.rewards import tolerance
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task

_STAND_HEIGHTS = (0.6, 2.0)
_SPEEDS = {"hopper-stand": 0.0, "hopper-hop": 2.0}


_STANDING = rf"\mathbb{{1}}[{_STAND_HEIGHTS[0]:g} \le h \le {_STAND_HEIGHTS[1]:g}]"


class CompatHopper(CompatTask):
    """Provide dm_control's hopper-stand and -hop.

    Success: a reward of 0.8 for one second.
    """

    scene = Scene(
        "compat hopper",
        lambda: suite_model("hopper"),
        substeps=4,
        camera="cam0",
        background=SKY,
    )
    hold_steps = 50
    state_size = 15
    description = compat_description(
        "a planar hopper with 4 motors (dm_control's)",
        "Stand still, or hop; the reward is full from 2 m/s on.",
        "A camera at the hopper's side moves with it.",
        {
            "hopper-stand": rf"r = {_STANDING} \cdot \tfrac{{4 + s}}{{5}}",
            "hopper-hop": rf"r = {_STANDING} \cdot H_1(v \ge {_SPEEDS['hopper-hop']:g})",
        },
        r"$h$ is the height of the torso above the foot in metres, $\mathbb{1}$ is 1 where its "
        f"condition holds, else 0, and $v$ is the speed forwards in m/s. {SMALL} {HALF_LINEAR}",
        "Any joint angles and orientation, at rest.",
        "Joint angles, height and tilt, velocities, and touch of toe and heel.",
    )

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Return the speed of full reward, m/s; 0 rewards standing with little control."""
        return np.array([_SPEEDS[task_name(task)]])

    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        """Draw joint angles and orientation at rest, as in dm_control's suite."""
        model = self.scene.model
        return TaskStart(random_joint_positions(model, rng), np.zeros(model.nv), np.zeros((0, 3)))

    @override
    def state(self, physics: Physics) -> Float[Tensor, "world state"]:
        """Return joint positions but the horizontal one, velocities, and touch of the foot.

        Source: dm_control's `Hopper.get_observation`.
        """
        touch = [torch.log1p(physics.sensor(f"touch_{part}")) for part in ("toe", "heel")]
        return torch.cat([physics.fields["qpos"][:, 1:], physics.fields["qvel"], *touch], -1)

    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        """Reward height times speed, or times small control.

        Source: dm_control's `Hopper.get_reward`.
        """
        target = goal[:, 0]
        standing = tolerance(
            _centre_height(physics, "torso") - _centre_height(physics, "foot"), _STAND_HEIGHTS
        )
        speed = physics.sensor("torso_subtreelinvel")[:, 0]
        bounds = (target, float("inf"))
        hopping = tolerance(speed, bounds, target / 2, sigmoid="linear", value_at_margin=0.5)
        small = tolerance(
            physics.control, margin=1.0, value_at_margin=0.0, sigmoid="quadratic"
        ).mean(dim=-1)
        return standing * torch.where(target == 0, (small + 4) / 5, hopping)


def _centre_height(physics: Physics, body: str) -> Tensor:
    """Return the height of a body's centre of mass, which differs from that of its frame."""
    offset = constant(physics.model.body(body).ipos.tolist(), physics.fields["xpos"])
    return physics.body_position(body)[:, 2] + physics.body_rotation(body)[:, 2] @ offset
