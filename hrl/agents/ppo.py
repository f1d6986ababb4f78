"""Train the flat agent: one policy over features of the pixels and the task, trained by PPO.

Proximal policy optimisation (PPO): Schulman et al. 2017, arXiv 1707.06347. The learner is in
`hrl.agents.on_policy_learner`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hrl.agents.base import AgentSpec
from hrl.agents.on_policy import (
    OnPolicyAgentConfig,
    estimate_advantages,
    measure_gradient,
    policy_objective,
)
from hrl.agents.parts import Parts
from hrl.agents.registry import register_agent
from hrl.config_field import config_field
from hrl.data.observation import Observation, PolicyState
from hrl.data.rollout import Rollout
from hrl.nets.gaussian import Gaussian, repeat_noise
from hrl.nets.mlp import MLP


@dataclass(frozen=True, kw_only=True)
class PPOConfig(OnPolicyAgentConfig):
    """Hold the hyperparameters of the flat agent."""

    takes_state: ClassVar[bool] = True
    name: str = "ppo"
    noise_repeat: int = config_field(
        1,
        "agent steps for which an environment's action noise (the standard-normal draw, before it "
        "is scaled by the policy's spread) is repeated; redrawn when an episode starts. With k of "
        "a hierarchy, a control for exploration that is correlated over k steps as its decisions "
        "are; 1 draws anew at every step",
        at_least=1,
    )


@register_agent("ppo", config=PPOConfig)
class PPO(nn.Module):
    """Act by a Gaussian policy, and value observations by a critic.

    Both are perceptrons over features of the pixels and of the task; the action is the tanh of a
    draw from the Gaussian.

    The policy's state holds `noise` [env, action], the noise in use, and `steps_since_noise` [env],
    agent steps since it was drawn; it is drawn anew where that is 0. The likelihoods that are
    learned from are those of each action given its own observation. With repeated noise they are
    marginal likelihoods, which ignore what earlier actions tell of the noise, so that the
    likelihood ratios of steps that share a draw are corrected step by step and not as the one draw
    that they are.

    Args:
        config: hyperparameters.
        spec: shapes and sizes.
    """

    def __init__(self, config: PPOConfig, spec: AgentSpec) -> None:
        super().__init__()
        self.config = config
        self.action_size = spec.action_size
        self.encoder = spec.build_encoder()
        self.task = spec.build_task_embedding()
        inputs = self.encoder.features + spec.task_features
        self.actor = MLP(inputs, spec.hidden, 2 * spec.action_size, gain=0.01)
        self.critic = MLP(inputs, spec.hidden, 1)

    def parts(self) -> Parts:
        """Return the modules by part and name."""
        return {
            "encoder": {"encoder": self.encoder, "task": self.task},
            "policy": {"actor": self.actor},
            "values": {"critic": self.critic},
        }

    # Acting.

    def initial_state(self, num_envs: int) -> PolicyState:
        """Return a state without noise, which is drawn at the next step."""
        device = next(self.parameters()).device
        return {
            "noise": torch.zeros(num_envs, self.action_size, device=device),
            "steps_since_noise": torch.zeros(num_envs, dtype=torch.int64, device=device),
        }

    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Return actions in [-1, 1] and the state for the next step.

        Without a generator the action is the mode, and the state stays as it is.
        """
        columns = self.encoder.columns(observation.pixels, observation.state)
        features = self._features(columns, observation.task)
        distribution = self._policy(features, observation.action_mask)
        raw_action, state = self._draw(distribution, state, generator)
        return torch.tanh(raw_action), state

    def explore(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState, dict[str, Tensor]]:
        """Return actions, the state for the next step, and the columns that the loss needs."""
        columns = self.encoder.columns(observation.pixels, observation.state)
        features = self._features(columns, observation.task)
        distribution = self._policy(features, observation.action_mask)
        raw_action, state = self._draw(distribution, state, generator)
        records = {
            **columns,
            "raw_action": raw_action,
            "log_prob": distribution.log_prob(raw_action),
            "value": self._value(features),
        }
        return torch.tanh(raw_action), state, records

    def bootstrap_values(self, observation: Observation, state: PolicyState) -> dict[str, Tensor]:
        """Return the critic's value of an observation."""
        del state
        columns = self.encoder.columns(observation.pixels, observation.state)
        return {"value": self._value(self._features(columns, observation.task))}

    # Learning.

    def advantages(self, rollout: Rollout) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return generalized advantage estimates; every step is a decision."""
        is_decision = torch.ones_like(rollout.steps["done"])
        columns, metrics = estimate_advantages("value", rollout, is_decision, self.config)
        return columns, {f"value/{key}": value for key, value in metrics.items()}

    def loss(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the clipped objective, value loss and entropy as one loss, and metrics."""
        metrics: dict[str, Tensor] = {}
        encoded, task = self.encoder.encode_columns(batch), self.task(batch["task"])
        of_policy, of_value = (
            torch.cat(
                [measure_gradient(encoded, f"encoder/gradient_from_{head}", metrics), task], -1
            )
            for head in ("policy", "value")
        )
        distribution = self._policy(of_policy, batch["action_mask"])
        log_prob = distribution.log_prob(batch["raw_action"])
        weight = torch.full_like(log_prob, 1 / len(log_prob))
        objective, policy_metrics = policy_objective(
            log_prob, batch["log_prob"], batch["value_advantage"], weight, self.config
        )
        value_loss = F.mse_loss(self._value(of_value), batch["value_return"])
        entropy = distribution.entropy().mean()
        loss = (
            -objective
            + self.config.value_coefficient * value_loss
            - self.config.entropy_coefficient * entropy
        )
        metrics |= {"loss/policy": -objective, "loss/value": value_loss, "policy/entropy": entropy}
        metrics |= {f"policy/{key}": value for key, value in policy_metrics.items()}
        return loss, metrics

    # Private methods.

    def _draw(
        self, distribution: Gaussian, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Return actions before the tanh, and the state for the next step."""
        if generator is None:
            return distribution.mean, state
        noise, steps_since_noise = repeat_noise(
            state["noise"], state["steps_since_noise"], self.config.noise_repeat, generator
        )
        return distribution.at(noise), {"noise": noise, "steps_since_noise": steps_since_noise}

    def _features(
        self, columns: Mapping[str, Tensor], task: Tensor
    ) -> Float[Tensor, "batch features"]:
        return torch.cat([self.encoder.encode_columns(columns), self.task(task)], -1)

    def _policy(self, features: Tensor, action_mask: Tensor) -> Gaussian:
        return Gaussian.from_parameters(self.actor(features)).masked(action_mask.float())

    def _value(self, features: Tensor) -> Float[Tensor, " batch"]:
        value: Tensor = self.critic(features).squeeze(-1)
        return value
