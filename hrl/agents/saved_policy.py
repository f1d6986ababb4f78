"""A policy read back from what its learner saved, without the learner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from hrl.agents.base import Policy


class SavedModule:
    """A `SavedPolicy` whose weights are those of one module, saved whole under one key of the
    learner's state.

    Args:
        policy: acts with the module's weights; often the module itself.
        module: takes the weights.
        key: of `Learner.state_dict`.
    """

    def __init__(self, policy: Policy, module: nn.Module, key: str) -> None:
        self.policy, self.needs = policy, (key,)
        self._module = module

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes the weights. Raises KeyError or RuntimeError where they are not this module's."""
        self._module.load_state_dict(state[self.needs[0]])
