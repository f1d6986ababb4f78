"""Read the checkpoint that fine-tuning starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from envs import Suite
from hrl.agents.parts import HasParts, Parts
from hrl.agents.registry import find_agent, registered_agents
from hrl.config import ComposedConfig, ConfigError, from_saved
from hrl.run.build import agent_spec, build_policy
from hrl.run.checkpoint_format import Checkpoint, read
from hrl.run.checkpoints import POLICY, Checkpoints, training_path
from hrl.run.config_match import check_config_matches
from hrl.run.errors import FolderError
from hrl.run.folder import RunFolder


@dataclass(frozen=True)
class FinetuneSource:
    """Hold the newest checkpoint of the run that fine-tuning starts from.

    Attributes:
        folder: of the run.
        composed: its configuration.
        suite: what it was trained on.
        policy: the policy of its newest whole checkpoint.
        sha256: of the policy's file.
        parts: of its agent, without weights.
    """

    folder: Path
    composed: ComposedConfig
    suite: Suite
    policy: Checkpoint
    sha256: str
    parts: Parts

    def state(self, entries: Iterable[str]) -> dict[str, Any]:
        """Return these entries of the learner's state.

        Raises:
            CheckpointError: the file of the training state is not whole.
        """
        names = {entry: f"learner/{entry}" for entry in entries if entry != POLICY}
        if not names:
            return {POLICY: self.policy.state}
        training = read(training_path(self.policy.path), list(names.values()))
        return {**training.state["learner"], POLICY: self.policy.state}


def read_source(folder: Path) -> FinetuneSource:
    """Return what fine-tuning starts from.

    Memory is taken for the policy alone.

    Raises:
        FolderError: it is no run folder, it is one of another version, or it has no checkpoint.
        ConfigError: its configuration cannot be used, or its agent has no parts.
        CheckpointError: no checkpoint is whole.
    """
    files = RunFolder(folder)
    composed = from_saved(files.read_config())
    suite = Suite.from_dict(composed.plain["suite"])
    parts = _parts(composed, suite)
    policy = Checkpoints(files.checkpoints).load_policy()
    if policy is None:
        raise FolderError(
            f"{files} has no checkpoint to start from: train it with pixel-hrl train, or bring its "
            f"{files.checkpoints.name} back"
        )
    check_config_matches(policy.value("config", dict), composed.plain)
    sha256 = hashlib.sha256(policy.path.read_bytes()).hexdigest()
    return FinetuneSource(files.path, composed, suite, policy, sha256, parts)


def planned_source(composed: ComposedConfig, suite: Suite) -> FinetuneSource:
    """Return a run that is still to be trained as a source, to check what fine-tuning asks of it.

    Raises:
        ConfigError: its agent has no parts.
    """
    config = composed.config
    folder = Path(config.folder)
    untrained = Checkpoint(config.frames, {}, {}, {}, folder, "")
    return FinetuneSource(folder, composed, suite, untrained, "", _parts(composed, suite))


def _parts(composed: ComposedConfig, suite: Suite) -> Parts:
    """Return the parts of a run's agent, which is built for their names.

    Raises:
        ConfigError: the agent declares no parts.
    """
    config = composed.config
    if not find_agent(config.agent.name).has_parts:
        valid = [name for name, entry in registered_agents().items() if entry.has_parts]
        raise ConfigError(
            f"agent {config.agent.name} cannot be fine-tuned part by part; choose a run of one of "
            f"{', '.join(valid)}"
        )
    policy = build_policy(config, agent_spec(replace(config, device="cpu"), suite)).policy
    assert isinstance(policy, HasParts)
    return policy.parts()
