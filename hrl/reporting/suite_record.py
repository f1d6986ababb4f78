"""The suite as a run folder saved it: which tasks make up which split, and the parameter they
differ in.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PARAMETERS = ("parameters", "dynamics", "vision")
DEFAULT_REFERENCE_RETURN = 1000.0  # 1000 control steps with rewards in [0, 1]


class RunFolderError(ValueError):
    """A run folder lacks something or holds something malformed; the message names the file and the
    place in it.
    """


@dataclass(frozen=True)
class TaskRecord:
    """One task: its name, family and parameters (a speed, a target position, a maze, ...)."""

    name: str
    family: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class SuiteRecord:
    """The saved suite. `parameter` is the task parameter that scores are drawn against."""

    name: str
    parameter: str
    reference_return: float
    splits: Mapping[str, tuple[TaskRecord, ...]]

    def task_names(self, split: str) -> list[str]:
        """Names of the tasks of a split, in the suite's order."""
        return [task.name for task in self.splits[split]]


def read_suite(config: Mapping[str, Any], source: Path) -> SuiteRecord:
    """The `suite` of a resolved config. Raises RunFolderError naming `source` and the key that is
    missing.
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
                _task(task, source, f"suite.splits.{split}[{i}]") for i, task in enumerate(tasks)
            )
            for split, tasks in splits.items()
            if tasks
        },
    )


def first_difference(a: Any, b: Any, place: str = "suite") -> str | None:
    """Where two nested values first differ, as a dotted place, or None when they are equal."""
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
        # Tasks that move or look otherwise are not on a line with those that differ in their
        # parameter alone.
        parameters={
            key: value for part in PARAMETERS for key, value in (task.get(part) or {}).items()
        },
    )


def _reference_return(suite: Mapping[str, Any], source: Path) -> float:
    value = suite.get("reference_return", DEFAULT_REFERENCE_RETURN)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise RunFolderError(
            f"{source}: suite.reference_return is {value!r}, not a number"
        ) from error


def _entry(
    mapping: Mapping[str, Any], key: str, source: Path, kind: type, place: str | None = None
) -> Any:
    value = mapping.get(key)
    if not isinstance(value, kind) or not value:
        raise RunFolderError(
            f"{source}: {place or key} is missing or not a {kind.__name__.lower()}"
        )
    return value
