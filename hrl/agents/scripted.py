"""Policies that learn nothing: the floor that every learning claim is measured against."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hrl.data.observation import Observation, PolicyState
from hrl.seeding import torch_generator


@dataclass(frozen=True, kw_only=True)
class ScriptedConfig:
    """name: `random` (uniform actions) or `zero` (all actuators at rest)."""

    name: str = "random"

    def __post_init__(self) -> None:
        if self.name not in ("random", "zero"):
            raise ValueError(f"agent.name is {self.name!r}; choose from random, zero")


class RandomPolicy:
    """Uniform actions in [-1, 1], seeded; it stays random where others are greedy."""

    def __init__(self, action_size: int, seed: int) -> None:
        self.action_size, self.seed = action_size, seed

    def initial_state(self, num_envs: int) -> PolicyState:
        """A counter, so that every step draws afresh."""
        return {"step": torch.zeros(num_envs, dtype=torch.int64)}

    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """A uniform draw from the step's own stream."""
        del generator
        count = len(observation.task)
        source = torch_generator(self.seed, "random policy", int(state["step"].max()))
        return torch.rand(count, self.action_size, generator=source) * 2 - 1, {
            "step": state["step"] + 1
        }


class ZeroPolicy:
    """The middle of every actuator's range."""

    def __init__(self, action_size: int) -> None:
        self.action_size = action_size

    def initial_state(self, num_envs: int) -> PolicyState:
        """Nothing to remember."""
        del num_envs
        return {}

    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Zeros."""
        del generator
        return torch.zeros(len(observation.task), self.action_size), state
