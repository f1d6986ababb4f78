"""Define what an agent observes, and the state that its policy carries from step to step."""

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
    """Hold what an agent observes in a batch of environments.

    Attributes:
        pixels: stacks of images in [0, 255]; without any pixel with `observation=state`.
        task: task vectors.
        action_mask: True for each number of an action that moves an actuator of the environment's
            body, False for padding, which bodies with fewer actuators ignore.
        state: the bodies' own states; without any number with `observation=pixels`.
    """

    pixels: UInt8[Tensor, "env height width channel"]
    task: Float[Tensor, "env task"]
    action_mask: Bool[Tensor, "env action"]
    state: Float[Tensor, "env state"]

    @classmethod
    def of(cls, parts: Mapping[str, Tensor]) -> Observation:
        """Return an observation of its parts by name; images or states may be missing."""
        task = parts["task"]
        count = len(task)
        absent = {
            "pixels": torch.zeros(count, 0, 0, 0, dtype=torch.uint8, device=task.device),
            "state": torch.zeros(count, 0, device=task.device),
        }
        return cls(**absent | {name: parts[name] for name in cls._fields if name in parts})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], device: torch.device) -> Observation:
        """Return the environment's arrays as tensors, without a copy on a CPU."""
        names = [name for name in cls._fields if name in arrays]
        return cls.of({name: torch.from_numpy(arrays[name]).to(device) for name in names})

    @classmethod
    def from_final(cls, final: np.ndarray, device: torch.device) -> Observation:
        """Return the last observations of episodes as the rows of one.

        Args:
            final: an object array of mappings, those entries of `infos["final_obs"]` that are not
                None.
            device: of the tensors.
        """
        rows = {name: np.stack([row[name] for row in final]) for name in final[0]}
        return cls.from_arrays(rows, device)

    def parts(self) -> dict[str, Tensor]:
        """Return by name what there is: images only if there are pixels, states only if numbers."""
        return {name: values for name, values in self._asdict().items() if values.numel()}

    def rows(self, index: Tensor) -> Observation:
        """Return the observation of some of the environments."""
        return Observation(*(values[index] for values in self))


def reset_state(
    policy: object, state: PolicyState, initial: PolicyState, done: Bool[Tensor, " env"]
) -> PolicyState:
    """Return `state` with the initial state where an episode ended.

    Entries that `policy.persistent_keys` names outlive their episode.
    """
    kept: tuple[str, ...] = getattr(policy, "persistent_keys", ())
    return {
        key: value if key in kept else torch.where(_like(done, value), initial[key], value)
        for key, value in state.items()
    }


def _like(mask: Tensor, value: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (value.dim() - 1))
