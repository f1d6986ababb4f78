"""Reading a run folder back: its configuration, its suite, its trained policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from envs import Suite
from hrl.agents.base import Policy, SavedPolicy
from hrl.config import ComposedConfig, ConfigError, RunConfig, from_saved, load
from hrl.run.build import agent_spec, build_policy, learns
from hrl.run.checkpoint_format import Checkpoint
from hrl.run.checkpoints import Checkpoints
from hrl.run.config_match import check_config_matches
from hrl.run.errors import CheckpointError
from hrl.run.folder import RunFolder


@dataclass(frozen=True)
class LoadedRun:
    """Hold a policy with what it was trained as.

    Attributes:
        policy: acts.
        composed: the configuration of its run.
        suite: what it was trained on.
        frames: control steps that it was trained for; 0 for a policy that learns nothing.
    """

    policy: Policy
    composed: ComposedConfig
    suite: Suite
    frames: int

    @property
    def config(self) -> RunConfig:
        """Return the typed configuration."""
        return self.composed.config

    @property
    def plain(self) -> dict[str, Any]:
        """Return the plain configuration."""
        return self.composed.plain


def load_run(folder: Path, device: str = "") -> LoadedRun:
    """The policy of a run folder's last checkpoint.

    Takes memory for what acts, and for nothing that only learning needs: no rollout, no replay, no
    worlds.

    Args:
        device: where to put the policy; empty for where it was trained.

    Raises:
        ConfigError: no run folder, or one of another version.  CheckpointError: no whole checkpoint.
    """
    files = RunFolder(folder)
    config, plain = from_saved(files.read_config())
    if not learns(config):
        return _scripted(ComposedConfig(config, plain))
    config = replace(config, device=device) if device else config
    suite = Suite.from_dict(plain["suite"])
    saved = build_policy(config, agent_spec(config, suite))
    checkpoint = Checkpoints(files.checkpoints).load_latest(
        [f"learner/{key}" for key in saved.needs]
    )
    if checkpoint is None:
        raise ConfigError(f"{folder} has no checkpoint yet: train it with scripts/train.py")
    check_config_matches(checkpoint.metadata["config"], plain)
    _load(saved, checkpoint)
    return LoadedRun(saved.policy, ComposedConfig(config, plain), suite, checkpoint.frames)


def load_scripted(overrides: Sequence[str]) -> LoadedRun:
    """A policy that learns nothing, from the command line's `agent=random suite=...`.

    Raises:
        ConfigError: the agent is one that learns, and so needs a run folder.
    """
    composed = load(overrides)
    name = composed.config.agent.name
    if learns(composed.config):
        raise ConfigError(
            f"agent {name} learns: give the folder of a run that scripts/train.py made"
        )
    return _scripted(composed)


def _load(saved: SavedPolicy, checkpoint: Checkpoint) -> None:
    try:
        saved.load(checkpoint.state["learner"])
    except (KeyError, RuntimeError) as error:  # another version of the agent
        reason = " ".join(str(error).split())
        raise CheckpointError(
            checkpoint.path, f"it does not hold this agent's weights: {reason}"
        ) from error


def _scripted(composed: ComposedConfig) -> LoadedRun:
    suite = Suite.from_dict(composed.plain["suite"])
    spec = agent_spec(replace(composed.config, device="cpu"), suite)
    return LoadedRun(build_policy(composed.config, spec).policy, composed, suite, 0)
