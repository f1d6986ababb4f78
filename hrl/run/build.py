"""Build the policy or the learner of a run's configuration, by the registry of agents."""

from __future__ import annotations

import torch

from envs import PixelVectorEnv, Suite
from hrl.agents.base import AgentSpec, Learner, RunShapes, SavedPolicy
from hrl.agents.registry import find_agent, registered_agents
from hrl.config import ConfigError, RunConfig
from hrl.run.hardware import choose_device, choose_precision
from hrl.seeding import stream_seed


def agent_spec(config: RunConfig, suite: Suite) -> AgentSpec:
    """Return shapes, sizes and device for the agent of a run.

    Raises:
        ConfigError: an image that the encoder cannot cut into patches.
        ValueError: a device that cannot be used here.
    """
    patch = config.network.encoder.patch
    if config.image_size % patch:
        raise ConfigError(
            f"network.encoder.patch is {patch}; it must divide image_size, which is "
            f"{config.image_size}"
        )
    device = choose_device(config.device)
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
    )


def run_shapes(config: RunConfig, suite: Suite) -> RunShapes:
    """Return the numbers of a run that its agent's memory depends on."""
    longest = max(task.episode_length for task in suite.tasks("train")) // suite.action_repeat
    return RunShapes(
        num_envs=config.num_envs,
        image_bytes=config.image_size**2 * 3 * config.frame_stack,
        task_size=suite.task_size,
        action_size=suite.action_size,
        longest_episode=longest,
        world_model=config.network.world_model,
    )


def learns(config: RunConfig) -> bool:
    """Return whether the agent of a run learns anything."""
    return find_agent(config.agent.name).build_learner is not None


def build_learner(config: RunConfig, suite: Suite, env: PixelVectorEnv, spec: AgentSpec) -> Learner:
    """Return the learner of `config.agent`, its weights drawn from the run's stream "weights".

    Raises:
        ConfigError: an agent that learns nothing.
    """
    build = find_agent(config.agent.name).build_learner
    if build is None:
        learning = [name for name, entry in registered_agents().items() if entry.build_learner]
        raise ConfigError(
            f"agent {config.agent.name} learns nothing: evaluate it with pixel-hrl evaluate, "
            f"or train one of {', '.join(learning)}"
        )
    torch.manual_seed(stream_seed(config.seed, "weights"))
    names = [task.name for task in env.tasks]
    return build(config.agent, spec, env, names, suite.action_repeat)


def build_policy(config: RunConfig, spec: AgentSpec) -> SavedPolicy:
    """Return the policy of `config.agent`, its weights still to be loaded."""
    return find_agent(config.agent.name).build_policy(config.agent, spec)
