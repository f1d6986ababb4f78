"""Multiply by block-diagonal weights."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hrl.nets.dense import truncated_normal_


class BlockLinear(nn.Module):
    """Map each of `blocks` equal groups of inputs linearly to its own group of outputs.

    Weights and multiplications shrink by the number of blocks, which makes a recurrent state of
    thousands of units affordable (DreamerV3, Hafner et al. 2023, arXiv 2301.04104, the block GRU).

    Args:
        inputs: size of the input vector.
        outputs: size of the output vector.
        blocks: number of groups; divides both sizes.
        output_scale: of the weights.

    Raises:
        ValueError: `blocks` does not divide a size; the message names it.
    """

    def __init__(self, inputs: int, outputs: int, blocks: int, output_scale: float = 1.0) -> None:
        super().__init__()
        for name, size in (("inputs", inputs), ("outputs", outputs)):
            if blocks < 1 or size % blocks:
                raise ValueError(
                    f"blocks is {blocks}; it must be positive and divide {name}, which is {size}"
                )
        self.weight = nn.Parameter(torch.empty(blocks, inputs // blocks, outputs // blocks))
        self.bias = nn.Parameter(torch.zeros(outputs))
        # The fan-in is that of the whole layer, not of a block: the weights of blocks start small,
        # as in the published code.
        truncated_normal_(self.weight, inputs, output_scale)

    def forward(self, inputs: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Multiply each group of inputs by its own block and add the bias."""
        groups = inputs.unflatten(-1, (self.weight.shape[0], -1))
        products = torch.einsum("...bi,bio->...bo", groups, self.weight).flatten(-2)
        return products + self.bias.to(products.dtype)
