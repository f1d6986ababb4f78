"""A task family of a user's own."""

import pytest

from envs.external.families import EXTERNAL, register_external_family, task_family
from envs.families import FAMILIES, register_family
from envs.families.point_mass import PointMass
from envs.tasks import Task


class Checked(PointMass):
    """A family that refuses tasks by name."""

    def check(self, task: Task) -> None:
        if task.name == "wrong":
            raise ValueError("a wrong task")


def _task(name: str) -> Task:
    return Task(name, "own", {"target": [0.1, 0.1]}, 100, 0)


@pytest.fixture(autouse=True)
def registries():
    yield
    FAMILIES.pop("own", None)
    EXTERNAL.pop("own", None)


def test_a_registered_family_is_found_and_checks_its_tasks():
    family = Checked()
    register_family("own", family)
    assert task_family(_task("right")) is family
    with pytest.raises(ValueError, match="a wrong task"):
        task_family(_task("wrong"))


def test_a_name_may_stand_for_several_families():
    one, other = PointMass(), PointMass()
    register_family("own", lambda task: one if task.name == "one" else other)
    assert task_family(_task("one")) is one
    assert task_family(_task("other")) is other


@pytest.mark.parametrize("name", ["point_mass", "gym"])
def test_a_taken_name_is_refused(name):
    with pytest.raises(ValueError, match=f"named '{name}' exists already"):
        register_external_family(name, EXTERNAL["gym"])


def test_a_taken_name_of_a_simulated_family_is_refused():
    with pytest.raises(ValueError, match="named 'point_mass' exists already"):
        register_family("point_mass", PointMass())
