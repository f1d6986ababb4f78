"""Task conditioning: what each preset means, and switches that override it."""

import pytest

from hrl.agents.conditioning import CONDITIONABLE_MODULES, ConditioningConfig
from hrl.config_field import ConfigValueError
from hrl.world_model.model import TaskConditioning


@pytest.mark.parametrize(
    ("preset", "conditioned"),
    [
        ("heads", {"heads", "manager"}),
        ("world_model", {"encoder"}),
        ("none", set()),
        ("everywhere", set(CONDITIONABLE_MODULES)),
    ],
)
def test_a_preset_conditions_its_modules_and_a_switch_overrides_it(preset, conditioned):
    assert conditioned_modules(ConditioningConfig(preset=preset)) == conditioned
    for module in CONDITIONABLE_MODULES:
        flipped = ConditioningConfig(preset=preset, **{module: module not in conditioned})
        assert conditioned_modules(flipped) == conditioned ^ {module}


def test_the_world_model_gets_its_own_part():
    config = ConditioningConfig(preset="everywhere", dynamics=False)
    expected = TaskConditioning(encoder=True, dynamics=False, heads=True)
    assert config.of_world_model() == expected


def test_an_unknown_preset_is_refused():
    with pytest.raises(ConfigValueError, match=r"preset is 'all'; choose from heads"):
        ConditioningConfig(preset="all")


def conditioned_modules(config: ConditioningConfig) -> set[str]:
    return {module for module in CONDITIONABLE_MODULES if config.is_task_conditioned(module)}
