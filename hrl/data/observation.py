"""What an agent observes, and the memory that it carries from step to step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

PolicyState = dict[str, Tensor]
"""What a policy carries from step to step, each entry [env, ...]; empty for a policy without
memory."""


class Observation(NamedTuple):
    """What an agent sees."""

    pixels: UInt8[Tensor, "env height width channel"]
    task: Float[Tensor, "env task"]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], device: torch.device) -> Observation:
        """The environment's arrays as tensors, without a copy on a CPU."""
        return cls(
            torch.from_numpy(arrays["pixels"]).to(device),
            torch.from_numpy(arrays["task"]).to(device),
        )

    def rows(self, index: Tensor) -> Observation:
        """The observation of some of the environments."""
        return Observation(self.pixels[index], self.task[index])


def reset_state(
    policy: object, state: PolicyState, initial: PolicyState, done: Bool[Tensor, " env"]
) -> PolicyState:
    """`state`, with the initial state where an episode ended, except for what
    `policy.persistent_keys` names.
    """
    kept: tuple[str, ...] = getattr(policy, "persistent_keys", ())
    return {
        key: value if key in kept else torch.where(_like(done, value), initial[key], value)
        for key, value in state.items()
    }


def _like(mask: Tensor, value: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (value.dim() - 1))
