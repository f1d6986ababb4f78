"""Read the suite as a run folder saved it: the tasks of each split, and their differences."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VARIATIONS = ("dynamics", "vision")
DEFAULT_REFERENCE_RETURN = 1000.0  # 1000 control steps with rewards in [0, 1]


class RunFolderError(ValueError):
    """Say which file of a run folder is missing or malformed, and at which place."""


@dataclass(frozen=True)
class TaskRecord:
    """Hold one task.

    parameters: a speed, a target position, a maze, ...
    variations: what it changes about how its world moves and looks.
    """

    name: str
    family: str
    parameters: Mapping[str, Any]
    variations: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """Return parameters and variations together."""
        return {**self.parameters, **self.variations}


@dataclass(frozen=True)
class SuiteRecord:
    """Hold the saved suite; `parameter` is the task parameter that scores are drawn against."""

    name: str
    parameter: str
    reference_return: float
    splits: Mapping[str, tuple[TaskRecord, ...]]

    def task_names(self, split: str) -> list[str]:
        """Return the names of the tasks of a split, in the suite's order."""
        return [task.name for task in self.splits[split]]

    def varied_tasks(self, split: str) -> list[str]:
        """Return the training tasks that the tasks of a split vary in dynamics or vision.

        The list is empty for a split that has other tasks too, and for one that varies every
        training task: its scores compare with those of the training split as a whole.
        """
        found = dict.fromkeys(self.varied_task(task) for task in self.splits[split])
        names = [name for name in found if name is not None]
        everything = len(names) == len(self.splits["train"])
        return [] if len(names) < len(found) or everything else names

    def varied_task(self, task: TaskRecord) -> str | None:
        """Return the training task that a task varies in dynamics or vision; None for others."""
        if not task.variations:
            return None
        for one in self.splits["train"]:
            if not one.variations and _same_task(one, task):
                return one.name
        return None


def read_suite(config: Mapping[str, Any], source: Path) -> SuiteRecord:
    """Read the `suite` of a resolved configuration.

    Raises:
        RunFolderError: a key is missing or malformed; it names `source` and the key.
    """
    suite = _entry(config, "suite", source, Mapping)
    splits = _entry(suite, "splits", source, Mapping, "suite.splits")
    if not splits.get("train"):
        raise RunFolderError(
            f"{source}: suite.splits has no tasks under 'train', it has {sorted(splits)}"
        )
    return SuiteRecord(
        name=str(_entry(suite, "name", source, str, "suite.name")),
        parameter=str(_entry(suite, "parameter", source, str, "suite.parameter")),
        reference_return=_reference_return(suite, source),
        splits={
            str(split): tuple(
                _task(task, source, f"suite.splits.{split}[{i}]")
                for i, task in enumerate(
                    _entry(splits, split, source, list, f"suite.splits.{split}")
                )
            )
            for split, tasks in splits.items()
            if tasks
        },
    )


def first_difference(a: Any, b: Any, place: str = "suite") -> str | None:
    """Return where two nested values first differ, as a dotted place; None when they are equal."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        keys = [*a, *(key for key in b if key not in a)]
        places = (first_difference(a.get(key), b.get(key), f"{place}.{key}") for key in keys)
        return next((found for found in places if found), None)
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        places = (
            first_difference(x, y, f"{place}[{i}]")
            for i, (x, y) in enumerate(zip(a, b, strict=True))
        )
        return next((found for found in places if found), None)
    return None if a == b else place


def _task(task: Any, source: Path, place: str) -> TaskRecord:
    if not isinstance(task, Mapping):
        raise RunFolderError(
            f"{source}: {place} is not a mapping with a name, a family and parameters"
        )
    return TaskRecord(
        name=str(_entry(task, "name", source, str, f"{place}.name")),
        family=str(_entry(task, "family", source, str, f"{place}.family")),
        parameters=dict(_optional(task, "parameters", source, place)),
        variations={
            key: value
            for part in VARIATIONS
            for key, value in _optional(task, part, source, place).items()
        },
    )


def _same_task(one: TaskRecord, other: TaskRecord) -> bool:
    return one.family == other.family and one.parameters == other.parameters


def _reference_return(suite: Mapping[str, Any], source: Path) -> float:
    value = suite.get("reference_return", DEFAULT_REFERENCE_RETURN)
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise RunFolderError(
            f"{source}: suite.reference_return is {value!r}, not a number"
        ) from error


def _optional(mapping: Mapping[str, Any], key: str, source: Path, place: str) -> Mapping[str, Any]:
    """Return a mapping that may be left out."""
    if not mapping.get(key):
        return {}
    found: Mapping[str, Any] = _entry(mapping, key, source, Mapping, f"{place}.{key}")
    return found


def _entry(
    mapping: Mapping[str, Any], key: str, source: Path, kind: type, place: str | None = None
) -> Any:
    value = mapping.get(key)
    if not isinstance(value, kind) or not value:
        raise RunFolderError(
            f"{source}: {place or key} is missing or not a {kind.__name__.lower()}"
        )
    return value
