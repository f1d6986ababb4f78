"""Provide the model and measurements of dm_control's planar cheetah to all cheetah tasks."""

import mujoco
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from envs.families.family import TaskStart
from envs.families.suite_models import suite_model
from envs.simulation.physics import Physics, Scene

# dm_control's cheetah is controlled at every physics step, of 0.01 s.
SUBSTEPS = 1
STEPS_PER_SECOND = 100
CAMERA = "side"

STATE_SIZE = 17

BODY = "a planar cheetah with 6 motors (dm_control's)"
IMAGE = "A camera at the cheetah's side moves with it; the floor's pattern shows how fast it is."
START = "Any joint angles, after two seconds in which the body drops and settles."
STATE = "Joint angles, height and tilt of the torso, and all velocities."
"""Parts of descriptions."""

_MASS = 14.0
_SETTLING_STEPS = 200


def spec() -> mujoco.MjSpec:
    """Return dm_control's cheetah, whose compiled model `set_mass` must finish."""
    loaded = suite_model("cheetah")
    # This option of the compiler is deprecated and warns at every use; `set_mass` replaces it.
    loaded.compiler.settotalmass = -1
    return loaded


def set_mass(model: mujoco.MjModel) -> None:
    """Scale the model to the total mass that dm_control's file asks for."""
    mujoco.mj_setTotalmass(model, _MASS)
    mujoco.mj_setConst(model, mujoco.MjData(model))


def speed(physics: Physics) -> Float[Tensor, " world"]:
    """Return the horizontal velocity of the centre of mass, m/s."""
    return physics.sensor("torso_subtreelinvel")[:, 0]


def state(physics: Physics) -> Float[Tensor, "world state"]:
    """Return joint positions but the horizontal one, and velocities.

    Source: `Cheetah.get_observation` of dm_control's suite.
    """
    return torch.cat([physics.fields["qpos"][:, 1:], physics.fields["qvel"]], -1)


def start(scene: Scene, rng: np.random.Generator) -> TaskStart:
    """Draw joint angles, then let the body drop and settle for two seconds without control.

    Source: `Cheetah.initialize_episode` of dm_control's suite.
    """
    model = scene.model
    limited = model.jnt_limited.astype(bool)
    joint_positions = np.array(model.qpos0, np.float64)
    joint_positions[limited] = rng.uniform(*model.jnt_range[limited].T)
    return settled(model, joint_positions)


def settled(model: mujoco.MjModel, joint_positions: Float[np.ndarray, " nq"]) -> TaskStart:
    """Return the state two seconds after a start at these joint positions, metres and radians."""
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    data.qpos[:] = joint_positions
    # dm_control first finishes the step that the model's initial state began.
    mujoco.mj_step2(model, data)
    mujoco.mj_step(model, data, _SETTLING_STEPS - 1)
    return TaskStart(data.qpos.copy(), data.qvel.copy(), np.zeros((0, 3)))
