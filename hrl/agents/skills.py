"""The hierarchical method: a manager that weighs composable skills, over one encoder that both
share.

    pixels -> encoder -> features -+-> skills: K Gaussians over actions          (see no task)
                                   |                    | product of densities, each to the power of its weight
                      task --------+-> manager: softmax weights, every `skill_duration` agent steps, held in between
                                                        |
                                                 composite Gaussian -> draw -> tanh -> action

Skills are composed multiplicatively (Peng et al. 2019, MCP, arXiv 1905.09808), with softmax in
place of MCP's sigmoid
weights: then the composite's spread stays within the skills' (docstring of
    `hrl.nets.gaussian.compose`). Both levels
are trained by the same on-policy learner as the flat method: the skills on every step, of the
process whose state is (observation, weights, steps since the decision), the manager on its
decisions only, of the semi-Markov process in which a decision lasts until the next one or the
episode's end. The discount is per agent step at both levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from hrl.agents.base import AgentSpec
from hrl.agents.on_policy import (
    OnPolicyAgentConfig,
    OnPolicyLearner,
    advantage_columns,
    policy_objective,
)
from hrl.agents.registry import register_agent
from hrl.config_field import ConfigValueError, config_field
from hrl.data.observation import Observation, PolicyState
from hrl.data.rollout_collector import Rollout
from hrl.nets.gaussian import Gaussian, compose
from hrl.nets.mlp import MLP

GRADIENT_SOURCES = ("both", "manager", "skills", "none")
LOGIT_RANGE = 3.0
MAX_SKILLS = 1024
MAX_SKILL_DURATION = 10_000  # the skills' critic has an input for each step of a decision


@dataclass(frozen=True, kw_only=True)
class SkillsConfig(OnPolicyAgentConfig):
    """Hold the hyperparameters of the hierarchical agent."""

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
    manager_entropy_coefficient: float = config_field(
        0.0, "weight of the entropy of the manager's Gaussian over logits", at_least=0
    )
    load_balance_coefficient: float = config_field(
        2e-3,
        "weight of the variance over skills of their mean weight in a minibatch",
        at_least=0,
    )

    def check_together(self) -> None:
        """Refuse to train the encoder by a manager that has nothing to decide."""
        super().check_together()
        if self.num_skills == 1 and self.encoder_gradient == "manager":
            rule = "with num_skills=1 the manager has no losses: choose from both, skills, none"
            raise ConfigValueError("encoder_gradient", self.encoder_gradient, rule)


class EncodedObservation(NamedTuple):
    """What one level sees of an observation: features of the pixels, with or without gradient, and
    of the task.
    """

    features: Float[Tensor, "batch features"]
    task: Float[Tensor, "batch task_features"]


@register_agent("skills", config=SkillsConfig, learner=OnPolicyLearner)
class Skills(nn.Module):
    """Manager, skills, a critic for each, one encoder.

    The policy's state: `weights` [env, K] in force, and `steps_since_decision` [env], agent steps
    since the last decision; a decision is due where the clock is 0. `decisions` counts those of the
    manager, over all environments and continuations.
    """

    decisions: Tensor

    def __init__(self, config: SkillsConfig, spec: AgentSpec) -> None:
        super().__init__()
        self.config = config
        self.action_size = spec.action_size
        self.encoder = spec.build_encoder()
        self.task = spec.build_task_embedding()
        features, task, hidden = self.encoder.features, spec.task_features, spec.hidden
        skill_inputs = features + task * config.skills_see_task
        self.manager = MLP(features + task, hidden, 2 * config.num_skills, gain=0.01)
        self.skills = MLP(skill_inputs, hidden, config.num_skills * 2 * spec.action_size, gain=0.01)
        _spread(self.skills, config.num_skills, spec.action_size, config.spread)
        self.manager_critic = MLP(features + task, hidden, 1)
        self.skill_critic = MLP(
            features + task + config.num_skills + config.skill_duration, hidden, 1
        )
        self.manages = config.num_skills > 1
        self.register_buffer("decisions", torch.zeros((), dtype=torch.int64))

    def parts(self) -> dict[str, nn.Module]:
        """Modules by name."""
        names = ("encoder", "task", "manager", "skills", "manager_critic", "skill_critic")
        return {name: getattr(self, name) for name in names}

    # Acting.

    def initial_state(self, num_envs: int) -> PolicyState:
        """Even weights, and a decision due."""
        device = self.encoder.stem.weight.device
        weights = torch.full(
            (num_envs, self.config.num_skills), 1 / self.config.num_skills, device=device
        )
        return {
            "weights": weights,
            "steps_since_decision": torch.zeros(num_envs, dtype=torch.int64, device=device),
        }

    def is_decision_step(self, state: PolicyState) -> Bool[Tensor, " env"]:
        """Where the manager decides at this step."""
        return state["steps_since_decision"] == 0

    def decide(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> PolicyState:
        """New weights where a decision is due."""
        return self._decide(self._see(observation), state, generator)[0]

    def act_low_level(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Actions of the composite under the weights in force; the clock moves on."""
        view = self._see(observation)
        return torch.tanh(
            self._composite(view, observation.action_mask, state["weights"]).sample(generator)
        ), self._tick(state)

    def high_level_action(self, state: PolicyState) -> Float[Tensor, "env skill"]:
        """The weights in force."""
        return state["weights"]

    def with_high_level_action(
        self, state: PolicyState, high_level_action: Float[Tensor, "env skill"]
    ) -> PolicyState:
        """The state with other weights in force."""
        return {**state, "weights": high_level_action}

    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Decide where due, then execute."""
        view = self._see(observation)
        state = self._decide(view, state, generator)[0]
        return torch.tanh(
            self._composite(view, observation.action_mask, state["weights"]).sample(generator)
        ), self._tick(state)

    def explore(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState, dict[str, Tensor]]:
        """Actions, and what the losses of both levels need of them."""
        patches = self.encoder.to_patches(observation.pixels)
        view = self._read(patches, observation.task)
        state, records = self._decide(view, state, generator)
        composite = self._composite(view, observation.action_mask, state["weights"])
        raw = composite.sample(generator)
        records |= {"patches": patches, "raw_action": raw, "log_prob": composite.log_prob(raw)}
        records |= {
            "weights": state["weights"],
            "steps_since_decision": state["steps_since_decision"],
        }
        records |= {
            "skill_value": self._skill_value(view, state["weights"], state["steps_since_decision"])
        }
        return torch.tanh(raw), self._tick(state), records

    def bootstrap_values(self, observation: Observation, state: PolicyState) -> dict[str, Tensor]:
        """Values of both levels where `state` is carried to `observation`.

        In the middle of a decision both are the skill critic's value of its rest; where a decision
        is due, both are the manager critic's, whose weights are not drawn yet. With one skill all
        is the skill critic's.
        """
        view = self._see(observation)
        rest = self._skill_value(view, state["weights"], state["steps_since_decision"])
        if not self.manages:
            return {"skill_value": rest}
        value = torch.where(self.is_decision_step(state), self._manager_value(view), rest)
        return {"manager_value": value, "skill_value": value}

    # Learning.

    def advantages(self, rollout: Rollout) -> dict[str, Tensor]:
        """Of every step for the skills, of every decision for the manager."""
        is_decision = rollout.steps["steps_since_decision"] == 0
        columns = advantage_columns(
            "skill_value", rollout, torch.ones_like(is_decision), self.config
        )
        if self.manages:
            columns |= advantage_columns("manager_value", rollout, is_decision, self.config)
        return columns

    def count(self, steps: Mapping[str, Tensor]) -> dict[str, int]:
        """`decisions` of the manager so far, over all environments; with one skill it makes
        none.
        """
        if self.manages:
            self.decisions += (steps["steps_since_decision"] == 0).sum()
        return {"decisions": int(self.decisions)}

    def loss(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the levels' losses; each is a mean over what that level decided. With one
        skill, its own alone.
        """
        view = self._read(batch["patches"], batch["task"])
        skills_loss, skill_metrics = self._skills_loss(batch, self._for_level(view, "skills"))
        if not self.manages:
            return skills_loss, skill_metrics
        manager_loss, manager_metrics = self._manager_loss(batch, self._for_level(view, "manager"))
        return skills_loss + manager_loss, {**skill_metrics, **manager_metrics}

    # Private methods.

    def _see(self, observation: Observation) -> EncodedObservation:
        return self._read(self.encoder.to_patches(observation.pixels), observation.task)

    def _read(self, patches: Tensor, task: Tensor) -> EncodedObservation:
        return EncodedObservation(self.encoder.encode_patches(patches), self.task(task))

    def _for_level(self, view: EncodedObservation, level: str) -> EncodedObservation:
        trains = self.config.encoder_gradient in ("both", level)
        return view if trains else EncodedObservation(view.features.detach(), view.task)

    def _decide(
        self, view: EncodedObservation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[PolicyState, dict[str, Tensor]]:
        if not self.manages:
            return state, {}
        policy = self._manager_policy(view)
        logits = policy.sample(generator)
        weights = torch.where(
            self.is_decision_step(state)[:, None], self._weights(logits), state["weights"]
        )
        value = self._manager_value(view)
        records = {
            "logits": logits,
            "manager_log_prob": policy.log_prob(logits),
            "manager_value": value,
        }
        return {**state, "weights": weights}, records

    def _tick(self, state: PolicyState) -> PolicyState:
        return {
            **state,
            "steps_since_decision": (state["steps_since_decision"] + 1)
            % self.config.skill_duration,
        }

    def _weights(self, logits: Float[Tensor, "batch skill"]) -> Float[Tensor, "batch skill"]:
        return torch.softmax(logits / self.config.temperature, -1)

    def _manager_policy(self, view: EncodedObservation) -> Gaussian:
        policy = Gaussian.from_parameters(self.manager(torch.cat(view, -1)))
        return policy._replace(mean=LOGIT_RANGE * torch.tanh(policy.mean / LOGIT_RANGE))

    def _composite(
        self, view: EncodedObservation, action_mask: Tensor, weights: Tensor
    ) -> Gaussian:
        """Return the skills' composite, without what is padding to the environment's body."""
        inputs = torch.cat(view, -1) if self.config.skills_see_task else view.features
        parameters = self.skills(inputs).unflatten(
            -1, (self.config.num_skills, 2 * self.action_size)
        )
        composite = compose(Gaussian.from_parameters(parameters), weights)
        return composite.masked(action_mask.float())

    def _manager_value(self, view: EncodedObservation) -> Float[Tensor, " batch"]:
        value: Tensor = self.manager_critic(torch.cat(view, -1)).squeeze(-1)
        return value

    def _skill_value(
        self, view: EncodedObservation, weights: Tensor, steps_since_decision: Tensor
    ) -> Float[Tensor, " batch"]:
        phase = F.one_hot(steps_since_decision, self.config.skill_duration).to(weights.dtype)
        value: Tensor = self.skill_critic(torch.cat([*view, weights, phase], -1)).squeeze(-1)
        return value

    def _skills_loss(
        self, batch: Mapping[str, Tensor], view: EncodedObservation
    ) -> tuple[Tensor, dict[str, Tensor]]:
        composite = self._composite(view, batch["action_mask"], batch["weights"])
        log_prob = composite.log_prob(batch["raw_action"])
        even = torch.full_like(log_prob, 1 / len(log_prob))
        objective, kl = policy_objective(
            log_prob, batch["log_prob"], batch["skill_value_advantage"], even, self.config
        )
        value = self._skill_value(view, batch["weights"], batch["steps_since_decision"])
        value_loss = F.mse_loss(value, batch["skill_value_target"])
        entropy = composite.entropy().mean()
        loss = (
            -objective
            + self.config.value_coefficient * value_loss
            - self.config.entropy_coefficient * entropy
        )
        metrics = {"loss/policy": -objective, "loss/value": value_loss, "policy/entropy": entropy}
        return loss, {**metrics, "policy/kl": kl}

    def _manager_loss(
        self, batch: Mapping[str, Tensor], view: EncodedObservation
    ) -> tuple[Tensor, dict[str, Tensor]]:
        is_decision = (batch["steps_since_decision"] == 0).to(torch.float32)
        share = is_decision / is_decision.sum().clamp(min=1)
        policy = self._manager_policy(view)
        log_prob, advantage = policy.log_prob(batch["logits"]), batch["manager_value_advantage"]
        objective, kl = policy_objective(
            log_prob, batch["manager_log_prob"], advantage, share, self.config
        )
        value_loss = (
            (self._manager_value(view) - batch["manager_value_target"]).square() * share
        ).sum()
        entropy = (policy.entropy() * share).sum()
        regulariser, metrics = self._usage(self._weights(policy.mean), share)
        policy_loss = -objective + regulariser - self.config.manager_entropy_coefficient * entropy
        loss = policy_loss + self.config.value_coefficient * value_loss
        metrics |= {
            "manager/loss": -objective,
            "manager/value_loss": value_loss,
            "manager/entropy": entropy,
        }
        return loss, {**metrics, "manager/kl": kl}

    def _usage(self, weights: Tensor, share: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss that balances the load of skills, as in mixtures of experts, and metrics.

        Both are computed from the greedy weights.
        """
        load = (weights * share[:, None]).sum(0)
        imbalance = self.config.num_skills * (load - load.mean()).square().sum()
        sharpness = -((weights * torch.log(weights + 1e-8)).sum(-1) * share).sum()
        loss = self.config.load_balance_coefficient * imbalance
        usage = {f"skills/load/{index}": value for index, value in enumerate(load)}
        return loss, {**usage, "skills/imbalance": imbalance, "skills/weight_entropy": sharpness}


def _spread(skills: MLP, num_skills: int, action_size: int, length: float) -> None:
    """Gives each skill's mean a bias of that length: random directions, the second half opposite to
    the first.
    """
    output = skills.layers[-1]
    assert isinstance(output, nn.Linear)
    directions = F.normalize(torch.randn((num_skills + 1) // 2, action_size), dim=-1)
    directions = torch.cat([directions, -directions])[:num_skills] * (num_skills > 1)
    with torch.no_grad():
        output.bias.unflatten(0, (num_skills, 2 * action_size))[:, :action_size] = (
            length * directions
        )
