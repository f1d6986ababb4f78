"""Train the hierarchical agent with a world model: a manager sets goals, a worker reaches them.

    replayed sequences -> world model -> states -+-> goal autoencoder: deter <-> code
                                                 |
            manager (gets the task): every k steps a code -> decoder -> goal, a `deter` to reach
            worker  (gets no task):  every step an action, rewarded for coming closer to the goal
                                                 |
                    one imagined trajectory of `horizon` steps, read in two ways:
                    worker:  horizon / k segments of k steps, each with its own goal
                    manager: horizon / k decisions, each worth the rewards of its k steps

With `near_goals` the worker also learns from segments of its own, which the manager does not see:
their goals are states that the imagined trajectory passes 1 to k steps after the same start.

It is Director (Hafner et al. 2022, arXiv 2206.04114) on DreamerV3's world model (arXiv 2301.04104).
Both levels are the `ActorCritic` of `hrl.agents.dreamer`; docs/concepts.md lists what else differs.

What differs from the published Director by default, each behind a switch that
`configs/experiment/director_2022.yaml` turns:
- The worker is rewarded for progress towards its goal, not for its `max_cosine` to the goal
  (`worker_reward`).
- A segment's last reward is measured against the segment's own goal, not against the next one, and
  no later goal's gradient reaches the segment (`goal_alignment`).
- A decision is worth the discounted sum of its rewards, not their mean (`manager_reward`,
  `manager_discount`).
- Goals end with their episode (`carry_over_episodes`), and greedy acting takes the likeliest code
  (`greedy_codes`).
- Reconstruction errors of goals do not depend on the state's size (`per_dimension` of
  `goal_autoencoder`).
- The worker learns by the likelihood of its actions, not through the dynamics
  (`action_gradient`), and its standard deviation is at least 0.1, not 0.03 (`worker.std_low`).
- Returns bootstrap from critics that follow slowly, not from copies renewed every 100 updates
  (`bootstrap` of both levels).
- Actors and critics have 3 hidden layers, not 4 (`layers`), and coefficients on entropy narrower
  bounds (`entropy_least`, `entropy_most`).
That file also lists the differences that no switch turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hrl.agents.actor_critic import (
    ActorCritic,
    ActorCriticConfig,
    CodeActor,
    ContinuousActor,
    Critic,
    Trajectory,
)
from hrl.agents.base import AgentSpec
from hrl.agents.goal_segments import (
    ImaginedTrajectory,
    goal_metrics,
    max_cosine,
    segments,
    side_by_side,
    steps_of_decisions,
    steps_of_segments,
)
from hrl.agents.model_based import (
    MAX_HORIZON,
    RUN_DEFAULTS,
    ModelBasedConfig,
)
from hrl.agents.parts import Parts
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
        "Summed with a discount g over an endless episode, progress comes to (1 - g) times the sum "
        "of max_cosine less the first one: the same order among policies, without the part of the "
        "return that actions cannot change, which is most of it and which a critic would have to "
        "learn first",
        choices=WORKER_REWARDS,
    )
    near_goals: float = config_field(
        0.0,
        "share of an update's starts from which the worker also pursues a near goal, for one more "
        "segment that the manager does not learn from: a state that the imagined trajectory passes "
        "1 to skill_duration steps after that start. 0 for the manager's goals alone (as "
        "published), from which a worker learns to run past what is nearer",
        at_least=0,
        at_most=1,
    )
    goal_alignment: str = config_field(
        "own",
        "own: every reward of a segment is measured against its own goal, and by no other does "
        "gradient through the dynamics reach the segment's actions; current: against the goal in "
        "force at that moment, so that a segment's last reward is measured against the next goal, "
        "and gradient goes on across goals (the published code)",
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
    def imagined_states(self) -> float:
        """Return the states imagined from each start, near goals included, on average."""
        return super().imagined_states + self.near_goals * (self.skill_duration + 1)

    @property
    def discount_per_decision(self) -> float:
        """Return the manager's discount."""
        return self.manager_discount or self.discount**self.skill_duration


@register_agent("director", config=DirectorConfig, run_defaults=RUN_DEFAULTS)
class Director(WorldModelAgent):
    """Act by a manager that sets goals and a worker that reaches them, in a world model's states.

    The policy's state holds the flat agent's, `goal`, the high-level action in force, and
    `steps_since_decision`, agent steps since the first decision; the manager decides at every
    multiple of k.

    Args:
        config: hyperparameters.
        spec: shapes and sizes.
    """

    config: DirectorConfig
    code_noise: Tensor

    def __init__(self, config: DirectorConfig, spec: AgentSpec) -> None:
        super().__init__(config, spec)
        sizes = spec.world_model
        codes = config.goal_autoencoder
        self.goals = GoalAutoencoder(
            sizes.deter,
            self.task_input_size("goal_autoencoder"),
            spec.task_features,
            sizes.units,
            codes,
        )
        self.manager = self._build_manager()
        self.worker = self._build_worker()
        noise = torch.rand(_GREEDY_DRAWS, codes.groups, generator=torch.Generator().manual_seed(0))
        self.register_buffer("code_noise", noise, persistent=False)

    def _build_manager(self) -> ActorCritic:
        config = self.config
        sizes = self.spec.world_model
        codes = config.goal_autoencoder
        task_input_size = self.task_input_size("manager")
        inputs = (sizes.features, task_input_size, self.spec.task_features, sizes.units)
        reward_weights = {"task": 1.0}
        if config.exploration_bonus:
            reward_weights["exploration"] = config.exploration_bonus
        critics = {name: Critic(*inputs, config.manager) for name in reward_weights}
        actor = CodeActor(*inputs, codes.groups, codes.classes, config.manager)
        return ActorCritic(actor, critics, reward_weights, config.manager)

    def _build_worker(self) -> ActorCritic:
        config = self.config
        sizes = self.spec.world_model
        task_input_size = self.task_input_size("worker")
        state_and_goal = sizes.features + sizes.deter
        inputs = (state_and_goal, task_input_size, self.spec.task_features, sizes.units)
        reward_weights = {"goal": 1.0}
        if config.task_reward_to_worker:
            reward_weights["task"] = config.task_reward_to_worker
        critics = {name: Critic(*inputs, config.worker) for name in reward_weights}
        actor = ContinuousActor(*inputs, self.spec.action_size, config.worker)
        return ActorCritic(actor, critics, reward_weights, config.worker, config.action_gradient)

    @property
    def decisions(self) -> int:
        """Return the number of decisions of an imagined trajectory."""
        return self.config.horizon // self.config.skill_duration

    @property
    def persistent_keys(self) -> tuple[str, ...]:
        """Return the entries of the policy's state that outlive their episode."""
        return ("goal", "steps_since_decision") if self.config.carry_over_episodes else ()

    def parts(self) -> Parts:
        """Return the modules by part and name."""
        critics = {"manager_critic": self.manager.critics, "worker_critic": self.worker.critics}
        return {
            **self.model_parts(self.goals),
            "manager": {"manager": self.manager.policy_modules()},
            "low_level": {"worker": self.worker.policy_modules()},
            "values": critics,
        }

    # Acting.

    def initial_state(self, num_envs: int) -> PolicyState:
        """Return a state without observation; the manager decides at the next step."""
        state = super().initial_state(num_envs)
        device = state["deter"].device
        return {
            **state,
            "goal": torch.zeros_like(state["deter"]),
            "steps_since_decision": torch.zeros(num_envs, dtype=torch.int64, device=device),
        }

    def is_decision_step(self, state: PolicyState) -> Bool[Tensor, " env"]:
        """Return where the manager decides at this step."""
        return state["steps_since_decision"] % self.config.skill_duration == 0

    def decide(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> PolicyState:
        """Return the state with new goals where the manager decides."""
        posterior = self.observe(observation, state, generator)
        return self._decide(posterior, observation.task, state, generator)

    def act_low_level(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Return the worker's actions towards the goals in force, and the next state."""
        posterior = self.observe(observation, state, generator)
        return self._act_low_level(posterior, observation, state, generator)

    def high_level_action(self, state: PolicyState) -> Float[Tensor, "env deter"]:
        """Return the goals in force."""
        return state["goal"]

    def with_high_level_action(
        self, state: PolicyState, high_level_action: Float[Tensor, "env deter"]
    ) -> PolicyState:
        """Return the state with other goals in force."""
        return {**state, "goal": high_level_action}

    @torch.no_grad()
    def decode_high_level_action(
        self, state: PolicyState
    ) -> Float[Tensor, "env height width channel"]:
        """Return the images that the world model decodes from the goals in force."""
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
        """Return images in [0, 1] of the states that `reach` passes, step by step."""
        states = self._greedy_states(state, steps, task, action_mask)
        with self.autocast():
            return torch.stack([self.world_model.decode_image(now).float() for now in states])

    @torch.no_grad()
    def reach(
        self,
        state: PolicyState,
        steps: Sequence[int],
        task: Float[Tensor, "env task"],
        action_mask: Bool[Tensor, "env action"],
    ) -> Float[Tensor, "time env deter"]:
        """Return `deter` after these numbers of greedy steps towards the goals in force."""
        states = enumerate(self._greedy_states(state, steps[-1], task, action_mask), 1)
        return torch.stack([now.deter.float() for count, now in states if count in steps])

    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Return actions and the next state: `decide`, then `act_low_level`."""
        posterior = self.observe(observation, state, generator)
        state = self._decide(posterior, observation.task, state, generator)
        return self._act_low_level(posterior, observation, state, generator)

    # Learning.

    def loss(
        self, batch: Mapping[str, Tensor], train_actor_critic: bool = True
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Return the loss of all modules, metrics, and latents for the replay.

        The goal autoencoder learns on the world model's states; both levels learn in imagination,
        which begins at states of the batch.
        """
        batch, burn_in = self.burn_in(batch)
        with self.autocast():
            noise = self.noise(
                self.config.batch_size, self.config.sequence_length, self.spec.world_model.groups
            )
            output = self.world_model.observe(batch, noise, self.config.world_model_loss)
            losses = [
                model_loss(output),
                self.goals.loss(output.states.deter, batch["task"][:, 1:]),
            ]
            if train_actor_critic:
                losses.append(self._actor_critic_loss(self.starts(batch, output.states)))
        metrics = {name: value for _, values in losses for name, value in values.items()}
        total = torch.stack([loss for loss, _ in losses]).sum()
        return total, metrics, self.latents(burn_in, output.states)

    def update_target(self) -> None:
        """Move the critics' slow copies."""
        self.manager.update_target()
        self.worker.update_target()

    # Private methods: acting.

    def _greedy_states(
        self, state: PolicyState, steps: int, task: Tensor, action_mask: Tensor
    ) -> Iterator[RSSMState]:
        """Yield the imagined states of the worker's greedy steps towards the goals in force."""
        model = self.world_model
        now = RSSMState(state["deter"], state["stoch"])
        for _ in range(steps):
            with self.autocast():
                inputs = torch.cat([now.features(), state["goal"]], -1)
                action = self.worker.actor(inputs, task, action_mask).mean
                now = model.rssm(now, model.dynamics_input(action, task), None)
            yield now

    def _decide(
        self,
        posterior: RSSMState,
        task: Tensor,
        state: PolicyState,
        generator: torch.Generator | None,
    ) -> PolicyState:
        """Return the state with new goals where the manager decides.

        The manager is computed at every step: a batch of environments is small.
        """
        with self.autocast():
            codes = self.manager.actor(posterior.features(), task)
            noise = uniform(codes.probs.shape[:-1], task.device, generator)
            if noise is None and not self.config.greedy_codes:
                noise = self._greedy_noise(state["steps_since_decision"])
            code = codes.mode() if noise is None else codes.sample(noise)
            goal = self.goals.decode(code.detach(), task)
        is_decision = self.is_decision_step(state).unsqueeze(-1)
        return {**state, "goal": torch.where(is_decision, goal, state["goal"])}

    def _greedy_noise(self, steps_since_decision: Tensor) -> Float[Tensor, "env group"]:
        """Return uniform numbers that depend on the decision and the environment alone.

        Evaluations that draw codes repeat exactly.
        """
        count = len(steps_since_decision)
        decision = steps_since_decision // self.config.skill_duration
        env = torch.arange(count, device=steps_since_decision.device)
        noise: Tensor = self.code_noise[(decision * count + env) % len(self.code_noise)]
        return noise

    def _act_low_level(
        self,
        posterior: RSSMState,
        observation: Observation,
        state: PolicyState,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, PolicyState]:
        inputs = torch.cat([posterior.features(), state["goal"]], -1)
        with self.autocast():
            policy = self.worker.actor(inputs, observation.task, observation.action_mask)
        steps = {"steps_since_decision": state["steps_since_decision"] + 1}
        return self.draw_action(policy, {**state, **posterior._asdict(), **steps}, generator)

    # Private methods: learning.

    def _actor_critic_loss(self, starts: ImaginationStart) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of both levels over one imagined trajectory, and metrics."""
        imagined = self._imagine(starts)
        worker_trajectory, metrics = self._worker_trajectory(imagined)
        manager_trajectory = self._manager_trajectory(imagined)
        if self.config.near_goals:
            # Last, so that they do not change the random numbers that the manager's rewards take.
            near, measured = self._near_goal_trajectory(starts, imagined)
            worker_trajectory = side_by_side(worker_trajectory, near)
            metrics |= measured
        levels = {
            "worker": self.worker.loss(worker_trajectory),
            "manager": self.manager.loss(manager_trajectory),
        }
        for level, (_, measured) in levels.items():
            metrics |= {f"{level}/{name}": value.detach() for name, value in measured.items()}
        codes = imagined.codes[: self.decisions]
        metrics |= {
            "manager/codes_distinct": distinct_fraction(codes),
            "manager/codes_perplexity": perplexity(codes),
        }
        return torch.stack([loss for loss, _ in levels.values()]).sum(), metrics

    def _imagine(self, starts: ImaginationStart) -> ImaginedTrajectory:
        """Return a trajectory of `horizon` steps in which the manager sets the goals."""
        codes: list[Tensor] = []
        goals: list[Tensor] = []

        def set_goal(state: RSSMState) -> None:
            with torch.no_grad():
                policy = self.manager.actor(state.features(), starts.task)
                codes.append(policy.sample(self.noise(len(starts.task), policy.probs.shape[-2])))
                goals.append(self.goals.decode(codes[-1], starts.task))

        def goal_at(time: int, state: RSSMState) -> Tensor:
            if time % self.config.skill_duration == 0:
                set_goal(state)
            return goals[-1]

        states, actions = self._pursue(starts, self.config.horizon, goal_at)
        if self.config.goal_alignment == "current":  # which needs the goal after the last step
            set_goal(RSSMState(states.deter[-1], states.stoch[-1]))
        return self._trajectory(starts, states, actions, torch.stack(codes), torch.stack(goals))

    def _pursue(
        self, starts: ImaginationStart, steps: int, goal_at: Callable[[int, RSSMState], Tensor]
    ) -> tuple[RSSMState, Float[Tensor, "time batch action"]]:
        """Return states 0 to `steps` and the worker's actions towards `goal_at` time and state."""
        start, task, action_mask, _ = starts
        noise = self.noise(steps, len(task), self.spec.action_size, normal=True)

        def act(time: int, state: RSSMState) -> Tensor:
            # Gradient reaches the worker through its actions only: its inputs are constants.
            inputs = torch.cat([state.features(), goal_at(time, state)], -1).detach()
            action: Tensor = self.worker.actor(inputs, task, action_mask).sample(noise[time])
            return action

        latents = self.noise(steps, len(task), self.spec.world_model.groups)
        differentiable = self.config.action_gradient == "dynamics"
        own = self.config.goal_alignment == "own"
        detach_every = self.config.skill_duration if own else None
        return self.world_model.imagine(start, task, act, latents, differentiable, detach_every)

    def _trajectory(
        self,
        starts: ImaginationStart,
        states: RSSMState,
        actions: Tensor,
        codes: Tensor,
        goals: Tensor,
    ) -> ImaginedTrajectory:
        """Return the trajectory with the rewards and continuations that the model predicts."""
        differentiable = self.config.action_gradient == "dynamics"
        # The worker may learn from the task's rewards through the imagined steps.
        rewards, continues = self.predict_rewards_and_continues(
            states, starts, differentiable and self.config.task_reward_to_worker > 0
        )
        task, action_mask = starts.task.unsqueeze(0), starts.action_mask.unsqueeze(0)
        return ImaginedTrajectory(
            states, actions, codes, goals, rewards, continues, task, action_mask
        )

    def _near_goal_trajectory(
        self, starts: ImaginationStart, imagined: ImaginedTrajectory
    ) -> tuple[Trajectory, dict[str, Tensor]]:
        """Return a segment of the worker towards a near goal from a random share of the starts.

        Args:
            starts: where imagination begins.
            imagined: the trajectory from there, whose states are the goals.
        """
        count = max(1, round(self.config.near_goals * len(starts.task)))
        # The replay gives the newest sequences first, so that the first starts are not like others.
        chosen = self.noise(len(starts.task)).argsort(stable=True)[:count]
        starts = starts.chosen(chosen)
        goal = self._near_goals(imagined.states.deter[:, chosen])
        states, actions = self._pursue(starts, self.config.skill_duration, lambda time, state: goal)
        # A goal that stays is also the next one; no decision led to it.
        goals = torch.stack([goal, goal])
        near = self._trajectory(starts, states, actions, imagined.codes[:0, chosen], goals)
        return self._worker_trajectory(near, "goal/near_")

    def _near_goals(
        self, deter: Float[Tensor, "states batch deter"]
    ) -> Float[Tensor, "batch deter"]:
        """Return for each start a state 1 to k steps after it, all equally likely."""
        count = deter.shape[1]
        skill_duration = self.config.skill_duration
        # The product of a number just below 1 may be rounded up to k itself.
        ahead = 1 + (self.noise(count) * skill_duration).long().clamp(max=skill_duration - 1)
        return deter[ahead, torch.arange(count, device=deter.device)].detach()

    def _worker_trajectory(
        self, imagined: ImaginedTrajectory, prefix: str = "goal/"
    ) -> tuple[Trajectory, dict[str, Tensor]]:
        """Return segments of k steps side by side, each with its own goal, and metrics by prefix.

        A goal belongs to its segment from the first to the last state. The bootstrap at a segment's
        end values its own goal as if it stayed forever: a worker does not know when the next
        decision falls. So no later segment's rewards reach its actions: progress towards the next
        goal would drive them away from where that one is. A segment counts as far as the trajectory
        has not ended before it.
        """
        skill_duration = self.config.skill_duration
        decisions = len(imagined.actions) // skill_duration
        deter, stoch, continues = (
            segments(values, skill_duration)
            for values in (imagined.states.deter, imagined.states.stoch, imagined.continues)
        )
        is_reached = imagined.continues.cumprod(0)[:-1:skill_duration].flatten(0, 1)
        continues = torch.cat([is_reached.unsqueeze(0), continues[1:]])
        goal = imagined.goals[:decisions].flatten(0, 1).expand(skill_duration + 1, -1, -1)
        goals = goal
        if self.config.goal_alignment == "own":
            deter, stoch = (torch.cat([part[:1].detach(), part[1:]]) for part in (deter, stoch))
        else:
            goals = self._current_goals(imagined)
        close = max_cosine(deter, goals)
        progress = self.config.worker_reward == "progress"
        rewards = {"goal": close[1:] - close[:-1] if progress else close[1:]}
        if self.config.task_reward_to_worker:
            rewards["task"] = steps_of_segments(imagined.rewards, skill_duration)
        task = imagined.task.repeat(1, decisions, 1)
        action_mask = imagined.action_mask.repeat(1, decisions, 1)
        trajectory = Trajectory(
            torch.cat([deter, stoch, goal], -1),
            task,
            steps_of_segments(imagined.actions, skill_duration),
            rewards,
            continues,
            self.config.discount,
            action_mask,
        )
        start = RSSMState(deter[0], stoch[0])
        metrics = goal_metrics(deter.detach(), goal)
        metrics["swap_divergence"] = self._swap_divergence(start, goal[0], task, action_mask)
        return trajectory, {f"{prefix}{key}": value for key, value in metrics.items()}

    def _current_goals(self, imagined: ImaginedTrajectory) -> Float[Tensor, "states rows deter"]:
        """Return the goals that the published code measures against.

        A segment's last state is measured against the next decision's goal.
        """
        own = imagined.goals[:-1].flatten(0, 1)
        following = imagined.goals[1:].flatten(0, 1)
        return torch.stack([own] * self.config.skill_duration + [following])

    def _manager_trajectory(self, imagined: ImaginedTrajectory) -> Trajectory:
        """Return decisions, k steps apart, each worth the rewards of its steps."""
        skill_duration = self.config.skill_duration
        states = imagined.states.detach()
        rewards = {"task": self._decision_rewards(imagined.rewards.detach(), imagined.continues)}
        if self.config.exploration_bonus:
            bonus = self.goals.exploration_reward(states.deter[1:], imagined.task)
            rewards["exploration"] = self._decision_rewards(bonus, imagined.continues)
        within = steps_of_decisions(imagined.continues[1:], skill_duration).prod(1)
        return Trajectory(
            states.features()[::skill_duration],
            imagined.task,
            imagined.codes[: self.decisions],
            rewards,
            torch.cat([imagined.continues[:1], within]),
            self.config.discount_per_decision,
        )

    def _decision_rewards(
        self, rewards: Float[Tensor, "time batch"], continues: Float[Tensor, "states batch"]
    ) -> Float[Tensor, "decisions batch"]:
        """Return the value of the k rewards of each decision.

        Each reward counts as far as the episode continued until then. The published mean counts the
        continuation at the decision's own state too, which the levels' weights already have.
        """
        skill_duration = self.config.skill_duration
        by_decision = steps_of_decisions(rewards, skill_duration)
        before = steps_of_decisions(continues[:-1], skill_duration)
        if self.config.manager_reward == "mean":
            return (by_decision * before.cumprod(1)).mean(1)
        reached = torch.cat([torch.ones_like(before[:, :1]), before[:, 1:]], 1).cumprod(1)
        discounts = self.config.discount ** torch.arange(skill_duration, device=rewards.device)
        return (by_decision * reached * discounts[:, None]).sum(1)

    @torch.no_grad()
    def _swap_divergence(
        self, start: RSSMState, goal: Tensor, task: Tensor, action_mask: Tensor
    ) -> Tensor:
        """Return how much the worker uses its goal.

        It is the divergence, in nats, of its policy under another row's goal from that under its
        own.
        """
        features = start.features()
        own, other = (
            self.worker.actor(torch.cat([features, goals], -1), task[0], action_mask[0])
            for goals in (goal, goal.roll(1, 0))
        )
        divergence: Tensor = own.kl(other).sum(-1).mean()
        return divergence
