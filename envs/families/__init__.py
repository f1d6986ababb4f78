"""Task families by name, and the one that a task belongs to."""

from collections.abc import Callable
from typing import Protocol

from envs.families import cheetah_behaviours, quadruped_behaviours, walker_behaviours
from envs.families.ant_maze import AntMaze
from envs.families.behaviours import BehaviourFamily
from envs.families.cheetah_speed import CheetahSpeed
from envs.families.compat import TASKS, compat_families
from envs.families.family import Choice, Family, check_parameters
from envs.families.point_mass import PointMass
from envs.families.point_maze import PointMaze
from envs.families.quadruped_maze import QuadrupedMaze
from envs.families.quadruped_speed import QuadrupedSpeed
from envs.families.walker_speed import WalkerSpeed
from envs.tasks import Task

_WALKER, _CHEETAH, _QUADRUPED = WalkerSpeed(), CheetahSpeed(), QuadrupedSpeed()
_COMPAT = compat_families()


def _always(family: Family) -> Callable[[Task], Family]:
    return lambda task: family


class _Particular(Family, Protocol):
    """A family with more to say of a task than which parameters it has."""

    def check(self, task: Task) -> None:
        """Raise ValueError where the task cannot be."""


def _checked(family: _Particular) -> Callable[[Task], Family]:
    def checked(task: Task) -> Family:
        check_parameters(family, task)
        family.check(task)
        return family

    return checked


def _checked_if_it_can(family: Family) -> Callable[[Task], Family]:
    check: Callable[[Task], None] | None = getattr(family, "check", None)

    def checked(task: Task) -> Family:
        check_parameters(family, task)
        if check is not None:
            check(task)
        return family

    return checked


def _compat(task: Task) -> Family:
    value = task.parameters.get("task", "")
    Choice(TASKS).check(value, f"task {task.name!r} of family 'compat': parameter 'task'")
    return _COMPAT[str(value)]


# Functions of the task, because a family's name may stand for several scenes, told apart by a
# parameter.
FAMILIES: dict[str, Callable[[Task], Family]] = {
    "point_mass": _always(PointMass()),
    "walker_speed": _always(_WALKER),
    "cheetah_speed": _always(_CHEETAH),
    "quadruped_speed": _always(_QUADRUPED),
    "walker_behaviours": _checked(BehaviourFamily(_WALKER, walker_behaviours.BEHAVIOURS)),
    "cheetah_behaviours": _checked(BehaviourFamily(_CHEETAH, cheetah_behaviours.BEHAVIOURS)),
    "quadruped_behaviours": _checked(BehaviourFamily(_QUADRUPED, quadruped_behaviours.BEHAVIOURS)),
    "point_maze": _checked(PointMaze()),
    "quadruped_maze": _checked(QuadrupedMaze()),
    "ant_maze": _checked(AntMaze()),
    "compat": _compat,
}


def register_family(name: str, family: Family | Callable[[Task], Family]) -> None:
    """Make a task family known under the name that suites give as `family`.

    Args:
        name: a new one.
        family: for all its tasks, or a function that returns the family of a task, where several
            scenes have one name. A method `check(task)` of a family is called for every task.

    Raises:
        ValueError: the name is taken.
    """
    if name in FAMILIES:
        raise ValueError(f"a task family named {name!r} exists already")
    FAMILIES[name] = family if callable(family) else _checked_if_it_can(family)


def resolve(task: Task) -> Family:
    """The family of a task, whose parameters have been checked.

    Raises:
        ValueError: unknown family, or a parameter that is unknown, missing or does not fit; names
            the valid choices.
    """
    if task.family not in FAMILIES:
        raise ValueError(
            f"task {task.name!r}: unknown family {task.family!r}; valid are {', '.join(FAMILIES)}"
        )
    family = FAMILIES[task.family](task)
    check_parameters(family, task)
    return family
