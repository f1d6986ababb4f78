"""Linear layers with root-mean-square norms, as the world model and its actors and critics are
built from.
"""

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
    """Divides the last axis by its root mean square, then scales it by learned weights; no offset.

    Zhang and Sennrich 2019, arXiv 1910.07467, equation 4, with the epsilon of DreamerV3, 1e-4. The
    sum of squares is float32 whatever the dtype of the inputs, which the outputs share.

    Args:
        size: of the last axis.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(size))

    def forward(self, inputs: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Inputs of about unit root mean square."""
        normed: Tensor = _RMSNorm.apply(inputs, self.scale)  # type: ignore[no-untyped-call]
        return normed


class _RMSNorm(torch.autograd.Function):
    """The norm with its gradient in closed form.

    y = x r s, where r = (|x|^2 / n + eps)^(-1/2); dx = r (g s - x r^2 (g x . s) / n), ds = sum of g x r over rows. Few
    wide operations, in the inputs' dtype: on a CPU the library's own norm, and autograd's way back
    through this one, are chains of passes that cost more than the products between them.
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
        onto = (
            (product @ scale.to(inputs.dtype)).unsqueeze(-1).float() * inverse**3 / inputs.shape[-1]
        )
        back = _outer(-onto.to(inputs.dtype), torch.ones_like(scale, dtype=inputs.dtype))
        rows = product.reshape(-1, product.shape[-1])
        moved = torch.addcmul(gradient * factors, inputs, back)
        return moved, (inverse.to(inputs.dtype).reshape(1, -1) @ rows).flatten().to(scale.dtype)


_NARROW = (
    64  # up to so many columns a row is too short for the CPU's loops over broadcast or summed axes
)


def _is_narrow(rows: Tensor, size: int) -> bool:
    return size <= _NARROW and rows.device.type == "cpu"


def _mean_square(rows: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch 1"]:
    """In float32."""
    size = rows.shape[-1]
    mean: Tensor
    if not _is_narrow(rows, size):
        mean = (
            torch.linalg.vector_norm(rows, dim=-1, keepdim=True, dtype=torch.float32).square()
            / size
        )
        return mean
    with torch.autocast(rows.device.type, enabled=False):
        mean = rows.float().square() @ torch.full((size, 1), 1 / size, device=rows.device)
    return mean


def _outer(
    column: Float[Tensor, "*batch 1"], row: Float[Tensor, " size"]
) -> Float[Tensor, "*batch size"]:
    """Products of all with all."""
    return column @ row.unsqueeze(0) if _is_narrow(column, len(row)) else column * row


@torch.no_grad()
def truncated_normal_(weight: Tensor, fan_in: int, scale: float = 1.0) -> Tensor:
    """Fills `weight` with draws of standard deviation `scale / sqrt(fan_in)`, in place.

    A normal distribution cut off at two standard deviations and widened again to unit variance
    (DreamerV3, Hafner et al. 2023, arXiv 2301.04104, as in its published code). A scale of 0 gives
    zeros.

    Raises:
        ValueError: where `fan_in` is not positive or `scale` is negative.
    """
    if fan_in < 1 or scale < 0:
        raise ValueError(f"fan_in is {fan_in} and scale {scale}; they must be at least 1 and 0")
    std = scale * _UNTRUNCATE / fan_in**0.5
    return nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std) if std else weight.zero_()


def linear(inputs: int, outputs: int, scale: float = 1.0) -> nn.Linear:
    """A linear layer with truncated normal weights of the given scale and zero bias."""
    layer = nn.Linear(inputs, outputs)
    truncated_normal_(layer.weight, inputs, scale)
    nn.init.zeros_(layer.bias)
    return layer


class Dense(nn.Module):
    """Perceptron: linear layer, RMSNorm and SiLU for each hidden size, then a plain linear layer
    where asked for.

    Args:
        inputs: size of the input vector.
        hidden: size of each hidden layer, possibly none.
        outputs: size of the output vector; None for the last hidden layer's activations.
        output_scale: of the last layer's weights. 0 starts a head at exactly zero, as the reward's
            and the critics' (DreamerV3); 0.01 starts a policy close to its broadest.
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
        """The last layer's outputs."""
        outputs: Tensor = self.layers(inputs)
        return outputs
