"""Define a task family: its scene, parameters, initial states, reward and success."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor

from envs.families.description import FamilyDescription
from envs.simulation.physics import Physics, Scene
from envs.tasks import ParameterValue, Task


@dataclass(frozen=True)
class Number:
    """Declare a parameter that is a number in [low, high], or a list of `size` such numbers."""

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
    """Declare a parameter that is one of some words."""

    choices: tuple[str, ...]

    def check(self, value: ParameterValue, what: str) -> None:
        """Raise ValueError unless the value is one of the choices."""
        if value not in self.choices:
            raise ValueError(f"{what} must be one of {', '.join(self.choices)}, got {value!r}")


Parameter = Number | Choice


@dataclass(frozen=True)
class EpisodeTask:
    """Hold what a task says in one episode, where its episodes differ.

    Attributes:
        goal: [goal], in place of the task's (`Family.goal`).
        task_vector: [task_size], in place of the task's.
        layout: name of the episode's layout, for the tables of results.
        path_length: cells from the start to the goal, for the tables of results.
    """

    goal: Float64[np.ndarray, " goal"]
    task_vector: Float32[np.ndarray, " task_size"]
    layout: str
    path_length: int


@dataclass(frozen=True)
class TaskStart:
    """Hold the initial state of one world's episode.

    Attributes:
        joint_positions: [nq], metres and radians.
        joint_velocities: [nv].
        mocap_positions: [mocap body, 3], metres.
        model_seed: seed for `Scene.remodel` in this episode, below 2**53; 0 leaves the model
            unchanged.
        episode: what the task says in this episode; None: the same in all of them.
    """

    joint_positions: Float64[np.ndarray, " nq"]
    joint_velocities: Float64[np.ndarray, " nv"]
    mocap_positions: Float64[np.ndarray, "mocap 3"]
    model_seed: int = 0
    episode: EpisodeTask | None = None


class Family(Protocol):
    """Define tasks in one scene that differ only in numbers.

    A task's numbers reach the reward as its *goal*, one float64 row per world, so that the worlds
    of one batch can have different tasks.

    Attributes:
        scene: model, camera and control rate.
        parameters: the parameters a task must give.
        task_size: length of the task vector.
        hold_steps: consecutive control steps for which `holding` must be true to make a success.
        ends_with_success: whether a success ends the episode. Worlds on a GPU are then asked for it
            once an agent step.
        state_size: numbers of `state`; 0, the default, for a family that can only be seen.
        description: what pages of suites say; without one they say that it is missing.
    """

    scene: Scene
    parameters: Mapping[str, Parameter]
    task_size: int
    hold_steps: int
    state_size: int = 0
    ends_with_success: bool = False
    description: FamilyDescription | None = None

    def for_tasks(self, tasks: Sequence[Task]) -> "Family":
        """Return the family with a scene for these tasks alone, which may be a simpler one."""
        return self

    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        """Return the agent's task input, scaled to about [-1, 1]."""

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Return the numbers that `reward` and `holding` need, in their own units."""

    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        """Draw the initial state of an episode."""

    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        """Return the reward in [0, 1] of the control step that led to the present state."""

    def holding(
        self, physics: Physics, goal: Float[Tensor, "world goal"], reward: Float[Tensor, " world"]
    ) -> Bool[Tensor, " world"]:
        """Return whether the present state, held for `hold_steps`, is a success."""

    def state(self, physics: Physics) -> Float[Tensor, "world state"]:
        """Return what `observation=state` observes: the body's proprioception.

        It has no global place where the task does not depend on it, as in dm_control.
        """
        return torch.zeros(physics.num_worlds, self.state_size, dtype=torch.float64)


class Checkable(Protocol):
    """Check the values of a parameter."""

    def check(self, value: ParameterValue, what: str) -> None:
        """Raise ValueError unless the value fits."""


class TaskFamily(Protocol):
    """Define the interface that suites need: that of `Family` and `ExternalFamily`."""

    @property
    def parameters(self) -> Mapping[str, Checkable]:
        """Return the parameters that a task must give."""

    @property
    def task_size(self) -> int:
        """Return the length of the task vector."""

    @property
    def description(self) -> FamilyDescription | None:
        """Return what pages of suites say; None where nobody has written it."""

    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        """Return the agent's task input, scaled to about [-1, 1]."""


def check_parameters(family: TaskFamily, task: Task) -> None:
    """Check that a task has all parameters of its family, and valid values for them.

    Raises:
        ValueError: a parameter is unknown, missing or invalid; the message names the valid choices.
    """
    where = f"task {task.name!r} of family {task.family!r}"
    valid = ", ".join(family.parameters)
    for key in task.parameters:
        if key not in family.parameters:
            raise ValueError(f"{where}: unknown parameter {key!r}; valid are {valid}")
    for key, parameter in family.parameters.items():
        if key not in task.parameters:
            raise ValueError(f"{where}: parameter {key!r} is missing; needed are {valid}")
        parameter.check(task.parameters[key], f"{where}: parameter {key!r}")


def number(task: Task, key: str) -> float:
    """Return a parameter that `check_parameters` has found to be a number."""
    value = task.parameters[key]
    assert isinstance(value, float)
    return value


def numbers(task: Task, key: str) -> list[float]:
    """Return a parameter that `check_parameters` has found to be a list of numbers."""
    value = task.parameters[key]
    assert isinstance(value, list)
    return value
