"""Embed the task vector in features that have as much influence as those of the image."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

WEIGHT_STD = 1.5


class TaskEmbedding(nn.Module):
    """Map task vectors to features in [-1, 1] by one linear layer and tanh.

    A target speed or position is one or two numbers beside hundreds of image features, and would
    have almost no influence on its own. Weights start as draws of standard deviation `WEIGHT_STD`,
    so that tasks that differ by a tenth of the vector's range [-1, 1] differ clearly in many
    features.

    Args:
        task_size: size of the task vector.
        features: number of features.
    """

    def __init__(self, task_size: int, features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(task_size, features)
        nn.init.normal_(self.layer.weight, std=WEIGHT_STD)
        nn.init.zeros_(self.layer.bias)

    def forward(self, task: Float[Tensor, "*batch task"]) -> Float[Tensor, "*batch features"]:
        """Return the features of task vectors."""
        return torch.tanh(self.layer(task))
