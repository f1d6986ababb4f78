"""Compare the configuration of a saved run with the one that is given now."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from hrl.run.errors import ConfigMismatchError

MAY_CHANGE = (
    "frames",
    "tracking",
    "folder",
    "network.imag_last",
    "checkpoint_every",
    "evaluation.every",
    "threads",
    "time_limit",
    "imports",
    "finetune.source",
)
"""Keys that a continued run may change, each with everything below it.

None of them decides what is learned in a given frame. Other `threads` may change the last bits,
about which a continued run warns. The folder that a fine-tuning run started from may move: its
checkpoint is told by its hash. (`agent.imag_last` is made from `network.imag_last`, and may not
change.)
"""

ABSENT = "(absent)"


def check_config_matches(saved: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse to continue a run with a configuration that would change what is learned.

    Args:
        saved: the plain configuration of the run.
        given: the plain configuration to continue it with.

    Raises:
        ConfigMismatchError: names every key that differs, with both values.
    """
    different = differing_keys(saved, given, ignore=MAY_CHANGE)
    if different:
        raise ConfigMismatchError(different)


def with_saved_physics(given: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration that left the simulator to the program with the one that a run chose.

    Args:
        given: a plain configuration.
        saved: that of a run, which has the simulator's name.
    """
    asked = given.get("physics")
    return {**given, "physics": saved.get("physics", asked) if asked == "auto" else asked}


def differing_keys(
    saved: Mapping[str, Any], given: Mapping[str, Any], ignore: Collection[str] = ()
) -> dict[str, tuple[object, object]]:
    """Return where two nested configurations differ.

    Args:
        saved: the first configuration.
        given: the second one.
        ignore: dotted keys, each with everything below it, that may differ.

    Returns:
        {dotted key: (saved value, given value)}, sorted by key; a key that one side lacks has the
        value "(absent)".
    """
    old = dict(_flatten(saved))
    new = dict(_flatten(given))
    pairs = {
        key: (old.get(key, ABSENT), new.get(key, ABSENT)) for key in sorted(old.keys() | new.keys())
    }
    return {
        key: pair for key, pair in pairs.items() if not _ignored(key, ignore) and not _same(*pair)
    }


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _ignored(key: str, ignore: Collection[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in ignore)


def _same(old: Any, new: Any) -> bool:
    """Compare two values as a configuration file holds them.

    Tuples are lists there, True is not 1, and NaN equals NaN.
    """
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        return len(old) == len(new) and all(map(_same, old, new))
    if isinstance(old, float) and isinstance(new, float) and math.isnan(old) and math.isnan(new):
        return True
    return isinstance(old, bool) == isinstance(new, bool) and bool(old == new)
