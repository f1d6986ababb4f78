"""Train the flat agent with a world model: one actor-critic that learns in imagination.

    replayed sequences -> world model -> states -> imagined trajectories -> returns -> actor, critic

It is DreamerV3 (Hafner et al. 2023, arXiv 2301.04104) on the same world model, actor-critic code,
horizon, discount and budget as the hierarchical agent (`hrl.agents.director`). The one difference
between the two is the hierarchy: here one actor-critic learns from the task's rewards.

What differs from DreamerV3:
- The replay value loss, which trains DreamerV3's critic on replayed sequences too, is off:
  `replay_value_scale: 0.3` is DreamerV3's.
- The entropy of the actor is kept near a target by adaptive coefficients, and advantages are
  divided by their standard deviation, as in Director; `agent.policy` has DreamerV3's choices
  (`entropy: fixed`, and `return_scale: percentile` with `normalise_advantage: false`).
- Returns bootstrap from the slow critic; `policy.bootstrap: critic` is DreamerV3's choice.
- Imagination is as long as two decisions of the hierarchy, and the discount is 0.99 (DreamerV3:
  `horizon: 15`, `discount: 0.997`).
- Which modules get the task vector is chosen by `agent.conditioning`.
- `configs/size` and the experiments choose smaller models and batches for CPUs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hrl.agents.actor_critic import (
    ActorCritic,
    ActorCriticConfig,
    ContinuousActor,
    Critic,
    ReplayedStates,
    Trajectory,
)
from hrl.agents.base import AgentSpec
from hrl.agents.model_based import RUN_DEFAULTS, ModelBasedConfig
from hrl.agents.parts import Parts
from hrl.agents.registry import register_agent
from hrl.agents.world_model_agent import ImaginationStart, WorldModelAgent, model_loss
from hrl.config_field import MAX_SIZE, ConfigValueError, config_field
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
    replay_value_scale: float = config_field(
        0.0,
        "weight of the critic's loss on replayed states, whose returns follow the received "
        "rewards; its gradient trains the world model too (DreamerV3: 0.3). 0 leaves it out",
        at_least=0,
    )

    def check_together(self) -> None:
        """Refuse replayed returns along sequences of a single state."""
        super().check_together()
        if self.replay_value_scale and 1 in (self.sequence_length, self.imag_last):
            rule = "sequence_length and imag_last must not be 1: a return needs two states"
            raise ConfigValueError("replay_value_scale", self.replay_value_scale, rule)


@register_agent("dreamer", config=DreamerConfig, run_defaults=RUN_DEFAULTS)
class Dreamer(WorldModelAgent):
    """Act by an actor on the states of a world model, with a critic for each type of reward.

    Args:
        config: hyperparameters.
        spec: shapes and sizes.
    """

    config: DreamerConfig

    def __init__(self, config: DreamerConfig, spec: AgentSpec) -> None:
        super().__init__(config, spec)
        sizes = spec.world_model
        units = config.policy_units or sizes.units
        inputs = (sizes.features, self.task_input_size("manager"), spec.task_features, units)
        reward_weights = {"task": 1.0}
        if config.exploration_bonus:
            reward_weights["exploration"] = config.exploration_bonus
        critics = {name: Critic(*inputs, config.policy) for name in reward_weights}
        actor = ContinuousActor(*inputs, spec.action_size, config.policy)
        self.actor_critic = ActorCritic(
            actor, critics, reward_weights, config.policy, config.action_gradient
        )
        self.goals: GoalAutoencoder | None = None
        if config.exploration_bonus:
            self.goals = GoalAutoencoder(
                sizes.deter,
                self.task_input_size("goal_autoencoder"),
                spec.task_features,
                sizes.units,
                config.goal_autoencoder,
            )

    def parts(self) -> Parts:
        """Return the modules by part and name."""
        return {
            **self.model_parts(self.goals),
            "policy": {"actor": self.actor_critic.policy_modules()},
            "values": {"critic": self.actor_critic.critics},
        }

    # Acting.

    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Return actions in [-1, 1] and the next state; greedy where no generator is given."""
        posterior = self.observe(observation, state, generator)
        with self.autocast():
            policy = self.actor_critic.actor(
                posterior.features(), observation.task, observation.action_mask
            )
        return self.draw_action(policy, {**state, **posterior._asdict()}, generator)

    # Learning.

    def loss(
        self, batch: Mapping[str, Tensor], train_actor_critic: bool = True
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Return the loss of world model and actor-critic, metrics, and latents for the replay.

        The actor-critic learns in imagination, which begins at states of the batch.
        """
        batch, burn_in = self.burn_in(batch)
        with self.autocast():
            groups = self.spec.world_model.groups
            noise = self.noise(self.config.batch_size, self.config.sequence_length, groups)
            output = self.world_model.observe(batch, noise, self.config.world_model_loss)
            total, metrics = model_loss(output)
            if self.goals is not None:
                loss, measured = self.goals.loss(output.states.deter, batch["task"][:, 1:])
                total = total + loss
                metrics |= measured
            if train_actor_critic:
                trajectory = self._imagine(self.starts(batch, output.states))
                replayed = self._replayed(batch, output.differentiable_states)
                loss, measured = self.actor_critic.loss(trajectory, replayed)
                total = total + loss
                metrics |= {f"policy/{name}": value.detach() for name, value in measured.items()}
        return total, metrics, self.latents(burn_in, output.states)

    def update_target(self) -> None:
        """Move the critics' slow copies."""
        self.actor_critic.update_target()

    # Private methods.

    def _replayed(self, batch: Mapping[str, Tensor], states: RSSMState) -> ReplayedStates | None:
        """Return the states at which imagination begins, for the replay value loss."""
        if not self.config.replay_value_scale:
            return None
        last = slice(-self.config.imag_last, None)  # -0 is the first: all of them
        rows = {name: batch[name][:, 1:][:, last] for name in ("task", "reward", "is_terminal")}
        # Whether the step after the last one begins an episode is not known, nor needed.
        begins = batch["is_first"][:, 1:][:, last]
        is_next_first = torch.cat([begins[:, 1:], torch.zeros_like(begins[:, :1])], 1)
        return ReplayedStates(
            RSSMState(states.deter[:, last], states.stoch[:, last]).features(),
            rows["task"],
            {"task": rows["reward"]},
            rows["is_terminal"] | is_next_first,
            rows["is_terminal"],
            self.config.discount,
            self.config.replay_value_scale,
        )

    def _imagine(self, starts: ImaginationStart) -> Trajectory:
        start, task, action_mask, _ = starts
        horizon = self.config.horizon
        count = len(task)
        noise = self.noise(horizon, count, self.spec.action_size, normal=True)

        def act(time: int, state: RSSMState) -> Tensor:
            # Gradient reaches the actor through its actions only: its inputs are constants.
            policy = self.actor_critic.actor(state.features().detach(), task, action_mask)
            action: Tensor = policy.sample(noise[time])
            return action

        latents = self.noise(horizon, count, self.spec.world_model.groups)
        differentiable = self.config.action_gradient == "dynamics"
        imagined, actions = self.world_model.imagine(start, task, act, latents, differentiable)
        task_rewards, continues = self.predict_rewards_and_continues(
            imagined, starts, differentiable
        )
        rewards = {"task": task_rewards}
        if self.goals is not None:
            rewards["exploration"] = self.goals.exploration_reward(
                imagined.deter[1:], task.unsqueeze(0), differentiable
            )
        return Trajectory(
            imagined.features(),
            task.unsqueeze(0),
            actions,
            rewards,
            continues,
            self.config.discount,
            action_mask.unsqueeze(0),
        )
