"""Train the hierarchical agent: a manager that weighs composable skills, over one shared encoder.

    pixels -> encoder -> features -+-> skills: K Gaussians over actions       (no task)
                                   |             | product of densities, each to the power of
                                   |             | its weight
                      task --------+-> manager: softmax weights, every `skill_duration` agent
                                                 | steps, kept in between
                                                 |
                                       composite Gaussian -> draw -> tanh -> action

Skills are composed multiplicatively (Peng et al. 2019, MCP, arXiv 1905.09808), with softmax in
place of MCP's sigmoid weights: then the composite's spread stays within the skills' (docstring of
`hrl.nets.gaussian.compose`). Both levels are trained by the same on-policy learner as the flat
agent. The skills learn on every step, of the process whose state is (observation, weights, steps
since the decision). The manager learns on its decisions only, of the semi-Markov process in which a
decision lasts until the next one or the episode's end. The discount is per agent step at both
levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from hrl.agents.base import AgentSpec
from hrl.agents.on_policy import (
    OnPolicyAgentConfig,
    estimate_advantages,
    measure_gradient,
    policy_objective,
)
from hrl.agents.parts import FROZEN, Parts
from hrl.agents.registry import register_agent
from hrl.config_field import ConfigValueError, config_field
from hrl.data.observation import Observation, PolicyState
from hrl.data.rollout import Rollout
from hrl.nets.gaussian import Gaussian, compose
from hrl.nets.mlp import MLP
from hrl.ranks import AcrossRanks

GRADIENT_SOURCES = ("both", "manager", "skills", "none")
LOGIT_RANGE = 3.0
MAX_SKILLS = 1024
MAX_SKILL_DURATION = 10_000  # the skills' critic has an input for each step of a decision


@dataclass(frozen=True, kw_only=True)
class SkillsConfig(OnPolicyAgentConfig):
    """Hold the hyperparameters of the hierarchical agent."""

    takes_state: ClassVar[bool] = True
    name: str = "skills"
    num_skills: int = config_field(
        8,
        "K, the number of skills; with 1 there is nothing to decide: the manager neither acts nor "
        "learns, and the agent is a flat policy whose actions do not depend on the task (its "
        "critic does)",
        at_least=1,
        at_most=MAX_SKILLS,
    )
    skill_duration: int = config_field(
        8,
        "k, agent steps between decisions; with 1 the manager decides at every step, without "
        "temporal abstraction",
        at_least=1,
        at_most=MAX_SKILL_DURATION,
    )
    temperature: float = config_field(
        0.5,
        "temperature of the softmax over the manager's logits; low enough that a decision matters "
        "beside the action noise",
        above=0,
    )
    encoder_gradient: str = config_field(
        "both",
        "the level whose losses (its policy's and its critic's) train the encoder",
        choices=GRADIENT_SOURCES,
    )
    skills_see_task: bool = config_field(
        False, "give the skills the task, a control; false keeps skills reusable across tasks"
    )
    spread: float = config_field(
        2.0,
        "length of each skill's mean action (before the tanh) at the start, in a direction of its "
        "own. Skills that start alike give the manager nothing to choose from, and both levels "
        "settle for what is best without the task",
        at_least=0,
    )
    manager_learning_rate_share: float = config_field(
        0.1,
        "share of learning_rate that the manager's policy learns with. A rollout holds fewer "
        "decisions than steps, and weights of many skills move a policy's likelihood more than a "
        "few actuators do: with all of the rate nearly half of a manager's samples are clipped",
        above=0,
        at_most=1,
    )
    manager_entropy_coefficient: float = config_field(
        0.0, "weight of the entropy of the manager's Gaussian over logits", at_least=0
    )
    load_balance_coefficient: float = config_field(
        2e-3,
        "weight of the summed squared distance of the skills' mean weights in a minibatch from "
        "the even share, times their number",
        at_least=0,
    )

    @property
    def learning_rate_shares(self) -> dict[str, float]:
        """Return the manager's share."""
        return {"manager": self.manager_learning_rate_share}

    def check_together(self) -> None:
        """Refuse to train the encoder by a manager that has nothing to decide."""
        super().check_together()
        if self.num_skills == 1 and self.encoder_gradient == "manager":
            rule = "with num_skills=1 the manager has no losses: choose from both, skills, none"
            raise ConfigValueError("encoder_gradient", self.encoder_gradient, rule)

    def check_parts(self, states: Mapping[str, str]) -> None:
        """Refuse to train nothing but a manager that has nothing to decide."""
        learning = [name for name, state in states.items() if state != FROZEN]
        if self.num_skills == 1 and learning == ["manager"]:
            rule = "with one skill the manager learns nothing: train another part too"
            raise ConfigValueError("num_skills", self.num_skills, rule)


class EncodedObservation(NamedTuple):
    """Hold the encoded observation that one level gets.

    Attributes:
        features: of the pixels or the state, with or without gradient.
        task: the embedding of the task.
    """

    features: Float[Tensor, "batch features"]
    task: Float[Tensor, "batch task_features"]


@register_agent("skills", config=SkillsConfig)
class Skills(AcrossRanks, nn.Module):
    """Act by a manager and skills, each with a critic, over one encoder.

    The policy's state holds `weights` [env, K], the high-level action in force, and
    `steps_since_decision` [env], agent steps since the last decision; the manager decides where
    that is 0. `decisions` counts those of the manager, over all environments and continuations.

    Args:
        config: hyperparameters.
        spec: shapes and sizes.
    """

    decisions: Tensor

    def __init__(self, config: SkillsConfig, spec: AgentSpec) -> None:
        super().__init__()
        self.config = config
        self.action_size = spec.action_size
        self.encoder = spec.build_encoder()
        self.task = spec.build_task_embedding()
        features = self.encoder.features
        task = spec.task_features
        hidden = spec.hidden
        skill_inputs = features + task * config.skills_see_task
        skill_outputs = config.num_skills * 2 * spec.action_size
        value_inputs = features + task + config.num_skills + config.skill_duration
        self.manager = MLP(features + task, hidden, 2 * config.num_skills, gain=0.01)
        self.skills = MLP(skill_inputs, hidden, skill_outputs, gain=0.01)
        _spread(self.skills, config.num_skills, spec.action_size, config.spread)
        self.manager_critic = MLP(features + task, hidden, 1)
        self.skill_critic = MLP(value_inputs, hidden, 1)
        self.has_manager = config.num_skills > 1
        self.register_buffer("decisions", torch.zeros((), dtype=torch.int64))

    def parts(self) -> Parts:
        """Return the modules by part and name."""
        critics = {"manager_critic": self.manager_critic, "skill_critic": self.skill_critic}
        return {
            "encoder": {"encoder": self.encoder, "task": self.task},
            "manager": {"manager": self.manager},
            "low_level": {"skills": self.skills},
            "values": critics,
        }

    # Acting.

    def initial_state(self, num_envs: int) -> PolicyState:
        """Return even weights; the manager decides at the next step."""
        device = self.decisions.device
        even = 1 / self.config.num_skills
        return {
            "weights": torch.full((num_envs, self.config.num_skills), even, device=device),
            "steps_since_decision": torch.zeros(num_envs, dtype=torch.int64, device=device),
        }

    def is_decision_step(self, state: PolicyState) -> Bool[Tensor, " env"]:
        """Return where the manager decides at this step."""
        return state["steps_since_decision"] == 0

    def decide(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> PolicyState:
        """Return the state with new weights where the manager decides."""
        return self._decide(self._encode(observation), state, generator)[0]

    def act_low_level(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Return actions of the composite under the weights in force, and the next state."""
        encoded = self._encode(observation)
        return self._act_low_level(encoded, observation.action_mask, state, generator)

    def high_level_action(self, state: PolicyState) -> Float[Tensor, "env skill"]:
        """Return the weights in force."""
        return state["weights"]

    def with_high_level_action(
        self, state: PolicyState, high_level_action: Float[Tensor, "env skill"]
    ) -> PolicyState:
        """Return the state with other weights in force."""
        return {**state, "weights": high_level_action}

    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Return actions and the next state: `decide`, then `act_low_level`."""
        encoded = self._encode(observation)
        state, _ = self._decide(encoded, state, generator)
        return self._act_low_level(encoded, observation.action_mask, state, generator)

    def explore(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState, dict[str, Tensor]]:
        """Return actions, the next state, and the columns that the losses of both levels need."""
        columns = self.encoder.columns(observation.pixels, observation.state)
        encoded = self._encode_columns(columns, observation.task)
        state, records = self._decide(encoded, state, generator)
        weights = state["weights"]
        steps_since_decision = state["steps_since_decision"]
        composite = self._composite(encoded, observation.action_mask, weights)
        raw_action = composite.sample(generator)
        records |= {
            **columns,
            "raw_action": raw_action,
            "log_prob": composite.log_prob(raw_action),
            "weights": weights,
            "steps_since_decision": steps_since_decision,
            "skill_value": self._skill_value(encoded, weights, steps_since_decision),
        }
        return torch.tanh(raw_action), self._next_step(state), records

    def bootstrap_values(self, observation: Observation, state: PolicyState) -> dict[str, Tensor]:
        """Return the values of both levels where `state` is carried to `observation`.

        In the middle of a decision both are the skill critic's value of its rest. Where the manager
        decides, both are the manager critic's, since the weights are not drawn yet. With one skill
        there is only the skill critic's.
        """
        encoded = self._encode(observation)
        rest = self._skill_value(encoded, state["weights"], state["steps_since_decision"])
        if not self.has_manager:
            return {"skill_value": rest}
        value = torch.where(self.is_decision_step(state), self._manager_value(encoded), rest)
        return {"manager_value": value, "skill_value": value}

    # Learning.

    def advantages(self, rollout: Rollout) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return advantages of every step for the skills, of every decision for the manager."""
        is_decision = rollout.steps["steps_since_decision"] == 0
        columns, of_skills = estimate_advantages(
            "skill_value", rollout, torch.ones_like(is_decision), self.config
        )
        metrics = {f"value/{key}": value for key, value in of_skills.items()}
        if self.has_manager:
            of_decisions, of_manager = estimate_advantages(
                "manager_value", rollout, is_decision, self.config
            )
            columns |= of_decisions
            metrics |= {f"manager/{key}": value for key, value in of_manager.items()}
        return columns, metrics

    def count(self, steps: Mapping[str, Tensor]) -> dict[str, int]:
        """Return the manager's `decisions` so far over all environments; none with one skill."""
        if self.has_manager:
            self.decisions += self.ranks.sum((steps["steps_since_decision"] == 0).sum())
        return {"decisions": int(self.decisions)}

    def loss(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of the levels' losses, and metrics.

        Each loss is a mean over what that level decided. With one skill there is only the skills'.
        """
        metrics: dict[str, Tensor] = {}
        encoded = self._encode_columns(batch, batch["task"])
        loss = self._skills_loss(batch, self._for_level(encoded, "skills"), metrics)
        if self.has_manager:
            loss = loss + self._manager_loss(batch, self._for_level(encoded, "manager"), metrics)
        return loss, metrics

    # Private methods.

    def _encode(self, observation: Observation) -> EncodedObservation:
        columns = self.encoder.columns(observation.pixels, observation.state)
        return self._encode_columns(columns, observation.task)

    def _encode_columns(self, columns: Mapping[str, Tensor], task: Tensor) -> EncodedObservation:
        return EncodedObservation(self.encoder.encode_columns(columns), self.task(task))

    def _for_level(self, encoded: EncodedObservation, level: str) -> EncodedObservation:
        """Return the observation with gradient to the encoder only if this level trains it."""
        trains = self.config.encoder_gradient in ("both", level)
        return encoded if trains else EncodedObservation(encoded.features.detach(), encoded.task)

    def _decide(
        self,
        encoded: EncodedObservation,
        state: PolicyState,
        generator: torch.Generator | None,
    ) -> tuple[PolicyState, dict[str, Tensor]]:
        if not self.has_manager:
            return state, {}
        policy = self._manager_policy(encoded)
        logits = policy.sample(generator)
        is_decision = self.is_decision_step(state)[:, None]
        weights = torch.where(is_decision, self._weights(logits), state["weights"])
        value = self._manager_value(encoded)
        records = {
            "logits": logits,
            "manager_log_prob": policy.log_prob(logits),
            "manager_value": value,
        }
        return {**state, "weights": weights}, records

    def _act_low_level(
        self,
        encoded: EncodedObservation,
        action_mask: Tensor,
        state: PolicyState,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, PolicyState]:
        composite = self._composite(encoded, action_mask, state["weights"])
        return torch.tanh(composite.sample(generator)), self._next_step(state)

    def _next_step(self, state: PolicyState) -> PolicyState:
        steps = (state["steps_since_decision"] + 1) % self.config.skill_duration
        return {**state, "steps_since_decision": steps}

    def _weights(self, logits: Float[Tensor, "batch skill"]) -> Float[Tensor, "batch skill"]:
        return torch.softmax(logits / self.config.temperature, -1)

    def _manager_policy(self, encoded: EncodedObservation) -> Gaussian:
        policy = Gaussian.from_parameters(self.manager(torch.cat(encoded, -1)))
        return policy._replace(mean=LOGIT_RANGE * torch.tanh(policy.mean / LOGIT_RANGE))

    def _composite(
        self, encoded: EncodedObservation, action_mask: Tensor, weights: Tensor
    ) -> Gaussian:
        """Return the skills' composite, with the padding of the environment's body masked."""
        inputs = torch.cat(encoded, -1) if self.config.skills_see_task else encoded.features
        parameters = self.skills(inputs).unflatten(
            -1, (self.config.num_skills, 2 * self.action_size)
        )
        composite = compose(Gaussian.from_parameters(parameters), weights)
        return composite.masked(action_mask.float())

    def _manager_value(self, encoded: EncodedObservation) -> Float[Tensor, " batch"]:
        value: Tensor = self.manager_critic(torch.cat(encoded, -1)).squeeze(-1)
        return value

    def _skill_value(
        self, encoded: EncodedObservation, weights: Tensor, steps_since_decision: Tensor
    ) -> Float[Tensor, " batch"]:
        # Not `F.one_hot`, which asks the device whether the numbers are in range.
        steps = torch.arange(self.config.skill_duration, device=weights.device)
        phase = (steps_since_decision[:, None] == steps).to(weights.dtype)
        value: Tensor = self.skill_critic(torch.cat([*encoded, weights, phase], -1)).squeeze(-1)
        return value

    def _skills_loss(
        self, batch: Mapping[str, Tensor], encoded: EncodedObservation, metrics: dict[str, Tensor]
    ) -> Tensor:
        """Return the loss of the skills and of their critic, and add to the metrics."""
        of_policy, of_value = _measured(encoded, "encoder/gradient_from", metrics)
        composite = self._composite(of_policy, batch["action_mask"], batch["weights"])
        log_prob = composite.log_prob(batch["raw_action"])
        weight = torch.full_like(log_prob, 1 / len(log_prob))
        objective, policy_metrics = policy_objective(
            log_prob, batch["log_prob"], batch["skill_value_advantage"], weight, self.config
        )
        value = self._skill_value(of_value, batch["weights"], batch["steps_since_decision"])
        value_loss = F.mse_loss(value, batch["skill_value_return"])
        entropy = composite.entropy().mean()
        loss = (
            -objective
            + self.config.value_coefficient * value_loss
            - self.config.entropy_coefficient * entropy
        )
        metrics |= {"loss/policy": -objective, "loss/value": value_loss, "policy/entropy": entropy}
        metrics |= {f"policy/{key}": value for key, value in policy_metrics.items()}
        return loss

    def _manager_loss(
        self, batch: Mapping[str, Tensor], encoded: EncodedObservation, metrics: dict[str, Tensor]
    ) -> Tensor:
        """Return the loss of the manager and of its critic, and add to the metrics."""
        of_policy, of_value = _measured(encoded, "encoder/gradient_from_manager", metrics)
        is_decision = (batch["steps_since_decision"] == 0).to(torch.float32)
        # A mean over the decisions of all ranks, of whose gradients the mean is taken.
        decisions = self.ranks.sum(is_decision.sum()).clamp(min=1)
        weight = is_decision * self.ranks.count / decisions
        policy = self._manager_policy(of_policy)
        log_prob = policy.log_prob(batch["logits"])
        objective, policy_metrics = policy_objective(
            log_prob,
            batch["manager_log_prob"],
            batch["manager_value_advantage"],
            weight,
            self.config,
        )
        errors = self._manager_value(of_value) - batch["manager_value_return"]
        value_loss = (errors.square() * weight).sum()
        entropy = (policy.entropy() * weight).sum()
        balance_loss, balance_metrics = self._load_balance(self._weights(policy.mean), weight)
        policy_loss = -objective + balance_loss - self.config.manager_entropy_coefficient * entropy
        loss = policy_loss + self.config.value_coefficient * value_loss
        metrics |= {
            **balance_metrics,
            "manager/loss": -objective,
            "manager/value_loss": value_loss,
            "manager/entropy": entropy,
        }
        metrics |= {f"manager/{key}": value for key, value in policy_metrics.items()}
        return loss

    def _load_balance(
        self, weights: Float[Tensor, "batch skill"], share: Float[Tensor, " batch"]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss that balances the skills' load, as in mixtures of experts, and metrics.

        Args:
            weights: the greedy weights of every sample.
            share: of each sample in the mean, summing to one over the decisions.
        """
        load = self.ranks.mean_with_gradient((weights * share[:, None]).sum(0))
        imbalance = self.config.num_skills * (load - load.mean()).square().sum()
        entropy = -((weights * torch.log(weights + 1e-8)).sum(-1) * share).sum()
        loss = self.config.load_balance_coefficient * imbalance
        usage = {f"skills/load/{index}": value for index, value in enumerate(load)}
        return loss, {**usage, "skills/imbalance": imbalance, "skills/weight_entropy": entropy}


def _measured(
    encoded: EncodedObservation, name: str, metrics: dict[str, Tensor]
) -> tuple[EncodedObservation, EncodedObservation]:
    """Return the observation for a level's policy and for its critic, gradients measured."""
    of_policy, of_value = (
        encoded._replace(features=measure_gradient(encoded.features, f"{name}_{head}", metrics))
        for head in ("policy", "value")
    )
    return of_policy, of_value


def _spread(skills: MLP, num_skills: int, action_size: int, length: float) -> None:
    """Give each skill's mean a bias of that length in a direction of its own.

    Directions are random; those of the second half are opposite to those of the first.
    """
    output = skills.layers[-1]
    assert isinstance(output, nn.Linear)
    directions = F.normalize(torch.randn((num_skills + 1) // 2, action_size), dim=-1)
    directions = torch.cat([directions, -directions])[:num_skills] * (num_skills > 1)
    with torch.no_grad():
        biases = output.bias.unflatten(0, (num_skills, 2 * action_size))
        biases[:, :action_size] = length * directions
