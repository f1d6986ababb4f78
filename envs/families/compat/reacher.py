"""Provide dm_control's reacher-easy and reacher-hard."""

import math

import mujoco
import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from typing_extensions import override

from envs.families.compat.tasks import CompatTask, compat_description, task_name
from envs.families.family import TaskStart
from envs.families.joints import random_joint_positions
from envs.families.suite_models import suite_model
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task

# Radii of the two targets, metres.
_RADII = {"reacher-easy": 0.05, "reacher-hard": 0.015}
_NEAREST = 0.05
_FARTHEST = 0.2
_HEIGHT = 0.01
# The position of the other task's target, outside the image.
_ASIDE = (10.0, 10.0, _HEIGHT)


def _build() -> mujoco.MjSpec:
    spec = suite_model("reacher")
    target = spec.geom("target")
    material = target.material
    spec.delete(target)
    for name, radius in _RADII.items():
        body = spec.worldbody.add_body(name=name, mocap=True, pos=_ASIDE)
        body.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            size=[radius, 0, 0],
            material=material,
            mass=0,
        )
    return spec


class CompatReacher(CompatTask):
    """Provide dm_control's reacher-easy and -hard: a reward of 1 while finger and target overlap.

    dm_control moves and resizes a geom of the model in every episode. Here each task's target is
    its own mocap body, and the other task's is out of sight, so that worlds of one batch can
    differ. Success: ever reached.
    """

    scene = Scene("compat reacher", _build, substeps=1, camera="fixed")
    hold_steps = 1
    state_size = 6
    description = compat_description(
        "an arm of two links with 2 motors, seen from above",
        "Touch the target with the finger; in the hard task the target is smaller.",
        "A camera above the arm shows all of it.",
        {
            name: r"r = \begin{cases} 1 & d \le "
            rf"{radius:g} + 0.01 \\ 0 & \text{{otherwise}} \end{{cases}}"
            for name, radius in _RADII.items()
        },
        "$d$ is the distance from the finger, of radius 0.01 m, to the target's centre in metres.",
        f"Any joint angles, at rest; the target is {100 * _NEAREST:g} to {100 * _FARTHEST:g} cm "
        "from the shoulder.",
        "Joint angles, the vector from finger to target, and velocities.",
        "Finger and target touch at any control step.",
    )

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Return the distance at which finger and target touch, metres."""
        return np.array([_RADII[task_name(task)] + self.scene.model.geom("finger").size[0]])

    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        """Draw joint angles at rest and a target, at any angle and 5 to 20 cm from the shoulder."""
        positions = random_joint_positions(self.scene.model, rng)
        angle = rng.uniform(0, 2 * math.pi)
        distance = rng.uniform(_NEAREST, _FARTHEST)
        place = (distance * math.sin(angle), distance * math.cos(angle), _HEIGHT)
        targets = [place if name == task_name(task) else _ASIDE for name in _RADII]
        return TaskStart(positions, np.zeros(2), np.array(targets))

    @override
    def state(self, physics: Physics) -> Float[Tensor, "world state"]:
        """Return joint angles, the vector from finger to target, and velocities.

        Source: dm_control's `Reacher.get_observation`.
        """
        offsets = _offsets(physics)
        nearer = torch.linalg.vector_norm(offsets, dim=-1).argmin(0)
        to_target = offsets[nearer, torch.arange(physics.num_worlds, device=offsets.device)]
        return torch.cat([physics.fields["qpos"], to_target, physics.fields["qvel"]], -1)

    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        """Return 1 where they overlap, seen from above.

        Source: dm_control's `Reacher.get_reward`.
        """
        return (_distance(physics) <= goal[:, 0]).to(goal.dtype)

    @override
    def holding(
        self, physics: Physics, goal: Float[Tensor, "world goal"], reward: Float[Tensor, " world"]
    ) -> Bool[Tensor, " world"]:
        return reward > 0


def _distance(physics: Physics) -> Tensor:
    """Return the distance from the finger to the nearer target; the other is metres away."""
    distance: Tensor = torch.linalg.vector_norm(_offsets(physics), dim=-1).amin(dim=0)
    return distance


def _offsets(physics: Physics) -> Float[Tensor, "target world 2"]:
    """Return the vectors from the finger to both targets, in the plane."""
    finger = physics.geom_position("finger")[:, :2]
    return torch.stack([physics.geom_position(name)[:, :2] - finger for name in _RADII])
