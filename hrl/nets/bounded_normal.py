"""Represent policies over continuous actions by Gaussians of bounded mean and deviation."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hrl.ranks import Ranks

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class BoundedNormal:
    """Represent independent normal distributions whose means and standard deviations are bounded.

    The mean is `tanh(m)` and the standard deviation `low + (high - low) sigmoid(x + 2)`. Draws are
    not squashed: they may leave [-1, 1], and environments clip them. The shift by 2 starts policies
    at 0.88 of the way from the smallest to the largest deviation (DreamerV3, Hafner et al. 2023,
    arXiv 2301.04104, as in its published code, with 0.1 and 1; Director, arXiv 2206.04114, has 0.03
    and 1 and no shift). Everything is computed in float32.

    Args:
        parameters: m, then x, [*batch, 2 * dim].
        low: least standard deviation, positive.
        high: largest standard deviation, above `low`.
        mask: 1 where a dimension is used, 0 where it is padding. Padding is always 0 in draws and
            in every quantity below. None: all dimensions are used.

    Raises:
        ValueError: the bounds are not 0 < low < high.
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
        self.mean: Float[Tensor, "*batch dim"] = self._masked(torch.tanh(mean))
        self.std: Float[Tensor, "*batch dim"] = low + (high - low) * torch.sigmoid(raw + 2.0)
        self._log_low = math.log(low)
        self._log_high = math.log(high)

    def sample(self, noise: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Return the draw that standard normal `noise` gives; mean and deviation get gradients."""
        return self.mean + self._masked(self.std * noise)

    def log_prob(self, value: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Return the log density of each dimension of `value`.

        Detach a draw of this policy before its own density is computed.
        """
        return self._masked(
            -0.5 * ((value - self.mean) / self.std).square() - self.std.log() - _LOG_SQRT_2PI
        )

    def kl(self, other: BoundedNormal) -> Float[Tensor, "*batch dim"]:
        """Return the Kullback-Leibler divergence KL(self || other) of each dimension in nats."""
        spread = (self.std.square() + (self.mean - other.mean).square()) / (2 * other.std.square())
        return self._masked((other.std / self.std).log() + spread - 0.5)

    def entropy(self) -> Float[Tensor, "*batch dim"]:
        """Return the differential entropy of each dimension in nats."""
        return self._masked(self.std.log() + (0.5 + _LOG_SQRT_2PI))

    def normalised_entropy(self) -> Float[Tensor, "*batch dim"]:
        """Return the entropy of each dimension, scaled to [0, 1] (Director, arXiv 2206.04114).

        It is 0 at the smallest standard deviation and 1 at the largest.
        """
        return self._masked((self.std.log() - self._log_low) / (self._log_high - self._log_low))

    def average(
        self, values: Float[Tensor, "*batch dim"], otherwise: float, ranks: Ranks
    ) -> Float[Tensor, " dim"]:
        """Return each dimension's mean over the rows of the batch that use it.

        A dimension that no row uses gets `otherwise`. The batch is that of all ranks.
        """
        if self.mask is None:
            return ranks.mean(values.flatten(0, -2).mean(0))
        rows = self.mask.expand_as(values).flatten(0, -2)
        count = ranks.sum(rows.sum(0))
        mean: Tensor = ranks.sum((values.flatten(0, -2) * rows).sum(0)) / count.clamp(min=1)
        return torch.where(count > 0, mean, otherwise)

    def _masked(self, values: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return values if self.mask is None else values * self.mask
