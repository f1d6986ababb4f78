"""Provide the model and measurements of dm_control's planar biped to all walker tasks."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from envs.families.description import GAUSSIAN
from envs.families.family import TaskStart
from envs.families.joints import random_joint_positions
from envs.rewards import tolerance
from envs.simulation.physics import Physics, Scene

# dm_control's walker: control timestep of 0.025 s over a physics timestep of 0.0025 s.
SUBSTEPS = 10
STEPS_PER_SECOND = 40
CAMERA = "side"

STATE_SIZE = 24

_STAND_HEIGHT = 1.2

BODY = "a planar walker with 6 motors (dm_control's)"
IMAGE = "A camera at the walker's side moves with it; the floor's pattern shows how fast it is."
POSTURE = rf"p = \tfrac34\, G_{{{_STAND_HEIGHT / 2:g}}}(h \ge {_STAND_HEIGHT:g}) + "
POSTURE += r"\tfrac14 \cdot \tfrac{1 + \cos\theta}{2}"
SYMBOLS = rf"$h$ is the height of the torso in metres and $\theta$ its tilt. {GAUSSIAN}"
START = "Any joint angles and orientation, at rest; the walker falls to the floor first."
STATE = "Orientations of the bodies in the plane, the torso's height, and all velocities."
"""Parts of descriptions; `POSTURE` is the formula of `posture`."""


def speed(physics: Physics) -> Float[Tensor, " world"]:
    """Return the horizontal velocity of the centre of mass, m/s."""
    return physics.sensor("torso_subtreelinvel")[:, 0]


def upright(physics: Physics) -> Float[Tensor, " world"]:
    """Return the cosine of the torso's tilt: 1 upright, -1 upside down."""
    return physics.body_rotation("torso")[:, 2, 2]


def posture(physics: Physics) -> Float[Tensor, " world"]:
    """Return how well the body stands, in [0, 1]: 3/4 torso height, 1/4 uprightness.

    Source: `stand_reward` of dm_control's planar walker.
    """
    height = physics.body_position("torso")[:, 2]
    standing = tolerance(height, (_STAND_HEIGHT, float("inf")), margin=_STAND_HEIGHT / 2)
    return (3 * standing + (1 + upright(physics)) / 2) / 4


def state(physics: Physics) -> Float[Tensor, "world state"]:
    """Return the bodies' orientations in the plane, the torso's height, and velocities.

    Source: `PlanarWalker.get_observation` of dm_control's suite.
    """
    orientations = physics.fields["xmat"][:, 1:, [0, 2]].flatten(1)  # x and z of each body's x axis
    height = physics.body_position("torso")[:, 2:]
    return torch.cat([orientations, height, physics.fields["qvel"]], -1)


def start(scene: Scene, rng: np.random.Generator) -> TaskStart:
    """Draw joint angles and orientation at rest, from which the body falls to the floor.

    Source: dm_control's suite.
    """
    return TaskStart(
        random_joint_positions(scene.model, rng), np.zeros(scene.model.nv), np.zeros((0, 3))
    )
