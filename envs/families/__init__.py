"""Task families by name, and the one that a task belongs to."""

from collections.abc import Callable

from envs.families.compat import TASKS, compat_families
from envs.families.family import Choice, Family, check_parameters
from envs.families.point_mass import PointMass
from envs.families.walker_speed import WalkerSpeed
from envs.tasks import Task

_POINT_MASS, _WALKER_SPEED, _COMPAT = PointMass(), WalkerSpeed(), compat_families()


def _compat(task: Task) -> Family:
    value = task.parameters.get("task", "")
    Choice(TASKS).check(value, f"task {task.name!r} of family 'compat': parameter 'task'")
    return _COMPAT[str(value)]


# Functions of the task, because a family's name may stand for several scenes, told apart by a parameter.
FAMILIES: dict[str, Callable[[Task], Family]] = {
    "point_mass": lambda task: _POINT_MASS,
    "walker_speed": lambda task: _WALKER_SPEED,
    "compat": _compat,
}


def resolve(task: Task) -> Family:
    """The family of a task, whose parameters have been checked.

    Raises:
        ValueError: unknown family, or a parameter that is unknown, missing or does not fit; names the valid choices.
    """
    if task.family not in FAMILIES:
        raise ValueError(f"task {task.name!r}: unknown family {task.family!r}; valid are {', '.join(FAMILIES)}")
    family = FAMILIES[task.family](task)
    check_parameters(family, task)
    return family
