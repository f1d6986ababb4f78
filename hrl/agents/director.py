"""The hierarchical method with a world model: a manager that sets goals, a worker that reaches
them, one world model.

    replayed sequences -> world model -> states -+-> goal autoencoder: deter <-> code
                                                 |
                 manager (sees the task): every k steps a code -> decoder -> goal, a deter to be reached
                 worker  (sees no task):  every step an action, rewarded for coming closer to the goal
                                                 |
                         one imagined trajectory of `horizon` steps, read in two ways:
                         worker:  horizon / k segments of k steps, each with its own goal
                         manager: horizon / k decisions, each worth the rewards of its k steps

Director (Hafner et al. 2022, arXiv 2206.04114) on DreamerV3's world model. Both levels are the flat
method's `ActorCritic`, so that nothing but the hierarchy differs from `hrl.agents.dreamer`. What
the published code does otherwise is behind named switches; `configs/experiment/director_2022.yaml`
turns them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hrl.agents.actor_critic import (
    ActorCritic,
    ActorCriticConfig,
    CodeActor,
    ContinuousActor,
    Critic,
    Trajectory,
)
from hrl.agents.base import AgentSpec
from hrl.agents.goal_segments import max_cosine, segments, steps_of_decisions, steps_of_segments
from hrl.agents.model_based import (
    MAX_HORIZON,
    RUN_DEFAULTS,
    ModelBasedConfig,
)
from hrl.agents.registry import register_agent
from hrl.agents.world_model_agent import ImaginationStart, WorldModelAgent, model_loss, uniform
from hrl.config_field import ConfigValueError, config_field
from hrl.data.observation import Observation, PolicyState
from hrl.world_model.goal_autoencoder import (
    GoalAutoencoder,
    GoalAutoencoderConfig,
    distinct_fraction,
    perplexity,
)
from hrl.world_model.rssm import RSSMState

ALIGNMENTS = ("own", "current")
WORKER_REWARDS = ("progress", "max_cosine")
MANAGER_REWARDS = ("discounted_sum", "mean")
_GREEDY_DRAWS = 4099  # a prime, so that environments do not come round to each other's numbers


@dataclass(frozen=True, kw_only=True)
class DirectorConfig(ModelBasedConfig):
    """Hold the hyperparameters of the hierarchical agent with a world model."""

    name: str = "director"
    skill_duration: int = config_field(
        8,
        "k, agent steps between decisions; divides horizon, which holds at least one decision",
        at_least=1,
        at_most=MAX_HORIZON,
    )
    manager: ActorCriticConfig = config_field(
        default_factory=ActorCriticConfig, help="how the manager learns"
    )
    worker: ActorCriticConfig = config_field(
        default_factory=ActorCriticConfig, help="how the worker learns"
    )
    goal_autoencoder: GoalAutoencoderConfig = config_field(
        default_factory=GoalAutoencoderConfig, help="sizes of the goals' codes"
    )
    exploration_bonus: float = config_field(
        0.1,
        "weight of the exploration bonus in the manager's advantage; 0 for none (a control)",
        at_least=0,
    )
    task_reward_to_worker: float = config_field(
        0.0,
        "weight of the task's reward in the worker's advantage; 0 as published",
        at_least=0,
    )
    worker_reward: str = config_field(
        "progress",
        "max_cosine to the goal (as published), or progress, the max_cosine that a step adds. "
        "Summed with a discount g, progress comes to (1 - g) times the sum of max_cosine less the "
        "first one: the same order among policies, without the part of the return that actions "
        "cannot change, which is most of it and which a critic would have to learn first",
        choices=WORKER_REWARDS,
    )
    goal_alignment: str = config_field(
        "own",
        "own: every reward of a segment is measured against its own goal; current: against the "
        "goal in force at that moment, so that a segment's last reward is measured against the "
        "next goal (the published code)",
        choices=ALIGNMENTS,
    )
    manager_reward: str = config_field(
        "discounted_sum",
        "discounted_sum of the k rewards, so that a decision is worth what its steps are worth; or "
        "their mean (as published)",
        choices=MANAGER_REWARDS,
    )
    manager_discount: float = config_field(
        0.0,
        "discount per decision; 0 for the discount to the power of k, the same as the flat agent's "
        "per step",
        at_least=0,
        below=1,
    )
    carry_over_episodes: bool = config_field(
        False, "keep the goal when an episode ends (the published code)"
    )
    greedy_codes: bool = config_field(
        True, "greedy acting takes the likeliest code; false draws one (the published code)"
    )

    def check_together(self) -> None:
        """Refuse a horizon without whole decisions, and progress towards goals that change."""
        super().check_together()
        if self.horizon % self.skill_duration:
            rule = f"it must divide horizon, which is {self.horizon}"
            raise ConfigValueError("skill_duration", self.skill_duration, rule)
        if self.goal_alignment == "current" and self.worker_reward == "progress":
            rule = "it needs worker_reward=max_cosine: goals change within a segment"
            raise ConfigValueError("goal_alignment", self.goal_alignment, rule)

    @property
    def discount_per_decision(self) -> float:
        """The manager's discount."""
        return self.manager_discount or self.discount**self.skill_duration


class ImaginedTrajectory(NamedTuple):
    """An imagined trajectory of both levels: states 0 to T, k steps to a decision.

    codes, goals: of every decision, and where goals are aligned as published, of the one that would
        follow the last step.
    rewards: of the task, by the world model, on arriving at states 1 to T.
    """

    states: RSSMState
    actions: Float[Tensor, "time batch action"]
    codes: Float[Tensor, "decisions batch group class"]
    goals: Float[Tensor, "decisions batch deter"]
    rewards: Float[Tensor, "time batch"]
    continues: Float[Tensor, "states batch"]
    task: Float[Tensor, "1 batch task"]
    action_mask: Bool[Tensor, "1 batch action"]


@register_agent("director", config=DirectorConfig, run_defaults=RUN_DEFAULTS)
class Director(WorldModelAgent):
    """World model, goal autoencoder, manager, worker.

    The policy's state: the flat method's, and `goal`, and `steps_since_decision`, agent steps since
    the first decision; one is due at every multiple of k.
    """

    config: DirectorConfig
    code_noise: Tensor

    def __init__(self, config: DirectorConfig, spec: AgentSpec) -> None:
        super().__init__(config, spec)
        sizes, features = spec.world_model, spec.task_features
        units, codes = sizes.units, config.goal_autoencoder
        self.goals = GoalAutoencoder(
            sizes.deter, self.task_input_size("goal_autoencoder"), features, units, codes
        )
        is_task_conditioned = (sizes.features, self.task_input_size("manager"), features, units)
        reward_types = {"task": 1.0} | (
            {"exploration": config.exploration_bonus} if config.exploration_bonus else {}
        )
        critics = {name: Critic(*is_task_conditioned, config.manager) for name in reward_types}
        manager = CodeActor(*is_task_conditioned, codes.groups, codes.classes, config.manager)
        self.manager = ActorCritic(manager, critics, reward_types, config.manager)
        is_task_conditioned = (
            sizes.features + sizes.deter,
            self.task_input_size("worker"),
            features,
            units,
        )
        reward_weights = {"goal": 1.0} | (
            {"task": config.task_reward_to_worker} if config.task_reward_to_worker else {}
        )
        critics = {name: Critic(*is_task_conditioned, config.worker) for name in reward_weights}
        worker = ContinuousActor(*is_task_conditioned, spec.action_size, config.worker)
        self.worker = ActorCritic(
            worker, critics, reward_weights, config.worker, config.action_gradient
        )
        noise = torch.rand(_GREEDY_DRAWS, codes.groups, generator=torch.Generator().manual_seed(0))
        self.register_buffer("code_noise", noise, persistent=False)

    @property
    def decisions(self) -> int:
        """Of an imagined trajectory."""
        return self.config.horizon // self.config.skill_duration

    @property
    def persistent_keys(self) -> tuple[str, ...]:
        """Parts of the policy's state that the end of an episode leaves alone."""
        return ("goal", "steps_since_decision") if self.config.carry_over_episodes else ()

    def parts(self) -> dict[str, nn.Module]:
        """Modules by name."""
        levels = {"manager": self.manager, "worker": self.worker}
        return {"world_model": self.world_model, "goal_autoencoder": self.goals, **levels}

    # Acting.

    def initial_state(self, num_envs: int) -> PolicyState:
        """Nothing seen, and a decision due."""
        state = super().initial_state(num_envs)
        steps_since_decision = torch.zeros(
            num_envs, dtype=torch.int64, device=state["deter"].device
        )
        return {
            **state,
            "goal": torch.zeros_like(state["deter"]),
            "steps_since_decision": steps_since_decision,
        }

    def is_decision_step(self, state: PolicyState) -> Bool[Tensor, " env"]:
        """Where the manager decides at this step."""
        return state["steps_since_decision"] % self.config.skill_duration == 0

    def decide(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> PolicyState:
        """New goals where a decision is due."""
        return self._decide(
            self.observe(observation, state, generator), observation.task, state, generator
        )

    def act_low_level(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """The worker's actions towards the goals in force."""
        return self._act_low_level(
            self.observe(observation, state, generator), observation, state, generator
        )

    def high_level_action(self, state: PolicyState) -> Float[Tensor, "env deter"]:
        """The goals in force."""
        return state["goal"]

    def with_high_level_action(
        self, state: PolicyState, high_level_action: Float[Tensor, "env deter"]
    ) -> PolicyState:
        """The state with other goals in force."""
        return {**state, "goal": high_level_action}

    @torch.no_grad()
    def decode_high_level_action(
        self, state: PolicyState
    ) -> Float[Tensor, "env height width channel"]:
        """What the world would look like at the goals in force."""
        with self.autocast():
            return self.world_model.decode_image(self.world_model.goal_state(state["goal"])).float()

    @torch.no_grad()
    def reach_images(
        self,
        state: PolicyState,
        steps: int,
        task: Float[Tensor, "env task"],
        action_mask: Bool[Tensor, "env action"],
    ) -> Float[Tensor, "time env height width channel"]:
        """See `GoalReacher.reach_images`."""
        with self.autocast():
            return torch.stack(
                [
                    self.world_model.decode_image(now).float()
                    for now in self._way(state, steps, task, action_mask)
                ]
            )

    @torch.no_grad()
    def reach(
        self,
        state: PolicyState,
        steps: Sequence[int],
        task: Float[Tensor, "env task"],
        action_mask: Bool[Tensor, "env action"],
    ) -> Float[Tensor, "time env deter"]:
        """See `GoalReacher.reach`."""
        way = enumerate(self._way(state, steps[-1], task, action_mask), 1)
        return torch.stack([now.deter.float() for count, now in way if count in steps])

    def _way(
        self, state: PolicyState, steps: int, task: Tensor, action_mask: Tensor
    ) -> Iterator[RSSMState]:
        """The worker's greedy way to the goals in force, imagined."""
        model, now = self.world_model, RSSMState(state["deter"], state["stoch"])
        for _ in range(steps):
            with self.autocast():
                action = self.worker.actor(
                    torch.cat([now.features(), state["goal"]], -1), task, action_mask
                ).mean
                now = model.rssm(now, model.dynamics_input(action, task), None)
            yield now

    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Decide where due, then execute."""
        seen = self.observe(observation, state, generator)
        state = self._decide(seen, observation.task, state, generator)
        return self._act_low_level(seen, observation, state, generator)

    # Learning.

    def loss(
        self, batch: Mapping[str, Tensor], train_actor_critic: bool = True
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """World model, goal autoencoder on its states, then both levels imagined from states of the
        batch.
        """
        with self.autocast():
            noise = self.noise(
                self.config.batch_size, self.config.sequence_length, self.spec.world_model.groups
            )
            observed = self.world_model.observe(batch, noise, self.config.world_model_loss)
            losses = [
                model_loss(observed),
                self.goals.loss(observed.states.deter, batch["task"][:, 1:]),
            ]
            if train_actor_critic:
                losses.append(self._behaviour_loss(self.starts(batch, observed.states)))
        metrics = {name: value for _, values in losses for name, value in values.items()}
        total = torch.stack([loss for loss, _ in losses]).sum()
        return total, metrics, self.world_model.latents(observed.states)

    def update_target(self) -> None:
        """Moves the critics' slow copies."""
        self.manager.update_target()
        self.worker.update_target()

    # Private methods: acting.

    def _decide(
        self, seen: RSSMState, task: Tensor, state: PolicyState, generator: torch.Generator | None
    ) -> PolicyState:
        """The manager is asked at every step, whether or not a decision is due: a batch of
        environments is small.
        """
        with self.autocast():
            codes = self.manager.actor(seen.features(), task)
            noise = uniform(codes.probs.shape[:-1], task.device, generator)
            if noise is None and not self.config.greedy_codes:
                noise = self._greedy_noise(state["steps_since_decision"])
            code = codes.mode() if noise is None else codes.sample(noise)
            goal = self.goals.decode(code.detach(), task)
        return {
            **state,
            "goal": torch.where(self.is_decision_step(state).unsqueeze(-1), goal, state["goal"]),
        }

    def _greedy_noise(self, steps_since_decision: Tensor) -> Float[Tensor, "env group"]:
        """Uniform numbers that depend on the decision and the environment alone, so that
        evaluations repeat.
        """
        decision, env = (
            steps_since_decision // self.config.skill_duration,
            torch.arange(len(steps_since_decision), device=steps_since_decision.device),
        )
        noise: Tensor = self.code_noise[
            (decision * len(steps_since_decision) + env) % len(self.code_noise)
        ]
        return noise

    def _act_low_level(
        self,
        seen: RSSMState,
        observation: Observation,
        state: PolicyState,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, PolicyState]:
        inputs = torch.cat([seen.features(), state["goal"]], -1)
        with self.autocast():
            policy = self.worker.actor(inputs, observation.task, observation.action_mask)
        return self.draw_action(
            policy,
            {**state, **seen._asdict(), "steps_since_decision": state["steps_since_decision"] + 1},
            generator,
        )

    # Private methods: learning.

    def _behaviour_loss(self, starts: ImaginationStart) -> tuple[Tensor, dict[str, Tensor]]:
        """Of both levels over one imagined trajectory, and metrics."""
        dream = self._imagine(starts)
        worker, metrics = self._worker_trajectory(dream)
        levels = {
            "worker": self.worker.loss(worker),
            "manager": self.manager.loss(self._manager_trajectory(dream)),
        }
        for level, (_, measured) in levels.items():
            metrics |= {f"{level}/{name}": value.detach() for name, value in measured.items()}
        codes = dream.codes[: self.decisions]
        metrics |= {
            "manager/codes_distinct": distinct_fraction(codes),
            "manager/codes_perplexity": perplexity(codes),
        }
        return torch.stack([loss for loss, _ in levels.values()]).sum(), metrics

    def _imagine(self, starts: ImaginationStart) -> ImaginedTrajectory:
        start, task, action_mask, _ = starts
        skill_duration, horizon, count = self.config.skill_duration, self.config.horizon, len(task)
        noise = self.noise(horizon, count, self.spec.action_size, normal=True)
        codes, goals = [], []

        def set_goal(state: RSSMState) -> None:
            with torch.no_grad():
                policy = self.manager.actor(state.features(), task)
                codes.append(policy.sample(self.noise(count, policy.probs.shape[-2])))
                goals.append(self.goals.decode(codes[-1], task))

        def act(time: int, state: RSSMState) -> Tensor:
            if time % skill_duration == 0:
                set_goal(state)
            # Gradient reaches the worker through its actions only: what it sees counts as given.
            is_task_conditioned = torch.cat([state.features(), goals[-1]], -1).detach()
            action: Tensor = self.worker.actor(is_task_conditioned, task, action_mask).sample(
                noise[time]
            )
            return action

        latents = self.noise(horizon, count, self.spec.world_model.groups)
        differentiable = self.config.action_gradient == "dynamics"
        imagined, actions = self.world_model.imagine(start, task, act, latents, differentiable)
        if (
            self.config.goal_alignment == "current"
        ):  # the only one that asks what the next goal would have been
            set_goal(RSSMState(imagined.deter[-1], imagined.stoch[-1]))
        # The worker may learn from the task's rewards through the imagined steps.
        rewards, continues = self.predict_rewards_and_continues(
            imagined, starts, differentiable and self.config.task_reward_to_worker > 0
        )
        return ImaginedTrajectory(
            imagined,
            actions,
            torch.stack(codes),
            torch.stack(goals),
            rewards,
            continues,
            task.unsqueeze(0),
            action_mask.unsqueeze(0),
        )

    def _worker_trajectory(self, dream: ImaginedTrajectory) -> tuple[Trajectory, dict[str, Tensor]]:
        """Segments of k steps, side by side, each with its own goal from its first to its last
        state.

        The bootstrap at a segment's end values its own goal as if it were held for ever: a worker
        does not know when the next decision falls.
        """
        skill_duration = self.config.skill_duration
        deter, stoch, continues = (
            segments(values, skill_duration)
            for values in (dream.states.deter, dream.states.stoch, dream.continues)
        )
        goal = dream.goals[: self.decisions].flatten(0, 1).expand(skill_duration + 1, -1, -1)
        goals = goal if self.config.goal_alignment == "own" else self._current_goals(dream)
        near = max_cosine(deter, goals)
        rewards = {
            "goal": near[1:] - near[:-1] if self.config.worker_reward == "progress" else near[1:]
        }
        if self.config.task_reward_to_worker:
            rewards["task"] = steps_of_segments(dream.rewards, skill_duration)
        task = dream.task.repeat(1, self.decisions, 1)
        inputs = torch.cat([deter, stoch, goal], -1)
        actions = steps_of_segments(dream.actions, skill_duration)
        action_mask = dream.action_mask.repeat(1, self.decisions, 1)
        view = Trajectory(
            inputs, task, actions, rewards, continues, self.config.discount, action_mask
        )
        heeded = {
            "goal/swap_divergence": self._swap_divergence(
                RSSMState(deter[0], stoch[0]), goal[0], task, action_mask
            )
        }
        return view, self._diagnose(deter.detach(), goal) | heeded

    def _current_goals(self, dream: ImaginedTrajectory) -> Float[Tensor, "states rows deter"]:
        """The published code's: a segment's last state is measured against the next decision's
        goal.
        """
        skill_duration, own, following = (
            self.config.skill_duration,
            dream.goals[:-1].flatten(0, 1),
            dream.goals[1:].flatten(0, 1),
        )
        return torch.stack([own] * skill_duration + [following])

    def _manager_trajectory(self, dream: ImaginedTrajectory) -> Trajectory:
        """Decisions, k steps apart, each worth the rewards of its steps."""
        skill_duration, states = self.config.skill_duration, dream.states.detach()
        rewards = {"task": self._worth(dream.rewards.detach(), dream.continues)}
        if self.config.exploration_bonus:
            exploration_reward = self.goals.exploration_reward(states.deter[1:], dream.task)
            rewards["exploration"] = self._worth(exploration_reward, dream.continues)
        goes_on = steps_of_decisions(dream.continues[1:], skill_duration).prod(1)
        continues = torch.cat([dream.continues[:1], goes_on])
        inputs = states.features()[::skill_duration]
        discount = self.config.discount_per_decision
        return Trajectory(
            inputs, dream.task, dream.codes[: self.decisions], rewards, continues, discount
        )

    def _worth(
        self, rewards: Float[Tensor, "time batch"], continues: Float[Tensor, "states batch"]
    ) -> Float[Tensor, "decisions batch"]:
        """What the k rewards of a decision come to, each counted as far as the episode went on
        until then.

        The published mean counts the continuation at the decision's own state too, which the
        levels' weights already have.
        """
        skill_duration = self.config.skill_duration
        each, left = (
            steps_of_decisions(rewards, skill_duration),
            steps_of_decisions(continues[:-1], skill_duration),
        )
        if self.config.manager_reward == "mean":
            return (each * left.cumprod(1)).mean(1)
        ahead = torch.cat([torch.ones_like(left[:, :1]), left[:, 1:]], 1).cumprod(1)
        discounts = self.config.discount ** torch.arange(skill_duration, device=rewards.device)
        return (each * ahead * discounts[:, None]).sum(1)

    @torch.no_grad()
    def _diagnose(self, deter: Tensor, goal: Tensor) -> dict[str, Tensor]:
        """Whether goals are far and reached: max_cosine at a segment's start and end, and how far a
        segment moves.
        """
        reward = max_cosine(deter, goal)
        moved = (deter[-1] - deter[0]).norm(dim=-1).mean()
        distance = (goal[0] - deter[0]).norm(dim=-1).mean()
        measured = {"max_cosine_first": reward[0].mean(), "max_cosine_last": reward[-1].mean()}
        measured |= {
            "distance": distance,
            "distance_over_displacement": distance / moved.clamp(min=1e-8),
        }
        return {f"goal/{name}": value for name, value in measured.items()}

    @torch.no_grad()
    def _swap_divergence(
        self, start: RSSMState, goal: Tensor, task: Tensor, action_mask: Tensor
    ) -> Tensor:
        """How much the worker heeds its goal: nats by which its policy changes when it is given
        another row's goal.
        """
        features = start.features()
        own, other = (
            self.worker.actor(torch.cat([features, goals], -1), task[0], action_mask[0])
            for goals in (goal, goal.roll(1, 0))
        )
        divergence: Tensor = own.kl(other).sum(-1).mean()
        return divergence
