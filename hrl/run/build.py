"""Agents by name: builds the learner, or the policy that learns nothing, that a configuration asks
for.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from envs import PixelVectorEnv, Suite
from envs.adapters.stable_baselines3 import Sb3VecEnv
from hrl.agents.base import AgentSpec, Learner, Policy, SavedPolicy
from hrl.agents.director import Director
from hrl.agents.dreamer import Dreamer
from hrl.agents.model_based import ModelBasedAgent, ModelBasedLearner
from hrl.agents.on_policy import OnPolicyAgent, OnPolicyLearner
from hrl.agents.ppo import PPO
from hrl.agents.saved_policy import SavedModule
from hrl.agents.scripted import RandomPolicy, ZeroPolicy
from hrl.agents.skills import Skills
from hrl.agents.stable_baselines import SB3PPOLearner, SB3SACLearner, saved_ppo, saved_sac
from hrl.config import ConfigError, RunConfig
from hrl.run.hardware import choose_device, choose_precision
from hrl.seeding import stream_seed

Build = Callable[[RunConfig, Suite, PixelVectorEnv, AgentSpec], Learner]
BuildPolicy = Callable[[RunConfig, AgentSpec], SavedPolicy]


def agent_spec(config: RunConfig, suite: Suite) -> AgentSpec:
    """Shapes, sizes and place for the agents of a run.

    Raises:
        ConfigError: an image that the encoder cannot cut into patches.
        ValueError: a device that cannot be used here.
    """
    patch = config.network.encoder.patch
    if config.image_size % patch:
        raise ConfigError(
            f"network.encoder.patch is {patch}; it must divide image_size, which is {config.image_size}"
        )
    device, padding = choose_device(config.device), suite.padding()
    return AgentSpec(
        image_size=config.image_size,
        channels=3 * config.frame_stack,
        task_size=suite.task_size,
        action_size=suite.action_size,
        encoder=config.network.encoder,
        task_features=config.network.task_features,
        hidden=tuple(config.network.hidden),
        seed=config.seed,
        device=device,
        autocast=choose_precision(config.precision, device),
        world_model=config.network.world_model,
        padding=None
        if padding is None
        else (torch.from_numpy(padding[0]), torch.from_numpy(padding[1])),
    )


def build_learner(config: RunConfig, suite: Suite, env: PixelVectorEnv, spec: AgentSpec) -> Learner:
    """The learner of `config.agent`, its weights drawn from the run's stream "weights".

    Raises:
        ConfigError: an agent that learns nothing.
    """
    if config.agent.name not in LEARNERS:
        raise ConfigError(
            f"agent {config.agent.name} learns nothing: evaluate it with scripts/evaluate.py, "
            f"or train one of {', '.join(LEARNERS)}"
        )
    torch.manual_seed(stream_seed(config.seed, "weights"))
    return LEARNERS[config.agent.name](config, suite, env, spec)


def build_policy(config: RunConfig, spec: AgentSpec) -> SavedPolicy:
    """What acting needs of a saved run of `config.agent`, its weights still to be loaded."""
    return POLICIES[config.agent.name](config, spec)


def build_scripted(config: RunConfig, suite: Suite) -> Policy:
    """The policy of `agent=random` or `agent=zero`."""
    scripted: dict[str, Callable[[], Policy]] = {
        "random": lambda: RandomPolicy(suite.action_size, config.seed),
        "zero": lambda: ZeroPolicy(suite.action_size),
    }
    return scripted[config.agent.name]()


def _on_policy(agent: Callable[..., OnPolicyAgent]) -> Build:
    def build(config: RunConfig, suite: Suite, env: PixelVectorEnv, spec: AgentSpec) -> Learner:
        names = [task.name for task in env.tasks]
        return OnPolicyLearner(
            agent(config.agent, spec), config.agent, spec, env, names, suite.action_repeat
        )

    return build


def _model_based(agent: Callable[..., ModelBasedAgent]) -> Build:
    def build(config: RunConfig, suite: Suite, env: PixelVectorEnv, spec: AgentSpec) -> Learner:
        names = [task.name for task in env.tasks]
        return ModelBasedLearner(
            agent(config.agent, spec), config.agent, spec, env, names, suite.action_repeat
        )

    return build


def _saved_module(agent: Callable[..., Policy]) -> BuildPolicy:
    def build(config: RunConfig, spec: AgentSpec) -> SavedPolicy:
        policy = agent(config.agent, spec)
        assert isinstance(policy, torch.nn.Module)
        return SavedModule(policy, policy.to(spec.device), "module")

    return build


def _stable_baselines(learner: Callable[..., Learner]) -> Build:
    def build(config: RunConfig, suite: Suite, env: PixelVectorEnv, spec: AgentSpec) -> Learner:
        names = [task.name for task in env.tasks]
        return learner(config.agent, spec, Sb3VecEnv(env), names, suite.action_repeat)

    return build


LEARNERS: dict[str, Build] = {
    "ppo": _on_policy(PPO),
    "skills": _on_policy(Skills),
    "dreamer": _model_based(Dreamer),
    "director": _model_based(Director),
    "sb3_ppo": _stable_baselines(SB3PPOLearner),
    "sb3_sac": _stable_baselines(SB3SACLearner),
}

POLICIES: dict[str, BuildPolicy] = {
    "ppo": _saved_module(PPO),
    "skills": _saved_module(Skills),
    "dreamer": _saved_module(Dreamer),
    "director": _saved_module(Director),
    "sb3_ppo": lambda config, spec: saved_ppo(spec),
    "sb3_sac": lambda config, spec: saved_sac(spec),
}
"""For each of LEARNERS, what acting needs of it."""
