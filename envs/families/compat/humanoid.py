"""Provide dm_control's humanoid-stand, humanoid-walk and humanoid-run."""

import mujoco
import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from typing_extensions import override

from envs.families.compat.tasks import SMALL, CompatTask, compat_description, task_name
from envs.families.contacts import contacts
from envs.families.description import GAUSSIAN, LINEAR
from envs.families.family import TaskStart
from envs.families.joints import random_joint_positions
from envs.families.scenery import SKY
from envs.families.suite_models import suite_model
from envs.rewards import tolerance
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task

_STAND_HEIGHT = 1.4
_UPRIGHT = 0.9
_LIMBS = ("left_hand", "left_foot", "right_hand", "right_foot")
_SPEEDS = {"humanoid-stand": 0.0, "humanoid-walk": 1.0, "humanoid-run": 10.0}


_UPRIGHTNESS = (
    rf"\tfrac{{4 + s}}{{5}}\, G_{{{_STAND_HEIGHT / 4:g}}}(h \ge {_STAND_HEIGHT:g})\, "
    rf"L_{{{1 + _UPRIGHT:g}}}(\cos\theta \ge {_UPRIGHT:g})"
)


def _moving(name: str) -> str:
    """Return the formula of a task with a speed."""
    speed = _SPEEDS[name]
    fast = rf"\tfrac16\left(5\, L_{{{speed:g}}}(|v| \ge {speed:g}) + 1\right)"
    return rf"r = {_UPRIGHTNESS} \cdot {fast}"


class CompatHumanoid(CompatTask):
    """Provide dm_control's humanoid-stand, -walk and -run.

    Success: a reward of 0.8 for one second.
    """

    scene = Scene(
        "compat humanoid",
        lambda: suite_model("humanoid"),
        substeps=5,
        camera="back",
        background=SKY,
    )
    hold_steps = 40
    state_size = 67
    description = compat_description(
        "a humanoid with 21 motors (dm_control's)",
        "Stand still, walk or run; faster than the task's speed is as good.",
        "A camera behind the humanoid moves with it.",
        {
            "humanoid-stand": rf"r = {_UPRIGHTNESS} \cdot \tfrac12\left(G_2(v_x = 0) + "
            r"G_2(v_y = 0)\right)",
            "humanoid-walk": _moving("humanoid-walk"),
            "humanoid-run": _moving("humanoid-run"),
        },
        r"$h$ is the height of the head in metres, $\theta$ the torso's tilt, and $v$ the "
        f"horizontal velocity in m/s. {SMALL} {GAUSSIAN} {LINEAR}",
        "Any joint angles and orientation without contacts, at rest.",
        "Joint angles, the head's height, hands and feet from the torso, tilt, and velocities.",
    )

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Return the speed from which the reward is full, m/s; 0 rewards standing still."""
        return np.array([_SPEEDS[task_name(task)]])

    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        """Draw joint angles and orientation at rest without contacts.

        Rejection sampling, as in dm_control.
        """
        model = self.scene.model
        data = mujoco.MjData(model)
        data.qpos[:] = random_joint_positions(model, rng)
        while contacts(model, data):
            data.qpos[:] = random_joint_positions(model, rng)
        return TaskStart(data.qpos.copy(), np.zeros(model.nv), np.zeros((0, 3)))

    @override
    def state(self, physics: Physics) -> Float[Tensor, "world state"]:
        """Return angles, the head's height, hands and feet from the torso, tilt and velocities.

        Source: dm_control's `Humanoid.get_observation`.
        """
        torso = physics.body_position("torso")
        rotation = physics.body_rotation("torso")
        offsets = torch.stack([physics.body_position(limb) - torso for limb in _LIMBS], 1)
        parts = [
            physics.fields["qpos"][:, 7:],
            physics.body_position("head")[:, 2:],
            (offsets @ rotation).flatten(1),
            rotation[:, 2],
            physics.sensor("torso_subtreelinvel"),
            physics.fields["qvel"],
        ]
        return torch.cat(parts, -1)

    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        """Reward posture times small control times speed, or times standing still.

        Source: dm_control's `Humanoid.get_reward`.
        """
        small = tolerance(
            physics.control, margin=1.0, value_at_margin=0.0, sigmoid="quadratic"
        ).mean(dim=-1)
        velocity = physics.sensor("torso_subtreelinvel")[:, :2]
        target = goal[:, 0]
        still = tolerance(velocity, margin=2.0).mean(dim=-1)
        speed = torch.linalg.vector_norm(velocity, dim=-1)
        bounds = (target, float("inf"))
        moving = tolerance(speed, bounds, target, sigmoid="linear", value_at_margin=0.0)
        return (
            (4 + small)
            / 5
            * _posture(physics)
            * torch.where(target == 0, still, (5 * moving + 1) / 6)
        )


def _posture(physics: Physics) -> Tensor:
    height = physics.body_position("head")[:, 2]
    tilt = physics.body_rotation("torso")[:, 2, 2]
    standing = tolerance(height, (_STAND_HEIGHT, float("inf")), margin=_STAND_HEIGHT / 4)
    upright = tolerance(
        tilt, (_UPRIGHT, float("inf")), margin=1 + _UPRIGHT, sigmoid="linear", value_at_margin=0.0
    )
    return standing * upright
