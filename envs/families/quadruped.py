"""Provide the model and measurements of dm_control's quadruped to all quadruped tasks."""

from typing import Any

import mujoco
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from envs.families.contacts import lifted
from envs.families.family import TaskStart
from envs.families.suite_models import suite_model
from envs.simulation.physics import Physics, Scene

# dm_control's quadruped: control timestep of 0.02 s over a physics timestep of 0.005 s.
SUBSTEPS = 4
STEPS_PER_SECOND = 50
# Published images are of the suite's third camera, which shows the body from its left.
CAMERA = "y"

STATE_SIZE = 78

BODY = "a quadruped with 12 motors (dm_control's)"
IMAGE = "A camera at the quadruped's left moves with it."
POSTURE = r"p = \tfrac{1 + \cos\theta}{2}"
SYMBOLS = r"$\theta$ is the torso's tilt: 0 upright, half a turn on its back."
START = "Any orientation, just above the floor, at rest."
STATE = (
    "Joint angles and velocities, actuators, the torso's velocity and tilt, and the readings of "
    "inertial and force sensors."
)
"""Parts of descriptions; `POSTURE` is the formula of `posture`."""

_SENSORS = {
    "imu": (mujoco.mjtSensor.mjSENS_GYRO, mujoco.mjtSensor.mjSENS_ACCELEROMETER),
    "force_torque": (mujoco.mjtSensor.mjSENS_FORCE, mujoco.mjtSensor.mjSENS_TORQUE),
}
_PUPILS = ("pupil_r", "pupil_l")
_WALLS = ("wall_px", "wall_py", "wall_nx", "wall_ny")


def spec(
    floor_half_length: float | None, ball: bool = False, terrain: bool = False
) -> mujoco.MjSpec:
    """Return dm_control's quadruped, without range finders and other tasks' surroundings.

    Source: `make_model` of dm_control's quadruped.

    Args:
        floor_half_length: how far the floor reaches in every direction, metres; None as in the
            file.
        ball: keep the ball, its target and the walls.
        terrain: keep the height field, which is flat.
    """
    changed = suite_model("quadruped")
    parts: list[Any] = []
    if not terrain:
        parts += [changed.geom("terrain"), *changed.hfields]
    if not ball:
        parts += [
            *(changed.geom(name) for name in _WALLS),
            changed.body("ball"),
            changed.site("target"),
        ]
    parts += [
        sensor for sensor in changed.sensors if sensor.type == mujoco.mjtSensor.mjSENS_RANGEFINDER
    ]
    for part in parts:
        changed.delete(part)
    if floor_half_length is not None:
        changed.geom("floor").size = [floor_half_length, floor_half_length, 0.5]
    _draw_pupils(changed)
    return changed


def _draw_pupils(changed: mujoco.MjSpec) -> None:
    """Add spheres at the pupils, which are MuJoCo sites and not drawn by the ray tracer.

    They have neither mass nor contacts.
    """
    for name in _PUPILS:
        site = changed.site(name)
        changed.body("torso").add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            size=site.size,
            pos=site.pos,
            material=site.material,
            mass=0,
            contype=0,
            conaffinity=0,
        )


def speed(physics: Physics) -> Float[Tensor, " world"]:
    """Return the velocity of the torso in its own forward direction, m/s."""
    return physics.sensor("velocimeter")[:, 0]


def posture(physics: Physics) -> Float[Tensor, " world"]:
    """Return how upright the torso is, in [0, 1]: 1 upright, 0 on its back.

    Source: `_upright_reward` of dm_control's quadruped, without a deviation angle.
    """
    return ((1 + physics.body_rotation("torso")[:, 2, 2]) / 2).clamp(0, 1)


def state(physics: Physics) -> Float[Tensor, "world state"]:
    """Return hinges, actuators, the torso's velocity and uprightness, and force sensors.

    Source: `_common_observations` of dm_control's quadruped.
    """
    model = physics.model
    hinges = np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE)
    parts = [
        physics.fields["qpos"][:, model.jnt_qposadr[hinges]],
        physics.fields["qvel"][:, model.jnt_dofadr[hinges]],
        physics.fields["act"],
        physics.sensor("velocimeter"),
        physics.body_rotation("torso")[:, 2, 2:],
        _readings(physics, "imu"),
        torch.arcsinh(_readings(physics, "force_torque")),
    ]
    return torch.cat(parts, -1)


def _readings(physics: Physics, kind: str) -> Float[Tensor, "world reading"]:
    """Return the readings of all sensors of a kind, in the model's order."""
    model = physics.model
    chosen = np.flatnonzero(np.isin(model.sensor_type, [int(each) for each in _SENSORS[kind]]))
    return torch.cat([physics.sensor(model.sensor(int(each)).name) for each in chosen], -1)


def start(scene: Scene, rng: np.random.Generator) -> TaskStart:
    """Draw any orientation, just above the floor, at rest.

    Source: `Move.initialize_episode` of dm_control's quadruped.
    """
    orientation = rng.standard_normal(4)
    return lifted(scene.model, orientation / np.linalg.norm(orientation))
