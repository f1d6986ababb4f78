"""Look up task families by name, and the family that a task belongs to."""

from collections.abc import Callable
from functools import cache
from types import ModuleType

from envs.families import cheetah_behaviours, quadruped_behaviours, walker_behaviours
from envs.families.ant_maze import AntMaze
from envs.families.behaviours import BehaviourFamily
from envs.families.cheetah_speed import CheetahSpeed
from envs.families.compat import TASKS, compat_families
from envs.families.family import Choice, Family, check_parameters
from envs.families.many_mazes import PointMazes, QuadrupedMazes
from envs.families.point_mass import PointMass
from envs.families.point_maze import PointMaze
from envs.families.quadruped_maze import QuadrupedMaze
from envs.families.quadruped_speed import QuadrupedSpeed
from envs.families.speed import SpeedFamily
from envs.families.walker_speed import WalkerSpeed
from envs.tasks import Task

_WALKER = WalkerSpeed()
_CHEETAH = CheetahSpeed()
_QUADRUPED = QuadrupedSpeed()
_COMPAT = compat_families()


def _checked(family: Family) -> Callable[[Task], Family]:
    """Return a function that checks a task and returns its family.

    A family's own method `check(task)`, where it has one, is called once the parameters are known
    to be valid.
    """
    check: Callable[[Task], None] | None = getattr(family, "check", None)

    def checked(task: Task) -> Family:
        check_parameters(family, task)
        if check is not None:
            check(task)
        return family

    return checked


def _made_late(make: Callable[[], Family]) -> Callable[[Task], Family]:
    """Return the same for a family that is made for the first task, because making it is slow."""
    made = cache(make)
    return lambda task: _checked(made())(task)


def _behaviours(at_speed: SpeedFamily, module: ModuleType) -> BehaviourFamily:
    """Return the family of a body's speeds and of the behaviours that a module defines."""
    return BehaviourFamily(at_speed, module.BEHAVIOURS, module.SYMBOLS, module.SOURCE)


def _compat(task: Task) -> Family:
    value = task.parameters.get("task", "")
    Choice(TASKS).check(value, f"task {task.name!r} of family 'compat': parameter 'task'")
    return _COMPAT[str(value)]


# Functions of the task, because a family's name may stand for several scenes, which a parameter
# distinguishes.
FAMILIES: dict[str, Callable[[Task], Family]] = {
    "point_mass": _checked(PointMass()),
    "walker_speed": _checked(_WALKER),
    "cheetah_speed": _checked(_CHEETAH),
    "quadruped_speed": _checked(_QUADRUPED),
    "walker_behaviours": _checked(_behaviours(_WALKER, walker_behaviours)),
    "cheetah_behaviours": _checked(_behaviours(_CHEETAH, cheetah_behaviours)),
    "quadruped_behaviours": _checked(_behaviours(_QUADRUPED, quadruped_behaviours)),
    "point_maze": _checked(PointMaze()),
    "quadruped_maze": _checked(QuadrupedMaze()),
    "ant_maze": _checked(AntMaze()),
    "maze_many_point": _made_late(PointMazes),
    "maze_many_quadruped": _made_late(QuadrupedMazes),
    "compat": _compat,
}


def register_family(name: str, family: Family | Callable[[Task], Family]) -> None:
    """Register a task family under the name that suites give as `family`.

    Args:
        name: a name that is not yet taken.
        family: the family of all its tasks, or a function that returns the family of a task where
            several scenes share a name. A family's method `check(task)` is called for every task.

    Raises:
        ValueError: the name is taken.
    """
    if name in FAMILIES:
        raise ValueError(f"a task family named {name!r} exists already")
    FAMILIES[name] = family if callable(family) else _checked(family)


def resolve(task: Task) -> Family:
    """Return the family of a task after checking the task's parameters.

    Raises:
        ValueError: the family is unknown, or a parameter is unknown, missing or invalid; the
            message names the valid choices.
    """
    if task.family not in FAMILIES:
        raise ValueError(
            f"task {task.name!r}: unknown family {task.family!r}; valid are {', '.join(FAMILIES)}"
        )
    family = FAMILIES[task.family](task)
    check_parameters(family, task)
    return family
