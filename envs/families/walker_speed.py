"""The planar biped at a commanded speed: too fast is as wrong as too slow, and backwards is a task like any other."""

from collections.abc import Mapping
from types import MappingProxyType

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor

from envs.families import walker
from envs.families.family import Number, Parameter, StartState, number
from envs.families.suite_models import suite_model
from envs.physics import Physics, Scene
from envs.rewards import tolerance
from envs.tasks import Task

FASTEST = 8.0
SPEED_TOLERANCE = 0.25


def _build() -> mujoco.MjModel:
    spec = suite_model("walker")
    # dm_control's floor reaches from -2 m to 498 m: too short for walking backwards.
    floor = spec.geom("floor")
    floor.size = [500.0, *floor.size[1:]]
    floor.pos = [0.0, 0.0, 0.0]
    # The headlight alone: a second light would cost a sixth of every picture.
    for light in list(spec.lights):
        spec.delete(light)
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = [0.7] * 3, [0.7] * 3
    return spec.compile()


class WalkerSpeed:
    """Walk at the task's speed.

    Task vector: speed / 8 m/s. Reward per control step: dm_control's posture term times 1 where the centre of mass
    moves within `SPEED_TOLERANCE` of the speed, falling linearly to 0 at max(|speed|, 1) m/s beyond. Success: a reward
    of at least 0.8 in every control step of one second. Start: as dm_control's walker. The floor is dm_control's,
    twice as long, for every speed.
    """

    scene = Scene("walker_speed", _build, walker.SUBSTEPS, walker.CAMERA, walker.SKY)
    parameters: Mapping[str, Parameter] = MappingProxyType({"speed": Number(-FASTEST, FASTEST)})
    task_size = 1
    hold_steps = walker.SUCCESS_STEPS

    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        """See `Family.task_vector`."""
        return np.array([number(task, "speed") / FASTEST], np.float32)

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Speed in m/s."""
        return np.array([number(task, "speed")])

    def start(self, task: Task, rng: np.random.Generator) -> StartState:
        """See `Family.start`."""
        return walker.start(self.scene, rng)

    def reward(self, physics: Physics, goal: Float[Tensor, "world goal"]) -> Float[Tensor, " world"]:
        """See `Family.reward`."""
        target = goal[:, 0]
        bounds = (target - SPEED_TOLERANCE, target + SPEED_TOLERANCE)
        margin = target.abs().clamp(min=1)
        moving = tolerance(walker.speed(physics), bounds, margin, sigmoid="linear", value_at_margin=0.0)
        return walker.posture(physics) * moving

    def holding(
        self, physics: Physics, goal: Float[Tensor, "world goal"], reward: Float[Tensor, " world"]
    ) -> Bool[Tensor, " world"]:
        """See `Family.holding`."""
        return reward >= walker.SUCCESS_REWARD
