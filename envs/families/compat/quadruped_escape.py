"""dm_control's quadruped-escape."""

import mujoco
import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy import ndimage
from torch import Tensor

from envs.families import quadruped
from envs.families.compat.tasks import CompatTask
from envs.families.contacts import lifted
from envs.families.family import StartState
from envs.families.scenery import SKY
from envs.physics import Physics, Scene
from envs.rewards import tolerance
from envs.tasks import Task

_FLOOR_HALF_LENGTH = 40.0
# Of the bumps: their length in metres, and the share of the bowl's height that they leave at least.
_BUMP, _SMOOTHNESS = 2.0, 0.15
# Of the bowl's middle, as a share of its radius: flat.
_FLAT = 0.04
_UPRIGHT = float(np.cos(np.deg2rad(20)))


def bumpy(model: mujoco.MjModel, number: int) -> None:
    """Shapes the model's height field into the bowl with bumps of this number."""
    cells, length = int(model.hfield_nrow[0]), 2 * float(model.hfield_size[0, 0])
    bumps = int(length / _BUMP)
    heights = np.random.default_rng(number).uniform(_SMOOTHNESS, 1, (bumps, bumps))
    model.hfield_data[: cells**2] = bowl(cells, heights).ravel()


def bowl(cells: int, bumps: Float64[np.ndarray, "bump bump"]) -> Float64[np.ndarray, "{cells} {cells}"]:
    """Heights in [0, 1], about: a ring-shaped wall around a flat middle, times smoothed bumps. Source: `Escape`."""
    line = np.linspace(-1, 1, cells)
    radius = np.clip(np.hypot(line[:, None], line), _FLAT, 1)
    wall = 0.5 - np.cos(2 * np.pi * radius) / 2
    return np.asarray(wall * ndimage.zoom(bumps, cells / len(bumps)))


class CompatQuadrupedEscape(CompatTask):
    """dm_control's quadruped-escape: walk out of a bowl with bumps, other ones in every episode.

    Success: a reward of 0.8 for one second.
    """

    scene = Scene(
        "compat quadruped escape",
        lambda: quadruped.spec(_FLOOR_HALF_LENGTH, terrain=True),
        quadruped.SUBSTEPS,
        quadruped.CAMERA,
        SKY,
        remodel=bumpy,
    )
    hold_steps = quadruped.STEPS_PER_SECOND

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """The distance from the middle at which the reward is full, metres."""
        return np.array([self.scene.model.hfield_size[0, 0]])

    def start(self, task: Task, rng: np.random.Generator) -> StartState:
        """In the middle, in any orientation, just above the ground, at rest. Source: dm_control's `Escape`."""
        number = int(rng.integers(1, 2**32))
        orientation = rng.standard_normal(4)
        start = lifted(self.scene.remodelled(self.scene.model, number), orientation / np.linalg.norm(orientation))
        return StartState(start.joint_positions, start.joint_velocities, start.mocap_positions, number)

    def reward(self, physics: Physics, goal: Float[Tensor, "world goal"]) -> Float[Tensor, " world"]:
        """Uprightness times the way from the middle. Source: dm_control's `Escape.get_reward`."""
        workspace = torch.from_numpy(physics.model.site("workspace").pos.copy())
        place = physics.body_position("torso") + physics.body_rotation("torso") @ workspace
        away, far = torch.linalg.vector_norm(place, dim=-1), goal[:, 0]
        escaped = tolerance(away, (far, float("inf")), far, sigmoid="linear", value_at_margin=0.0)
        tilt, bounds = physics.body_rotation("torso")[:, 2, 2], (_UPRIGHT, float("inf"))
        return tolerance(tilt, bounds, 1 + _UPRIGHT, sigmoid="linear", value_at_margin=0.0) * escaped
