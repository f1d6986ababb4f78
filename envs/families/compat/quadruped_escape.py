"""Provide dm_control's quadruped-escape."""

from dataclasses import replace
from functools import cached_property

import mujoco
import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy import ndimage
from torch import Tensor

from envs.families import quadruped
from envs.families.compat.tasks import CompatTask, compat_description
from envs.families.contacts import lifted
from envs.families.description import LINEAR
from envs.families.family import TaskStart
from envs.families.scenery import SKY
from envs.rewards import tolerance
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task

_FLOOR_HALF_LENGTH = 40.0
# Length of a bump in metres, and the share of the bowl's height that bumps leave at least.
_BUMP = 2.0
_SMOOTHNESS = 0.15
# Radius of the bowl's flat centre, as a share of the bowl's.
_FLAT = 0.04
_UPRIGHT = float(np.cos(np.deg2rad(20)))


def bumpy(model: mujoco.MjModel, seed: int) -> None:
    """Shape the model's height field into the bowl with bumps drawn with this seed."""
    cells = int(model.hfield_nrow[0])
    length = 2 * float(model.hfield_size[0, 0])
    bumps = int(length / _BUMP)
    heights = np.random.default_rng(seed).uniform(_SMOOTHNESS, 1, (bumps, bumps))
    model.hfield_data[: cells**2] = bowl(cells, heights).ravel()


def bowl(
    cells: int, bumps: Float64[np.ndarray, "bump bump"]
) -> Float64[np.ndarray, "{cells} {cells}"]:
    """Return heights of a ring-shaped wall around a flat centre, times smoothed bumps.

    Heights are shares of the height field's own, from about 0 to 1.3, because splines overshoot.

    Source: `Escape` of dm_control's quadruped.
    """
    line = np.linspace(-1, 1, cells)
    radius = np.clip(np.hypot(line[:, None], line), _FLAT, 1)
    wall = 0.5 - np.cos(2 * np.pi * radius) / 2
    return np.asarray(wall * ndimage.zoom(bumps, cells / len(bumps)))


class CompatQuadrupedEscape(CompatTask):
    """Provide dm_control's quadruped-escape: walk out of a bowl with new bumps in every episode.

    The ground rises from the centre to a ring of up to 5 m at half of the bowl's radius of 30 m and
    falls again towards its rim; this height is multiplied by bumps of 0.15 to 1 every 2 m. Initial
    state: at the centre, in any orientation, just above the ground, at rest. Reward: the distance
    from the centre over 30 m, at most 1, times uprightness, which is full within 20 degrees of
    upright and falls linearly to 0 on the back. Success: a reward of 0.8 for one second.
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
    description = compat_description(
        quadruped.BODY,
        "Walk out of a bowl whose bumps are new in every episode.",
        quadruped.IMAGE,
        {
            "quadruped-escape": r"r = L_{1 + \cos 20^\circ}(\cos\theta \ge \cos 20^\circ) \cdot "
            r"L_{30}(d \ge 30)"
        },
        rf"$d$ is the distance from the bowl's centre in metres. {quadruped.SYMBOLS} {LINEAR}",
        "At the centre, in any orientation, just above the ground, at rest.",
    )

    @cached_property
    def _workspace(self) -> Float64[np.ndarray, " 3"]:
        """Return the point on the torso whose distance counts, in the torso's frame, metres."""
        return np.array(self.scene.model.site("workspace").pos)

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Return the distance from the centre at which the reward is full, metres."""
        return np.array([self.scene.model.hfield_size[0, 0]])

    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        """Draw bumps and an orientation; source: dm_control's `Escape`."""
        seed = int(rng.integers(1, 2**32))
        orientation = rng.standard_normal(4)
        start = lifted(
            self.scene.remodelled(self.scene.model, seed), orientation / np.linalg.norm(orientation)
        )
        return replace(start, model_seed=seed)

    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        """Reward uprightness times the distance from the centre.

        Source: dm_control's `Escape.get_reward`.
        """
        torso = physics.body_position("torso")
        place = torso + physics.body_rotation("torso") @ torso.new_tensor(self._workspace)
        distance = torch.linalg.vector_norm(place, dim=-1)
        far = goal[:, 0]
        escaped = tolerance(
            distance, (far, float("inf")), far, sigmoid="linear", value_at_margin=0.0
        )
        tilt = physics.body_rotation("torso")[:, 2, 2]
        bounds = (_UPRIGHT, float("inf"))
        return (
            tolerance(tilt, bounds, 1 + _UPRIGHT, sigmoid="linear", value_at_margin=0.0) * escaped
        )
