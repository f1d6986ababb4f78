"""Move the quadruped at a commanded speed."""

import mujoco
import numpy as np
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from envs.families import quadruped
from envs.families.family import TaskStart
from envs.families.scenery import SKY, light_from_the_camera
from envs.families.speed import SpeedFamily, speed_description, speed_parameters
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task

FASTEST = 5.0

# The forward direction is hard to see: at 64x64 the pupils that dm_control draws are one pixel
# each. The front legs therefore have their own colour here.
_FRONT = tuple(
    f"{part}_front_{side}"
    for part in ("thigh", "shin", "foot", "toe")
    for side in ("left", "right")
)
_FRONT_COLOUR = (0.95, 0.95, 0.9, 1.0)


def _build() -> mujoco.MjSpec:
    # It may run off in any direction: 100 m is the top speed for an episode of 20 s.
    spec = quadruped.spec(floor_half_length=100.0)
    light_from_the_camera(spec)
    for name in _FRONT:
        spec.geom(name).material = ""
        spec.geom(name).rgba = _FRONT_COLOUR
    return spec


class QuadrupedSpeed(SpeedFamily):
    """Walk or run at the task's speed: see `SpeedFamily`.

    The initial state is that of dm_control's quadruped, and so is the posture:
    (1 + cosine of the torso's tilt) / 2.

    Tasks differ by as little as 0.25 m/s: the band of full reward is narrow enough that those of
    two tasks do not overlap.
    """

    scene = Scene("quadruped_speed", _build, quadruped.SUBSTEPS, quadruped.CAMERA, SKY)
    parameters = speed_parameters(FASTEST)
    hold_steps = quadruped.STEPS_PER_SECOND
    fastest = FASTEST
    half_width = 0.1
    state_size = quadruped.STATE_SIZE
    description = speed_description(
        quadruped.BODY,
        f"{quadruped.IMAGE} The front legs are white, so that forwards can be seen.",
        quadruped.POSTURE,
        quadruped.SYMBOLS,
        quadruped.START,
        quadruped.STATE,
        half_width,
        fastest,
    )

    @override
    def speed(self, physics: Physics) -> Float[Tensor, " world"]:
        return quadruped.speed(physics)

    @override
    def posture(self, physics: Physics) -> Float[Tensor, " world"]:
        return quadruped.posture(physics)

    @override
    def state(self, physics: Physics) -> Float[Tensor, "world state"]:
        return quadruped.state(physics)

    @override
    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        return quadruped.start(self.scene, rng)
