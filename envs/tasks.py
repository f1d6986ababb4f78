"""Define a task: one setting of a family's parameters, an episode length, an evaluation seed."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from envs.simulation.variation import Dynamics, Vision

ParameterValue = float | list[float] | str

# File systems take names of up to 255 bytes, of which a task's name is one part.
_FILE_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_LARGEST_COUNT = 2**63 - 1


@dataclass(frozen=True)
class Task:
    """Store one task of a suite.

    Attributes:
        name: unique within its suite and usable as a part of a file name.
        family: name of the family that knows scene, reward and start states
            (`envs.families.FAMILIES`).
        parameters: the family's parameters; numbers are floats, vectors are lists of floats.
        episode_length: control steps until the time limit truncates an episode.
        evaluation_seed: with the evaluator's own seed and an episode's number, all that the start
            of an evaluation episode depends on: it is the same for every method, whatever else is
            evaluated beside it.
        dynamics: what its worlds' dynamics change of the family's scene; the task vector does not
            say so.
        vision: what its worlds' images change of the family's scene; the task vector does not say
            so.

    Raises:
        ValueError: a value is wrong; the message names its key.
    """

    name: str
    family: str
    parameters: Mapping[str, ParameterValue]
    episode_length: int
    evaluation_seed: int
    dynamics: Dynamics = field(default_factory=Dynamics)
    vision: Vision = field(default_factory=Vision)

    def __post_init__(self) -> None:
        check_name(self.name, "task name")
        where = f"task {self.name!r}"
        if not isinstance(self.family, str):
            raise ValueError(f"{where}: family must be a string, got {self.family!r}")
        require_count(self.episode_length, f"{where}: episode_length", 1, _LARGEST_COUNT)
        require_count(self.evaluation_seed, f"{where}: evaluation_seed", 0, _LARGEST_COUNT)
        parameters = require_mapping(self.parameters, f"{where}: parameters")
        plain = {
            key: _plain(value, f"{where}: parameters.{key}") for key, value in parameters.items()
        }
        object.__setattr__(self, "parameters", plain)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Task":
        """Make a task from plain data.

        Raises:
            ValueError: a key is unknown, missing or of the wrong type; the message names it.
        """
        where = f"task {values.get('name', '(without a name)')!r}"
        kinds: dict[str, type[Dynamics | Vision]] = {"dynamics": Dynamics, "vision": Vision}
        require_keys(values, [part.name for part in fields(cls)], where, optional=tuple(kinds))
        variations: dict[str, Dynamics | Vision] = {}
        for key, kind in kinds.items():
            given = require_mapping(values.get(key, {}), f"{where}: {key}")
            try:
                variations[key] = kind.from_dict(given)
            except ValueError as error:
                raise ValueError(f"{where}: {key}: {error}") from error
        return cls(**{**values, **variations})

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `from_dict` turns into an equal task."""
        parameters = {
            key: list(value) if isinstance(value, list) else value
            for key, value in self.parameters.items()
        }
        plain = {part.name: getattr(self, part.name) for part in fields(self)} | {
            "parameters": parameters
        }
        del plain["dynamics"], plain["vision"]
        return plain | self.variations()

    def variations(self) -> dict[str, dict[str, float]]:
        """Return what differs from the family's scene, under `dynamics` and `vision`.

        Either key is there only where something differs.
        """
        both = {"dynamics": self.dynamics.to_dict(), "vision": self.vision.to_dict()}
        return {key: values for key, values in both.items() if values}

    def __hash__(self) -> int:
        return hash((self.name, self.family, self.episode_length, self.evaluation_seed))


def check_name(name: object, what: str) -> None:
    """Raise ValueError unless a name can be a part of a file name."""
    if not isinstance(name, str) or not _FILE_SAFE_NAME.fullmatch(name):
        raise ValueError(
            f"{what} {name!r} must be letters, digits, '_' and '-' only, at most 100, with a "
            "letter or digit first: it becomes part of file names"
        )


def require_keys(
    values: Mapping[str, Any], names: Sequence[str], where: str, optional: Sequence[str] = ()
) -> None:
    """Raise ValueError unless the mapping has exactly these keys, of which some may be left out."""
    needed = [name for name in names if name not in optional]
    unknown = sorted(set(values) - set(names))
    missing = [name for name in needed if name not in values]
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; valid keys are {', '.join(names)}")
    if missing:
        raise ValueError(
            f"{where}: key {missing[0]!r} is missing; the keys are {', '.join(needed)}"
        )


def require_count(value: object, what: str, smallest: int, largest: int | None = None) -> int:
    """Return the value as an integer.

    Raises:
        ValueError: it is no integer from `smallest` to `largest` (None: no upper limit).
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        count = int(value)
        if smallest <= count and (largest is None or count <= largest):
            return count
    limits = f"of at least {smallest}" if largest is None else f"from {smallest} to {largest}"
    raise ValueError(f"{what} must be an integer {limits}, got {value!r}")


def require_mapping(value: object, what: str) -> Mapping[str, Any]:
    """Return the value; raise ValueError unless it is a mapping with string keys."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{what} must be a mapping with string keys, got {value!r}")
    return value


def require_number(value: object, what: str) -> float:
    """Return the value as a float; raise ValueError unless it is a finite number."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not abs(value) <= sys.float_info.max
    ):
        raise ValueError(f"{what} must be a finite number, got {value!r}")
    return float(value)


def _plain(value: object, what: str) -> ParameterValue:
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return [require_number(item, what) for item in value]
    return require_number(value, what)
