"""Build perceptrons with or without the task as an input."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from hrl.nets.dense import Dense, linear
from hrl.nets.mlp import TaskEmbedding


class TaskDense(nn.Module):
    """Apply `Dense` to the inputs and, if `task_size` is not 0, to an own embedding of the task.

    The first layer multiplies inputs and embedding separately and adds the products. That equals
    the product with both concatenated, without copying either.

    Args:
        inputs: size of the input vector without the task.
        task_size: size of the task vector; 0 for a perceptron without the task as an input.
        task_features: size of the embedding.
        hidden: size of each hidden layer, at least one.
        outputs, output_scale: of `Dense`.
    """

    def __init__(
        self,
        inputs: int,
        task_size: int,
        task_features: int,
        hidden: Sequence[int],
        outputs: int | None,
        output_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.dense = Dense(inputs, hidden, outputs, output_scale)
        self.task = TaskEmbedding(task_size, task_features) if task_size else None
        self.from_task = linear(task_features, hidden[0]) if task_size else None

    def forward(
        self, inputs: Float[Tensor, "*batch inputs"], task: Float[Tensor, "*#batch task"]
    ) -> Float[Tensor, "*batch outputs"]:
        """Return the last layer's outputs.

        `task` may have fewer leading axes, or axes of size 1, where it does not vary.
        """
        hidden: Tensor = self.dense.layers[0](inputs)
        if self.task is not None and self.from_task is not None:
            hidden = hidden + self.from_task(self.task(task))
        outputs: Tensor = self.dense.layers[1:](hidden)
        return outputs
