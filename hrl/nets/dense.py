"""Build perceptrons with root-mean-square norms, for world models and their actors and critics."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

NORM_EPS = 1e-4
# A standard normal cut off at +-2 has standard deviation 0.8796; this restores 1.
_UNTRUNCATE = 1.1368


class RMSNorm(nn.Module):
    """Divide the last axis by its root mean square, then scale it by learned weights; no offset.

    Source: Zhang and Sennrich 2019, arXiv 1910.07467, equation 4, with the epsilon of DreamerV3,
    1e-4. The sum of squares is float32 whatever the dtype of the inputs; outputs have the inputs'
    dtype.

    Args:
        size: of the last axis.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(size))

    def forward(self, inputs: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Return the inputs scaled to about unit root mean square, times the weights."""
        normed: Tensor = _RMSNorm.apply(inputs, self.scale)  # type: ignore[no-untyped-call]
        return normed


class _RMSNorm(torch.autograd.Function):
    """Compute the norm, and its gradient in closed form.

    y = x r s, where r = (|x|^2 / n + eps)^(-1/2);
    dx = r (g s - x r^2 (g x . s) / n), ds = sum of g x r over rows.

    These are few wide operations, in the inputs' dtype. On a CPU the library's own norm, and
    autograd's backward pass through this one, are chains of passes over memory that cost more than
    the matrix products between them.
    """

    @staticmethod
    def forward(context: Any, inputs: Tensor, scale: Tensor) -> Tensor:
        inverse = torch.rsqrt(_mean_square(inputs) + NORM_EPS)
        factors = _outer(inverse.to(inputs.dtype), scale.to(inputs.dtype))
        context.save_for_backward(inputs, scale, inverse, factors)
        return inputs * factors

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        inputs, scale, inverse, factors = context.saved_tensors
        product = gradient * inputs
        dot = (product @ scale.to(inputs.dtype)).unsqueeze(-1).float()
        along_inputs = dot * inverse**3 / inputs.shape[-1]
        ones = torch.ones_like(scale, dtype=inputs.dtype)
        along_inputs = _outer(-along_inputs.to(inputs.dtype), ones)
        d_inputs = torch.addcmul(gradient * factors, inputs, along_inputs)
        rows = product.reshape(-1, product.shape[-1])
        d_scale = (inverse.to(inputs.dtype).reshape(1, -1) @ rows).flatten()
        return d_inputs, d_scale.to(scale.dtype)


# Rows of at most so many columns are too short for the CPU's loops over broadcast or summed axes.
_NARROW = 64


def _is_narrow(rows: Tensor, size: int) -> bool:
    return size <= _NARROW and rows.device.type == "cpu"


def _mean_square(rows: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch 1"]:
    """Return the mean square of each row in float32."""
    size = rows.shape[-1]
    mean: Tensor
    if not _is_narrow(rows, size):
        norm = torch.linalg.vector_norm(rows, dim=-1, keepdim=True, dtype=torch.float32)
        mean = norm.square() / size
        return mean
    with torch.autocast(rows.device.type, enabled=False):
        mean = rows.float().square() @ torch.full((size, 1), 1 / size, device=rows.device)
    return mean


def _outer(
    column: Float[Tensor, "*batch 1"], row: Float[Tensor, " size"]
) -> Float[Tensor, "*batch size"]:
    """Return the product of every element of the column with every element of the row."""
    return column @ row.unsqueeze(0) if _is_narrow(column, len(row)) else column * row


@torch.no_grad()
def truncated_normal_(weight: Tensor, fan_in: int, scale: float = 1.0) -> Tensor:
    """Fill `weight` with draws of standard deviation `scale / sqrt(fan_in)`, in place.

    The distribution is a normal one, truncated at two standard deviations and widened again to unit
    variance (DreamerV3, Hafner et al. 2023, arXiv 2301.04104, as in its published code). A scale of
    0 gives zeros.

    Raises:
        ValueError: `fan_in` is not positive or `scale` is negative.
    """
    if not (fan_in >= 1 and scale >= 0):
        raise ValueError(f"fan_in is {fan_in} and scale {scale}; they must be at least 1 and 0")
    std = scale * _UNTRUNCATE / fan_in**0.5
    return nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std) if std else weight.zero_()


def linear(inputs: int, outputs: int, scale: float = 1.0) -> nn.Linear:
    """Return a linear layer with truncated normal weights of the given scale and zero bias."""
    layer = nn.Linear(inputs, outputs)
    truncated_normal_(layer.weight, inputs, scale)
    nn.init.zeros_(layer.bias)
    return layer


class Dense(nn.Module):
    """Apply linear layer, RMSNorm and SiLU for each hidden size, then perhaps one linear layer.

    Args:
        inputs: size of the input vector.
        hidden: size of each hidden layer, possibly none.
        outputs: size of the output vector; None for no last linear layer, so that the outputs are
            the last hidden layer's activations.
        output_scale: of the last layer's weights. 0 starts a head at exactly zero, as for the
            reward and the critics in DreamerV3; 0.01 starts a policy close to its largest entropy.
    """

    def __init__(
        self, inputs: int, hidden: Sequence[int], outputs: int | None, output_scale: float = 1.0
    ) -> None:
        super().__init__()
        sizes = [inputs, *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [linear(before, after), RMSNorm(after), nn.SiLU()]
        if outputs is not None:
            layers.append(linear(sizes[-1], outputs, output_scale))
        self.layers = nn.Sequential(*layers)
        self.outputs = sizes[-1] if outputs is None else outputs

    def forward(self, inputs: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Return the last layer's outputs."""
        outputs: Tensor = self.layers(inputs)
        return outputs
