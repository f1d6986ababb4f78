"""Tasks whose simulation belongs to another library."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType, ModuleType

import numpy as np
from jaxtyping import Float32

from envs.external.env import ExternalEnv
from envs.families.family import Choice, Parameter
from envs.tasks import ParameterValue, Task

EXTRA = "bridge"
RENDER = Choice(("ray", "opengl"))
"""How a MuJoCo-based environment is drawn: by our ray tracer, or by its own renderer."""


@dataclass(frozen=True)
class Text:
    """A parameter that is any text which `read` takes without a ValueError."""

    read: Callable[[str], object]

    def check(self, value: ParameterValue, what: str) -> None:
        """Raise ValueError unless the value fits."""
        if not isinstance(value, str):
            raise ValueError(f"{what} must be text, got {value!r}")
        try:
            self.read(value)
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from error


WORKER_BYTES = 300 * 2**20
"""What a worker process takes, libraries and ray tracer included, about; beside its worlds."""


class ExternalFamily(ABC):
    """A library's tasks, played in worker processes (`ExternalVectorEnv`).

    Attributes:
        parameters: the parameters a task must give.
        task_size: length of the task vector.
        world_bytes: what one world takes in memory, about (Jaco and Fetch 4 MiB, robotics' mazes
            13).
        max_worlds: worlds that an evaluation plays side by side, at most.
    """

    parameters: Mapping[str, Parameter | Text]
    task_size: int
    world_bytes: int = 16 * 2**20
    max_worlds: int = 64

    @abstractmethod
    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        """What the agent is told about the task, scaled to about [-1, 1]."""

    @abstractmethod
    def action_size(self, task: Task) -> int:
        """Numbers of an action. Raises ValueError as `check` does, where only the library knows."""

    @abstractmethod
    def check(self, task: Task) -> None:
        """Raise ValueError where the task cannot be played here: a package is missing, or does not
        know the task.
        """

    @abstractmethod
    def world(self, task: Task) -> ExternalEnv:
        """The environment; called in a worker process."""


class NamedTasks(ExternalFamily):
    """Tasks that differ in their name only. Task vector: one-hot over all names, held-out ones
    included.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names, self.task_size = names, len(names)
        self.parameters = MappingProxyType({"task": Choice(names), "render": RENDER})

    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        """See `ExternalFamily.task_vector`."""
        return np.array([word(task, "task") == name for name in self.names], np.float32)


def require_package(name: str) -> ModuleType:
    """Import an optional package.

    Raises:
        ValueError: it is not installed; the message names the extra that brings it.
    """
    if find_spec(name) is None:
        raise ValueError(f"the package {name!r} is not installed: pip install 'pixel-hrl[{EXTRA}]'")
    return import_module(name)


def word(task: Task, key: str) -> str:
    """A parameter that `check_parameters` has found to be text."""
    value = task.parameters[key]
    assert isinstance(value, str)
    return value
