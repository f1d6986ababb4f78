"""Let gymnasium-robotics' Fetch and Hand run with a mujoco later than 3.11.

Their helpers ask whether a number from a model's arrays, a NumPy integer, equals a member of one of
mujoco's enumerations. Since mujoco 3.12 that comparison is False with the number on the left, so
that no joint has a type and no weld is found. Here the module of helpers gets a view of mujoco
whose enumerations are of plain integers. Nothing else of either package is touched. Tests compare
the helpers' results with mujoco's own accessors.
"""

from enum import IntEnum
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import mujoco

HELPERS = "gymnasium_robotics.utils.mujoco_utils"
# The last of mujoco's versions that needs nothing, and those that this was tried on.
LAST_WITHOUT = (3, 11)
TRIED = ("3.16",)


class _View(SimpleNamespace):
    """Show mujoco with other enumerations."""

    def __getattr__(self, name: str) -> Any:
        return getattr(mujoco, name)


def apply(version: str = mujoco.__version__) -> None:
    """Make the helpers work with the installed mujoco; a second call changes nothing.

    Args:
        version: of mujoco, such as "3.16.0".

    Raises:
        ValueError: a version of mujoco that this was not tried on.
    """
    series = ".".join(version.split(".")[:2])
    if tuple(int(part) for part in series.split(".")) <= LAST_WITHOUT:
        return
    if series not in TRIED:
        raise ValueError(
            f"gymnasium-robotics' Fetch does not run on mujoco {version} as it is, and the fix was "
            f"tried on mujoco {', '.join(TRIED)} only: install one of those"
        )
    helpers: Any = import_module(HELPERS)
    if helpers.mujoco is mujoco:
        plain = {name: _plain(getattr(mujoco, name)) for name in ("mjtJoint", "mjtEq", "mjtObj")}
        helpers.mujoco = _View(**plain)
        helpers.mjtObj = plain["mjtObj"]


def _plain(enumeration: Any) -> Any:
    return IntEnum(
        enumeration.__name__, {name: int(value) for name, value in enumeration.__members__.items()}
    )
