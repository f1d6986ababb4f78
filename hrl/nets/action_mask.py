"""Mask the padding of actions of bodies with different numbers of actuators."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ActionMask(nn.Module):
    """Look up the action mask that belongs to a task vector.

    A mask is 1 for the leading numbers of an action, which the task's body uses, and 0 for padding.

    Args:
        tasks: task vectors, [row, task].
        masks: of each task's body, [row, action].
    """

    tasks: Tensor
    masks: Tensor

    def __init__(
        self, tasks: Float[Tensor, "row task"], masks: Float[Tensor, "row action"]
    ) -> None:
        super().__init__()
        self.register_buffer("tasks", tasks, persistent=False)
        self.register_buffer("masks", masks, persistent=False)

    def forward(self, task: Float[Tensor, "*batch task"]) -> Float[Tensor, "*batch action"]:
        """Return the mask of the nearest known task."""
        with torch.autocast(task.device.type, enabled=False):
            distance = self.tasks.square().sum(-1) - 2 * task.float() @ self.tasks.T
        mask: Tensor = self.masks[distance.argmin(-1)]
        return mask
