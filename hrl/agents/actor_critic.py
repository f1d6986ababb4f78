"""Learn one actor and its critics in imagination, the same code for every level of every agent.

The flat agent has one actor-critic; the hierarchical agent has two, a manager and a worker. Each
learns from a `Trajectory` of its own decisions, whatever their duration: inputs, actions, rewards,
and the probability that the episode continues.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hrl.config_field import MAX_LAYERS, CheckedConfig, ConfigValueError, config_field
from hrl.nets.bounded_normal import BoundedNormal
from hrl.nets.frozen import frozen
from hrl.nets.one_hot import OneHot
from hrl.nets.task_dense import TaskDense
from hrl.nets.two_hot import BINS, TwoHot
from hrl.optim.compile import compiled_part
from hrl.optim.normalizers import AdaptiveCoefficient, EmaMoments, EmaStd, PercentileRange
from hrl.optim.returns import lambda_returns, replayed_returns
from hrl.ranks import ONE_RANK, AcrossRanks, Ranks

GRADIENTS = ("reinforce", "dynamics")
RETURN_SCALES = ("std", "percentile")
ENTROPIES = ("adaptive", "fixed")
BOOTSTRAPS = ("slow", "critic", "copy")
COPY_EVERY = 100
"""Updates between two renewals of the copy that returns bootstrap from with `bootstrap=copy`."""
SATURATED = 0.99


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig(CheckedConfig):
    """Hold the hyperparameters of one actor-critic.

    Every level of a hierarchy has its own, so that no switch moves another level unnoticed.
    """

    layers: int = config_field(
        3, "hidden layers of the actor and of each critic", at_least=1, at_most=MAX_LAYERS
    )
    return_lambda: float = config_field(
        0.95, "lambda of the imagined returns, per decision of this level", at_least=0, at_most=1
    )
    std_low: float = config_field(
        0.1, "lower bound of a continuous actor's standard deviation", above=0
    )
    std_high: float = config_field(
        1.0, "upper bound of a continuous actor's standard deviation", above=0
    )
    unimix: float = config_field(
        0.01, "share of the uniform distribution in a discrete actor", at_least=0, at_most=1
    )
    entropy: str = config_field(
        "adaptive",
        "adaptive: a coefficient per action dimension (or code) keeps its normalised entropy near "
        "the target; fixed: one coefficient, entropy_scale, on the entropy in nats (DreamerV3)",
        choices=ENTROPIES,
    )
    entropy_target: float = config_field(
        0.5,
        "target of the adaptive control, as a share of the possible range",
        above=0,
        at_most=1,
    )
    entropy_least: float = config_field(
        1e-3,
        "lower bound of the adaptive coefficients, which start at 1. Advantages have unit spread, "
        "so that a coefficient far below or above 1 changes nothing but the time that it takes to "
        "come back",
        above=0,
        at_most=1,
    )
    entropy_most: float = config_field(10.0, "upper bound of the adaptive coefficients", at_least=1)
    entropy_scale: float = config_field(
        3e-4, "the fixed coefficient on the entropy in nats", at_least=0
    )
    return_scale: str = config_field(
        "std",
        "std: returns are divided by a running standard deviation, at least 0.01 (Director); "
        "percentile: by a running range from the 5th to the 95th percentile, at least 1 "
        "(DreamerV3, with normalise_advantage=false: otherwise the scale of a single type of "
        "reward cancels out)",
        choices=RETURN_SCALES,
    )
    normalise_advantage: bool = config_field(
        True, "subtract a running mean and divide by a running standard deviation (Director)"
    )
    bootstrap: str = config_field(
        "slow",
        "what returns bootstrap from: slow, a copy of the critic that follows it by slow_rate; "
        "critic, the critic that learns (DreamerV3); copy, a copy that is renewed every 100 "
        "updates (Director; slow_rate and slow_regulariser then have no effect)",
        choices=BOOTSTRAPS,
    )
    slow_rate: float = config_field(
        0.02,
        "share of the critic that its slow copy takes over at each update",
        at_least=0,
        at_most=1,
    )
    slow_regulariser: float = config_field(
        1.0, "weight of the critic's cross-entropy with its slow copy's value", at_least=0
    )

    def check_together(self) -> None:
        """Refuse bounds of the standard deviation that are the wrong way round."""
        if not self.std_low < self.std_high:
            rule = f"it must be below std_high, which is {self.std_high}"
            raise ConfigValueError("std_low", self.std_low, rule)


class Trajectory(NamedTuple):
    """Hold imagined decisions of one actor-critic: T of them, and the state after the last.

    Attributes:
        inputs: inputs of actor and critics at states 0 to T, beside the task.
        task: task vectors, which stay the same.
        actions: the actions, for actors that learn by their likelihood.
        rewards: by reward type, each received on arriving at states 1 to T.
        continues: probability that the episode continues at states 0 to T.
        discount: discount per decision.
        action_mask: False for numbers of an action that are padding; None where none is.
    """

    inputs: Float[Tensor, "states batch inputs"]
    task: Float[Tensor, "1 batch task"]
    actions: Float[Tensor, "time batch ..."]
    rewards: dict[str, Float[Tensor, "time batch"]]
    continues: Float[Tensor, "states batch"]
    discount: float
    action_mask: Bool[Tensor, "1 batch action"] | None = None


class ReplayedStates(NamedTuple):
    """Hold replayed states from which a trajectory was imagined, to learn their values too.

    Attributes:
        inputs: inputs of the critics; their gradient trains the world model.
        task: task vectors.
        rewards: by reward type, those that were received on arriving at each state. Critics of
            other types learn from imagination alone.
        is_last: whether an episode ends at the state.
        is_terminal: whether it ends there by termination.
        discount: discount per step.
        weight: of the loss beside that of imagined states.
    """

    inputs: Float[Tensor, "batch time inputs"]
    task: Float[Tensor, "batch time task"]
    rewards: dict[str, Float[Tensor, "batch time"]]
    is_last: Bool[Tensor, "batch time"]
    is_terminal: Bool[Tensor, "batch time"]
    discount: float
    weight: float


class ContinuousActor(nn.Module):
    """Choose continuous actions by a bounded normal; padding of an action is 0.

    Args:
        inputs: size of the inputs.
        task_size: size of the task vector; 0 where the actor gets no task.
        task_features: size of the task's embedding.
        units: units of the hidden layers.
        action_size: size of the action.
        config: hyperparameters.
    """

    def __init__(
        self,
        inputs: int,
        task_size: int,
        task_features: int,
        units: int,
        action_size: int,
        config: ActorCriticConfig,
    ) -> None:
        super().__init__()
        self.config = config
        self.dimensions = action_size
        hidden = [units] * config.layers
        self.net = TaskDense(
            inputs, task_size, task_features, hidden, 2 * action_size, output_scale=0.01
        )

    @compiled_part
    def forward(
        self,
        inputs: Float[Tensor, "*batch inputs"],
        task: Float[Tensor, "*#batch task"],
        action_mask: Bool[Tensor, "*#batch action"] | None = None,
    ) -> BoundedNormal:
        """Return the policy; without a mask every number of an action is used."""
        mask = None if action_mask is None else action_mask.float()
        return BoundedNormal(
            self.net(inputs, task), self.config.std_low, self.config.std_high, mask
        )

    def normalised_entropy(self, policy: BoundedNormal) -> Float[Tensor, "*batch dim"]:
        """Return the entropy of each action dimension, in [0, 1]."""
        return policy.normalised_entropy()

    def average(
        self, policy: BoundedNormal, entropy: Float[Tensor, "*batch dim"], ranks: Ranks
    ) -> Float[Tensor, " dim"]:
        """Return the mean over all states, of all ranks, in which a dimension is no padding.

        It is the target of the entropy where there are no such states.
        """
        return policy.average(entropy, self.config.entropy_target, ranks)

    def diagnose(self, policy: BoundedNormal) -> dict[str, Tensor]:
        """Return the share of means at their bounds, where tanh lets no gradient through."""
        saturated = (policy.mean.detach().abs() > SATURATED).float()
        return {"saturated": policy.average(saturated, math.nan, ONE_RANK).nanmean()}


class CodeActor(nn.Module):
    """Choose discrete codes: `groups` choices among `classes`.

    Args:
        inputs: size of the inputs.
        task_size: size of the task vector; 0 where the actor gets no task.
        task_features: size of the task's embedding.
        units: units of the hidden layers.
        groups: choices of a code.
        classes: classes of each choice.
        config: hyperparameters.
    """

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
        self.config = config
        self.dimensions = groups
        self.classes = classes
        hidden = [units] * config.layers
        self.net = TaskDense(
            inputs, task_size, task_features, hidden, groups * classes, output_scale=0.01
        )

    def forward(
        self,
        inputs: Float[Tensor, "*batch inputs"],
        task: Float[Tensor, "*#batch task"],
        action_mask: Bool[Tensor, "*#batch action"] | None = None,
    ) -> OneHot:
        """Return the policy; codes have no padding, so that no mask concerns them."""
        del action_mask
        logits = self.net(inputs, task).unflatten(-1, (self.dimensions, self.classes))
        return OneHot(logits, self.config.unimix)

    def normalised_entropy(self, policy: OneHot) -> Float[Tensor, "*batch group"]:
        """Return the entropy of each choice, in [0, 1]."""
        return policy.entropy() / math.log(self.classes)

    def average(
        self, policy: OneHot, entropy: Float[Tensor, "*batch group"], ranks: Ranks
    ) -> Float[Tensor, " group"]:
        """Return the mean over all states of all ranks."""
        return ranks.mean(entropy.flatten(0, -2).mean(0))

    def diagnose(self, policy: OneHot) -> dict[str, Tensor]:
        """Return no metrics beside the entropy."""
        return {}


class Critic(nn.Module):
    """Predict returns as a distribution over bins, with a slow copy and the scale of the returns.

    `slow` is the copy that follows the critic, or the one that is renewed (see
    `ActorCriticConfig.bootstrap`).

    Args:
        inputs: size of the inputs.
        task_size: size of the task vector; 0 where the critic gets no task.
        task_features: size of the task's embedding.
        units: units of the hidden layers.
        config: hyperparameters.
    """

    updates: Tensor

    def __init__(
        self, inputs: int, task_size: int, task_features: int, units: int, config: ActorCriticConfig
    ) -> None:
        super().__init__()
        self.config = config
        hidden = [units] * config.layers
        self.net = TaskDense(inputs, task_size, task_features, hidden, BINS, output_scale=0.0)
        self.slow = deepcopy(self.net).requires_grad_(False)
        self.scale = EmaStd() if config.return_scale == "std" else PercentileRange()
        if config.bootstrap == "copy":
            self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def values(
        self, inputs: Float[Tensor, "*batch inputs"], task: Float[Tensor, "*#batch task"]
    ) -> Float[Tensor, "*batch"]:
        """Return the values that returns bootstrap from and advantages are relative to.

        Gradient reaches `inputs` only.
        """
        net = frozen(self.net) if self.config.bootstrap == "critic" else self.slow
        return TwoHot(net(inputs, task)).mean()

    def loss(
        self,
        inputs: Float[Tensor, "*batch inputs"],
        task: Float[Tensor, "*#batch task"],
        returns: Float[Tensor, "*batch"],
        weights: Float[Tensor, "*batch"],
        values: Float[Tensor, "*batch"],
    ) -> Tensor:
        """Return the cross-entropy with the returns and with the slow copy's values.

        The second term keeps the critic near its slow copy (arXiv 2301.04104, "Critic"). A copy
        that is renewed has no such term.

        Args:
            inputs: of the states.
            task: of the states.
            returns: targets.
            weights: of the states.
            values: what `values` gave, which are the slow copy's where returns bootstrap from it.
        """
        predicted = TwoHot(self.net(inputs, task))
        loss = predicted.loss(returns)
        if self.config.bootstrap != "copy":
            is_slow = self.config.bootstrap == "slow"
            slow = values if is_slow else self._slow_values(inputs, task)
            loss = loss + self.config.slow_regulariser * predicted.loss(slow)
        return (loss * weights).mean()

    @torch.no_grad()
    def _slow_values(self, inputs: Tensor, task: Tensor) -> Tensor:
        return TwoHot(self.slow(inputs, task)).mean()

    @torch.no_grad()
    def update_target(self) -> None:
        """Move the slow copy towards the critic, or renew the copy where its time has come.

        In evaluation mode (a frozen critic) it stays as it is.
        """
        if not self.training:
            return
        slow, fast = ([p.detach() for p in net.parameters()] for net in (self.slow, self.net))
        if self.config.bootstrap != "copy":
            torch._foreach_lerp_(slow, fast, self.config.slow_rate)
            return
        self.updates += 1
        # Not a branch: a compiled or recorded update cannot have one.
        is_due = self.updates % COPY_EVERY == 0
        for old, new in zip(slow, fast, strict=True):
            old.copy_(torch.where(is_due, new, old))


class ActorCritic(AcrossRanks, nn.Module):
    """Train an actor, and a critic for each type of reward.

    Args:
        actor: a `ContinuousActor` or a `CodeActor`.
        critics: by reward type.
        reward_weights: weight of each reward type's normalised advantage.
        config: hyperparameters.
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
        self.actor = actor
        self.critics = nn.ModuleDict(critics)
        self.reward_weights = dict(reward_weights)
        self.config = config
        self.gradient = gradient
        self.advantages = EmaMoments()
        self.coefficients = AdaptiveCoefficient(
            (actor.dimensions,),
            config.entropy_target,
            config.entropy_least,
            config.entropy_most,
            raise_when_low=True,
        )

    @compiled_part
    def loss(
        self, trajectory: Trajectory, replayed: ReplayedStates | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total actor-critic loss and metrics; only `critic_loss` keeps its gradient.

        Args:
            trajectory: what was imagined.
            replayed: the states from which it was, in the same order, for critics that learn from
                replayed rewards too; None for those that do not.
        """
        weights = self._weights(trajectory)
        metrics: dict[str, Tensor] = {}
        advantage = torch.zeros_like(weights)
        critic_loss = weights.new_zeros(())
        for name, critic in self.critics.items():
            assert isinstance(critic, Critic)
            part, loss, measured = self._critic_loss(name, critic, trajectory, weights, replayed)
            advantage = advantage + part
            critic_loss = critic_loss + loss
            metrics |= measured
        actor_loss, measured = self._actor_loss(trajectory, advantage, weights)
        return actor_loss + critic_loss, {**metrics, **measured, "critic_loss": critic_loss}

    def policy_modules(self) -> nn.ModuleList:
        """Return the actor with the running statistics that its loss needs: all but critics."""
        return nn.ModuleList([self.actor, self.advantages, self.coefficients])

    def update_target(self) -> None:
        """Move the critics' slow copies; called once an update."""
        for critic in self.critics.values():
            assert isinstance(critic, Critic)
            critic.update_target()

    # Private methods.

    def _weights(self, trajectory: Trajectory) -> Float[Tensor, "time batch"]:
        """Return the discounted probability that the trajectory reaches each decision."""
        continues = trajectory.continues
        discounts = torch.cat([continues[:1], trajectory.discount * continues[1:-1]])
        return discounts.cumprod(0).detach()

    def _critic_loss(
        self,
        name: str,
        critic: Critic,
        trajectory: Trajectory,
        weights: Tensor,
        replayed: ReplayedStates | None,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return one reward type's part of the advantage, its critic's loss, and metrics."""
        values = critic.values(trajectory.inputs, trajectory.task)
        returns = lambda_returns(
            trajectory.rewards[name],
            values,
            trajectory.continues[1:],
            trajectory.discount,
            self.config.return_lambda,
        )
        critic.scale.update(returns.detach())
        constants = (tensor.detach() for tensor in (returns, weights, values[:-1]))
        loss = critic.loss(trajectory.inputs[:-1].detach(), trajectory.task, *constants)
        part = self.reward_weights[name] * (returns - values[:-1]) / critic.scale.scale()
        spread = part.detach().abs().mean()
        measured = {
            f"{name}/return": returns.detach().mean(),
            f"{name}/return_std": returns.detach().std(correction=0),
            f"{name}/return_spread": critic.scale.spread(),
            f"{name}/reward": trajectory.rewards[name].detach().mean(),
            f"{name}/value": values.detach().mean(),
            f"{name}/value_least": values.detach().min(),
            f"{name}/value_most": values.detach().max(),
            f"{name}/advantage": spread,
        }
        if replayed is not None and name in replayed.rewards:
            replay_loss = self._replay_value_loss(name, critic, replayed, returns[0].detach())
            loss = loss + replayed.weight * replay_loss
            measured[f"{name}/replay_value_loss"] = replay_loss.detach()
        return part, loss, measured

    def _replay_value_loss(
        self, name: str, critic: Critic, replayed: ReplayedStates, imagined: Float[Tensor, " start"]
    ) -> Tensor:
        """Return a critic's loss on replayed states, whose returns bootstrap from imagined ones."""
        rewards = replayed.rewards[name]
        returns = replayed_returns(
            rewards,
            imagined.view(rewards.shape),
            replayed.is_last,
            replayed.is_terminal,
            replayed.discount,
            self.config.return_lambda,
        )
        inputs, task = replayed.inputs[:, :-1], replayed.task[:, :-1]
        weights = (~replayed.is_last[:, :-1]).to(rewards.dtype)
        with torch.no_grad():
            values = critic.values(inputs, task)
        return critic.loss(inputs, task, returns, weights, values)

    def _actor_loss(
        self, trajectory: Trajectory, advantage: Tensor, weights: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.config.normalise_advantage:
            self.advantages.update(advantage.detach())
            advantage = self.advantages.normalise(advantage)
        inputs = trajectory.inputs[:-1].detach()
        policy = self.actor(inputs, trajectory.task, trajectory.action_mask)
        if self.gradient == "reinforce":
            gain = policy.log_prob(trajectory.actions.detach()).sum(-1) * advantage.detach()
        else:
            gain = advantage
        entropy = self.actor.normalised_entropy(policy)
        per_dimension = self.actor.average(policy, entropy.detach(), self.ranks)
        bonus = self._entropy_bonus(policy, entropy, per_dimension)
        loss = -((gain + bonus) * weights).mean()
        measured = {
            "actor_loss": loss.detach(),
            "entropy": per_dimension.mean(),
            "entropy_least": per_dimension.min(),
        }
        measured |= self.actor.diagnose(policy)
        adaptive = self.config.entropy == "adaptive"
        coefficient = (
            self.coefficients.value.mean()
            if adaptive
            else torch.full_like(loss.detach(), self.config.entropy_scale)
        )
        return loss, {**measured, "entropy_coefficient": coefficient}

    def _entropy_bonus(
        self, policy: BoundedNormal | OneHot, normalised: Tensor, per_dimension: Tensor
    ) -> Float[Tensor, "time batch"]:
        if self.config.entropy == "fixed":
            return self.config.entropy_scale * policy.entropy().sum(-1)
        self.coefficients.update(per_dimension)
        return (self.coefficients.value.clone() * normalised).sum(-1)
