"""List every configuration key of a run with its meaning, value and range."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from hrl.config import GROUPS, choices, load
from hrl.config_field import FieldInfo, field_infos

WIDTH = 100
NOT_GIVEN = ("suite", "agent.name", "imports", "finetune")
"""Keys that are not written as KEY=VALUE: groups and options stand for them."""


@dataclass(frozen=True)
class Key:
    """Store a configuration key with the value that it has for the given choices."""

    path: str
    value: object
    info: FieldInfo

    def text(self) -> str:
        """Return the value as it is written on the command line."""
        return _text(self.value)


def list_keys(overrides: Sequence[str]) -> list[Key]:
    """Return the keys of the run that the overrides choose.

    Args:
        overrides: such as `agent=skills suite=point_mass size=xs`: values are those that this run
            would have.

    Raises:
        ConfigError: as `hrl.config.load`.
    """
    return list(_keys(load(overrides).config, ""))


def describe_keys(overrides: Sequence[str]) -> str:
    """Return what `list_keys` gives as text."""
    keys = list_keys(overrides)
    head = f"Every key of {' '.join(overrides)}, as KEY=VALUE with the value it has there."
    groups = [_wrap(f"{group}=NAME", ", ".join(choices(group))) for group in GROUPS]
    return "\n".join([head, "", *groups, "", *map(_describe, keys)])


def _keys(node: Any, prefix: str) -> Iterator[Key]:
    """Yield the keys of a configuration node, nested ones in place."""
    infos = field_infos(type(node))
    for field in fields(node):
        path = f"{prefix}{field.name}"
        value = getattr(node, field.name)
        if path in NOT_GIVEN:
            continue
        if is_dataclass(value):
            yield from _keys(value, f"{path}.")
        else:
            yield Key(path, value, infos[field.name])


def _describe(key: Key) -> str:
    valid = key.info.range()
    text = " ".join(part for part in (key.info.help, f"({valid})" if valid else "") if part)
    return _wrap(f"{key.path}={key.text()}", text)


def _wrap(head: str, text: str) -> str:
    lines = textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join([head, *lines])


def _text(value: object) -> str:
    """Return a value as it is written on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    return str(value)
