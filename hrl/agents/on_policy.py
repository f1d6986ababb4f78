"""Define what on-policy agents share: hyperparameters, advantages, the clipped objective.

`hrl.agents.on_policy_learner` trains them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hrl.agents.base import AgentConfig, MemoryUse, Policy, RunShapes
from hrl.config_field import ConfigValueError, config_field
from hrl.data.rollout import Explorer, Rollout
from hrl.optim.returns import generalized_advantages


@dataclass(frozen=True, kw_only=True)
class OnPolicyConfig(AgentConfig):
    """Hold the hyperparameters that every on-policy agent has, with the same defaults."""

    n_steps: int = config_field(
        16, "agent steps that each environment takes between updates", at_least=1
    )
    n_epochs: int = config_field(4, "passes over a rollout", at_least=1)
    n_minibatches: int = config_field(
        4, "minibatches of a rollout; divides num_envs * n_steps", at_least=1
    )
    learning_rate: float = config_field(1e-3, "learning rate of Adam", above=0)
    discount: float = config_field(
        0.99, "discount per agent step, at every level", at_least=0, below=1
    )
    gae_lambda: float = config_field(
        0.95,
        "lambda of generalized advantage estimation, per agent step, at every level",
        at_least=0,
        at_most=1,
    )
    clip: float = config_field(0.2, "clipping of the likelihood ratio", above=0)
    value_coefficient: float = config_field(0.5, "weight of the value loss", at_least=0)
    entropy_coefficient: float = config_field(
        0.0, "weight of the action distribution's entropy", at_least=0
    )
    max_gradient_norm: float = config_field(1.0, "norm that gradients are clipped at", above=0)

    def memory_uses(self, shapes: RunShapes) -> list[MemoryUse]:
        """Return the rollout, in float32 or half of that, and a minibatch of it.

        A minibatch is a shuffled copy, with the maps of the encoder's stem, forward and backward.
        """
        rollout = self.n_steps * shapes.num_envs * shapes.image_bytes
        minibatch = 8 * rollout // self.n_minibatches
        return [
            MemoryUse("rollout (agent.n_steps, num_envs)", 4 * rollout, self.rollout_place),
            MemoryUse("minibatch (agent.n_minibatches)", minibatch),
        ]

    @property
    def rollout_place(self) -> str:
        """Return where rollouts are kept: "learner" or "host"."""
        return "learner"

    def check_run(self, shapes: RunShapes) -> None:
        """Refuse minibatches that do not divide the rollout."""
        self.check_minibatches(shapes.num_envs)

    def check_minibatches(self, num_envs: int) -> None:
        """Raise ConfigValueError where the minibatches do not divide the rollout."""
        steps = num_envs * self.n_steps
        if steps % self.n_minibatches:
            rule = f"it must divide num_envs * n_steps, which is {steps}"
            raise ConfigValueError("n_minibatches", self.n_minibatches, rule)


@dataclass(frozen=True, kw_only=True)
class OnPolicyAgentConfig(OnPolicyConfig):
    """Hold the hyperparameters that our own on-policy agents share, flat and hierarchical."""

    kl_coefficient: float = config_field(
        0.2,
        "weight of each level's divergence from the policy that acted. A manager's minibatch holds "
        "few decisions; clipping alone lets its policy wander on their noise",
        at_least=0,
    )


@runtime_checkable
class OnPolicyAgent(Policy, Explorer, Protocol):
    """Define the methods of an agent that the learner calls."""

    def advantages(self, rollout: Rollout) -> dict[str, Tensor]:
        """Return columns [time, env] that join the rollout before it is cut into minibatches."""

    def loss(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a minibatch [batch, ...], and metrics."""

    def parts(self) -> dict[str, nn.Module]:
        """Return the modules by name; every parameter is in exactly one."""


def advantage_columns(
    name: str, rollout: Rollout, is_decision: Bool[Tensor, "time env"], config: OnPolicyAgentConfig
) -> dict[str, Tensor]:
    """Return advantages, normalised over the decisions, and value targets.

    Values are those of rewards times (1 - discount), which keeps them within the range of one
    step's reward.

    Args:
        name: the column that holds the values of decisions.
        rollout: steps, and the values after the last one.
        is_decision: True at steps at which this level decides.
        config: discount and lambda.
    """
    steps = rollout.steps
    values = steps[name]
    bootstrap = steps.get(f"{name}_bootstrap", torch.zeros_like(values))
    rewards = steps["reward"] * (1 - config.discount)
    advantages = generalized_advantages(
        rewards,
        values,
        is_decision,
        steps["done"],
        bootstrap,
        rollout.last_values[name],
        config.discount,
        config.gae_lambda,
    )
    chosen = advantages[is_decision]
    normalised = torch.where(
        is_decision, (advantages - chosen.mean()) / (chosen.std(correction=0) + 1e-8), 0.0
    )
    return {f"{name}_advantage": normalised, f"{name}_target": values + advantages}


def policy_objective(
    log_prob: Float[Tensor, " batch"],
    old_log_prob: Float[Tensor, " batch"],
    advantage: Float[Tensor, " batch"],
    weight: Float[Tensor, " batch"],
    config: OnPolicyAgentConfig,
) -> tuple[Tensor, Tensor]:
    """Return the objective of one level, and its divergence from the policy that acted.

    The objective is the clipped surrogate (Schulman et al. 2017, equation 7) less the divergence
    times `kl_coefficient` (the same, equation 8), estimated by `ratio - 1 - log ratio`, whose mean
    is the Kullback-Leibler divergence and which is never negative (Schulman 2020, "Approximating
    KL divergence"). Clipping gives no force back towards the policy that acted once other losses
    of the shared encoder have moved it away; the divergence does.

    Args:
        log_prob: of the actions under the policy that learns.
        old_log_prob: of the actions under the policy that acted.
        advantage: of the actions.
        weight: of each sample in both means, summing to one; zero where this level decided nothing.
        config: clipping and `kl_coefficient`.

    Returns:
        Two scalars: objective, divergence.
    """
    log_ratio = torch.where(weight > 0, log_prob - old_log_prob, 0.0)
    ratio = torch.exp(log_ratio)
    clipped = torch.minimum(
        ratio * advantage, ratio.clamp(1 - config.clip, 1 + config.clip) * advantage
    )
    divergence = ((ratio - 1 - log_ratio) * weight).sum()
    return (clipped * weight).sum() - config.kl_coefficient * divergence, divergence
