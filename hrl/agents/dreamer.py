"""The flat arm with a world model: one actor-critic that learns in imagination and sees the task.

    replayed sequences -> world model -> states -> imagined trajectories -> returns -> actor, critic

Dreamer (Hafner et al. 2023, arXiv 2301.04104) on the same world model, the same code for a level of behaviour, the same
horizon, discount and budget as the hierarchical arm (`hrl.agents.director`): what is different is that there is one
level, whose rewards are the task's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hrl.agents.actor_critic import ContinuousActor, Critic, Level, LevelConfig, Trajectory
from hrl.agents.base import Setting
from hrl.agents.model_based import ModelBasedConfig
from hrl.agents.world_model_agent import Starts, WorldModelAgent, model_loss
from hrl.data.observation import Observation, PolicyState
from hrl.world_model.goal_autoencoder import GoalAutoencoder, GoalAutoencoderConfig
from hrl.world_model.rssm import State


@dataclass(frozen=True, kw_only=True)
class DreamerConfig(ModelBasedConfig):
    """Hyperparameters of the flat arm with a world model: those of every agent with one, and

    policy: how its one level learns.
    policy_units: units of the policy's and the critics' hidden layers; 0 for the world model's. A control: wider ones
        match the parameters of the hierarchical arm.
    exploration_bonus: share of the hierarchical manager's exploration bonus in the advantage; a control. Above 0 a
        goal autoencoder is trained for it.
    """

    name: str = "dreamer"
    policy: LevelConfig = field(default_factory=LevelConfig)
    policy_units: int = 0
    exploration_bonus: float = 0.0
    goal_autoencoder: GoalAutoencoderConfig = field(default_factory=GoalAutoencoderConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.policy.check("agent.policy")
        for key in ("policy_units", "exploration_bonus"):
            if getattr(self, key) < 0:
                raise ValueError(f"agent.{key} is {getattr(self, key)}; it must be at least 0")


class Dreamer(WorldModelAgent):
    """World model, actor, critic."""

    config: DreamerConfig

    def __init__(self, config: DreamerConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        sizes, told = setting.world_model, self.told("manager")
        units = config.policy_units or sizes.units
        shape = (sizes.features, told, setting.task_features, units)
        streams = {"task": 1.0} | ({"exploration": config.exploration_bonus} if config.exploration_bonus else {})
        critics = {name: Critic(*shape, config.policy) for name in streams}
        actor = ContinuousActor(*shape, setting.action_size, config.policy, setting.build_action_mask())
        self.level = Level(actor, critics, streams, config.policy, config.action_gradient)
        self.goals = None
        if config.exploration_bonus:
            told = self.told("goal_autoencoder")
            self.goals = GoalAutoencoder(sizes.deter, told, setting.task_features, sizes.units, config.goal_autoencoder)

    def parts(self) -> dict[str, nn.Module]:
        """Modules by name."""
        goals: dict[str, nn.Module] = {} if self.goals is None else {"goal_autoencoder": self.goals}
        return {"world_model": self.world_model, "actor": self.level.actor, "critic": self.level.critics, **goals}

    # Acting.

    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Actions in [-1, 1]; greedy where no generator is given."""
        seen = self.see(observation, state, generator)
        with self.autocast():
            policy = self.level.actor(seen.features(), observation.task)
        return self.draw_action(policy, {**state, **seen._asdict()}, generator)

    # Learning.

    def loss(
        self, batch: Mapping[str, Tensor], behave: bool = True
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """World model, then behaviour imagined from states of the batch."""
        with self.autocast():
            groups = self.setting.world_model.groups
            noise = self.noise(self.config.batch, self.config.length, groups)
            observed = self.world_model.observe(batch, noise, self.config.world_model_loss)
            total, metrics = model_loss(observed)
            if self.goals is not None:
                loss, measured = self.goals.loss(observed.states.deter, batch["task"][:, 1:])
                total, metrics = total + loss, metrics | measured
            if behave:
                loss, measured = self.level.loss(self._imagine(self.starts(batch, observed.states)))
                total = total + loss
                metrics |= {f"policy/{name}": value.detach() for name, value in measured.items()}
        return total, metrics, self.world_model.latents(observed.states)

    def follow(self) -> None:
        """Moves the critic's slow copy."""
        self.level.follow()

    # Private methods.

    def _imagine(self, starts: Starts) -> Trajectory:
        start, task, _ = starts
        horizon, count = self.config.horizon, len(task)
        noise = self.noise(horizon, count, self.setting.action_size, normal=True)

        def act(time: int, state: State) -> Tensor:
            # Gradient reaches the actor through its actions only: what it sees counts as given.
            action: Tensor = self.level.actor(state.features().detach(), task).sample(noise[time])
            return action

        latents = self.noise(horizon, count, self.setting.world_model.groups)
        differentiable = self.config.action_gradient == "dynamics"
        imagined, actions = self.world_model.imagine(start, task, act, latents, differentiable)
        task_rewards, continues = self.outlook(imagined, starts, differentiable)
        rewards, task = {"task": task_rewards}, task.unsqueeze(0)
        if self.goals is not None:
            rewards["exploration"] = self.goals.surprise(imagined.deter[1:].detach(), task)
        return Trajectory(imagined.features(), task, actions, rewards, continues, self.config.discount)
