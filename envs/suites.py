"""Load suites: the tasks to train on and the held-out ones, by kind of generalization.

Suites are data; no task of theirs is drawn at random.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import yaml

from envs.external.families import task_family
from envs.external.family import ExternalFamily
from envs.external.gymnasium_id import PREFIX, suite_of
from envs.families import resolve
from envs.families.family import Family, TaskFamily
from envs.families.mixed import MixedFamily
from envs.resources import config_files
from envs.simulation.physics import Scene
from envs.simulation.variation import variant
from envs.tasks import (
    Task,
    check_name,
    require_count,
    require_keys,
    require_mapping,
    require_number,
)


@dataclass(frozen=True)
class Suite:
    """Store tasks by split, of one family or, where it is mixed, of several bodies.

    Attributes:
        name: of the file in configs/suite; it becomes part of file names.
        action_repeat: control steps in an agent step.
        reference_return: episode return that counts as a score of 1.
        parameter: the task parameter that figures are drawn against.
        splits: tasks by split; "train" is always there.
        mixed: whether its tasks are of several bodies, all of them native.

    Raises:
        ValueError: a value is wrong; the message names its key.
    """

    name: str
    action_repeat: int
    reference_return: float
    parameter: str
    splits: Mapping[str, tuple[Task, ...]]
    mixed: bool = False

    def __post_init__(self) -> None:
        check_name(self.name, "suite name")
        where = f"suite {self.name!r}"
        if not isinstance(self.parameter, str):
            raise ValueError(f"{where}: parameter must be a string, got {self.parameter!r}")
        require_count(self.action_repeat, f"{where}: action_repeat", 1)
        reference = require_number(self.reference_return, f"{where}: reference_return")
        object.__setattr__(self, "reference_return", reference)
        splits = {name: tuple(tasks) for name, tasks in self.splits.items()}
        object.__setattr__(self, "splits", splits)
        _check_splits(where, self.splits)
        if not isinstance(self.mixed, bool):
            raise ValueError(f"{where}: mixed must be true or false, got {self.mixed!r}")
        _check_tasks(where, self.all_tasks, self.action_repeat, self.mixed)
        if self.parameter not in self.family.parameters:
            valid = ", ".join(self.family.parameters)
            raise ValueError(
                f"{where}: parameter {self.parameter!r} is none of its family's; valid are {valid}"
            )

    @property
    def all_tasks(self) -> list[Task]:
        """Return the tasks of all splits."""
        return [task for split in self.splits.values() for task in split]

    @property
    def family(self) -> TaskFamily:
        """Return the family of all its tasks."""
        if self.mixed:
            return MixedFamily(self._bodies, resolve)
        return task_family(self.splits["train"][0])

    def scenes(self) -> list[Scene]:
        """Return the scenes of its bodies; none of an external suite."""
        if isinstance(self.family, ExternalFamily):
            return []
        return [body.scene for body in self._bodies]

    @property
    def max_worlds(self) -> int | None:
        """Return how many worlds an evaluation plays side by side, at most; None: no limit."""
        return self.family.max_worlds if isinstance(self.family, ExternalFamily) else None

    @property
    def _bodies(self) -> list[Family]:
        """Return the families of its tasks, in the order of their first tasks."""
        return list(dict.fromkeys(resolve(task) for task in self.all_tasks))

    @property
    def task_size(self) -> int:
        """Return the length of the task vector."""
        return self.family.task_size

    @property
    def action_size(self) -> int:
        """Return how many numbers an action has: those that the largest body needs."""
        return max(self.actuator_count(task) for task in self.all_tasks)

    @property
    def state_size(self) -> int:
        """Return how many numbers the state has that agents may observe in place of images.

        Raises:
            ValueError: the suite has no state, or bodies whose states differ in size.
        """
        where = f"suite {self.name!r}: observation needs a state"
        if self.mixed:
            raise ValueError(f"{where}, and its bodies have different ones; choose pixels")
        family = self.family
        sizes = {
            task.name: family.state_size(task)
            if isinstance(family, ExternalFamily)
            else getattr(resolve(task), "state_size", 0)
            for task in self.all_tasks
        }
        without = [name for name, size in sizes.items() if not size]
        if without:
            kind = next(task.family for task in self.all_tasks if task.name == without[0])
            raise ValueError(
                f"{where}, and task {without[0]!r} of family {kind!r} has none; choose pixels"
            )
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise ValueError(f"{where}, and those of its tasks differ in size ({listed})")
        return next(iter(sizes.values()))

    def check_observation(self, observation: str) -> None:
        """Refuse what cannot be observed: `pixels`, `state` or `both`.

        Raises:
            ValueError: there is no state, or an image would hide what the environment observes.
        """
        family = self.family
        if observation != "pixels":
            assert self.state_size
        elif isinstance(family, ExternalFamily):
            for task in self.all_tasks:
                family.check_pixels(task)

    @property
    def discrete_actions(self) -> bool:
        """Return whether any of its tasks takes discrete actions: the largest number chooses."""
        family = self.family
        return isinstance(family, ExternalFamily) and any(map(family.is_discrete, self.all_tasks))

    def actuator_count(self, task: Task) -> int:
        """Return how many numbers of an action the body of a task uses."""
        family = self.family
        if isinstance(family, ExternalFamily):
            return family.action_size(task)
        return int(resolve(task).scene.model.nu)

    def check_installed(self) -> "Suite":
        """Return the suite itself, if it can be played here.

        Raises:
            ValueError: an optional package is missing, or does not know a task.
        """
        family = self.family
        if isinstance(family, ExternalFamily):
            for task in self.all_tasks:
                family.check(task)
        return self

    def tasks(self, split: str) -> tuple[Task, ...]:
        """Return the tasks of a split.

        Raises:
            ValueError: there is no such split; the message names the splits there are.
        """
        if split not in self.splits:
            raise ValueError(
                f"suite {self.name!r} has no split {split!r}; valid are {', '.join(self.splits)}"
            )
        return self.splits[split]

    def coordinate(self, task: Task) -> float:
        """Return a task's coordinate on a figure's axis.

        It is the parameter of a task, in the parameter's own unit: a number (m/s for a speed), a
        vector's length (metres from the arena's centre for a target), or a word's place among the
        words.
        """
        value = task.parameters[self.parameter]
        if isinstance(value, str):
            words = [other.parameters[self.parameter] for other in self.all_tasks]
            return float(words.index(value))
        return math.hypot(*value) if isinstance(value, list) else value

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Suite":
        """Make a suite from plain data.

        Raises:
            ValueError: a key is unknown, missing or of the wrong type, or two tasks have one
                evaluation seed; the message names it.
        """
        values = require_mapping(values, "a suite")
        names = [field.name for field in fields(cls)]
        where = f"suite {values.get('name', '(without a name)')!r}"
        require_keys(values, names, where, optional=("mixed",))
        splits = require_mapping(values["splits"], f"{where}: splits")
        tasks = {
            name: _tasks_from(split, f"{where}: splits.{name}") for name, split in splits.items()
        }
        suite = cls(**{**values, "splits": tasks})
        _check_evaluation_seeds(where, suite.all_tasks)
        return suite

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `from_dict` turns into an equal suite."""
        splits = {name: [task.to_dict() for task in tasks] for name, tasks in self.splits.items()}
        plain = {field.name: getattr(self, field.name) for field in fields(self)} | {
            "splits": splits
        }
        if not self.mixed:
            del plain["mixed"]
        return plain


def load_suite(name: str) -> Suite:
    """Load a suite.

    Args:
        name: of a file `suite/NAME.yaml` of the project's or a user's configuration folder; or
            gym/ID for a suite of one environment that is registered with Gymnasium.

    Raises:
        ValueError: there is no such file (the message lists the suites), its content is not a
            suite, or Gymnasium does not know the id.
    """
    if name.startswith(PREFIX):
        return Suite.from_dict(suite_of(name.removeprefix(PREFIX)))
    known = config_files("suite")
    if name not in known:
        raise ValueError(
            f"unknown suite {name!r}; valid are {', '.join(known)} (a folder of your own is added "
            f"with --config-dir=DIR), or {PREFIX}ID"
        )
    content = yaml.safe_load(known[name].read_text(encoding="utf-8"))
    return Suite.from_dict(require_mapping(content, str(known[name])))


def _tasks_from(values: object, where: str) -> tuple[Task, ...]:
    if not isinstance(values, list | tuple):
        raise ValueError(f"{where} must be a list of tasks, got {values!r}")
    return tuple(Task.from_dict(require_mapping(value, where)) for value in values)


def _check_splits(where: str, splits: Mapping[str, tuple[Task, ...]]) -> None:
    if "train" not in splits:
        raise ValueError(
            f"{where}: split 'train' is missing; its splits are {', '.join(splits) or 'none'}"
        )
    for name in splits:
        check_name(name, f"{where}: split name")
    empty = [name for name, tasks in splits.items() if not tasks]
    if empty:
        raise ValueError(f"{where}: split {empty[0]!r} has no tasks")


def _check_tasks(where: str, tasks: list[Task], action_repeat: int, mixed: bool) -> None:
    names = [task.name for task in tasks]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"{where}: two tasks are named {twice[0]!r}; names must be unique within a suite"
        )
    families = [task_family(task) for task in tasks]
    for task, family in zip(tasks, families, strict=True):
        if mixed and isinstance(family, ExternalFamily):
            raise ValueError(
                f"{where}: task {task.name!r} is of an external family, which cannot be mixed with "
                "others"
            )
        if not mixed and family is not families[0]:
            raise ValueError(
                f"{where}: task {task.name!r} has another scene than {names[0]!r}; one scene a "
                "suite, or mixed: true"
            )
        _check_variations(where, task)
        if task.episode_length % action_repeat:
            raise ValueError(
                f"{where}: episode_length {task.episode_length} of task {task.name!r} must be a "
                f"multiple of action_repeat {action_repeat}"
            )


def _check_evaluation_seeds(where: str, tasks: list[Task]) -> None:
    """Raise ValueError where two tasks would be evaluated from the same random numbers.

    A task with changed dynamics or looks, which has the same parameters, shares them on purpose.
    """
    first: dict[int, Task] = {}
    for task in tasks:
        other = first.setdefault(task.evaluation_seed, task)
        if (task.family, task.parameters) != (other.family, other.parameters):
            raise ValueError(
                f"{where}: tasks {other.name!r} and {task.name!r} have one evaluation_seed, "
                f"{task.evaluation_seed}; their episodes would start from the same random numbers"
            )


def _check_variations(where: str, task: Task) -> None:
    """Raise ValueError, before worlds are made, for variations that the task cannot have."""
    varied = ", ".join(task.variations())
    if not varied:
        return
    if isinstance(task_family(task), ExternalFamily):
        raise ValueError(
            f"{where}: task {task.name!r}: {varied} of an external environment cannot be changed"
        )
    scene = resolve(task).scene
    try:
        variant(scene.model, scene.camera, task.dynamics, task.vision)
    except ValueError as error:
        raise ValueError(f"{where}: task {task.name!r}: {varied}: {error}") from error
