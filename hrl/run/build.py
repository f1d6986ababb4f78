"""Build the policy or the learner of a run's configuration, by the registry of agents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from envs import PixelVectorEnv, Suite
from envs.simulation.backends import choose_physics
from hrl.agents.base import AgentSpec, GraphedConfig, Learner, RunShapes, SavedPolicy
from hrl.agents.registry import find_agent, registered_agents
from hrl.config import ComposedConfig, ConfigError, RunConfig
from hrl.config_field import ConfigValueError
from hrl.nets.encoder import find_encoder
from hrl.ranks import ONE_RANK, Ranks
from hrl.run.hardware import choose_device, choose_precision
from hrl.seeding import stream_seed


def agent_spec(config: RunConfig, suite: Suite, ranks: Ranks = ONE_RANK) -> AgentSpec:
    """Return shapes, sizes and device for the agent of a run.

    Args:
        config: of the run.
        suite: of the run.
        ranks: that train the agent together.

    Raises:
        ConfigError: an image that the encoder cannot encode.
        ValueError: a device that cannot be used here, or an observation that the suite lacks.
    """
    encoder = config.network.encoder
    suite.check_observation(config.observation)
    try:
        if config.observation != "state":
            find_encoder(encoder.kind).check_size(config.image_size, encoder)
    except ConfigValueError as error:
        raise ConfigError(str(error.within("network.encoder"))) from error
    device = choose_device(config.device)
    return AgentSpec(
        image_size=config.image_size,
        channels=3 * config.frame_stack,
        task_size=suite.task_size,
        action_size=suite.action_size,
        encoder=encoder,
        task_features=config.network.task_features,
        hidden=tuple(config.network.hidden),
        seed=config.seed,
        device=device,
        autocast=choose_precision(config.precision, device),
        world_model=config.network.world_model,
        discrete_actions=suite.discrete_actions,
        observation=config.observation,
        state_size=_state_size(config, suite),
        ranks=ranks,
    )


def with_physics(
    given: ComposedConfig, saved: Mapping[str, Any] | None, suite: Suite, device: torch.device
) -> ComposedConfig:
    """Return the configuration with the simulator's name where it was left to the program.

    A run that is continued keeps the simulator that it was started with.

    Args:
        given: what the user asked for.
        saved: the plain configuration of the run that is continued; None for a new run.
        suite: of the run.
        device: that the agent computes on.

    Raises:
        ConfigError: a simulator that cannot simulate the suite there; names the one that can.
    """
    asked = given.config.physics
    if asked == "auto":
        asked = str((saved or {}).get("physics", asked))
    try:
        chosen = choose_physics(asked, suite.scenes(), device)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    resolved = replace(given.config, physics=chosen)
    return ComposedConfig(resolved, {**given.plain, "physics": chosen})


def run_shapes(config: RunConfig, suite: Suite) -> RunShapes:
    """Return the numbers of a run that its agent's memory depends on."""
    longest = max(task.episode_length for task in suite.tasks("train")) // suite.action_repeat
    encoder = config.network.encoder
    kind = find_encoder(encoder.kind)
    side, channels = config.image_size, 3 * config.frame_stack
    shows_images = config.observation != "state"
    state_bytes = 4 * _state_size(config, suite)
    return RunShapes(
        num_envs=config.num_envs,
        image_bytes=side**2 * channels * shows_images + state_bytes,
        stored_image_bytes=kind.stored_bytes(side, channels) * shows_images + state_bytes,
        map_bytes=kind.map_bytes(side, channels, encoder) * shows_images,
        task_size=suite.task_size,
        action_size=suite.action_size,
        longest_episode=longest,
        world_model=config.network.world_model,
        on_gpu=choose_device(config.device).type == "cuda",
    )


def _state_size(config: RunConfig, suite: Suite) -> int:
    return 0 if config.observation == "pixels" else suite.state_size


def learns(config: RunConfig) -> bool:
    """Return whether the agent of a run learns anything."""
    return find_agent(config.agent.name).build_learner is not None


def check_learns(config: RunConfig) -> None:
    """Raise ConfigError for an agent that learns nothing; names those that do."""
    if not learns(config):
        learning = [name for name, entry in registered_agents().items() if entry.build_learner]
        raise ConfigError(
            f"agent {config.agent.name} learns nothing: evaluate it with pixel-hrl evaluate, "
            f"or train one of {', '.join(learning)}"
        )


def build_learner(config: RunConfig, suite: Suite, env: PixelVectorEnv, spec: AgentSpec) -> Learner:
    """Return the learner of `config.agent`, its weights drawn from the run's stream "weights".

    Raises:
        ConfigError: an agent that learns nothing, or a graph of its updates without a GPU.
    """
    check_learns(config)
    build = find_agent(config.agent.name).build_learner
    assert build is not None
    if isinstance(config.agent, GraphedConfig):
        try:
            config.agent.check_graph(spec.device.type == "cuda")
        except ConfigValueError as error:
            raise ConfigError(str(error.within("agent"))) from error
    torch.manual_seed(stream_seed(config.seed, "weights"))
    names = [task.name for task in env.tasks]
    return build(config.agent, spec, env, names, suite.action_repeat)


def build_policy(config: RunConfig, spec: AgentSpec) -> SavedPolicy:
    """Return the policy of `config.agent`, its weights still to be loaded."""
    return find_agent(config.agent.name).build_policy(config.agent, spec)
