"""Read a policy back from what its learner saved, without the learner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from hrl.agents.base import Policy


class SavedModule:
    """Load a policy whose weights are those of one module.

    Args:
        policy: acts with the module's weights; often the module itself.
        module: takes the weights.
    """

    def __init__(self, policy: Policy, module: nn.Module) -> None:
        self.policy = policy
        self._module = module

    def load(self, weights: Mapping[str, Any]) -> None:
        """Take the weights.

        Raises:
            RuntimeError: they are not this module's.
        """
        self._module.load_state_dict(weights)


class WithoutWeights:
    """Hold a policy that learns nothing and has nothing to load.

    Args:
        policy: acts as it is.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def load(self, weights: Mapping[str, Any]) -> None:
        """Take nothing."""
        del weights
