"""Move the planar cheetah at a commanded speed."""

import mujoco
import numpy as np
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from envs.families import cheetah
from envs.families.family import TaskStart
from envs.families.scenery import SKY, lengthen_floor, light_from_the_camera
from envs.families.speed import SpeedFamily, speed_description, speed_parameters
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task

FASTEST = 10.0


def _build() -> mujoco.MjSpec:
    spec = cheetah.spec()
    # Twice as long as dm_control's, which reaches from -2 m to 198 m.
    lengthen_floor(spec, "ground", half_length=200.0)
    light_from_the_camera(spec)
    return spec


class CheetahSpeed(SpeedFamily):
    """Run at the task's speed, in any posture: see `SpeedFamily`.

    The initial state is that of dm_control's cheetah.
    """

    scene = Scene(
        "cheetah_speed", _build, cheetah.SUBSTEPS, cheetah.CAMERA, SKY, finish=cheetah.set_mass
    )
    parameters = speed_parameters(FASTEST)
    hold_steps = cheetah.STEPS_PER_SECOND
    fastest = FASTEST
    half_width = 0.25
    state_size = cheetah.STATE_SIZE
    description = speed_description(
        cheetah.BODY,
        cheetah.IMAGE,
        "",
        "Any posture will do.",
        cheetah.START,
        cheetah.STATE,
        half_width,
        fastest,
    )

    @override
    def speed(self, physics: Physics) -> Float[Tensor, " world"]:
        return cheetah.speed(physics)

    def posture(self, physics: Physics) -> float:
        """Return 1: any posture will do."""
        return 1.0

    @override
    def state(self, physics: Physics) -> Float[Tensor, "world state"]:
        return cheetah.state(physics)

    @override
    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        return cheetah.start(self.scene, rng)
