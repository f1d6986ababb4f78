"""Goals as short discrete codes: what a manager chooses among, and how new a state is.

Director (Hafner et al. 2022, arXiv 2206.04114, section 2.2): an autoencoder of the deterministic
state with a discrete bottleneck. The decoder turns a manager's code into a goal; a state that it
cannot reconstruct is one not often seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hrl.config_field import MAX_LAYERS, MAX_SIZE, CheckedConfig, config_field
from hrl.nets.one_hot import OneHot
from hrl.nets.task_dense import TaskDense
from hrl.optim.compile import compiled_part
from hrl.optim.normalizers import AdaptiveCoefficient


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


PUBLISHED_SIZE = 1024  # dimensions that the published weights were balanced for
PROBES, PROBE_DECAY = 16, 0.99
_ODD = 6364136223846793005  # a multiplier of linear congruential generators


class GoalAutoencoder(nn.Module):
    """Deterministic state to code to deterministic state.

    A few fixed codes are decoded at every update, beside the running mean of what they stood for in
    the updates before: a worker cannot learn to reach what a code means, nor a manager to choose
    it, while that changes.
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
        self.config, self.deter = config, deter
        hidden, code = [units] * config.layers, config.groups * config.classes
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

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # Checkpoints from before drift was measured.
        state_dict.setdefault(f"{prefix}probe_goals", torch.zeros_like(self.probe_goals))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def encode(
        self, deter: Float[Tensor, "*batch deter"], task: Float[Tensor, "*#batch task"]
    ) -> OneHot:
        """The distribution of codes for a state."""
        return OneHot(
            self.encoder(deter, task).unflatten(-1, (self.config.groups, self.config.classes))
        )

    def decode(
        self, code: Float[Tensor, "*batch group class"], task: Float[Tensor, "*#batch task"]
    ) -> Float[Tensor, "*batch deter"]:
        """The state that a code stands for."""
        deter: Tensor = self.decoder(code.flatten(-2), task)
        return deter.float()

    def reconstruct(
        self, deter: Float[Tensor, "*batch deter"], task: Float[Tensor, "*#batch task"]
    ) -> tuple[Float[Tensor, "*batch deter"], OneHot]:
        """A state through a code that is drawn for it."""
        return self._reconstruct(
            deter, task, torch.rand(*deter.shape[:-1], self.config.groups, device=deter.device)
        )

    def loss(
        self, deter: Float[Tensor, "*batch deter"], task: Float[Tensor, "*#batch task"]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruction and divergence from uniform codes, of states that carry no gradient."""
        reconstructed, codes = self.reconstruct(deter.detach(), task)
        error = (reconstructed - deter.detach()).square()
        scale = PUBLISHED_SIZE / self.deter if self.config.per_dimension else 1.0
        reconstruction = error.sum(-1).mean() * scale
        divergence = self.capacity - codes.entropy().sum(-1).mean()
        self.weight.update(divergence.detach())
        weight = self.weight.value.clone()
        unexplained = error.mean() / deter.detach().float().var(0).mean().clamp(min=1e-8)
        metrics = {
            "reconstruction": reconstruction,
            "divergence": divergence,
            "unexplained": unexplained,
        }
        metrics |= {
            "weight": weight,
            "perplexity": perplexity(codes.probs),
            "drift": self._drift(task),
        }
        measured = {f"goal_autoencoder/{name}": value.detach() for name, value in metrics.items()}
        return reconstruction + weight * divergence, measured

    @torch.no_grad()
    def exploration_reward(
        self, deter: Float[Tensor, "*batch deter"], task: Float[Tensor, "*#batch task"]
    ) -> Float[Tensor, "*batch"]:
        """The exploration bonus: mean squared error of the reconstruction (Director, equation
        8).
        """
        return (self.reconstruct(deter, task)[0] - deter).square().mean(-1)

    @compiled_part
    def _reconstruct(
        self, deter: Tensor, task: Tensor, noise: Float[Tensor, "*batch group"]
    ) -> tuple[Float[Tensor, "*batch deter"], OneHot]:
        codes = self.encode(deter, task)
        return self.decode(codes.sample(noise), task), codes

    @torch.no_grad()
    def _drift(self, task: Float[Tensor, "*#batch task"]) -> Tensor:
        """How far the goals of fixed codes are from what they were, as a share of how far they are
        from each other.
        """
        goals = self.decode(self.probes, torch.zeros_like(task.flatten(0, -2)[:1]))
        self.probe_goals.copy_(torch.where(self.probe_goals.any(), self.probe_goals, goals))
        moved = (goals - self.probe_goals).norm(dim=-1).mean()
        spread = (goals - goals.mean(0)).norm(dim=-1).mean()
        self.probe_goals.lerp_(goals, 1 - PROBE_DECAY)
        drift: Tensor = moved / spread.clamp(min=1e-8)
        return drift


def perplexity(probabilities: Float[Tensor, "*batch group class"]) -> Float[Tensor, ""]:
    """Number of classes in use, as the exponential of the entropy of their mean probability,
    averaged over groups.
    """
    mean = probabilities.flatten(0, -3).mean(0)
    return torch.exp(-(mean * (mean + 1e-8).log()).sum(-1)).mean()


def distinct(codes: Float[Tensor, "*batch group class"]) -> Float[Tensor, ""]:
    """Share of different ones among codes: 1 where no two are alike."""
    number = torch.zeros(codes.shape[:-2], dtype=torch.int64, device=codes.device)
    for choice in codes.argmax(-1).unbind(-1):
        number = number * _ODD + choice  # modulo 2**64: no choice is shifted out
    numbers = number.flatten().sort().values
    return (1 + (numbers[1:] != numbers[:-1]).sum()) / len(numbers)
