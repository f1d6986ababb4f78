"""Train an agent of your own: advantage actor-critic, in one file and with our learner.

    export PYTHONPATH=examples
    pixel-hrl train --import=own_agent agent=a2c suite=debug folder=runs/a2c
    pixel-hrl train --import=own_agent agent=a2c --help
    pixel-hrl evaluate runs/a2c --import=own_agent

The algorithm is that of Mnih et al. 2016 (arXiv 1602.01783), with parallel environments in place of
asynchronous ones: one step of gradient descent for every rollout, without ratios or clipping. The
learner collects rollouts, calls `advantages` and `loss`, and takes the steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hrl.agents.base import AgentSpec
from hrl.agents.on_policy import OnPolicyAgentConfig, estimate_advantages
from hrl.agents.parts import Parts
from hrl.agents.registry import register_agent
from hrl.config_field import config_field
from hrl.data.observation import Observation, PolicyState
from hrl.data.rollout import Rollout
from hrl.nets.gaussian import Gaussian
from hrl.nets.mlp import MLP


@dataclass(frozen=True, kw_only=True)
class A2CConfig(OnPolicyAgentConfig):
    """Hold the hyperparameters: those of every on-policy agent, and what differs here."""

    name: str = "a2c"
    n_epochs: int = config_field(1, "passes over a rollout", at_least=1)
    n_minibatches: int = config_field(1, "minibatches of a rollout", at_least=1)
    entropy_coefficient: float = config_field(0.001, "weight of the entropy", at_least=0)


@register_agent("a2c", config=A2CConfig)
class A2C(nn.Module):
    """Act by a Gaussian policy and learn from advantages over a critic."""

    def __init__(self, config: A2CConfig, spec: AgentSpec) -> None:
        super().__init__()
        self.config = config
        # Every method of a comparison has this encoder and this embedding of the task.
        self.encoder = spec.build_encoder()
        self.task = spec.build_task_embedding()
        inputs = self.encoder.features + spec.task_features
        self.actor = MLP(inputs, spec.hidden, 2 * spec.action_size, gain=0.01)
        self.critic = MLP(inputs, spec.hidden, 1)

    def parts(self) -> Parts:
        """Return all modules by part; fine-tuning freezes and resets parts by these names."""
        return {
            "encoder": {"encoder": self.encoder, "task": self.task},
            "policy": {"actor": self.actor},
            "values": {"critic": self.critic},
        }

    # Acting.

    def initial_state(self, num_envs: int) -> PolicyState:
        """Return what the policy remembers at the start of an episode: nothing."""
        return {}

    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Return actions in [-1, 1]; without a generator they are the policy's means."""
        columns = self.encoder.columns(observation.pixels, observation.state)
        policy, _ = self._evaluate(columns, observation.task, observation.action_mask)
        return torch.tanh(policy.sample(generator)), state

    def explore(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState, dict[str, Tensor]]:
        """Act in training, and return what the rollout keeps for `advantages` and `loss`."""
        columns = self.encoder.columns(observation.pixels, observation.state)
        policy, value = self._evaluate(columns, observation.task, observation.action_mask)
        raw_action = policy.sample(generator)
        records = {**columns, "raw_action": raw_action, "value": value}
        return torch.tanh(raw_action), state, records

    def bootstrap_values(self, observation: Observation, state: PolicyState) -> dict[str, Tensor]:
        """Return the value of an observation after which a rollout or an episode was cut."""
        columns = self.encoder.columns(observation.pixels, observation.state)
        return {"value": self._evaluate(columns, observation.task, observation.action_mask)[1]}

    # Learning.

    def advantages(self, rollout: Rollout) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the columns `value_advantage` and `value_return`, and metrics of the critic."""
        is_decision = torch.ones_like(rollout.steps["done"])
        columns, metrics = estimate_advantages("value", rollout, is_decision, self.config)
        return columns, {f"value/{key}": value for key, value in metrics.items()}

    def loss(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a minibatch, and the metrics that the run logs."""
        policy, value = self._evaluate(batch, batch["task"], batch["action_mask"])
        policy_loss = -(policy.log_prob(batch["raw_action"]) * batch["value_advantage"]).mean()
        value_loss = F.mse_loss(value, batch["value_return"])
        entropy = policy.entropy().mean()
        loss = (
            policy_loss
            + self.config.value_coefficient * value_loss
            - self.config.entropy_coefficient * entropy
        )
        metrics = {"loss/policy": policy_loss, "loss/value": value_loss, "policy/entropy": entropy}
        return loss, metrics

    def _evaluate(
        self, columns: Mapping[str, Tensor], task: Tensor, action_mask: Tensor
    ) -> tuple[Gaussian, Float[Tensor, " batch"]]:
        """Return the policy's distribution of actions, and the values."""
        features = torch.cat([self.encoder.encode_columns(columns), self.task(task)], -1)
        # Where a suite mixes bodies, the mask says which numbers of an action this body uses.
        policy = Gaussian.from_parameters(self.actor(features)).masked(action_mask.float())
        return policy, self.critic(features).squeeze(-1)
