"""What pages of suites say of families: there for all of them, whole, and true in its numbers."""

from dataclasses import replace

import pytest

from envs import load_suite
from envs.external.families import EXTERNAL
from envs.families import resolve
from envs.families.description import FamilyDescription
from envs.families.speed import SpeedFamily
from envs.resources import config_files

SUITES = list(config_files("suite"))


def _families(name):
    suite = load_suite(name)
    return (
        dict.fromkeys(resolve(task) for task in suite.all_tasks) if suite.mixed else [suite.family]
    )


@pytest.mark.parametrize("name", SUITES)
def test_every_family_is_described_with_the_formula_of_each_task(name):
    for family in _families(name):
        described = family.description
        assert isinstance(described, FamilyDescription)
        assert bool(described.state) == bool(_state_size(family, name))
        if not described.reward_parameter:
            assert list(described.rewards) == [""]
            continue
        for task in load_suite(name).all_tasks:
            if not load_suite(name).mixed or resolve(task) is family:
                assert task.parameters[described.reward_parameter] in described.rewards


def _state_size(family, name):
    size = family.state_size
    return size(load_suite(name).all_tasks[0]) if callable(size) else size


def test_external_families_are_described_too():
    assert all(family.description is not None for family in EXTERNAL.values())


@pytest.mark.parametrize("name", SUITES)
def test_formulas_have_balanced_braces_and_no_dollars(name):
    for family in _families(name):
        for formula in family.description.rewards.values():
            assert formula.startswith("r")
            assert "$" not in formula
            assert formula.count("{") == formula.count("}")
            assert formula.count(r"\left") == formula.count(r"\right")
        assert family.description.symbols.count("$") % 2 == 0


@pytest.mark.parametrize("name", ["walker_speed", "cheetah_speed", "quadruped_speed"])
def test_formulas_of_speeds_have_the_width_of_their_family(name):
    family = load_suite(name).family
    assert isinstance(family, SpeedFamily)
    assert f"- {family.half_width:g}}}" in family.description.rewards[""]
    assert f"over {family.fastest:g}" in family.description.task_vector


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"goal": ""}, "needs 'goal'"),
        ({"rewards": {}}, "needs 'rewards'"),
        ({"image": "a camera above it"}, "'image' of a family's description must be whole"),
    ],
)
def test_a_description_with_a_gap_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(load_suite("point_mass").family.description, **change)
