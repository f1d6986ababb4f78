"""Which numbers of an action a body has actuators for, where an agent controls bodies of different
sizes.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ActionMask(nn.Module):
    """1 for the first numbers of an action, which the body of a task uses, 0 for those that are
    padding to it.

    Args:
        tasks: task vectors, [row, task].
        masks: of the body of each, [row, action].
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
        """The mask of the nearest of the tasks."""
        with torch.autocast(task.device.type, enabled=False):
            distance = self.tasks.square().sum(-1) - 2 * task.float() @ self.tasks.T
        mask: Tensor = self.masks[distance.argmin(-1)]
        return mask
