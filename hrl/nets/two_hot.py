"""Represent real numbers of any magnitude by distributions over fixed bins.

Reward heads and critics of world-model agents have this output.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

BINS = 255
_HALF = BINS // 2  # bins on either side of the one at zero
_LIMIT = 20.0


def symlog(value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return `sign(x) log(1 + |x|)`, near the identity at 0, logarithmic far from it.

    Source: DreamerV3, arXiv 2301.04104.
    """
    return torch.sign(value) * torch.log1p(torch.abs(value))


def symexp(value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return `sign(x) (exp(|x|) - 1)`, the inverse of `symlog`."""
    return torch.sign(value) * torch.expm1(torch.abs(value))


def bins(device: torch.device | str | None = None) -> Float[Tensor, " bin"]:
    """Return the 255 values of the bins in raw units: 0, +-0.17, +-0.37, ... +-4.9e8.

    They are equally spaced in symlog between -20 and 20. One half mirrors the other, so that bins
    are symmetric to the last bit.
    """
    negative = symexp(torch.linspace(-_LIMIT, 0.0, _HALF + 1, device=device))
    return torch.cat([negative, -negative[:-1].flip(0)])


class TwoHot:
    """Represent a real number by a categorical distribution over `bins`.

    Source: DreamerV3, arXiv 2301.04104. Everything is computed in float32, whatever the dtype of
    the logits.

    Args:
        logits: unnormalised log-probabilities, [*batch, 255].

    Raises:
        ValueError: the last axis does not have 255 logits.
    """

    def __init__(self, logits: Float[Tensor, "*batch bin"]) -> None:
        if logits.shape[-1] != BINS:
            raise ValueError(f"a two-hot distribution has {BINS} logits, not {logits.shape[-1]}")
        self.log_probs = torch.log_softmax(logits.float(), -1)
        self.bins = bins(logits.device)

    def mean(self) -> Float[Tensor, "*batch"]:
        """Return the expected value in raw units, exactly 0 for equal logits.

        Probabilities of a bin and of its mirror image are subtracted before anything is summed:
        summed in order, the rounding errors of bins of 1e8 would outweigh every reward.
        """
        probs = self.log_probs.exp()
        surplus = probs[..., _HALF + 1 :] - probs[..., :_HALF].flip(-1)
        return (surplus * self.bins[_HALF + 1 :]).sum(-1)

    def log_prob(self, value: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return the log-probability of `value` in raw units.

        The value is spread over the two bins around it by linear interpolation; a value beyond the
        outermost bins is treated as that bin. `value` gets no gradient.
        """
        target = value.detach().float().contiguous()
        below = (torch.searchsorted(self.bins, target, right=True) - 1).clamp(0, BINS - 2)
        low = self.bins[below]
        high = self.bins[below + 1]
        share = ((target - low) / (high - low)).clamp(0, 1)
        pair = self.log_probs.gather(-1, torch.stack([below, below + 1], -1))
        return (1 - share) * pair[..., 0] + share * pair[..., 1]

    def loss(self, value: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return the cross-entropy in nats of this distribution with `value` as two-hot weights."""
        return -self.log_prob(value)
