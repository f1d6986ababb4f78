"""Parts of agents: declared once each, frozen to the bit, taken over or made anew."""

from collections.abc import Mapping

import pytest
import torch

from hrl.agents.actor_critic import ActorCriticConfig
from hrl.agents.director import Director, DirectorConfig
from hrl.agents.dreamer import Dreamer, DreamerConfig
from hrl.agents.model_based import ModelBasedLearner
from hrl.agents.on_policy_learner import OnPolicyLearner
from hrl.agents.parts import FROZEN, REINITIALISED, TRAINABLE, freeze, presets, take_parts
from hrl.agents.ppo import PPO, PPOConfig
from hrl.agents.skills import Skills, SkillsConfig
from tests.fakes import ToyReach, model_setting, small_setting
from tests.hrl.same import assert_same

FLAT = ("encoder", "policy", "values")
HIERARCHICAL = ("encoder", "manager", "low_level", "values")
FLAT_MODEL = ("world_model", "rewards", "policy", "values")
HIERARCHICAL_MODEL = ("world_model", "rewards", "manager", "low_level", "values")
PARTS = {
    "ppo": FLAT,
    "skills": HIERARCHICAL,
    "dreamer": FLAT_MODEL,
    "director": HIERARCHICAL_MODEL,
}
PAIRS = [
    # dreamer's parts are director's but for the policy: of one code.
    pytest.param(method, part, marks=[pytest.mark.slow] if method == "dreamer" else [])
    for method, parts in PARTS.items()
    for part in parts
]


def make(method: str, seed: int = 0, **changes: object) -> OnPolicyLearner | ModelBasedLearner:
    """A small learner; another seed draws other weights."""
    torch.manual_seed(seed)
    if method in ("ppo", "skills"):
        cls, config = (PPO, PPOConfig) if method == "ppo" else (Skills, SkillsConfig)
        settings = config(**({"n_steps": 4, "n_epochs": 1, "n_minibatches": 2} | changes))
        spec = small_setting()
        return OnPolicyLearner(cls(settings, spec), settings, spec, ToyReach(4), ["toy"], 1)
    level = ActorCriticConfig(layers=1, bootstrap="slow")
    sizes = {
        "batch_size": 2,
        "sequence_length": 4,
        "train_ratio": 0.01,  # `learn` makes the updates
        "replay_capacity": 200,
        "log_interval": 8,
        "horizon": 4,
        "warmup": 0,
        "learning_rate": 1e-2,
    }
    if method == "dreamer":
        settings = DreamerConfig(**(sizes | {"policy": level, "exploration_bonus": 0.1} | changes))
        cls = Dreamer
    else:
        levels = {"skill_duration": 2, "manager": level, "worker": level}
        settings = DirectorConfig(**(sizes | levels | changes))
        cls = Director
    spec = model_setting(task_size=1, action_size=1)
    return ModelBasedLearner(cls(settings, spec), settings, spec, ToyReach(4), ["toy"], 1)


def learn(learner: OnPolicyLearner | ModelBasedLearner) -> None:
    """Gather, and make two updates."""
    learner.iterate()
    if isinstance(learner, ModelBasedLearner):
        learner.update()
        learner.update()


def tensors(learner: object, part: str) -> dict[str, torch.Tensor]:
    """Copies of everything that is saved of a part, running statistics included."""
    return {
        f"{name}.{key}": value.detach().clone()
        for name, module in learner.parts()[part].items()
        for key, value in module.state_dict().items()
    }


def source_state(learner: object) -> dict[str, Mapping[str, torch.Tensor]]:
    state = learner.state_dict()
    return {entry: state[entry] for entry in learner.saved_modules()}


@pytest.mark.parametrize("method", PARTS)
def test_everything_that_is_saved_of_an_agent_is_in_exactly_one_part(method):
    """But the counter of a manager's decisions."""
    agent = make(method).policy
    parts = agent.parts()
    assert tuple(parts) == PARTS[method]
    saved = agent.state_dict(keep_vars=True)
    held = [
        id(tensor)
        for modules in parts.values()
        for module in modules.values()
        for tensor in module.state_dict(keep_vars=True).values()
    ]
    assert len(held) == len(set(held))
    outside = {name for name, tensor in saved.items() if id(tensor) not in held}
    assert outside == ({"decisions"} if method == "skills" else set())
    assert set(held) <= {id(tensor) for tensor in saved.values()}


@pytest.fixture(scope="module")
def sources():
    """A learner of each method that has learned for a while, so that nothing is at its start."""
    found = {method: make(method) for method in PARTS}
    for learner in found.values():
        learn(learner)
    return {method: source_state(learner) for method, learner in found.items()}


@pytest.mark.parametrize(("method", "part"), PAIRS)
def test_a_frozen_part_stays_as_it_is_to_the_bit_and_the_others_learn(method, part, sources):
    """Weights, slow copies, coefficients and spreads; moments and learning rates move none."""
    states = {name: FROZEN if name == part else TRAINABLE for name in PARTS[method]}
    learner = make(method, seed=1)
    take_parts(learner, sources[method], states)
    freeze(learner.parts(), states)
    before = {name: tensors(learner, name) for name in states}
    learn(learner)
    assert learner.updates > 1
    after = {name: tensors(learner, name) for name in states}
    assert_same(after[part], before[part])
    for name in set(states) - {part}:
        assert any(not torch.equal(after[name][key], old) for key, old in before[name].items())
    frozen = [p for module in learner.parts()[part].values() for p in module.parameters()]
    assert all(p.grad is None and not p.requires_grad for p in frozen)
    assert not any(learner.optimizer.state.get(p) for p in frozen)
    counts = learner.parameter_counts()
    assert all(counts[name] == 0 for name in learner.policy.parts()[part])
    assert counts["total"] == sum(p.numel() for p in learner.module.parameters() if p.requires_grad)


@pytest.mark.parametrize("method", PARTS)
def test_where_all_but_the_policy_is_frozen_only_the_policy_learns(method, sources):
    top = "manager" if "manager" in PARTS[method] else "policy"
    states = {name: TRAINABLE if name == top else FROZEN for name in PARTS[method]}
    learner = make(method, seed=1)
    take_parts(learner, sources[method], states)
    freeze(learner.parts(), states)
    before = {name: tensors(learner, name) for name in states}
    learn(learner)
    for name, old in before.items():
        after = tensors(learner, name)
        same = all(torch.equal(after[key], value) for key, value in old.items())
        assert same == (name != top), name


@pytest.mark.parametrize("bootstrap", ["slow", "copy"])
def test_a_frozen_critic_keeps_its_copy_whatever_it_bootstraps_from(bootstrap):
    """The copy has not caught up with its critic when it is frozen."""
    level = ActorCriticConfig(layers=1, bootstrap=bootstrap)
    learner = make("dreamer", policy=level)
    learn(learner)
    states = {name: FROZEN if name == "values" else TRAINABLE for name in FLAT_MODEL}
    freeze(learner.parts(), states)
    before = tensors(learner, "values")
    learn(learner)
    assert_same(tensors(learner, "values"), before)


@pytest.mark.parametrize(("method", "part"), PAIRS)
def test_a_part_made_anew_is_a_new_learners_and_the_others_are_the_sources(method, part, sources):
    states = {name: REINITIALISED if name == part else TRAINABLE for name in PARTS[method]}
    learner, fresh, source = make(method, seed=1), make(method, seed=1), make(method)
    for entry, module in source.saved_modules().items():
        module.load_state_dict(sources[method][entry])
    take_parts(learner, sources[method], states)
    assert_same(tensors(learner, part), tensors(fresh, part))
    for name in set(states) - {part}:
        assert_same(tensors(learner, name), tensors(source, name))


def test_counters_begin_anew_and_the_spread_of_returns_comes_with_the_values(sources):
    states = dict.fromkeys(HIERARCHICAL, TRAINABLE)
    learner = make("skills", seed=1)
    take_parts(learner, sources["skills"], states)
    assert int(sources["skills"]["policy"]["decisions"]) > 0
    assert int(learner.policy.decisions) == 0
    saved = sources["skills"]["reward_scale"]
    assert float(learner.reward_scale.spread.variance) == float(saved["spread.variance"]) > 0
    assert not learner.reward_scale.sums.any(), "environments begin their sums anew"
    anew = make("skills", seed=1)
    take_parts(anew, sources["skills"], states | {"values": REINITIALISED})
    assert float(anew.reward_scale.spread.variance) == 0


def test_presets_train_what_they_are_named_after():
    found = presets(dict.fromkeys(HIERARCHICAL))
    trained = {
        preset: {name for name, state in states.items() if state == TRAINABLE}
        for preset, states in found.items()
    }
    assert trained == {
        "all": set(HIERARCHICAL),
        "heads": {"manager", "low_level", "values"},
        "manager": {"manager"},
        "manager_value": {"manager", "values"},
        "low_level": {"low_level"},
        "low_level_value": {"low_level", "values"},
        "scratch": set(),
    }
    assert set(found["scratch"].values()) == {REINITIALISED}
    others = {state for name in set(found) - {"scratch"} for state in found[name].values()}
    assert others == {TRAINABLE, FROZEN}
    flat = presets(dict.fromkeys(FLAT))
    assert set(flat) == {"all", "heads", "policy", "scratch"}
    assert flat["policy"] == {"encoder": FROZEN, "policy": TRAINABLE, "values": FROZEN}


def test_predictions_of_rewards_learn_with_every_preset_of_a_world_model():
    """An imagining agent learns of a new task by nothing else."""
    for names in (FLAT_MODEL, HIERARCHICAL_MODEL):
        for preset, states in presets(dict.fromkeys(names)).items():
            assert states["rewards"] == (REINITIALISED if preset == "scratch" else TRAINABLE)
            assert (states["world_model"] == TRAINABLE) == (preset == "all")
