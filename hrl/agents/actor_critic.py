"""One level of behaviour learned in imagination: an actor and its critics, the same code for every
level of every method.

The flat method has one level; the hierarchical method has two, a manager and a worker. A level is
told what it sees, what it did, what it earned and how likely the episode went on, as a `Trajectory`
of its own decisions, whatever their length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hrl.nets.action_mask import ActionMask
from hrl.nets.bounded_normal import BoundedNormal
from hrl.nets.frozen import frozen
from hrl.nets.one_hot import OneHot
from hrl.nets.task_dense import TaskDense
from hrl.nets.two_hot import BINS, TwoHot
from hrl.optim.compile import compiled_part
from hrl.optim.normalizers import AdaptiveCoefficient, EmaMoments, EmaStd, PercentileRange
from hrl.optim.returns import lambda_returns

GRADIENTS = ("reinforce", "dynamics")
RETURN_SCALES = ("std", "percentile")
ENTROPIES = ("adaptive", "fixed")
SATURATED = 0.99


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig:
    """How one level learns. Every level has its own, so that no switch moves another level
    unnoticed.

    layers: hidden layers of the actor and of each critic.
    gae_lambda: lambda of the returns, per decision of this level.
    std_low, std_high: bounds of a continuous actor's standard deviation.
    unimix: share of the uniform distribution in a discrete actor.
    entropy: adaptive: a coefficient per action dimension (or code) keeps its normalised entropy
        near the target;
        fixed: one coefficient, `entropy_scale`, on the entropy in nats (DreamerV3).
    entropy_target: share of the possible range, of the adaptive control.
    entropy_least, entropy_most: bounds of its coefficients. Advantages have unit spread, so that a
        coefficient far below or above 1 changes nothing but the time that it takes to come back.
    return_scale: std: returns are divided by a running standard deviation, at least 0.01
        (Director); percentile: by a running range from the 5th to the 95th percentile, at least 1
        (DreamerV3).
    normalise_advantage: subtract a running mean and divide by a running standard deviation
        (Director).
    slow_bootstrap: returns bootstrap from the slow critic and not from the one that learns.
    slow_rate: share of the critic that its slow copy takes over at each update.
    slow_regulariser: weight of the critic's cross-entropy with its slow copy's value.
    """

    layers: int = 3
    gae_lambda: float = 0.95
    std_low: float = 0.1
    std_high: float = 1.0
    unimix: float = 0.01
    entropy: str = "adaptive"
    entropy_target: float = 0.5
    entropy_least: float = 1e-3
    entropy_most: float = 10.0
    entropy_scale: float = 3e-4
    return_scale: str = "std"
    normalise_advantage: bool = True
    slow_bootstrap: bool = True
    slow_rate: float = 0.02
    slow_regulariser: float = 1.0

    def check(self, level: str) -> None:
        """Raise ValueError naming the key, after the level's own, of a value that cannot be."""
        for key, choices in (("entropy", ENTROPIES), ("return_scale", RETURN_SCALES)):
            if getattr(self, key) not in choices:
                raise ValueError(
                    f"{level}.{key} is {getattr(self, key)!r}; choose from {', '.join(choices)}"
                )
        if self.layers < 1:
            raise ValueError(f"{level}.layers is {self.layers}; it must be at least 1")
        if not 0 < self.entropy_least <= 1 <= self.entropy_most:
            raise ValueError(
                f"{level}.entropy_least is {self.entropy_least} and {level}.entropy_most {self.entropy_most}; "
                "they must be above 0 and have 1, where coefficients start, between them"
            )
        if not 0 < self.std_low < self.std_high:
            raise ValueError(
                f"{level}.std_low is {self.std_low} and {level}.std_high {self.std_high}; 0 < low < high"
            )
        for key in ("gae_lambda", "unimix", "entropy_target", "slow_rate"):
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(f"{level}.{key} is {getattr(self, key)}; it must lie in [0, 1]")


class Trajectory(NamedTuple):
    """Decisions of one level, imagined: T of them, and the state after the last.

    inputs: what the level sees beside the task, which stays the same.
    actions: what it did, for actors that learn by the likelihood of it.
    rewards: by stream, each received on arriving at states 1 to T.
    continues: probability that the episode goes on at states 0 to T.
    discount: per decision.
    """

    inputs: Float[Tensor, "states batch inputs"]
    task: Float[Tensor, "1 batch task"]
    actions: Float[Tensor, "time batch ..."]
    rewards: dict[str, Float[Tensor, "time batch"]]
    continues: Float[Tensor, "states batch"]
    discount: float


class ContinuousActor(nn.Module):
    """Bounded normal actions, those that are padding to a task's body 0."""

    def __init__(
        self,
        inputs: int,
        task_size: int,
        task_features: int,
        units: int,
        action_size: int,
        config: ActorCriticConfig,
        padding: ActionMask | None = None,
    ) -> None:
        super().__init__()
        self.config, self.dimensions, self.padding = config, action_size, padding
        hidden = [units] * config.layers
        self.net = TaskDense(
            inputs, task_size, task_features, hidden, 2 * action_size, output_scale=0.01
        )

    @compiled_part
    def forward(
        self, inputs: Float[Tensor, "*batch inputs"], task: Float[Tensor, "*#batch task"]
    ) -> BoundedNormal:
        """The policy."""
        mask = None if self.padding is None else self.padding(task)
        return BoundedNormal(
            self.net(inputs, task), self.config.std_low, self.config.std_high, mask
        )

    def normalised_entropy(self, policy: BoundedNormal) -> Float[Tensor, "*batch dim"]:
        """Of each action dimension, in [0, 1]."""
        return policy.normalised_entropy()

    def average(
        self, policy: BoundedNormal, entropy: Float[Tensor, "*batch dim"]
    ) -> Float[Tensor, " dim"]:
        """Over all states in which a dimension is no padding; the target where there are none."""
        return policy.average(entropy, self.config.entropy_target)

    def diagnose(self, policy: BoundedNormal) -> dict[str, Tensor]:
        """Share of means at their bounds, where the hyperbolic tangent lets no gradient through."""
        saturated = (policy.mean.detach().abs() > SATURATED).float()
        return {"saturated": policy.average(saturated, math.nan).nanmean()}


class CodeActor(nn.Module):
    """Categorical codes: `groups` choices among `classes`."""

    def __init__(
        self,
        inputs: int,
        task_size: int,
        task_features: int,
        units: int,
        groups: int,
        classes: int,
        config: ActorCriticConfig,
    ) -> None:
        super().__init__()
        self.config, self.dimensions, self.classes = config, groups, classes
        hidden = [units] * config.layers
        self.net = TaskDense(
            inputs, task_size, task_features, hidden, groups * classes, output_scale=0.01
        )

    def forward(
        self, inputs: Float[Tensor, "*batch inputs"], task: Float[Tensor, "*#batch task"]
    ) -> OneHot:
        """The policy."""
        return OneHot(
            self.net(inputs, task).unflatten(-1, (self.dimensions, self.classes)),
            self.config.unimix,
        )

    def normalised_entropy(self, policy: OneHot) -> Float[Tensor, "*batch group"]:
        """Of each code, in [0, 1]."""
        return policy.entropy() / math.log(self.classes)

    def average(
        self, policy: OneHot, entropy: Float[Tensor, "*batch group"]
    ) -> Float[Tensor, " group"]:
        """Over all states."""
        return entropy.flatten(0, -2).mean(0)

    def diagnose(self, policy: OneHot) -> dict[str, Tensor]:
        """Nothing beside the entropy."""
        return {}


class Critic(nn.Module):
    """Predicts returns as a distribution over bins, with a slow copy of itself and the scale of its
    returns.
    """

    def __init__(
        self, inputs: int, task_size: int, task_features: int, units: int, config: ActorCriticConfig
    ) -> None:
        super().__init__()
        self.config = config
        self.net = TaskDense(
            inputs, task_size, task_features, [units] * config.layers, BINS, output_scale=0.0
        )
        self.slow = deepcopy(self.net).requires_grad_(False)
        self.scale = EmaStd() if config.return_scale == "std" else PercentileRange()

    def values(
        self, inputs: Float[Tensor, "*batch inputs"], task: Float[Tensor, "*#batch task"]
    ) -> Float[Tensor, "*batch"]:
        """Values that returns bootstrap from and advantages are relative to; gradient reaches
        `inputs` only.
        """
        net = self.slow if self.config.slow_bootstrap else frozen(self.net)
        return TwoHot(net(inputs, task)).mean()

    def loss(
        self,
        inputs: Float[Tensor, "*batch inputs"],
        task: Float[Tensor, "*#batch task"],
        returns: Float[Tensor, "*batch"],
        weights: Float[Tensor, "*batch"],
        values: Float[Tensor, "*batch"],
    ) -> Tensor:
        """Weighted cross-entropy with the returns, and with the slow copy's values (arXiv
        2301.04104, "Critic").

        Args:
            values: what `values` gave, which are the slow copy's where returns bootstrap from it.
        """
        slow = values if self.config.slow_bootstrap else self._slow_values(inputs, task)
        predicted = TwoHot(self.net(inputs, task))
        loss = predicted.loss(returns) + self.config.slow_regulariser * predicted.loss(slow)
        return (loss * weights).mean()

    @torch.no_grad()
    def _slow_values(self, inputs: Tensor, task: Tensor) -> Tensor:
        return TwoHot(self.slow(inputs, task)).mean()

    @torch.no_grad()
    def update_target(self) -> None:
        """Moves the slow copy towards the critic."""
        slow, fast = ([p.detach() for p in net.parameters()] for net in (self.slow, self.net))
        torch._foreach_lerp_(slow, fast, self.config.slow_rate)


class ActorCritic(nn.Module):
    """An actor and a critic for each stream of rewards.

    Args:
        actor: a `ContinuousActor` or a `CodeActor`.
        critics: by stream.
        reward_weights: weight of each stream's normalised advantage.
        gradient: reinforce: by the likelihood of what was done; dynamics: through the imagined
            trajectory, whose rewards and inputs must then carry gradient.
    """

    def __init__(
        self,
        actor: ContinuousActor | CodeActor,
        critics: Mapping[str, Critic],
        reward_weights: Mapping[str, float],
        config: ActorCriticConfig,
        gradient: str = "reinforce",
    ) -> None:
        super().__init__()
        self.actor, self.critics = actor, nn.ModuleDict(critics)
        self.reward_weights, self.config, self.gradient = dict(reward_weights), config, gradient
        self.advantages = EmaMoments()
        self.coefficients = AdaptiveCoefficient(
            (actor.dimensions,),
            config.entropy_target,
            config.entropy_least,
            config.entropy_most,
            raise_when_low=True,
        )

    @compiled_part
    def loss(self, seen: Trajectory) -> tuple[Tensor, dict[str, Tensor]]:
        """Of actor and critics over a trajectory, and metrics, of which the critics' loss alone
        carries gradient.
        """
        weights = self._weights(seen)
        metrics: dict[str, Tensor] = {}
        advantage, critic_loss = torch.zeros_like(weights), weights.new_zeros(())
        for name, critic in self.critics.items():
            assert isinstance(critic, Critic)
            share, loss, measured = self._critic_loss(name, critic, seen, weights)
            advantage, critic_loss = advantage + share, critic_loss + loss
            metrics |= measured
        actor_loss, measured = self._actor_loss(seen, advantage, weights)
        return actor_loss + critic_loss, {**metrics, **measured, "critic_loss": critic_loss}

    def update_target(self) -> None:
        """Moves the critics' slow copies; called once an update."""
        for critic in self.critics.values():
            assert isinstance(critic, Critic)
            critic.update_target()

    # Private methods.

    def _weights(self, seen: Trajectory) -> Float[Tensor, "time batch"]:
        """Discounted probability that the trajectory gets to each decision."""
        discounts = torch.cat([seen.continues[:1], seen.discount * seen.continues[1:-1]])
        return discounts.cumprod(0).detach()

    def _critic_loss(
        self, name: str, critic: Critic, seen: Trajectory, weights: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """One stream's part in the advantage, its critic's loss, metrics."""
        values = critic.values(seen.inputs, seen.task)
        returns = lambda_returns(
            seen.rewards[name], values, seen.continues[1:], seen.discount, self.config.gae_lambda
        )
        critic.scale.update(returns.detach())
        constants = (tensor.detach() for tensor in (returns, weights, values[:-1]))
        loss = critic.loss(seen.inputs[:-1].detach(), seen.task, *constants)
        share = self.reward_weights[name] * (returns - values[:-1]) / critic.scale.scale()
        spread = share.detach().abs().mean()
        measured = {
            f"{name}/return": returns.detach().mean(),
            f"{name}/return_std": returns.detach().std(correction=0),
            f"{name}/return_spread": critic.scale.spread(),
            f"{name}/reward": seen.rewards[name].detach().mean(),
            f"{name}/value": values.detach().mean(),
            f"{name}/value_least": values.detach().min(),
            f"{name}/value_most": values.detach().max(),
            f"{name}/advantage": spread,
        }
        return share, loss, measured

    def _actor_loss(
        self, seen: Trajectory, advantage: Tensor, weights: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.config.normalise_advantage:
            self.advantages.update(advantage.detach())
            advantage = self.advantages.normalise(advantage)
        policy = self.actor(seen.inputs[:-1].detach(), seen.task)
        if self.gradient == "reinforce":
            gain = policy.log_prob(seen.actions.detach()).sum(-1) * advantage.detach()
        else:
            gain = advantage
        entropy = self.actor.normalised_entropy(policy)
        per_dimension = self.actor.average(policy, entropy.detach())
        bonus = self._entropy_bonus(policy, entropy, per_dimension)
        loss = -((gain + bonus) * weights).mean()
        measured = {
            "actor_loss": loss.detach(),
            "entropy": per_dimension.mean(),
            "entropy_least": per_dimension.min(),
        }
        measured |= self.actor.diagnose(policy)
        return loss, {**measured, "entropy_coefficient": self.coefficients.value.mean()}

    def _entropy_bonus(
        self, policy: BoundedNormal | OneHot, normalised: Tensor, per_dimension: Tensor
    ) -> Float[Tensor, "time batch"]:
        if self.config.entropy == "fixed":
            return self.config.entropy_scale * policy.entropy().sum(-1)
        self.coefficients.update(per_dimension)
        return (self.coefficients.value.clone() * normalised).sum(-1)
