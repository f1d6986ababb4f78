"""Sample groups of categorical variables as one-hot vectors with straight-through gradients."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class OneHot:
    """Represent independent categoricals, such as the world model's latent or a goal's code.

    Draws have the gradient of the probabilities ("straight-through", Bengio et al. 2013, arXiv
    1308.3432; DreamerV2, arXiv 2010.02193, algorithm 1). Everything is computed in float32,
    whatever the dtype of the logits.

    Args:
        logits: unnormalised log-probabilities, [*batch, group, class].
        unimix: share of the uniform distribution mixed in, in [0, 1], which keeps probabilities,
            their logarithms and their divergences finite (arXiv 2301.04104).
    """

    def __init__(self, logits: Float[Tensor, "*batch group class"], unimix: float = 0.0) -> None:
        self.logits = logits
        self.unimix = unimix
        self.probs = torch.softmax(logits.float(), -1)
        if unimix:
            self.probs = torch.add(unimix / logits.shape[-1], self.probs, alpha=1 - unimix)

    @property
    def log_probs(self) -> Float[Tensor, "*batch group class"]:
        """Return the logarithms of `probs`.

        They are computed on access, since most distributions are only sampled.
        """
        return self.probs.log() if self.unimix else torch.log_softmax(self.logits.float(), -1)

    def sample(self, noise: Float[Tensor, "*batch group"]) -> Float[Tensor, "*batch group class"]:
        """Draw one class per group by the inverse of the cumulative distribution.

        Args:
            noise: uniform in [0, 1), one number per group.
        """
        # The last class is left out: its cumulative probability is 1 up to rounding. So the count
        # is always a valid class.
        passed = self.probs.detach().cumsum(-1)[..., :-1] <= noise.unsqueeze(-1)
        return self._straight_through(passed.sum(-1))

    def mode(self) -> Float[Tensor, "*batch group class"]:
        """Return the most likely class of each group."""
        return self._straight_through(self.probs.argmax(-1))

    def entropy(self) -> Float[Tensor, "*batch group"]:
        """Return the entropy of each group in nats."""
        return -(self.probs * self.log_probs).sum(-1)

    def log_prob(
        self, onehot: Float[Tensor, "*batch group class"]
    ) -> Float[Tensor, "*batch group"]:
        """Return the log-probability of each group's class.

        Detach a draw of this distribution before its own log-probability is computed.
        """
        return (self.log_probs * onehot).sum(-1)

    def detach(self) -> OneHot:
        """Return the same distribution as a constant."""
        return OneHot(self.logits.detach(), self.unimix)

    # Private methods.

    def _straight_through(self, index: Tensor) -> Tensor:
        # `one_hot` might read the indices back to the host to check them; a comparison does not.
        onehot = index.unsqueeze(-1) == torch.arange(self.probs.shape[-1], device=index.device)
        return onehot.float() + (self.probs - self.probs.detach())


def kl(p: OneHot, q: OneHot) -> Float[Tensor, "*batch"]:
    """Return the Kullback-Leibler divergence KL(p || q) in nats, summed over groups."""
    return (p.probs * (p.log_probs - q.log_probs)).sum((-2, -1))
