"""Encode goals as short discrete codes, which a manager can choose and which show novel states.

This is the goal autoencoder of Director (Hafner et al. 2022, arXiv 2206.04114, section 2.2): an
autoencoder of the deterministic state with a discrete bottleneck. The decoder turns a manager's
code into a goal. A state that the autoencoder reconstructs badly is one that was not seen often.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hrl.config_field import MAX_LAYERS, MAX_SIZE, CheckedConfig, config_field
from hrl.nets.frozen import frozen
from hrl.nets.one_hot import OneHot
from hrl.nets.task_dense import TaskDense
from hrl.optim.compile import compiled_part
from hrl.optim.normalizers import AdaptiveCoefficient
from hrl.ranks import AcrossRanks


@dataclass(frozen=True, kw_only=True)
class GoalAutoencoderConfig(CheckedConfig):
    """Hold the sizes and weights of the goal autoencoder."""

    groups: int = config_field(8, "choices of a code", at_least=1, at_most=MAX_SIZE)
    classes: int = config_field(8, "classes of each choice", at_least=2, at_most=MAX_SIZE)
    layers: int = config_field(
        3, "hidden layers of encoder and decoder", at_least=1, at_most=MAX_LAYERS
    )
    divergence_target: float = config_field(
        0.6,
        "share of the code's capacity (groups * ln classes nats) that a state may use; the weight "
        "of the divergence from the uniform prior is moved to keep it, and is at most 1",
        above=0,
        below=1,
    )
    per_dimension: bool = config_field(
        True,
        "average reconstruction errors over dimensions and count them 1024 times, so that the "
        "balance with the divergence does not depend on the state's size; false sums them (as "
        "published, for 1024 dimensions)",
    )


# The published weights of the losses were balanced for so many dimensions.
PUBLISHED_SIZE = 1024
PROBES = 16
PROBE_DECAY = 0.99
# An odd multiplier, as of linear congruential generators, to hash codes with.
_HASH_MULTIPLIER = 6364136223846793005


class GoalAutoencoder(AcrossRanks, nn.Module):
    """Map a deterministic state to a code, and a code back to a deterministic state.

    To measure how fast the meaning of codes changes, a few fixed codes (probes) are decoded at
    every update and compared with the running mean of their earlier goals. While meanings change, a
    worker cannot learn to reach a code's goal, and a manager cannot learn to choose it.

    Args:
        deter: size of the deterministic state.
        task_size: size of the task vector; 0 for no task as an input.
        task_features: size of the task's embeddings.
        units: of every hidden layer.
        config: sizes and weights.
    """

    probes: Tensor
    probe_goals: Tensor

    def __init__(
        self,
        deter: int,
        task_size: int,
        task_features: int,
        units: int,
        config: GoalAutoencoderConfig,
    ) -> None:
        super().__init__()
        self.config = config
        self.deter = deter
        hidden = [units] * config.layers
        code = config.groups * config.classes
        self.encoder = TaskDense(deter, task_size, task_features, hidden, code)
        self.decoder = TaskDense(code, task_size, task_features, hidden, deter)
        self.capacity = config.groups * math.log(config.classes)
        self.weight = AdaptiveCoefficient(
            (), config.divergence_target * self.capacity, low=1e-5, high=1.0, raise_when_low=False
        )
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randint(config.classes, (PROBES, config.groups), generator=generator)
        probes = torch.nn.functional.one_hot(chosen, config.classes).float()
        self.register_buffer("probes", probes, persistent=False)
        self.register_buffer("probe_goals", torch.zeros(PROBES, deter))

    def forward(
        self,
        deter: Float[Tensor, "*batch deter"],
        task: Float[Tensor, "*#batch task"],
        noise: Float[Tensor, "*batch group"],
    ) -> tuple[Float[Tensor, "*batch deter"], OneHot]:
        """Reconstruct states from codes drawn by uniform noise; return the codes' distribution."""
        codes = self.encode(deter, task)
        return self.decode(codes.sample(noise), task), codes

    def encode(
        self, deter: Float[Tensor, "*batch deter"], task: Float[Tensor, "*#batch task"]
    ) -> OneHot:
        """Return the distribution of codes for a state."""
        logits = self.encoder(deter, task)
        return OneHot(logits.unflatten(-1, (self.config.groups, self.config.classes)))

    def decode(
        self, code: Float[Tensor, "*batch group class"], task: Float[Tensor, "*#batch task"]
    ) -> Float[Tensor, "*batch deter"]:
        """Return the deterministic state that a code stands for, in float32."""
        deter: Tensor = self.decoder(code.flatten(-2), task)
        return deter.float()

    def reconstruct(
        self, deter: Float[Tensor, "*batch deter"], task: Float[Tensor, "*#batch task"]
    ) -> tuple[Float[Tensor, "*batch deter"], OneHot]:
        """Reconstruct a state from a code drawn for it; return it and the codes' distribution."""
        return self._reconstruct(deter, task, self._noise(deter))

    def loss(
        self, deter: Float[Tensor, "*batch deter"], task: Float[Tensor, "*#batch task"]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the autoencoder's loss and its metrics; the states get no gradient.

        The loss is the reconstruction error plus the weighted divergence from uniform codes.
        """
        reconstructed, codes = self.reconstruct(deter.detach(), task)
        error = (reconstructed - deter.detach()).square()
        scale = PUBLISHED_SIZE / self.deter if self.config.per_dimension else 1.0
        reconstruction = error.sum(-1).mean() * scale
        divergence = self.capacity - codes.entropy().sum(-1).mean()
        self.weight.update(self.ranks.mean(divergence.detach()))
        weight = self.weight.value.clone()
        spread = deter.detach().flatten(0, -2).float().var(0, correction=0).mean()
        unexplained = error.mean() / spread.clamp(min=1e-8)
        metrics = {
            "reconstruction": reconstruction,
            "divergence": divergence,
            "unexplained": unexplained,
            "weight": weight,
            "perplexity": perplexity(codes.probs),
            "drift": self._drift(task),
        }
        measured = {f"goal_autoencoder/{name}": value.detach() for name, value in metrics.items()}
        return reconstruction + weight * divergence, measured

    def exploration_reward(
        self,
        deter: Float[Tensor, "*batch deter"],
        task: Float[Tensor, "*#batch task"],
        differentiable: bool = False,
    ) -> Float[Tensor, "*batch"]:
        """Return the mean squared error of the reconstruction (Director, equation 8).

        Args:
            deter: the states.
            task: of the states.
            differentiable: whether gradients reach the states; none ever reaches the autoencoder.
        """
        if differentiable:
            reconstructed, _ = frozen(self)(deter, task, self._noise(deter))
        else:
            deter = deter.detach()
            with torch.no_grad():
                reconstructed, _ = self.reconstruct(deter, task)
        reward: Tensor = (reconstructed - deter).square().mean(-1)
        return reward

    def _noise(self, deter: Tensor) -> Float[Tensor, "*batch group"]:
        return torch.rand(*deter.shape[:-1], self.config.groups, device=deter.device)

    @compiled_part
    def _reconstruct(
        self, deter: Tensor, task: Tensor, noise: Tensor
    ) -> tuple[Float[Tensor, "*batch deter"], OneHot]:
        return self.forward(deter, task, noise)

    @torch.no_grad()
    def _drift(self, task: Float[Tensor, "*#batch task"]) -> Tensor:
        """Return how much the goals of the probes changed, relative to their own spread.

        The change is the mean distance of the goals from their running means, and the spread the
        mean distance of the goals from their average. The running means begin at the first goals;
        in evaluation mode (a frozen autoencoder) they stay as they are.
        """
        goals = self.decode(self.probes, torch.zeros_like(task.flatten(0, -2)[:1]))
        known = torch.where(self.probe_goals.any(), self.probe_goals, goals)
        moved = (goals - known).norm(dim=-1).mean()
        spread = (goals - goals.mean(0)).norm(dim=-1).mean()
        if self.training:
            self.probe_goals.copy_(known.lerp(goals, 1 - PROBE_DECAY))
        drift: Tensor = moved / spread.clamp(min=1e-8)
        return drift


def perplexity(probabilities: Float[Tensor, "*batch group class"]) -> Float[Tensor, ""]:
    """Return the effective number of classes in use, averaged over groups.

    It is the exponential of the entropy of the classes' mean probability.
    """
    mean = probabilities.flatten(0, -3).mean(0)
    return torch.exp(-(mean * (mean + 1e-8).log()).sum(-1)).mean()


def distinct_fraction(codes: Float[Tensor, "*batch group class"]) -> Float[Tensor, ""]:
    """Return the number of different codes, divided by the number of codes.

    Codes are compared by a 64-bit hash.
    """
    number = torch.zeros(codes.shape[:-2], dtype=torch.int64, device=codes.device)
    for choice in codes.argmax(-1).unbind(-1):
        number = (
            number * _HASH_MULTIPLIER + choice
        )  # modulo 2**64: an odd multiplier keeps every choice
    numbers = number.flatten().sort().values
    return (1 + (numbers[1:] != numbers[:-1]).sum()) / len(numbers)
