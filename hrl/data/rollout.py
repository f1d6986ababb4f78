"""Hold the steps of one on-policy iteration, as [time, env, ...]."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from hrl.data.observation import Observation, PolicyState
from hrl.ranks import ONE_RANK, Ranks


@runtime_checkable
class Explorer(Protocol):
    """Act, and record what the learner needs to know of each action."""

    def initial_state(self, num_envs: int) -> PolicyState:
        """Return the state in which every episode starts."""

    def explore(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState, dict[str, Tensor]]:
        """Return actions, the next state, and records [env, ...] to be stored with the step."""

    def bootstrap_values(self, observation: Observation, state: PolicyState) -> dict[str, Tensor]:
        """Return values [env], by name, of being at `observation` with `state` carried there."""


@dataclass
class Rollout:
    """Hold consecutive steps of several environments.

    Attributes:
        steps: [time, env, ...] by name: every part of the observation but the image, `reward`,
            `done` and the explorer's records, among which is what it keeps of the image, such as
            `patches`. For each value NAME of `bootstrap_values` there is `NAME_bootstrap`, which is
            zero except where a time limit ended the episode.
        last_values: [env] by name, the values after the last step.
        ranks: processes each of which has such a rollout; statistics are those of all of them.
        memory: steps of a rollout that nobody reads any more, overwritten where they fit: memory
            that is new to the process costs a CPU several times as much as writing to it.
    """

    steps: dict[str, Tensor] = field(default_factory=dict)
    last_values: dict[str, Tensor] = field(default_factory=dict)
    ranks: Ranks = ONE_RANK
    memory: Mapping[str, Tensor] = field(default_factory=dict)

    def store(self, time: int, n_steps: int, step: Mapping[str, Tensor]) -> None:
        """Store one step [env, ...]; the first one of a column takes memory for all `n_steps`.

        A column is 0 at steps that do not have it.
        """
        for key, value in step.items():
            if key not in self.steps:
                self.steps[key] = self._column(key, n_steps, value)
                self.steps[key][:time] = 0
            self.steps[key][time] = value
        for key in self.steps.keys() - step.keys():
            self.steps[key][time] = 0

    def minibatches(self, size: int, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
        """Yield shuffled minibatches [size, ...] that contain every step once."""
        flat = {key: value.flatten(0, 1) for key, value in self.steps.items()}
        reward = flat["reward"]
        order = torch.randperm(len(reward), generator=generator, device=generator.device)
        for chunk in order.to(reward.device).split(size):
            yield {key: value.index_select(0, chunk) for key, value in flat.items()}

    # Private methods.

    def _column(self, key: str, n_steps: int, value: Tensor) -> Tensor:
        """Return memory for values [env, ...] of all steps, whatever it holds."""
        shape = (n_steps, *value.shape)
        kind = (shape, value.dtype, value.device)
        old = self.memory.get(key)
        if old is not None and (old.shape, old.dtype, old.device) == kind:
            return old
        return torch.empty(shape, dtype=value.dtype, device=value.device)
