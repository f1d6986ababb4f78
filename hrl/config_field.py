"""Declare what a configuration key means and which values it may have, beside its default."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

MAX_SIZE = 2**16
"""Largest size of a layer: beyond it the weights of one layer alone would fill a machine."""
MAX_LAYERS = 100
"""Largest number of hidden layers of a perceptron."""


@dataclass(frozen=True)
class FieldInfo:
    """Store the meaning of a configuration key and the values that it may have.

    Attributes:
        help: one sentence or two, with units.
        at_least, above, at_most, below: bounds of a number, or of every number of a list.
        choices: the valid texts; empty where any is valid.
    """

    help: str
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()

    def range(self) -> str:
        """Return the valid values in words; empty where any value of the type is valid."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        bounds = (
            ("at least", self.at_least),
            ("above", self.above),
            ("at most", self.at_most),
            ("below", self.below),
        )
        return " and ".join(
            f"{word} {_number(bound)}" for word, bound in bounds if bound is not None
        )

    def allows(self, value: object) -> bool:
        """Return whether a number is finite and within the bounds, or a text among the choices."""
        if isinstance(value, str):
            return not self.choices or value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        return (
            _is_finite(value)
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )


class ConfigError(ValueError):
    """Report a configuration that cannot be run, in one message."""


class ConfigValueError(ValueError):
    """Report a value that its configuration key may not have.

    Args:
        key: the name of the key, in its own node or with the path that leads to it.
        value: what was given.
        rule: what would be right, as the end of a sentence: "it must be at least 1".
    """

    def __init__(self, key: str, value: object, rule: str) -> None:
        super().__init__(f"{key} is {value!r}; {rule}")
        self.key = key
        self.value = value
        self.rule = rule

    def within(self, path: str) -> ConfigValueError:
        """Return the same error with the path of the node that the key belongs to."""
        return ConfigValueError(join_key(path, self.key), self.value, self.rule)


def join_key(path: str, name: str) -> str:
    """Return the full name of a key of the node at `path`, which is empty for the root."""
    return f"{path}.{name}" if path else name


def config_field(
    default: Any = MISSING,
    help: str = "",
    *,
    default_factory: Callable[[], Any] | None = None,
    **valid: Any,
) -> Any:
    """Return a dataclass field that knows its meaning and its range.

    Args:
        default: the value where nothing else is given.
        help: what the key means, with units.
        default_factory: makes the default where it is mutable.
        **valid: bounds or choices, as `FieldInfo` has them.
    """
    metadata = {"info": FieldInfo(help, **valid)}
    if default_factory is not None:
        return field(default_factory=default_factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def field_infos(config_class: type) -> dict[str, FieldInfo]:
    """Return the declared meaning and range of every field of a configuration class."""
    return {entry.name: _field_info(config_class, entry.name) for entry in fields(config_class)}


def check_fields(values: Mapping[str, Any], config_class: type, path: str = "") -> None:
    """Check the values of one configuration node against the declarations of its class.

    NaN and infinity are refused in every field. Values that are mappings are nodes of their own and
    are left alone.

    Args:
        values: by field name.
        config_class: a dataclass whose fields were made by `config_field`, or plain ones.
        path: of the node, such as "agent.manager"; empty for the root.

    Raises:
        ConfigValueError: names the first key with its value and the valid ones.
    """
    for name, info in field_infos(config_class).items():
        value = values.get(name)
        if not all(info.allows(part) for part in _parts(value)):
            raise ConfigValueError(join_key(path, name), value, _rule(info, value))


@dataclass(frozen=True)
class CheckedConfig:
    """Check a configuration node whenever one is made: every field, then how they fit together."""

    def __post_init__(self) -> None:
        """Refuse values out of their range; `check_fields` says which errors there are."""
        check_fields(vars(self), type(self))
        self.check_together()

    def check_together(self) -> None:
        """Refuse values that are valid alone and impossible together.

        Nothing is refused here; configurations with such values override it.

        Raises:
            ConfigValueError: names the key without the path of this node.
        """


def _field_info(config_class: type, name: str) -> FieldInfo:
    """Return the nearest declaration: a class that only changes a default inherits the rest."""
    for base in config_class.__mro__:
        entry = vars(base).get("__dataclass_fields__", {}).get(name)
        if entry is not None and "info" in entry.metadata:
            info: FieldInfo = entry.metadata["info"]
            return info
    return FieldInfo("")


def _parts(value: Any) -> Iterator[Any]:
    """Yield a value, or each value of a list."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        yield from value
    else:
        yield value


def _rule(info: FieldInfo, value: object) -> str:
    if info.choices:
        return f"choose from {', '.join(info.choices)}"
    subject = "every number" if isinstance(value, Sequence) and not isinstance(value, str) else "it"
    finite = all(map(_is_finite, _parts(value)))
    words = [] if finite else ["a finite number"]
    words += [info.range()] if info.range() else []
    return f"{subject} must be {' and '.join(words)}"


def _is_finite(value: object) -> bool:
    """Return whether a value is neither NaN nor infinite; an integer may be too large to test."""
    return not isinstance(value, float) or math.isfinite(value)


def _number(bound: float) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"
