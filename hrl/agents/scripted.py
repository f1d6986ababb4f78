"""Act without learning: random and zero actions, the reference scores of every suite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hrl.agents.base import AgentConfig, AgentSpec, SavedPolicy
from hrl.agents.registry import AgentEntry, WithoutWeights, register_entry
from hrl.data.observation import Observation, PolicyState
from hrl.seeding import torch_generator


@dataclass(frozen=True, kw_only=True)
class RandomConfig(AgentConfig):
    """Configure uniform actions, which have no hyperparameters."""

    takes_state: ClassVar[bool] = True
    name: str = "random"


@dataclass(frozen=True, kw_only=True)
class ZeroConfig(AgentConfig):
    """Configure all actuators at rest, which has no hyperparameters."""

    takes_state: ClassVar[bool] = True
    name: str = "zero"


class RandomPolicy:
    """Act by uniform draws in [-1, 1], also where other policies act greedily.

    Args:
        action_size: size of the action.
        seed: seed of the draws.
    """

    def __init__(self, action_size: int, seed: int) -> None:
        self.action_size = action_size
        self.seed = seed

    @property
    def persistent_keys(self) -> tuple[str, ...]:
        """Return the counter: later episodes of a world do not repeat the actions of the first."""
        return ("step",)

    def initial_state(self, num_envs: int) -> PolicyState:
        """Return a counter, so that every step draws anew."""
        return {"step": torch.zeros(num_envs, dtype=torch.int64)}

    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Return a uniform draw from the step's own stream, and the counter of the next step."""
        del generator
        source = torch_generator(self.seed, "random policy", int(state["step"].max()))
        draw = torch.rand(len(observation.task), self.action_size, generator=source)
        return draw * 2 - 1, {"step": state["step"] + 1}


class ZeroPolicy:
    """Act by the middle of every actuator's range.

    Args:
        action_size: size of the action.
    """

    def __init__(self, action_size: int) -> None:
        self.action_size = action_size

    def initial_state(self, num_envs: int) -> PolicyState:
        """Return an empty state."""
        del num_envs
        return {}

    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Return zeros."""
        del generator
        return torch.zeros(len(observation.task), self.action_size), state


def _build_random(config: RandomConfig, spec: AgentSpec) -> SavedPolicy:
    del config
    return WithoutWeights(RandomPolicy(spec.action_size, spec.seed))


def _build_zero(config: ZeroConfig, spec: AgentSpec) -> SavedPolicy:
    del config
    return WithoutWeights(ZeroPolicy(spec.action_size))


register_entry(AgentEntry("random", RandomConfig, __name__, _build_random))
register_entry(AgentEntry("zero", ZeroConfig, __name__, _build_zero))
