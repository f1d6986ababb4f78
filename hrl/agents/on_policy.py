"""Define what on-policy agents share: hyperparameters, advantages, the clipped objective.

`hrl.agents.on_policy_learner` trains them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hrl.agents.base import AgentConfig, GraphedConfig, MemoryUse, Policy, RunShapes
from hrl.agents.parts import Parts
from hrl.config_field import ConfigValueError, config_field
from hrl.data.rollout import Explorer, Rollout
from hrl.optim.returns import generalized_advantages
from hrl.ranks import ONE_RANK


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
    entropy_coefficient: float = config_field(
        0.0, "weight of the action distribution's entropy", at_least=0
    )
    max_gradient_norm: float = config_field(1.0, "norm that gradients are clipped at", above=0)

    def memory_uses(self, shapes: RunShapes) -> list[MemoryUse]:
        """Return the rollout, and a minibatch of it: a shuffled copy with the encoder's maps."""
        images = self.n_steps * shapes.num_envs
        rollout = images * shapes.stored_image_bytes
        minibatch = images * (shapes.stored_image_bytes + shapes.map_bytes) // self.n_minibatches
        return [
            MemoryUse("rollout (agent.n_steps, num_envs)", rollout, self.rollout_place),
            MemoryUse("minibatch (agent.n_minibatches, network.encoder)", minibatch),
        ]

    @property
    def rollout_place(self) -> str:
        """Return where rollouts are kept: "learner" or "host"."""
        return "learner"

    def check_run(self, shapes: RunShapes) -> None:
        """Refuse minibatches that do not divide the rollout."""
        super().check_run(shapes)
        self.check_minibatches(shapes.num_envs)

    def check_minibatches(self, num_envs: int) -> None:
        """Raise ConfigValueError where the minibatches do not divide the rollout."""
        steps = num_envs * self.n_steps
        if steps % self.n_minibatches:
            rule = f"it must divide num_envs * n_steps, which is {steps}"
            raise ConfigValueError("n_minibatches", self.n_minibatches, rule)


@dataclass(frozen=True, kw_only=True)
class OnPolicyAgentConfig(OnPolicyConfig, GraphedConfig):
    """Hold the hyperparameters that our own on-policy agents share, flat and hierarchical."""

    trains_on_several: ClassVar[bool] = True
    value_coefficient: float = config_field(
        8.0,
        "weight of each level's value loss, the squared error of returns of scaled rewards; it "
        "means the same whatever the suite's rewards and the discount",
        at_least=0,
    )
    kl_coefficient: float = config_field(
        0.2,
        "weight of each level's divergence from the policy that acted. A manager's minibatch holds "
        "few decisions; clipping alone lets its policy wander on their noise",
        at_least=0,
    )
    lr_decay_start: int = config_field(
        600,
        "updates after which the learning rate falls with the square root of their number, so that "
        "it does not depend on how long a run is to be; 0 for never",
        at_least=0,
    )

    @property
    def learning_rate_shares(self) -> dict[str, float]:
        """Return by module the share of the learning rate that it learns with, where not all."""
        return {}


@runtime_checkable
class OnPolicyAgent(Policy, Explorer, Protocol):
    """Define the methods of an agent that the learner calls."""

    def advantages(self, rollout: Rollout) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return columns [time, env] that join the rollout before it is cut up, and metrics."""

    def loss(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a minibatch [batch, ...], and metrics."""

    def parts(self) -> Parts:
        """Return the modules by part and name; every parameter is in exactly one."""


def estimate_advantages(
    name: str, rollout: Rollout, is_decision: Bool[Tensor, "time env"], config: OnPolicyAgentConfig
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return one level's advantages and returns, and metrics of its critic.

    Values are those of `scaled_reward`, which the learner has divided by the spread of discounted
    returns (`hrl.optim.normalizers.RewardScale`): value losses are of the order of 1 whatever the
    suite's rewards and the discount.

    Args:
        name: the column that holds the values of decisions.
        rollout: steps, and the values after the last one.
        is_decision: True at steps at which this level decides.
        config: discount and lambda.

    Returns:
        Columns [time, env]: NAME_advantage, normalised over the decisions of all ranks, and
        NAME_return, which the critic learns; and metrics, by the last part of their names:
        `explained_variance` of the critic that acted, and `return_std`, the spread of these
        returns. They are NaN of a rollout in which this level decided nothing: how many decisions
        there are is not asked of the device here.
    """
    steps = rollout.steps
    values = steps[name]
    advantages = generalized_advantages(
        steps["scaled_reward"],
        values,
        is_decision,
        steps["done"],
        steps.get(f"{name}_bootstrap", torch.zeros_like(values)),
        rollout.last_values[name],
        config.discount,
        config.gae_lambda,
    )
    returns = values + advantages
    _, mean, variance = rollout.ranks.masked_moments(advantages, is_decision)
    normalised = torch.where(is_decision, (advantages - mean) / (variance.sqrt() + 1e-8), 0.0)
    columns = {f"{name}_advantage": normalised, f"{name}_return": returns}
    return columns, critic_metrics(values, returns, is_decision)


def critic_metrics(
    predictions: Float[Tensor, "*batch"],
    returns: Float[Tensor, "*batch"],
    is_decision: Bool[Tensor, "*batch"],
) -> dict[str, Tensor]:
    """Return how well a critic predicts returns where its level decided; NaN where it never did.

    Returns:
        `explained_variance`, 1 - Var(returns - predictions) / Var(returns): 1 is a perfect critic,
        0 is as good as a constant, and a negative one is worse; where all returns are equal it is
        0. `return_std`, the standard deviation of the returns.
    """
    count, _, variance = ONE_RANK.masked_moments(returns, is_decision)
    _, _, remaining = ONE_RANK.masked_moments(returns - predictions, is_decision)
    explained = torch.where(variance > 0, 1 - remaining / variance, 0.0)
    metrics = {"explained_variance": explained, "return_std": variance.sqrt()}
    return {name: torch.where(count > 0, value, torch.nan) for name, value in metrics.items()}


def measure_gradient(
    features: Float[Tensor, "batch features"], name: str, metrics: dict[str, Tensor]
) -> Float[Tensor, "batch features"]:
    """Return the same features, and have the backward pass write a norm into `metrics[name]`.

    It is that of the gradient that reaches the features through what is computed from the returned
    tensor. It costs no backward pass of its own. Features without gradient leave 0.
    """
    metrics[name] = torch.zeros((), device=features.device)
    if not features.requires_grad:
        return features
    branch = features.view_as(features)

    def write(gradient: Tensor) -> None:
        metrics[name] = gradient.norm()

    branch.register_hook(write)
    return branch


def policy_objective(
    log_prob: Float[Tensor, " batch"],
    old_log_prob: Float[Tensor, " batch"],
    advantage: Float[Tensor, " batch"],
    weight: Float[Tensor, " batch"],
    config: OnPolicyAgentConfig,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the objective of one level, and metrics of its distance from the policy that acted.

    The objective is the clipped surrogate (Schulman et al. 2017, equation 7) less the divergence
    times `kl_coefficient` (the same, equation 8), estimated by `ratio - 1 - log ratio`, whose mean
    is the Kullback-Leibler divergence and which is never negative (Schulman 2020, "Approximating
    KL divergence"). Clipping gives no force back towards the policy that acted once other losses
    of the shared encoder have moved it away; the divergence does.

    Args:
        log_prob: of the actions under the policy that learns.
        old_log_prob: of the actions under the policy that acted.
        advantage: of the actions.
        weight: of each sample in all means, summing to one; zero where this level decided nothing.
        config: clipping and `kl_coefficient`.

    Returns:
        The objective, and by name: `kl`, the divergence, and `clip_fraction`, the share of samples
        whose likelihood ratio is out of the range that is not clipped.
    """
    log_ratio = torch.where(weight > 0, log_prob - old_log_prob, 0.0)
    ratio = torch.exp(log_ratio)
    clipped = torch.minimum(
        ratio * advantage, ratio.clamp(1 - config.clip, 1 + config.clip) * advantage
    )
    divergence = ((ratio - 1 - log_ratio) * weight).sum()
    is_clipped = ((ratio - 1).abs() > config.clip).to(weight.dtype)
    objective = (clipped * weight).sum() - config.kl_coefficient * divergence
    return objective, {"kl": divergence, "clip_fraction": (is_clipped * weight).sum()}
