"""One registration adds an agent: its name, configuration, learner and memory, without a file."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from envs import Suite, make_vec
from hrl.agents import registry
from hrl.agents.base import MemoryUse, RunShapes
from hrl.agents.on_policy_learner import OnPolicyLearner
from hrl.agents.ppo import PPO, PPOConfig
from hrl.agents.registry import (
    AgentEntry,
    find_agent,
    register_agent,
    register_entry,
    registered_agents,
)
from hrl.config import ConfigError, choices, load
from hrl.config_field import config_field
from hrl.run.build import agent_spec, build_learner, build_policy
from hrl.run.memory_estimate import checkpoint_disk_estimate, memory_estimates


@dataclass(frozen=True, kw_only=True)
class MyConfig(PPOConfig):
    """Configure an agent that lives outside the package."""

    name: str = "mine"
    memories: int = config_field(3, "memories that it keeps", at_least=1)

    def memory_uses(self, shapes: RunShapes) -> list[MemoryUse]:
        own = MemoryUse("memories (agent.memories)", 2**20 * self.memories, in_checkpoint=True)
        return [*super().memory_uses(shapes), own]


class Mine(PPO):
    """Act like PPO."""


@pytest.fixture(autouse=True)
def _own_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents of these tests are gone afterwards."""
    registered_agents()
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))


def test_a_registered_agent_is_composed_built_and_saved(tmp_path):
    register_agent("mine", config=MyConfig, run_defaults={"num_envs": 4})(Mine)
    assert "mine" in choices("agent")
    config, plain = load(["agent=mine", "size=debug", "suite=debug", "device=cpu"])
    assert isinstance(config.agent, MyConfig)
    assert plain["agent"]["memories"] == 3
    assert load(["agent=mine"])[0].num_envs == 4
    suite = Suite.from_dict(plain["suite"])
    spec = agent_spec(config, suite)
    env = make_vec(suite, config.num_envs, image_size=config.image_size)
    learner = build_learner(config, suite, env, spec)
    env.close()
    assert isinstance(learner, OnPolicyLearner)
    assert isinstance(learner.policy, Mine)
    saved = build_policy(config, spec)
    saved.load(learner.state_dict()["policy"])
    assert isinstance(saved.policy, Mine)
    (estimate,) = memory_estimates(config, suite, torch.device("cpu"))
    assert "memories (agent.memories)" in str(estimate)
    assert "3 checkpoints' memories" in str(checkpoint_disk_estimate(config, suite, tmp_path))


def test_its_ranges_are_checked_as_any_agents():
    register_agent("mine", config=MyConfig)(Mine)
    with pytest.raises(ConfigError, match=r"agent\.memories is 0; it must be at least 1"):
        load(["agent=mine", "agent.memories=0"])


def test_a_name_that_is_taken_or_differs_from_the_configs_is_refused():
    with pytest.raises(
        ValueError, match=r"the name of one that module hrl\.agents\.ppo registered"
    ):
        register_agent("ppo", config=PPOConfig)(Mine)
    with pytest.raises(ValueError, match=r"agent 'other': MyConfig\.name is 'mine'"):
        register_agent("other", config=MyConfig)(Mine)


def test_an_unknown_agent_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"agent\.name is 'dqn'; choose from director, dreamer"):
        find_agent("dqn")


def test_every_module_of_the_package_that_registers_an_agent_is_found():
    assert set(registered_agents()) >= {"director", "dreamer", "ppo", "skills", "random", "zero"}


def test_an_agent_that_learns_nothing_needs_no_learner():
    entry = find_agent("random")
    assert isinstance(entry, AgentEntry)
    assert entry.build_learner is None
    register_entry(entry)
