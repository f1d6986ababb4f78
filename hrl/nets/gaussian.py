"""Represent actions before the tanh by diagonal Gaussians, compose them, and repeat their noise."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

LOG_STD_MIN, LOG_STD_MAX = -2.3, 0.0
_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class Gaussian(NamedTuple):
    """Represent a diagonal Gaussian; an action is the tanh of a draw from it.

    A likelihood ratio between two such policies is the same before and after the tanh, since both
    have the same Jacobian. Therefore log-probabilities, ratios and entropies here are those before
    the tanh.

    Attributes:
        mean: of each dimension.
        log_std: natural logarithm of each dimension's standard deviation.
        mask: 1 where a dimension is used, 0 where it is padding. Padding is always 0 in draws, and
            adds nothing to densities and entropies. None: all dimensions are used.
    """

    mean: Float[Tensor, "*batch dim"]
    log_std: Float[Tensor, "*batch dim"]
    mask: Float[Tensor, "*batch dim"] | None = None

    @classmethod
    def from_parameters(cls, parameters: Float[Tensor, "*batch twice_dim"]) -> Gaussian:
        """Return the Gaussian of a network's output: means, then raw log standard deviations.

        The latter are mapped smoothly into [LOG_STD_MIN, LOG_STD_MAX].
        """
        mean, raw = parameters.chunk(2, dim=-1)
        # Start near the top of the range (std 0.9 at raw = 0), where exploration is broad and the
        # sigmoid's gradient does not vanish.
        return cls(mean, LOG_STD_MIN + (LOG_STD_MAX - LOG_STD_MIN) * torch.sigmoid(raw + 3.0))

    def masked(self, mask: Float[Tensor, "*batch dim"] | None) -> Gaussian:
        """Return the same Gaussian with padding, or itself where there is no mask."""
        return self if mask is None else Gaussian(self.mean * mask, self.log_std, mask)

    def sample(self, generator: torch.Generator | None) -> Float[Tensor, "*batch dim"]:
        """Return a draw, or the mean if no generator is given (greedy)."""
        if generator is None:
            return self.mean
        return self.at(torch.empty_like(self.mean).normal_(generator=generator))

    def at(self, noise: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Return the draw that standard normal `noise` gives."""
        return self.mean + self._masked(self.log_std.exp() * noise)

    def log_prob(self, value: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch"]:
        """Return the log density of `value`, summed over dimensions."""
        scaled = (value - self.mean) * torch.exp(-self.log_std)
        return self._masked(-0.5 * scaled.square() - self.log_std - _LOG_SQRT_2PI).sum(-1)

    def entropy(self) -> Float[Tensor, "*batch"]:
        """Return the differential entropy in nats, summed over dimensions."""
        return self._masked(self.log_std + 0.5 + _LOG_SQRT_2PI).sum(-1)

    def _masked(self, values: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return values if self.mask is None else values * self.mask


def compose(skills: Gaussian, weights: Float[Tensor, "*batch skill"]) -> Gaussian:
    """Return the multiplicative composition of K Gaussians.

    Source: Peng et al. 2019, MCP, arXiv 1905.09808, equations 3 and 4. The product of the skills'
    densities, each to the power of its weight, is Gaussian again, with
    precision `sum_i w_i / sigma_i^2` and mean `variance * sum_i w_i mu_i / sigma_i^2`. With weights
    that sum to one its standard deviation lies between the smallest and the largest of the skills',
    and composing before the tanh is the same as composing the squashed densities, since the
    Jacobians' powers sum to one.

    Args:
        skills: means and log standard deviations, [*batch, skill, dim].
        weights: [*batch, skill], positive, summing to one over skills.

    Returns:
        The composite, [*batch, dim].
    """
    precisions = weights.unsqueeze(-1) * torch.exp(-2 * skills.log_std)
    precision = precisions.sum(-2)
    return Gaussian((precisions * skills.mean).sum(-2) / precision, -0.5 * precision.log())


def repeat_noise(
    noise: Float[Tensor, "env action"],
    steps_since_noise: Int64[Tensor, " env"],
    noise_repeat: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "env action"], Int64[Tensor, " env"]]:
    """Return the standard normal noise of this step, and the counter of the next step.

    Noise is repeated for several steps as a hierarchy keeps its high-level actions.

    Args:
        noise: of the last step.
        steps_since_noise: steps since that noise was drawn; it is drawn anew where this is 0.
        noise_repeat: steps that share one draw.
        generator: source of random numbers.
    """
    # Drawn for all environments at every step, so that what one draws does not depend on the
    # others' counters.
    fresh = torch.empty_like(noise).normal_(generator=generator)
    is_drawn = (steps_since_noise == 0).unsqueeze(-1)
    return torch.where(is_drawn, fresh, noise), (steps_since_noise + 1) % noise_repeat
