"""What every task family answers: its scene, its parameters, its start states, its reward and its
success.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor

from envs.simulation.physics import Physics, Scene
from envs.tasks import ParameterValue, Task


@dataclass(frozen=True)
class Number:
    """A parameter that is a number within [low, high], or a list of `size` such numbers."""

    low: float
    high: float
    size: int | None = None

    def check(self, value: ParameterValue, what: str) -> None:
        """Raise ValueError unless the value fits."""
        numbers = value if isinstance(value, list) else [value]
        fits = isinstance(value, list) == (self.size is not None) and len(numbers) == (
            self.size or 1
        )
        if not fits or not all(
            isinstance(number, float) and self.low <= number <= self.high for number in numbers
        ):
            kind = "a number" if self.size is None else f"a list of {self.size} numbers"
            raise ValueError(
                f"{what} must be {kind} from {self.low:g} to {self.high:g}, got {value!r}"
            )


@dataclass(frozen=True)
class Choice:
    """A parameter that is one of some words."""

    choices: tuple[str, ...]

    def check(self, value: ParameterValue, what: str) -> None:
        """Raise ValueError unless the value is one of the choices."""
        if value not in self.choices:
            raise ValueError(f"{what} must be one of {', '.join(self.choices)}, got {value!r}")


Parameter = Number | Choice


@dataclass(frozen=True)
class TaskStart:
    """One world's start: joint positions [nq], joint velocities [nv], mocap bodies' positions
    [mocap body, 3].

    model_seed: what `Scene.remodel` changes the model by for this episode, below 2**53; 0 leaves it
        alone.
    """

    joint_positions: Float64[np.ndarray, " nq"]
    joint_velocities: Float64[np.ndarray, " nv"]
    mocap_positions: Float64[np.ndarray, "mocap 3"]
    model_seed: int = 0


class Family(Protocol):
    """Tasks that differ in numbers only, in one scene.

    A task's numbers reach the reward as its *goal*, one float64 row a world, so that the worlds of
    one batch can follow different tasks.

    Attributes:
        scene: model, camera and control rate.
        parameters: the parameters a task must give.
        task_size: length of the task vector.
        hold_steps: consecutive control steps for which `holding` must be true to make a success.
    """

    scene: Scene
    parameters: Mapping[str, Parameter]
    task_size: int
    hold_steps: int

    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        """What the agent is told about the task, scaled to about [-1, 1]."""

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """The numbers that `reward` and `holding` need, in their own units."""

    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        """Draw the state in which an episode starts."""

    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        """Reward in [0, 1] of the control step that led to the present state."""

    def holding(
        self, physics: Physics, goal: Float[Tensor, "world goal"], reward: Float[Tensor, " world"]
    ) -> Bool[Tensor, " world"]:
        """Whether the present state, with this `reward`, makes a success when held for
        `hold_steps`.
        """


class Checkable(Protocol):
    """A parameter that knows which values it may have."""

    def check(self, value: ParameterValue, what: str) -> None:
        """Raise ValueError unless the value fits."""


class TaskFamily(Protocol):
    """What a suite knows of a family, wherever its tasks are simulated. See `Family` and
    `ExternalFamily`.
    """

    @property
    def parameters(self) -> Mapping[str, Checkable]:
        """The parameters a task must give."""

    @property
    def task_size(self) -> int:
        """Length of the task vector."""

    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        """What the agent is told about the task, scaled to about [-1, 1]."""


def check_parameters(family: TaskFamily, task: Task) -> None:
    """Raise ValueError naming the parameter that is unknown, missing or does not fit, and what
    would be valid.
    """
    where, valid = f"task {task.name!r} of family {task.family!r}", ", ".join(family.parameters)
    for key in task.parameters:
        if key not in family.parameters:
            raise ValueError(f"{where}: unknown parameter {key!r}; valid are {valid}")
    for key, parameter in family.parameters.items():
        if key not in task.parameters:
            raise ValueError(f"{where}: parameter {key!r} is missing; needed are {valid}")
        parameter.check(task.parameters[key], f"{where}: parameter {key!r}")


def number(task: Task, key: str) -> float:
    """A parameter that `check_parameters` has found to be a number."""
    value = task.parameters[key]
    assert isinstance(value, float)
    return value


def numbers(task: Task, key: str) -> list[float]:
    """A parameter that `check_parameters` has found to be a list of numbers."""
    value = task.parameters[key]
    assert isinstance(value, list)
    return value
