"""Groups of categorical variables as one-hot vectors with straight-through gradients."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class OneHot:
    """Independent categoricals: the world model's latent, goal codes, the manager's actions.

    Draws carry the gradient of the probabilities ("straight-through", Bengio et al. 2013, arXiv
    1308.3432; DreamerV2, arXiv 2010.02193, algorithm 1). Everything is computed in float32,
    whatever the dtype of the logits.

    Args:
        logits: unnormalised log-probabilities, [*batch, group, class].
        unimix: share of the uniform distribution mixed in, in [0, 1], which keeps probabilities,
            their logarithms and their divergences finite (arXiv 2301.04104).
    """

    def __init__(self, logits: Float[Tensor, "*batch group class"], unimix: float = 0.0) -> None:
        self.logits, self.unimix = logits, unimix
        self.probs = torch.softmax(logits.float(), -1)
        if unimix:
            self.probs = torch.add(unimix / logits.shape[-1], self.probs, alpha=1 - unimix)

    @property
    def log_probs(self) -> Float[Tensor, "*batch group class"]:
        """Logarithms of `probs`, computed when asked for: most distributions are only drawn
        from.
        """
        return self.probs.log() if self.unimix else torch.log_softmax(self.logits.float(), -1)

    def sample(self, noise: Float[Tensor, "*batch group"]) -> Float[Tensor, "*batch group class"]:
        """One draw per group by the inverse of the cumulative distribution.

        Args:
            noise: uniform in [0, 1), one number per group.
        """
        # Without the last class, whose cumulative probability is 1 but for rounding, the count is
        # always a class.
        passed = self.probs.detach().cumsum(-1)[..., :-1] <= noise.unsqueeze(-1)
        return self._straight_through(passed.sum(-1))

    def mode(self) -> Float[Tensor, "*batch group class"]:
        """The likeliest class of each group."""
        return self._straight_through(self.probs.argmax(-1))

    def entropy(self) -> Float[Tensor, "*batch group"]:
        """Entropy of each group in nats."""
        return -(self.probs * self.log_probs).sum(-1)

    def log_prob(
        self, onehot: Float[Tensor, "*batch group class"]
    ) -> Float[Tensor, "*batch group"]:
        """Log-probability of each group's class. Detach a draw of this policy before it is scored
        by it.
        """
        return (self.log_probs * onehot).sum(-1)

    def detach(self) -> OneHot:
        """The same distribution as a constant."""
        return OneHot(self.logits.detach(), self.unimix)

    # Private methods.

    def _straight_through(self, index: Tensor) -> Tensor:
        # Compared rather than `one_hot`, which may read the indices back to the host to check them.
        onehot = index.unsqueeze(-1) == torch.arange(self.probs.shape[-1], device=index.device)
        return onehot.float() + (self.probs - self.probs.detach())


def kl(p: OneHot, q: OneHot) -> Float[Tensor, "*batch"]:
    """Kullback-Leibler divergence of `q` from `p` in nats, summed over groups."""
    return (p.probs * (p.log_probs - q.log_probs)).sum((-2, -1))
