"""The task vector as features that weigh as much as those of the pixels."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

SPREAD = 1.5


class TaskEmbedding(nn.Module):
    """Task vector to features in [-1, 1]: one linear layer and tanh.

    A target speed or position is one or two numbers beside hundreds of pixel features, which would
    drown it. Weights start as draws of standard deviation `SPREAD`, so that tasks that differ by a
    tenth of the vector's range [-1, 1] differ visibly in many features.

    Args:
        task_size: size of the task vector.
        features: number of features.
    """

    def __init__(self, task_size: int, features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(task_size, features)
        nn.init.normal_(self.layer.weight, std=SPREAD)
        nn.init.zeros_(self.layer.bias)

    def forward(self, task: Float[Tensor, "*batch task"]) -> Float[Tensor, "*batch features"]:
        """Features of task vectors."""
        return torch.tanh(self.layer(task))
