"""The flat method with a world model: one actor-critic that learns in imagination and sees the
task.

    replayed sequences -> world model -> states -> imagined trajectories -> returns -> actor, critic

Dreamer (Hafner et al. 2023, arXiv 2301.04104) on the same world model, the same code for a level of
behaviour, the same horizon, discount and budget as the hierarchical method (`hrl.agents.director`):
what is different is that there is one level, whose rewards are the task's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hrl.agents.actor_critic import (
    ActorCritic,
    ActorCriticConfig,
    ContinuousActor,
    Critic,
    Trajectory,
)
from hrl.agents.base import AgentSpec
from hrl.agents.model_based import RUN_DEFAULTS, ModelBasedConfig, ModelBasedLearner
from hrl.agents.registry import register_agent
from hrl.agents.world_model_agent import ImaginationStart, WorldModelAgent, model_loss
from hrl.config_field import MAX_SIZE, config_field
from hrl.data.observation import Observation, PolicyState
from hrl.world_model.goal_autoencoder import GoalAutoencoder, GoalAutoencoderConfig
from hrl.world_model.rssm import RSSMState


@dataclass(frozen=True, kw_only=True)
class DreamerConfig(ModelBasedConfig):
    """Hold the hyperparameters of the flat agent with a world model."""

    name: str = "dreamer"
    policy: ActorCriticConfig = config_field(
        default_factory=ActorCriticConfig, help="how its one actor-critic learns"
    )
    policy_units: int = config_field(
        0,
        "units of the policy's and the critics' hidden layers; 0 for the world model's. A control: "
        "wider ones match the parameters of the hierarchical agent",
        at_least=0,
        at_most=MAX_SIZE,
    )
    exploration_bonus: float = config_field(
        0.0,
        "weight of the hierarchical manager's exploration bonus in the advantage; a control. Above "
        "0 a goal autoencoder is trained for it",
        at_least=0,
    )
    goal_autoencoder: GoalAutoencoderConfig = config_field(
        default_factory=GoalAutoencoderConfig, help="sizes of that autoencoder"
    )


@register_agent(
    "dreamer", config=DreamerConfig, learner=ModelBasedLearner, run_defaults=RUN_DEFAULTS
)
class Dreamer(WorldModelAgent):
    """World model, actor, critic."""

    config: DreamerConfig

    def __init__(self, config: DreamerConfig, spec: AgentSpec) -> None:
        super().__init__(config, spec)
        sizes, task_input_size = spec.world_model, self.task_input_size("manager")
        units = config.policy_units or sizes.units
        shape = (sizes.features, task_input_size, spec.task_features, units)
        reward_types = {"task": 1.0} | (
            {"exploration": config.exploration_bonus} if config.exploration_bonus else {}
        )
        critics = {name: Critic(*shape, config.policy) for name in reward_types}
        actor = ContinuousActor(*shape, spec.action_size, config.policy)
        self.actor_critic = ActorCritic(
            actor, critics, reward_types, config.policy, config.action_gradient
        )
        self.goals = None
        if config.exploration_bonus:
            task_input_size = self.task_input_size("goal_autoencoder")
            self.goals = GoalAutoencoder(
                sizes.deter,
                task_input_size,
                spec.task_features,
                sizes.units,
                config.goal_autoencoder,
            )

    def parts(self) -> dict[str, nn.Module]:
        """Modules by name."""
        goals: dict[str, nn.Module] = {} if self.goals is None else {"goal_autoencoder": self.goals}
        return {
            "world_model": self.world_model,
            "actor": self.actor_critic.actor,
            "critic": self.actor_critic.critics,
            **goals,
        }

    # Acting.

    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Actions in [-1, 1]; greedy where no generator is given."""
        seen = self.see(observation, state, generator)
        with self.autocast():
            policy = self.actor_critic.actor(
                seen.features(), observation.task, observation.action_mask
            )
        return self.draw_action(policy, {**state, **seen._asdict()}, generator)

    # Learning.

    def loss(
        self, batch: Mapping[str, Tensor], train_actor_critic: bool = True
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """World model, then behaviour imagined from states of the batch."""
        with self.autocast():
            groups = self.spec.world_model.groups
            noise = self.noise(self.config.batch_size, self.config.sequence_length, groups)
            observed = self.world_model.observe(batch, noise, self.config.world_model_loss)
            total, metrics = model_loss(observed)
            if self.goals is not None:
                loss, measured = self.goals.loss(observed.states.deter, batch["task"][:, 1:])
                total, metrics = total + loss, metrics | measured
            if train_actor_critic:
                loss, measured = self.actor_critic.loss(
                    self._imagine(self.starts(batch, observed.states))
                )
                total = total + loss
                metrics |= {f"policy/{name}": value.detach() for name, value in measured.items()}
        return total, metrics, self.world_model.latents(observed.states)

    def update_target(self) -> None:
        """Moves the critic's slow copy."""
        self.actor_critic.update_target()

    # Private methods.

    def _imagine(self, starts: ImaginationStart) -> Trajectory:
        start, task, action_mask, _ = starts
        horizon, count = self.config.horizon, len(task)
        noise = self.noise(horizon, count, self.spec.action_size, normal=True)

        def act(time: int, state: RSSMState) -> Tensor:
            # Gradient reaches the actor through its actions only: what it sees counts as given.
            policy = self.actor_critic.actor(state.features().detach(), task, action_mask)
            action: Tensor = policy.sample(noise[time])
            return action

        latents = self.noise(horizon, count, self.spec.world_model.groups)
        differentiable = self.config.action_gradient == "dynamics"
        imagined, actions = self.world_model.imagine(start, task, act, latents, differentiable)
        task_rewards, continues = self.predict_rewards_and_continues(
            imagined, starts, differentiable
        )
        rewards, task = {"task": task_rewards}, task.unsqueeze(0)
        if self.goals is not None:
            rewards["exploration"] = self.goals.exploration_reward(
                imagined.deter[1:].detach(), task
            )
        return Trajectory(
            imagined.features(),
            task,
            actions,
            rewards,
            continues,
            self.config.discount,
            action_mask.unsqueeze(0),
        )
