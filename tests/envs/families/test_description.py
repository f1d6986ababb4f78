"""What pages of suites say of families: there for all of them, whole, and true in its numbers."""

from dataclasses import replace

import pytest

from envs import load_suite
from envs.external.families import EXTERNAL
from envs.families import resolve
from envs.families.description import FamilyDescription
from envs.families.speed import SpeedFamily
from envs.resources import config_files


@pytest.fixture(scope="module", params=config_files("suite"))
def suite(request):
    """Each suite, loaded once for all tests."""
    return load_suite(request.param)


def _families(suite):
    return dict.fromkeys(map(resolve, suite.all_tasks)) if suite.mixed else [suite.family]


def test_every_family_is_described_with_the_formula_of_each_task(suite):
    for family in _families(suite):
        described = family.description
        assert isinstance(described, FamilyDescription)
        assert bool(described.state) == bool(_state_size(family, suite))
        if not described.reward_parameter:
            assert list(described.rewards) == [""]
            continue
        for task in suite.all_tasks:
            assert task.parameters[described.reward_parameter] in described.rewards


def _state_size(family, suite):
    size = family.state_size
    return size(suite.all_tasks[0]) if callable(size) else size


def test_external_families_are_described_too():
    assert all(family.description is not None for family in EXTERNAL.values())


def test_formulas_have_balanced_braces_and_no_dollars(suite):
    for family in _families(suite):
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
