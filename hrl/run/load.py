"""Read a run back: its configuration, its suite, its trained policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from envs import Suite
from hrl.agents.base import Policy
from hrl.config import ComposedConfig, ConfigError, RunConfig, from_saved, load
from hrl.run.build import agent_spec, build_policy, learns
from hrl.run.checkpoint_format import Checkpoint, read
from hrl.run.checkpoints import Checkpoints
from hrl.run.config_match import check_config_matches
from hrl.run.errors import CheckpointError, FolderError
from hrl.run.folder import RunFolder


@dataclass(frozen=True)
class LoadedRun:
    """Store a loaded policy with the configuration that it was trained with.

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

    def counters(self) -> dict[str, int]:
        """Return the numbers that say which policy of which run this is."""
        return {"frames": self.frames, "seed": self.config.seed}


def load_run(folder: Path, device: str = "") -> LoadedRun:
    """Return the policy of a run folder's last checkpoint.

    Memory is taken for what acts, and for nothing that only learning needs: no rollout, no replay,
    no environments. A folder that has no checkpoints, only its configuration and its policy file,
    will do.

    Args:
        folder: of the run.
        device: where to put the policy; empty for where it was trained.

    Raises:
        FolderError: it is no run folder, it is one of another version, or it has no checkpoint yet.
        ConfigError: its configuration cannot be used.
        CheckpointError: no checkpoint is whole.
    """
    files = RunFolder(folder)
    composed = from_saved(files.read_config())
    if not learns(composed.config):
        return _scripted(composed)
    checkpoint = Checkpoints(files.checkpoints).load_policy()
    if checkpoint is None and files.policy.exists():
        checkpoint = read(files.policy)
    if checkpoint is None:
        raise FolderError(f"{folder} has no checkpoint yet: train it with pixel-hrl train")
    check_config_matches(checkpoint.value("config", dict), composed.plain)
    return loaded_run(composed, checkpoint, device)


def load_policy_file(path: Path, device: str = "") -> LoadedRun:
    """Return the policy of a policy file, which needs nothing beside it.

    Args:
        path: the file.
        device: where to put the policy; empty for where it was trained.

    Raises:
        CheckpointError: the file is not whole, or holds no policy of a run.
        ConfigError: its configuration cannot be used.
    """
    checkpoint = read(path)
    plain = checkpoint.metadata.get("config")
    if not isinstance(plain, dict) or "policy_checksum" in checkpoint.metadata:
        raise CheckpointError(
            path, "it is not a policy file; give a run folder's policy.safetensors"
        )
    return loaded_run(from_saved(plain), checkpoint, device)


def loaded_run(composed: ComposedConfig, checkpoint: Checkpoint, device: str) -> LoadedRun:
    """Return the policy of a checkpoint.

    Args:
        composed: the configuration of its run.
        checkpoint: of the policy.
        device: where to put the policy; empty for where it was trained.

    Raises:
        CheckpointError: the weights are not of this agent.
    """
    config, plain = composed
    config = replace(config, device=device) if device else config
    suite = Suite.from_dict(plain["suite"])
    saved = build_policy(config, agent_spec(config, suite))
    try:
        saved.load(checkpoint.state)
    except (
        LookupError,
        TypeError,
        AttributeError,
        ValueError,
        RuntimeError,
    ) as error:  # another version of the agent
        reason = " ".join(str(error).split())
        raise CheckpointError(
            checkpoint.path, f"it does not hold this agent's weights: {reason}"
        ) from error
    return LoadedRun(saved.policy, ComposedConfig(config, plain), suite, checkpoint.frames)


def load_scripted(overrides: Sequence[str]) -> LoadedRun:
    """Return a policy that learns nothing, from the command line's `agent=random suite=...`.

    Raises:
        ConfigError: the agent is one that learns, and so needs a run folder.
    """
    composed = load(overrides)
    check_scripted(composed.config)
    return _scripted(composed)


def check_scripted(config: RunConfig) -> None:
    """Raise ConfigError for an agent that learns, which has to be loaded from its run."""
    if learns(config):
        raise ConfigError(
            f"agent {config.agent.name} learns: give the folder of a run that pixel-hrl train made"
        )


def _scripted(composed: ComposedConfig) -> LoadedRun:
    suite = Suite.from_dict(composed.plain["suite"])
    spec = agent_spec(replace(composed.config, device="cpu"), suite)
    return LoadedRun(build_policy(composed.config, spec).policy, composed, suite, 0)
