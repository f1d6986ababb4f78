"""The hierarchical arm with a world model: a manager that sets goals, a worker that reaches them, one world model.

    replayed sequences -> world model -> states -+-> goal autoencoder: deter <-> code
                                                 |
                 manager (sees the task): every k steps a code -> decoder -> goal, a deter to be reached
                 worker  (sees no task):  every step an action, rewarded for coming closer to the goal
                                                 |
                         one imagined trajectory of `horizon` steps, read in two ways:
                         worker:  horizon / k segments of k steps, each with its own goal
                         manager: horizon / k decisions, each worth the rewards of its k steps

Director (Hafner et al. 2022, arXiv 2206.04114) on DreamerV3's world model. Both levels are the flat arm's `Level`, so
that nothing but the hierarchy differs from `hrl.agents.dreamer`. What the published code does otherwise is behind named
switches; `configs/experiment/director_2022.yaml` turns them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hrl.agents.actor_critic import CodeActor, ContinuousActor, Critic, Level, LevelConfig, Trajectory
from hrl.agents.base import Setting
from hrl.agents.goal_segments import closeness, segments, steps_of_decisions, steps_of_segments
from hrl.agents.model_based import ModelBasedConfig
from hrl.agents.world_model_agent import Starts, WorldModelAgent, model_loss, uniform
from hrl.data.observation import Observation, PolicyState
from hrl.world_model.goal_autoencoder import GoalAutoencoder, GoalAutoencoderConfig, distinct, perplexity
from hrl.world_model.rssm import State

ALIGNMENTS = ("own", "current")
WORKER_REWARDS = ("progress", "closeness")
MANAGER_REWARDS = ("discounted_sum", "mean")
_GREEDY_DRAWS = 4099  # a prime, so that environments do not come round to each other's numbers


@dataclass(frozen=True, kw_only=True)
class DirectorConfig(ModelBasedConfig):
    """Hyperparameters of the hierarchical arm with a world model: those of every agent with one, and

    hold: k, agent steps between decisions; divides horizon, which holds at least one decision.
    manager, worker: how each level learns.
    exploration_bonus: share of the exploration bonus in the manager's advantage; 0 for none (a control).
    task_reward_to_worker: share of the task's reward in the worker's advantage; 0 as published.
    worker_reward: closeness to the goal (as published), or progress, the closeness that a step adds. Summed with a
        discount g, progress comes to (1 - g) times the sum of closenesses less the first one: the same order among
        policies, without the part of the return that actions cannot change, which is most of it and which a critic
        would have to learn first.
    goal_alignment: own: every reward of a segment is measured against its own goal; current: against the goal in force
        at that moment, so that a segment's last reward is measured against the next goal (the published code).
    manager_reward: discounted_sum: of the k rewards, so that a decision is worth what its steps are worth; mean: of
        them (as published).
    manager_discount: per decision; 0 for `discount` to the power of k, the same as the flat arm's per step.
    carry_over_episodes: a goal outlives the end of its episode (the published code).
    greedy_codes: greedy acting takes the likeliest code; False draws one (the published code).
    """

    name: str = "director"
    hold: int = 8
    manager: LevelConfig = field(default_factory=LevelConfig)
    worker: LevelConfig = field(default_factory=LevelConfig)
    goal_autoencoder: GoalAutoencoderConfig = field(default_factory=GoalAutoencoderConfig)
    exploration_bonus: float = 0.1
    task_reward_to_worker: float = 0.0
    worker_reward: str = "progress"
    goal_alignment: str = "own"
    manager_reward: str = "discounted_sum"
    manager_discount: float = 0.0
    carry_over_episodes: bool = False
    greedy_codes: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for level in ("manager", "worker"):
            getattr(self, level).check(f"agent.{level}")
        if self.hold < 1 or self.horizon % self.hold:
            raise ValueError(f"agent.hold is {self.hold}; it must divide agent.horizon, which is {self.horizon}")
        for key in ("exploration_bonus", "task_reward_to_worker"):
            if getattr(self, key) < 0:
                raise ValueError(f"agent.{key} is {getattr(self, key)}; it must be at least 0")
        if not 0 <= self.manager_discount < 1:
            raise ValueError(f"agent.manager_discount is {self.manager_discount}; it must lie in [0, 1)")
        choices = {
            "worker_reward": WORKER_REWARDS,
            "goal_alignment": ALIGNMENTS,
            "manager_reward": MANAGER_REWARDS,
        }
        for key, valid in choices.items():
            if getattr(self, key) not in valid:
                raise ValueError(f"agent.{key} is {getattr(self, key)!r}; choose from {', '.join(valid)}")
        if (self.goal_alignment, self.worker_reward) == ("current", "progress"):
            raise ValueError("agent.goal_alignment=current needs agent.worker_reward=closeness: goals change within")

    @property
    def discount_per_decision(self) -> float:
        """The manager's discount."""
        return self.manager_discount or self.discount**self.hold


class Dream(NamedTuple):
    """An imagined trajectory of both levels: states 0 to T, k steps to a decision.

    codes, goals: of every decision, and where goals are aligned as published, of the one that would follow the last
        step.
    rewards: of the task, by the world model, on arriving at states 1 to T.
    """

    states: State
    actions: Float[Tensor, "time batch action"]
    codes: Float[Tensor, "decisions batch group class"]
    goals: Float[Tensor, "decisions batch deter"]
    rewards: Float[Tensor, "time batch"]
    continues: Float[Tensor, "states batch"]
    task: Float[Tensor, "1 batch task"]


class Director(WorldModelAgent):
    """World model, goal autoencoder, manager, worker.

    The policy's state: the flat arm's, and `goal`, and `clock`, agent steps since the first decision; one is due at
    every multiple of k.
    """

    config: DirectorConfig
    code_noise: Tensor

    def __init__(self, config: DirectorConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        sizes, features = setting.world_model, setting.task_features
        units, codes = sizes.units, config.goal_autoencoder
        self.goals = GoalAutoencoder(sizes.deter, self.told("goal_autoencoder"), features, units, codes)
        sees = (sizes.features, self.told("manager"), features, units)
        streams = {"task": 1.0} | ({"exploration": config.exploration_bonus} if config.exploration_bonus else {})
        critics = {name: Critic(*sees, config.manager) for name in streams}
        manager = CodeActor(*sees, codes.groups, codes.classes, config.manager)
        self.manager = Level(manager, critics, streams, config.manager)
        sees = (sizes.features + sizes.deter, self.told("worker"), features, units)
        shares = {"goal": 1.0} | ({"task": config.task_reward_to_worker} if config.task_reward_to_worker else {})
        critics = {name: Critic(*sees, config.worker) for name in shares}
        worker = ContinuousActor(*sees, setting.action_size, config.worker, setting.build_action_mask())
        self.worker = Level(worker, critics, shares, config.worker, config.action_gradient)
        noise = torch.rand(_GREEDY_DRAWS, codes.groups, generator=torch.Generator().manual_seed(0))
        self.register_buffer("code_noise", noise, persistent=False)

    @property
    def decisions(self) -> int:
        """Of an imagined trajectory."""
        return self.config.horizon // self.config.hold

    @property
    def persistent_keys(self) -> tuple[str, ...]:
        """Parts of the policy's state that the end of an episode leaves alone."""
        return ("goal", "clock") if self.config.carry_over_episodes else ()

    def parts(self) -> dict[str, nn.Module]:
        """Modules by name."""
        levels = {"manager": self.manager, "worker": self.worker}
        return {"world_model": self.world_model, "goal_autoencoder": self.goals, **levels}

    # Acting.

    def initial_state(self, num_envs: int) -> PolicyState:
        """Nothing seen, and a decision due."""
        state = super().initial_state(num_envs)
        clock = torch.zeros(num_envs, dtype=torch.int64, device=state["deter"].device)
        return {**state, "goal": torch.zeros_like(state["deter"]), "clock": clock}

    def due(self, state: PolicyState) -> Bool[Tensor, " env"]:
        """Where the manager decides at this step."""
        return state["clock"] % self.config.hold == 0

    def decide(self, observation: Observation, state: PolicyState, generator: torch.Generator | None) -> PolicyState:
        """New goals where a decision is due."""
        return self._decide(self.see(observation, state, generator), observation.task, state, generator)

    def execute(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """The worker's actions towards the goals in force."""
        return self._execute(self.see(observation, state, generator), observation.task, state, generator)

    def commands(self, state: PolicyState) -> Float[Tensor, "env deter"]:
        """The goals in force."""
        return state["goal"]

    def with_commands(self, state: PolicyState, commands: Float[Tensor, "env deter"]) -> PolicyState:
        """The state with other goals in force."""
        return {**state, "goal": commands}

    @torch.no_grad()
    def command_pictures(self, state: PolicyState) -> Float[Tensor, "env height width channel"]:
        """What the world would look like at the goals in force."""
        with self.autocast():
            return self.world_model.picture(self.world_model.goal_state(state["goal"])).float()

    @torch.no_grad()
    def reach_pictures(
        self, state: PolicyState, steps: int, task: Float[Tensor, "env task"]
    ) -> Float[Tensor, "time env height width channel"]:
        """See `GoalReacher.reach_pictures`."""
        with self.autocast():
            return torch.stack([self.world_model.picture(now).float() for now in self._way(state, steps, task)])

    @torch.no_grad()
    def reach(
        self, state: PolicyState, steps: Sequence[int], task: Float[Tensor, "env task"]
    ) -> Float[Tensor, "time env deter"]:
        """See `GoalReacher.reach`."""
        way = enumerate(self._way(state, steps[-1], task), 1)
        return torch.stack([now.deter.float() for count, now in way if count in steps])

    def _way(self, state: PolicyState, steps: int, task: Tensor) -> Iterator[State]:
        """The worker's greedy way to the goals in force, imagined."""
        model, now = self.world_model, State(state["deter"], state["stoch"])
        for _ in range(steps):
            with self.autocast():
                action = self.worker.actor(torch.cat([now.features(), state["goal"]], -1), task).mean
                now = model.rssm(now, model.moved_by(action, task), None)
            yield now

    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Decide where due, then execute."""
        seen = self.see(observation, state, generator)
        state = self._decide(seen, observation.task, state, generator)
        return self._execute(seen, observation.task, state, generator)

    # Learning.

    def loss(
        self, batch: Mapping[str, Tensor], behave: bool = True
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """World model, goal autoencoder on its states, then both levels imagined from states of the batch."""
        with self.autocast():
            noise = self.noise(self.config.batch, self.config.length, self.setting.world_model.groups)
            observed = self.world_model.observe(batch, noise, self.config.world_model_loss)
            losses = [model_loss(observed), self.goals.loss(observed.states.deter, batch["task"][:, 1:])]
            if behave:
                losses.append(self._behaviour_loss(self.starts(batch, observed.states)))
        metrics = {name: value for _, values in losses for name, value in values.items()}
        total = torch.stack([loss for loss, _ in losses]).sum()
        return total, metrics, self.world_model.latents(observed.states)

    def follow(self) -> None:
        """Moves the critics' slow copies."""
        self.manager.follow()
        self.worker.follow()

    # Private methods: acting.

    def _decide(self, seen: State, task: Tensor, state: PolicyState, generator: torch.Generator | None) -> PolicyState:
        """The manager is asked at every step, whether or not a decision is due: a batch of environments is small."""
        with self.autocast():
            codes = self.manager.actor(seen.features(), task)
            noise = uniform(codes.probs.shape[:-1], task.device, generator)
            if noise is None and not self.config.greedy_codes:
                noise = self._greedy_noise(state["clock"])
            code = codes.mode() if noise is None else codes.sample(noise)
            goal = self.goals.decode(code.detach(), task)
        return {**state, "goal": torch.where(self.due(state).unsqueeze(-1), goal, state["goal"])}

    def _greedy_noise(self, clock: Tensor) -> Float[Tensor, "env group"]:
        """Uniform numbers that depend on the decision and the environment alone, so that evaluations repeat."""
        decision, env = clock // self.config.hold, torch.arange(len(clock), device=clock.device)
        noise: Tensor = self.code_noise[(decision * len(clock) + env) % len(self.code_noise)]
        return noise

    def _execute(
        self, seen: State, task: Tensor, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        with self.autocast():
            policy = self.worker.actor(torch.cat([seen.features(), state["goal"]], -1), task)
        return self.draw_action(policy, {**state, **seen._asdict(), "clock": state["clock"] + 1}, generator)

    # Private methods: learning.

    def _behaviour_loss(self, starts: Starts) -> tuple[Tensor, dict[str, Tensor]]:
        """Of both levels over one imagined trajectory, and metrics."""
        dream = self._imagine(starts)
        worker, metrics = self._worker_view(dream)
        levels = {"worker": self.worker.loss(worker), "manager": self.manager.loss(self._manager_view(dream))}
        for level, (_, measured) in levels.items():
            metrics |= {f"{level}/{name}": value.detach() for name, value in measured.items()}
        codes = dream.codes[: self.decisions]
        metrics |= {
            "manager/codes_distinct": distinct(codes),
            "manager/codes_perplexity": perplexity(codes),
        }
        return torch.stack([loss for loss, _ in levels.values()]).sum(), metrics

    def _imagine(self, starts: Starts) -> Dream:
        start, task, _ = starts
        hold, horizon, count = self.config.hold, self.config.horizon, len(task)
        noise = self.noise(horizon, count, self.setting.action_size, normal=True)
        codes, goals = [], []

        def set_goal(state: State) -> None:
            with torch.no_grad():
                policy = self.manager.actor(state.features(), task)
                codes.append(policy.sample(self.noise(count, policy.probs.shape[-2])))
                goals.append(self.goals.decode(codes[-1], task))

        def act(time: int, state: State) -> Tensor:
            if time % hold == 0:
                set_goal(state)
            # Gradient reaches the worker through its actions only: what it sees counts as given.
            sees = torch.cat([state.features(), goals[-1]], -1).detach()
            action: Tensor = self.worker.actor(sees, task).sample(noise[time])
            return action

        latents = self.noise(horizon, count, self.setting.world_model.groups)
        differentiable = self.config.action_gradient == "dynamics"
        imagined, actions = self.world_model.imagine(start, task, act, latents, differentiable)
        if self.config.goal_alignment == "current":  # the only one that asks what the next goal would have been
            set_goal(State(imagined.deter[-1], imagined.stoch[-1]))
        # The worker may learn from the task's rewards through the imagined steps.
        rewards, continues = self.outlook(imagined, starts, differentiable and self.config.task_reward_to_worker > 0)
        return Dream(imagined, actions, torch.stack(codes), torch.stack(goals), rewards, continues, task.unsqueeze(0))

    def _worker_view(self, dream: Dream) -> tuple[Trajectory, dict[str, Tensor]]:
        """Segments of k steps, side by side, each with its own goal from its first to its last state.

        The bootstrap at a segment's end values its own goal as if it were held for ever: a worker does not know when
        the next decision falls.
        """
        hold = self.config.hold
        deter, stoch, continues = (
            segments(values, hold) for values in (dream.states.deter, dream.states.stoch, dream.continues)
        )
        goal = dream.goals[: self.decisions].flatten(0, 1).expand(hold + 1, -1, -1)
        goals = goal if self.config.goal_alignment == "own" else self._current_goals(dream)
        near = closeness(deter, goals)
        rewards = {"goal": near[1:] - near[:-1] if self.config.worker_reward == "progress" else near[1:]}
        if self.config.task_reward_to_worker:
            rewards["task"] = steps_of_segments(dream.rewards, hold)
        task = dream.task.repeat(1, self.decisions, 1)
        inputs = torch.cat([deter, stoch, goal], -1)
        actions = steps_of_segments(dream.actions, hold)
        view = Trajectory(inputs, task, actions, rewards, continues, self.config.discount)
        heeded = {"goal/swap_divergence": self._swap_divergence(State(deter[0], stoch[0]), goal[0], task)}
        return view, self._diagnose(deter.detach(), goal) | heeded

    def _current_goals(self, dream: Dream) -> Float[Tensor, "states rows deter"]:
        """The published code's: a segment's last state is measured against the next decision's goal."""
        hold, own, following = self.config.hold, dream.goals[:-1].flatten(0, 1), dream.goals[1:].flatten(0, 1)
        return torch.stack([own] * hold + [following])

    def _manager_view(self, dream: Dream) -> Trajectory:
        """Decisions, k steps apart, each worth the rewards of its steps."""
        hold, states = self.config.hold, dream.states.detach()
        rewards = {"task": self._worth(dream.rewards.detach(), dream.continues)}
        if self.config.exploration_bonus:
            surprise = self.goals.surprise(states.deter[1:], dream.task)
            rewards["exploration"] = self._worth(surprise, dream.continues)
        goes_on = steps_of_decisions(dream.continues[1:], hold).prod(1)
        continues = torch.cat([dream.continues[:1], goes_on])
        inputs = states.features()[::hold]
        discount = self.config.discount_per_decision
        return Trajectory(inputs, dream.task, dream.codes[: self.decisions], rewards, continues, discount)

    def _worth(
        self, rewards: Float[Tensor, "time batch"], continues: Float[Tensor, "states batch"]
    ) -> Float[Tensor, "decisions batch"]:
        """What the k rewards of a decision come to, each counted as far as the episode went on until then.

        The published mean counts the continuation at the decision's own state too, which the levels' weights already
        have.
        """
        hold = self.config.hold
        each, left = steps_of_decisions(rewards, hold), steps_of_decisions(continues[:-1], hold)
        if self.config.manager_reward == "mean":
            return (each * left.cumprod(1)).mean(1)
        ahead = torch.cat([torch.ones_like(left[:, :1]), left[:, 1:]], 1).cumprod(1)
        discounts = self.config.discount ** torch.arange(hold, device=rewards.device)
        return (each * ahead * discounts[:, None]).sum(1)

    @torch.no_grad()
    def _diagnose(self, deter: Tensor, goal: Tensor) -> dict[str, Tensor]:
        """Whether goals are far and reached: closeness at a segment's start and end, and how far a segment moves."""
        reward = closeness(deter, goal)
        moved = (deter[-1] - deter[0]).norm(dim=-1).mean()
        distance = (goal[0] - deter[0]).norm(dim=-1).mean()
        measured = {"closeness_first": reward[0].mean(), "closeness_last": reward[-1].mean()}
        measured |= {"distance": distance, "distance_over_displacement": distance / moved.clamp(min=1e-8)}
        return {f"goal/{name}": value for name, value in measured.items()}

    @torch.no_grad()
    def _swap_divergence(self, start: State, goal: Tensor, task: Tensor) -> Tensor:
        """How much the worker heeds its goal: nats by which its policy changes when it is given another row's goal."""
        features = start.features()
        own, other = (self.worker.actor(torch.cat([features, goals], -1), task[0]) for goals in (goal, goal.roll(1, 0)))
        divergence: Tensor = own.kl(other).sum(-1).mean()
        return divergence
