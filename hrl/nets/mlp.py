"""Build and initialise perceptrons with tanh, and embeddings of the task vector."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)
TASK_WEIGHT_STD = 1.5


def orthogonal_(layer: Layer, gain: float) -> Layer:
    """Set orthogonal weights of the given gain and zero bias, in place.

    Source: Saxe et al. 2014, arXiv 1312.6120.
    """
    nn.init.orthogonal_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class MLP(nn.Module):
    """Apply linear layers with tanh between them; the last layer is linear.

    Args:
        inputs: size of the input vector.
        hidden: size of each hidden layer, possibly none.
        outputs: size of the output vector.
        gain: gain of the last layer's weights. 0.01 for policies starts them near zero, so that the
            first actions explore evenly (Andrychowicz et al. 2021, arXiv 2006.05990, section 3.2).
    """

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, gain: float = 1.0) -> None:
        super().__init__()
        sizes = [inputs, *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [orthogonal_(nn.Linear(before, after), 2**0.5), nn.Tanh()]
        self.layers = nn.Sequential(*layers, orthogonal_(nn.Linear(sizes[-1], outputs), gain))

    def forward(self, inputs: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Return the last layer's outputs."""
        outputs: Tensor = self.layers(inputs)
        return outputs


class TaskEmbedding(nn.Module):
    """Map task vectors to features in [-1, 1] by one linear layer and tanh.

    The features have as much influence as those of the image: a target speed or position is one or
    two numbers beside hundreds of image features, and would have almost none on its own. Weights
    start as draws of standard deviation `TASK_WEIGHT_STD`, so that tasks that differ by a tenth of
    the vector's range [-1, 1] differ clearly in many features.

    Args:
        task_size: size of the task vector.
        features: number of features.
    """

    def __init__(self, task_size: int, features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(task_size, features)
        nn.init.normal_(self.layer.weight, std=TASK_WEIGHT_STD)
        nn.init.zeros_(self.layer.bias)

    def forward(self, task: Float[Tensor, "*batch task"]) -> Float[Tensor, "*batch features"]:
        """Return the features of task vectors."""
        return torch.tanh(self.layer(task))
