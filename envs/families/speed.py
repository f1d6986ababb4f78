"""Reward moving at a commanded speed, forwards or backwards.

Too fast is as wrong as too slow. dm_control's own speed rewards are one-sided: running at full
speed is best for every lower target, so that they do not test whether an agent uses its task input.
They are in `envs.families.compat`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor
from typing_extensions import override

from envs.families.description import FamilyDescription
from envs.families.family import Family, Number, Parameter, TaskStart, number
from envs.families.success import close_to_best
from envs.rewards import tolerance
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task


def two_sided(
    speed: Float[Tensor, " world"], target: Float[Tensor, " world"], half_width: float
) -> Float[Tensor, " world"]:
    """Return 1 within `half_width` of the target speed, falling linearly to 0 outside, all in m/s.

    The value is 0 at max(|target|, 1) m/s beyond.
    """
    bounds = (target - half_width, target + half_width)
    return tolerance(
        speed, bounds, target.abs().clamp(min=1), sigmoid="linear", value_at_margin=0.0
    )


def speed_parameters(fastest: float) -> Mapping[str, Parameter]:
    """Return the one parameter of a speed task, in m/s."""
    return MappingProxyType({"speed": Number(-fastest, fastest)})


def speed_description(
    body: str,
    image: str,
    posture: str,
    symbols: str,
    start: str,
    state: str,
    half_width: float,
    fastest: float,
) -> FamilyDescription:
    """Return what pages of suites say of a body's speed tasks.

    Args:
        body: see `FamilyDescription`.
        image: see there.
        posture: formula of the posture p in [0, 1], beginning with "p ="; empty where it is 1.
        symbols: what its letters stand for.
        start: see `FamilyDescription`.
        state: see there.
        half_width: see `SpeedFamily`.
        fastest: see there.
    """
    share = (
        rf"\operatorname{{clip}}\left(1 - \frac{{|v - w| - {half_width:g}}}{{\max(|w|,\, 1)}},"
        r"\; 0,\; 1\right)"
    )
    formula = rf"r = p\,{share}, \qquad {posture}" if posture else f"r = {share}"
    return FamilyDescription(
        body=body,
        goal="Move at the task's speed, forwards or backwards; faster is as wrong as slower.",
        image=image,
        task_vector=f"The speed in m/s, over {fastest:g}.",
        rewards={"": formula},
        symbols=f"$v$ is the speed in the body's forward direction and $w$ that of the task, in "
        f"m/s. {symbols}".strip(),
        success="A reward of at least 0.8 in every control step of one second.",
        start=start,
        state=state,
        units={"speed": "m/s"},
    )


class SpeedFamily(Family, ABC):
    """Move at the task's speed.

    Task vector: speed / `fastest`. Reward per control step, with the speed v, the task's speed w
    and d = `half_width`:

        posture * clip(1 - (|v - w| - d) / max(|w|, 1), 0, 1),

    where the body's posture is in [0, 1]. Success: a reward of at least 0.8 in every control step
    of one second (`hold_steps`).

    Attributes:
        fastest: the highest speed of a task, m/s, forwards or backwards.
        half_width: distance from the target speed up to which the reward is full, m/s.
    """

    scene: Scene
    parameters: Mapping[str, Parameter]
    hold_steps: int
    fastest: float
    half_width: float
    description: FamilyDescription
    task_size = 1

    @abstractmethod
    def speed(self, physics: Physics) -> Float[Tensor, " world"]:
        """Return the speed in the body's forward direction, m/s."""

    @abstractmethod
    def posture(self, physics: Physics) -> Float[Tensor, " world"] | float:
        """Return how good the body's posture is, in [0, 1]."""

    @abstractmethod
    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        """Draw the initial state of an episode."""

    @override
    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        return np.array([number(task, "speed") / self.fastest], np.float32)

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Return the speed in m/s."""
        return np.array([number(task, "speed")])

    @override
    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        return self.posture(physics) * two_sided(self.speed(physics), goal[:, 0], self.half_width)

    @override
    def holding(
        self, physics: Physics, goal: Float[Tensor, "world goal"], reward: Float[Tensor, " world"]
    ) -> Bool[Tensor, " world"]:
        return close_to_best(reward)
