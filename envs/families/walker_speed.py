"""Move the planar biped at a commanded speed."""

import mujoco
import numpy as np
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from envs.families import walker
from envs.families.family import TaskStart
from envs.families.scenery import SKY, lengthen_floor, light_from_the_camera
from envs.families.speed import SpeedFamily, speed_description, speed_parameters
from envs.families.suite_models import suite_model
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task

FASTEST = 8.0


def _build() -> mujoco.MjSpec:
    spec = suite_model("walker")
    # Twice as long as dm_control's, which reaches from -2 m to 498 m.
    lengthen_floor(spec, "floor", half_length=500.0)
    light_from_the_camera(spec)
    return spec


class WalkerSpeed(SpeedFamily):
    """Walk at the task's speed: see `SpeedFamily`.

    The initial state is that of dm_control's walker, and so is the posture: the sum of 3/4
    `tolerance(height of the torso, (1.2 m, inf), margin=0.6 m)` and 1/4 (1 + cosine of the torso's
    tilt) / 2.
    """

    scene = Scene("walker_speed", _build, walker.SUBSTEPS, walker.CAMERA, SKY)
    parameters = speed_parameters(FASTEST)
    hold_steps = walker.STEPS_PER_SECOND
    fastest = FASTEST
    half_width = 0.25
    state_size = walker.STATE_SIZE
    description = speed_description(
        walker.BODY,
        walker.IMAGE,
        walker.POSTURE,
        walker.SYMBOLS,
        walker.START,
        walker.STATE,
        half_width,
        fastest,
    )

    @override
    def speed(self, physics: Physics) -> Float[Tensor, " world"]:
        return walker.speed(physics)

    @override
    def posture(self, physics: Physics) -> Float[Tensor, " world"]:
        return walker.posture(physics)

    @override
    def state(self, physics: Physics) -> Float[Tensor, "world state"]:
        return walker.state(physics)

    @override
    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        return walker.start(self.scene, rng)
