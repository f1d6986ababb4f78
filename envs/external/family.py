"""Define the interface of a task family that another library simulates."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType, ModuleType

import numpy as np
from gymnasium.envs.registration import EnvSpec
from jaxtyping import Float32
from typing_extensions import override

from envs.external.env import ExternalEnv
from envs.families.description import FamilyDescription
from envs.families.family import Choice, Parameter
from envs.tasks import ParameterValue, Task

REQUIREMENTS: Mapping[str, str] = MappingProxyType(
    {
        "metaworld": "metaworld==3.0.0",
        "gymnasium_robotics": "gymnasium-robotics==1.4.2",
        "ogbench": "ogbench==1.2.2",
    }
)
"""What to install for a module that an external suite needs; the extra `external` has them all."""

RENDER = Choice(("ray", "opengl"))
"""How a MuJoCo-based environment is drawn: by our ray tracer, or by its own renderer."""

WORKER_BYTES = 300 * 2**20
"""About what a worker process takes, libraries and ray tracer included, beside its environments."""


class UnplayableEnvError(ValueError):
    """Report an environment that cannot be made or played here; the message says why."""


@dataclass(frozen=True)
class Text:
    """Accept any text which `read` takes without a ValueError."""

    read: Callable[[str], object]

    def check(self, value: ParameterValue, what: str) -> None:
        """Raise ValueError unless the value fits."""
        if not isinstance(value, str):
            raise ValueError(f"{what} must be text, got {value!r}")
        try:
            self.read(value)
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from error


class ExternalFamily(ABC):
    """Make environments of a library's tasks, for worker processes (`ExternalVectorEnv`).

    Attributes:
        parameters: the parameters a task must give.
        task_size: length of the task vector.
        env_bytes: about what one environment takes in memory (Jaco and Fetch 4 MiB, robotics'
            mazes 13).
        max_worlds: worlds that an evaluation plays side by side, at most.
        description: what pages of suites say; without one they say that it is missing.
    """

    parameters: Mapping[str, Parameter | Text]
    task_size: int
    env_bytes: int = 16 * 2**20
    max_worlds: int = 64
    description: FamilyDescription | None = None

    @abstractmethod
    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        """Return the task vector that the agent observes, scaled to about [-1, 1]."""

    @abstractmethod
    def action_size(self, task: Task) -> int:
        """Return how many numbers an action has.

        Raises:
            ValueError: as `check` does, where only the library knows.
        """

    def is_discrete(self, task: Task) -> bool:
        """Return whether the environment takes one of several discrete actions.

        Agents then keep the order of an action's numbers beyond [-1, 1]. False by default.
        """
        del task
        return False

    def state_size(self, task: Task) -> int:
        """Return how many numbers `ExternalEnv.state` has; 0, the default, where there is none."""
        del task
        return 0

    def check_pixels(self, task: Task) -> None:
        """Raise ValueError where agents that observe images alone cannot play; never by default."""
        del task

    @abstractmethod
    def check(self, task: Task) -> None:
        """Raise ValueError where the task cannot be played here.

        A package is missing, or it does not know the task.
        """

    def registrations(self, task: Task) -> tuple[EnvSpec, ...]:
        """Return Gymnasium's records that a worker needs before it makes the environment.

        A worker does not run the user's own program, which may have registered them.
        """
        del task
        return ()

    @abstractmethod
    def make_env(self, task: Task) -> ExternalEnv:
        """Make the environment; called in a worker process."""


OWN_START = "As the library draws it, from the episode's seed."
"""A sentence of descriptions."""


class NamedTasks(ExternalFamily):
    """Tell tasks apart by their names only.

    Task vector: one-hot over all names, held-out ones included.

    Args:
        names: of the tasks.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.task_size = len(names)
        self.parameters = MappingProxyType({"task": Choice(names), "render": RENDER})

    @override
    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        return np.array([text(task, "task") == name for name in self.names], np.float32)


def require_package(name: str) -> ModuleType:
    """Import an optional package.

    Raises:
        ValueError: it is not installed; the message has the command that installs it.
    """
    if find_spec(name) is None:
        raise ValueError(f"the package {name!r} is not installed: {install_command(name)}")
    return import_module(name)


def install_command(*names: str) -> str:
    """Return the command that installs these optional packages."""
    return f"pip install {' '.join(REQUIREMENTS[name] for name in names)}"


def text(task: Task, key: str) -> str:
    """Return a parameter that `check_parameters` has found to be text."""
    value = task.parameters[key]
    assert isinstance(value, str)
    return value
