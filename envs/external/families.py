"""List the external families, and find the family of a task wherever it is simulated."""

from envs.external.family import ExternalFamily
from envs.external.gymnasium_id import GymnasiumId
from envs.external.jaco import Jaco
from envs.external.metaworld import MetaWorld
from envs.external.ogbench_maze import OgbenchMaze
from envs.external.robotics_fetch import RoboticsFetch
from envs.external.robotics_maze import RoboticsMaze
from envs.families import FAMILIES, resolve
from envs.families.family import TaskFamily, check_parameters
from envs.tasks import Task

EXTERNAL: dict[str, ExternalFamily] = {
    "gym": GymnasiumId(),
    "metaworld": MetaWorld(),
    "jaco": Jaco(),
    "robotics_maze": RoboticsMaze(),
    "robotics_fetch": RoboticsFetch(),
    "ogbench_maze": OgbenchMaze(),
}


def register_external_family(name: str, family: ExternalFamily) -> None:
    """Make a family of external environments known under the name that suites give as `family`.

    Raises:
        ValueError: the name is taken.
    """
    if name in EXTERNAL or name in FAMILIES:
        raise ValueError(f"a task family named {name!r} exists already")
    EXTERNAL[name] = family


def external_family(task: Task) -> ExternalFamily:
    """Return the external family of a task, whose parameters have been checked.

    Raises:
        ValueError: no external family, or a parameter that is unknown, missing or does not fit.
    """
    if task.family not in EXTERNAL:
        valid = ", ".join(EXTERNAL)
        raise ValueError(
            f"task {task.name!r}: {task.family!r} is no external family; valid are {valid}"
        )
    family = EXTERNAL[task.family]
    check_parameters(family, task)
    return family


def task_family(task: Task) -> TaskFamily:
    """Return the family of a task, native or external, whose parameters have been checked.

    Raises:
        ValueError: unknown family, or a parameter that is unknown, missing or does not fit; names
            the valid choices.
    """
    if task.family in EXTERNAL:
        return external_family(task)
    if task.family not in FAMILIES:
        valid = ", ".join([*FAMILIES, *EXTERNAL])
        raise ValueError(f"task {task.name!r}: unknown family {task.family!r}; valid are {valid}")
    return resolve(task)
