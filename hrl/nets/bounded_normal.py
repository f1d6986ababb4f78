"""Diagonal Gaussians with a bounded mean and a bounded spread: policies over continuous actions."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class BoundedNormal:
    """Normal with mean `tanh(m)` and standard deviation `low + (high - low) sigmoid(x + 2)`,
    without squashing.

    Draws may leave [-1, 1]; environments clip them. The shift starts policies at 0.88 of the way
    from the narrowest to the broadest (DreamerV3, Hafner et al. 2023, arXiv 2301.04104, as in its
    published code, with 0.1 and 1; Director, arXiv 2206.04114, has 0.03 and 1 and no shift).
    Everything is computed in float32.

    Args:
        parameters: m, then x, [*batch, 2 * dim].
        low: least standard deviation, positive.
        high: largest standard deviation, above `low`.
        mask: 0 where a dimension is padding, which is always 0 and counts for nothing; None: there
            is none.

    Raises:
        ValueError: where the bounds are not 0 < low < high.
    """

    def __init__(
        self,
        parameters: Float[Tensor, "*batch twice_dim"],
        low: float,
        high: float,
        mask: Float[Tensor, "*#batch dim"] | None = None,
    ) -> None:
        if not 0 < low < high:
            raise ValueError(
                f"the standard deviation's bounds are {low} and {high}; they must be 0 < low < high"
            )
        mean, raw = parameters.float().chunk(2, dim=-1)
        self.mask = mask
        self.mean: Float[Tensor, "*batch dim"] = self._kept(torch.tanh(mean))
        self.std: Float[Tensor, "*batch dim"] = low + (high - low) * torch.sigmoid(raw + 2.0)
        self._log_low, self._log_high = math.log(low), math.log(high)

    def sample(self, noise: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """The draw that standard normal `noise` leads to; gradients flow into mean and standard
        deviation.
        """
        return self.mean + self._kept(self.std * noise)

    def log_prob(self, value: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Log density of each dimension of `value`. Detach a draw of this policy before it is
        scored by it.
        """
        return self._kept(
            -0.5 * ((value - self.mean) / self.std).square() - self.std.log() - _LOG_SQRT_2PI
        )

    def kl(self, other: BoundedNormal) -> Float[Tensor, "*batch dim"]:
        """Kullback-Leibler divergence of `other` from this policy, of each dimension in nats."""
        spread = (self.std.square() + (self.mean - other.mean).square()) / (2 * other.std.square())
        return self._kept((other.std / self.std).log() + spread - 0.5)

    def entropy(self) -> Float[Tensor, "*batch dim"]:
        """Differential entropy of each dimension in nats."""
        return self._kept(self.std.log() + (0.5 + _LOG_SQRT_2PI))

    def normalised_entropy(self) -> Float[Tensor, "*batch dim"]:
        """Entropy of each dimension, 0 at the narrowest and 1 at the broadest (Director, arXiv
        2206.04114).
        """
        return self._kept((self.std.log() - self._log_low) / (self._log_high - self._log_low))

    def average(
        self, values: Float[Tensor, "*batch dim"], otherwise: float
    ) -> Float[Tensor, " dim"]:
        """Mean over the batch of each dimension, of rows that it is no padding to; `otherwise` if
        there are none.
        """
        if self.mask is None:
            return values.flatten(0, -2).mean(0)
        rows = self.mask.expand_as(values).flatten(0, -2)
        count = rows.sum(0)
        mean: Tensor = (values.flatten(0, -2) * rows).sum(0) / count.clamp(min=1)
        return torch.where(count > 0, mean, otherwise)

    def _kept(self, values: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return values if self.mask is None else values * self.mask
