"""Moving at a commanded speed: too fast is as wrong as too slow, and backwards is a task like any
other.

dm_control's own speed rewards are one-sided: running flat out is best for every lower target, so
they do not test whether an agent heeds its task. They are in `envs.families.compat`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor

from envs.families.family import Number, Parameter, TaskStart, number
from envs.families.success import close_to_best
from envs.rewards import tolerance
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task


def two_sided(
    speed: Float[Tensor, " world"], target: Float[Tensor, " world"], half_width: float
) -> Float[Tensor, " world"]:
    """1 within `half_width` of the target speed, falling linearly to 0 at max(|target|, 1) m/s beyond; all in m/s."""
    bounds = (target - half_width, target + half_width)
    return tolerance(
        speed, bounds, target.abs().clamp(min=1), sigmoid="linear", value_at_margin=0.0
    )


def speed_parameters(fastest: float) -> Mapping[str, Parameter]:
    """The one parameter of a speed task, in m/s."""
    return MappingProxyType({"speed": Number(-fastest, fastest)})


class SpeedFamily(ABC):
    """Move at the task's speed.

    Task vector: speed / `fastest`. Reward per control step, with the speed v, the task's speed w
    and d = `half_width`:

        posture * clip(1 - (|v - w| - d) / max(|w|, 1), 0, 1),

    the body's posture being in [0, 1]. Success: a reward of at least 0.8 in every control step of
    one second (`hold_steps`).

    Attributes, besides those of `Family`:
        fastest: the largest speed of a task, m/s, forwards or backwards.
        half_width: how far from the target the reward is still full, m/s.
    """

    scene: Scene
    parameters: Mapping[str, Parameter]
    hold_steps: int
    fastest: float
    half_width: float
    task_size = 1

    @abstractmethod
    def speed(self, physics: Physics) -> Float[Tensor, " world"]:
        """Speed in the body's forward direction, m/s."""

    @abstractmethod
    def posture(self, physics: Physics) -> Float[Tensor, " world"] | float:
        """How well the body holds itself, in [0, 1]."""

    @abstractmethod
    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        """See `Family.start`."""

    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        """See `Family.task_vector`."""
        return np.array([number(task, "speed") / self.fastest], np.float32)

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Speed in m/s."""
        return np.array([number(task, "speed")])

    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        """See `Family.reward`."""
        return self.posture(physics) * two_sided(self.speed(physics), goal[:, 0], self.half_width)

    def holding(
        self, physics: Physics, goal: Float[Tensor, "world goal"], reward: Float[Tensor, " world"]
    ) -> Bool[Tensor, " world"]:
        """See `Family.holding`."""
        return close_to_best(reward)
