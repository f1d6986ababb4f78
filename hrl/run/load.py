"""Reading a run folder back: its configuration, its suite, its trained policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from envs import Suite
from hrl.agents.base import Policy, SavedPolicy
from hrl.config import ConfigError, RunConfig, as_now, from_saved, load
from hrl.run.build import LEARNERS, agent_spec, build_policy, build_scripted
from hrl.run.checkpoints import Checkpoint, CheckpointError, Checkpoints
from hrl.run.train import check_config_matches


@dataclass(frozen=True)
class LoadedRun:
    """A policy with what it was trained as; frames is 0 for one that learns nothing."""

    policy: Policy
    config: RunConfig
    plain: dict[str, Any]
    suite: Suite
    frames: int


def load_run(folder: Path, device: str = "") -> LoadedRun:
    """The policy of a run folder's last checkpoint.

    Takes memory for what acts, and for nothing that only learning needs: no rollout, no replay, no
    worlds.

    Args:
        device: where to put the policy; empty for where it was trained.

    Raises:
        ConfigError: no run folder, or one of another version.  CheckpointError: no whole checkpoint.
    """
    path = folder / "config.yaml"
    if not path.exists():
        raise ConfigError(f"{folder} is not a run folder: it has no config.yaml")
    plain = as_now(yaml.safe_load(path.read_text()))
    config = from_saved(plain)
    if config.agent.name not in LEARNERS:
        return _scripted(config, plain)
    config = replace(config, device=device) if device else config
    suite = Suite.from_dict(plain["suite"])
    saved = build_policy(config, agent_spec(config, suite))
    checkpoint = Checkpoints(folder / "checkpoints").load_latest(
        [f"learner/{key}" for key in saved.needs]
    )
    if checkpoint is None:
        raise ConfigError(f"{folder} has no checkpoint yet: train it with scripts/train.py")
    check_config_matches(checkpoint, plain)
    _load(saved, checkpoint)
    return LoadedRun(saved.policy, config, plain, suite, checkpoint.frames)


def load_scripted(overrides: Sequence[str]) -> LoadedRun:
    """A policy that learns nothing, from the command line's `agent=random suite=...`.

    Raises:
        ConfigError: the agent is one that learns, and so needs a run folder.
    """
    config, plain = load(overrides)
    if config.agent.name in LEARNERS:
        raise ConfigError(
            f"agent {config.agent.name} learns: give the folder of a run that scripts/train.py made"
        )
    return _scripted(config, plain)


def _load(saved: SavedPolicy, checkpoint: Checkpoint) -> None:
    try:
        saved.load(checkpoint.state["learner"])
    except (KeyError, RuntimeError) as error:  # another version of the agent
        reason = " ".join(str(error).split())
        raise CheckpointError(
            checkpoint.path, f"it does not hold this agent's weights: {reason}"
        ) from error


def _scripted(config: RunConfig, plain: dict[str, Any]) -> LoadedRun:
    suite = Suite.from_dict(plain["suite"])
    return LoadedRun(build_scripted(config, suite), config, plain, suite, 0)
