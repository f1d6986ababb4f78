"""Train agents with a world model: collect into a replay buffer, update from it.

One update is one function of a batch: world model, imagination, every level's actor and critics,
optimiser. Nothing in it waits for the device, so that it can be compiled and replayed as one piece.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import gymnasium as gym
import torch
from torch import Tensor, nn

from hrl.agents.actor_critic import GRADIENTS, ActorCritic
from hrl.agents.base import (
    AgentSpec,
    GraphedConfig,
    MemoryUse,
    NonFiniteUpdate,
    Policy,
    RunShapes,
)
from hrl.agents.conditioning import ConditioningConfig
from hrl.agents.parts import FROZEN, Parts, parameter_counts
from hrl.agents.registry import register_learner
from hrl.config_field import ConfigValueError, config_field
from hrl.data.replay_buffer import Column, ReplayBuffer
from hrl.data.replay_collector import LatentExplorer, ReplayCollector, replay_columns
from hrl.data.rollout_collector import with_task_means
from hrl.optim.compile import COMPILE_MODES, Update
from hrl.optim.cuda_graph import GraphedUpdate
from hrl.optim.laprop import LaProp
from hrl.optim.optimizer_state import load_optimizer_state, optimizer_state
from hrl.ranks import join
from hrl.seeding import stream_seed, torch_generator
from hrl.world_model.model import WorldModelConfig, WorldModelLossConfig

MOMENTUM_DECAY = 0.9
PLACES = ("device", "host")
MAX_HORIZON = 10_000
RUN_DEFAULTS = {
    "num_envs": 16,
    "frame_stack": 1,  # the recurrent state remembers what a stack of images would show
    "agent": {"imag_last": "${network.imag_last}"},
}
"""Keys of the run whose defaults differ with every agent that has a world model."""


@dataclass(frozen=True, kw_only=True)
class ModelBasedConfig(GraphedConfig):
    """Hold the hyperparameters of every agent with a world model, with the same defaults."""

    trains_on_several: ClassVar[bool] = True
    batch_size: int = config_field(16, "sequences of an update", at_least=1)
    sequence_length: int = config_field(32, "agent steps of each sequence", at_least=1)
    burn_in: int = config_field(
        0,
        "agent steps replayed before each sequence, without learning from them: the current world "
        "model sees their images, so that the sequence begins at a state of this model. At 0 it "
        "begins at the state that an earlier update or the policy stored (DreamerV3)",
        at_least=0,
    )
    train_ratio: float = config_field(
        32.0,
        "replayed steps per agent step; an update is made for every batch_size * sequence_length / "
        "train_ratio agent steps, from when there are as many different sequences as a batch has",
        above=0,
    )
    replay_capacity: int = config_field(200_000, "agent steps that the replay keeps", at_least=1)
    replay_on: str = config_field(
        "device",
        "device keeps the replay where the learner computes, host in the machine's own memory, "
        "from which batches are copied",
        choices=PLACES,
    )
    log_interval: int = config_field(
        16, "agent steps of each environment between two lines of metrics", at_least=1
    )
    noise_repeat: int = config_field(
        1,
        "agent steps for which an environment's action noise is repeated while gathering. Noise "
        "that is drawn anew at every step averages out in what has inertia, and shows the world "
        "model little of what actions do",
        at_least=1,
    )
    imag_last: int = config_field(
        0,
        "imagination begins at the last so many states of every sequence; at all of them where it "
        "is 0 or there are no more. The sizes for CPUs choose it, as network.imag_last",
        at_least=0,
    )
    horizon: int = config_field(
        16, "agent steps imagined from each of them", at_least=1, at_most=MAX_HORIZON
    )
    discount: float = config_field(
        0.99, "discount per agent step, at every level", at_least=0, below=1
    )
    action_gradient: str = config_field(
        "reinforce",
        "gradient of the actor that acts, which is the flat policy or the worker: reinforce, by "
        "the likelihood of what was done (DreamerV3), or dynamics, through the imagined steps "
        "(DreamerV2 and Director, for continuous actions)",
        choices=GRADIENTS,
    )
    learning_rate: float = config_field(4e-5, "learning rate of LaProp", above=0)
    warmup: int = config_field(1000, "updates until the full learning rate", at_least=0)
    lr_decay_start: int = config_field(
        0,
        "updates after which the learning rate falls with the square root of their number; 0 for "
        "never",
        at_least=0,
    )
    actor_critic_start: int = config_field(
        0,
        "updates that the world model makes alone, before actors and critics begin to learn from "
        "it",
        at_least=0,
    )
    actor_critic_lr_scale: float = config_field(
        1.0,
        "share of the learning rate that actors and critics learn at: steps that a world model "
        "bears drive the means of actions to their bounds, where no gradient brings them back",
        above=0,
    )
    beta2: float = config_field(
        0.999,
        "decay of LaProp's mean squares. The first gradients, of images still black, are a hundred "
        "times as large as those that follow: until they are forgotten, after some 1 / (1 - beta2) "
        "updates, steps are short",
        at_least=0,
        below=1,
    )
    compile: str = config_field(
        "none",
        "none; parts compiles the pieces of an update, such as a step of the recurrent model, "
        "which takes minutes at the start and less where torch's cache has them; whole compiles "
        "the update as one graph, which takes the compiler the longer the sequences are",
        choices=tuple(COMPILE_MODES),
    )
    conditioning: ConditioningConfig = config_field(
        default_factory=ConditioningConfig, help="modules that get the task vector"
    )
    world_model_loss: WorldModelLossConfig = config_field(
        default_factory=WorldModelLossConfig, help="weights of the world model's losses"
    )

    def of_rank(self, count: int) -> ModelBasedConfig:
        """Return a share of every batch and of the replay.

        A compiled update would have the exchange between processes within it, like a graph.
        """
        if self.compile != "none":
            rule = "several processes train by plain updates; choose none"
            raise ConfigValueError("compile", self.compile, rule)
        super().of_rank(count)
        if self.batch_size % count:
            rule = f"every one of {count} processes takes as many sequences: give a multiple"
            raise ConfigValueError("batch_size", self.batch_size, rule)
        capacity = self.replay_capacity // count
        return replace(self, batch_size=self.batch_size // count, replay_capacity=capacity)

    @property
    def encoder_key(self) -> str:
        """Return the key of the world model, whose encoder and decoder belong together."""
        return "network.world_model"

    def memory_uses(self, shapes: RunShapes) -> list[MemoryUse]:
        """Return the replay, and what an update keeps for its backward pass."""
        place = "learner" if self.replay_on == "device" else "host"
        replay = self._replay_bytes(shapes)
        return [
            MemoryUse("replay (agent.replay_capacity)", replay, place, in_checkpoint=True),
            MemoryUse(
                "update (agent.batch_size, agent.sequence_length, agent.imag_last)",
                self._update_bytes(shapes),
            ),
        ]

    def check_run(self, shapes: RunShapes) -> None:
        """Refuse sequences that no episode is long enough for, and too small a replay."""
        super().check_run(shapes)
        self.check_capacity(shapes.num_envs)
        if self.sequence_length > shapes.longest_episode:
            rule = f"the longest episodes of the suite have {shapes.longest_episode} steps"
            raise ConfigValueError("sequence_length", self.sequence_length, rule)
        if self.burn_in >= shapes.longest_episode:
            rule = f"the longest episodes of the suite have {shapes.longest_episode} steps"
            raise ConfigValueError("burn_in", self.burn_in, rule)

    def check_parts(self, states: Mapping[str, str]) -> None:
        """Refuse updates of a world model alone that does not learn."""
        if self.actor_critic_start and states["world_model"] == states["rewards"] == FROZEN:
            rule = "it must be 0: the world model is frozen, and would learn nothing alone"
            raise ConfigValueError("actor_critic_start", self.actor_critic_start, rule)

    def check_capacity(self, num_envs: int) -> None:
        """Raise ConfigValueError if the replay cannot hold a sequence of every environment."""
        length = self.replayed_rows
        if self.replay_capacity < num_envs * length:
            rule = (
                f"it must be at least {num_envs * length}, one sequence of {length} rows for each "
                f"of {num_envs} environments"
            )
            raise ConfigValueError("replay_capacity", self.replay_capacity, rule)

    @property
    def replayed_rows(self) -> int:
        """Return the replay's rows of a sequence: a stored state, the burn-in, what is learned."""
        return 1 + self.burn_in + self.sequence_length

    @property
    def startup_notice(self) -> str:
        """Return a warning of the minutes that compiling takes."""
        if self.compile == "none":
            return ""
        return "updates are compiled when they are first made: minutes in which nothing is printed"

    def _replay_bytes(self, shapes: RunShapes) -> int:
        """Return the size of a full replay, which keeps one image a step, and latents.

        It rounds down to as many steps of every environment.
        """
        sizes: WorldModelConfig = shapes.world_model
        vectors = 4 * (shapes.task_size + shapes.action_size + 1)
        flags = 2 + shapes.action_size
        row = shapes.image_bytes + vectors + flags + 2 * sizes.deter + sizes.groups
        return self.replay_capacity // shapes.num_envs * shapes.num_envs * row

    @property
    def imagined_states(self) -> float:
        """Return the states imagined from each start, the start included."""
        return float(self.horizon + 1)

    def _update_bytes(self, shapes: RunShapes) -> int:
        """Estimate the bytes that an update keeps: images and their maps, imagined features."""
        sizes: WorldModelConfig = shapes.world_model
        images = 6 if sizes.strided else 10 + 2 * sizes.depth
        features = 6 * (sizes.features + sizes.deter) + 30 * sizes.units + 6 * 255
        starts = min(self.imag_last or self.sequence_length, self.sequence_length)
        observed = self.sequence_length * (images * shapes.image_bytes + features)
        observed += self.burn_in * 3 * shapes.image_bytes  # nothing is kept for a backward pass
        imagined = starts * (self.imagined_states - 1) * features
        return round(self.batch_size * 4 * (observed + imagined))


@runtime_checkable
class ModelBasedAgent(Policy, LatentExplorer, Protocol):
    """Define the methods of an agent that the learner calls."""

    def loss(
        self, batch: Mapping[str, Tensor], train_actor_critic: bool = True
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Return the loss of a batch of sequences, metrics, and latents for the replay.

        Args:
            batch: columns [batch, 1 + burn_in + time, ...]; the first row of a sequence is context.
            train_actor_critic: whether actors and critics learn as well.

        Returns:
            The loss, metrics, and latents [batch, burn_in + time, ...].
        """

    def update_target(self) -> None:
        """Move slow copies; called after every update."""

    def latent_columns(self) -> dict[str, Column]:
        """Return the replay columns of what `explore` records of every step."""

    def parts(self) -> Parts:
        """Return the modules by part and name; every parameter is in exactly one."""


@register_learner(ModelBasedConfig)
class ModelBasedLearner:
    """Train any `ModelBasedAgent`: collect into a replay buffer, update from it.

    Args:
        agent: the agent, an `nn.Module`.
        config: its hyperparameters.
        spec: what it was built for.
        env: a vector env with same-step autoreset.
        task_names: names of the env's tasks, for metrics.
        frames_per_step: control steps of an agent step, the suite's action repeat.

    Raises:
        ConfigValueError: the replay is too small for one sequence of every environment, or
            `cuda_graph` without a GPU.
    """

    def __init__(
        self,
        agent: ModelBasedAgent,
        config: ModelBasedConfig,
        spec: AgentSpec,
        env: gym.vector.VectorEnv,
        task_names: list[str],
        frames_per_step: int,
    ) -> None:
        assert isinstance(agent, nn.Module)
        assert isinstance(env.single_observation_space, gym.spaces.Dict)
        self.policy: ModelBasedAgent = agent
        self.module: nn.Module = agent.to(spec.device)
        self.config = config
        self.spec = spec
        self.frames_per_step = frames_per_step
        config.check_capacity(env.num_envs)
        config.check_graph(spec.device.type == "cuda")
        columns = replay_columns(
            env.single_observation_space, spec.action_size, agent.latent_columns()
        )
        index = spec.device if config.replay_on == "device" else torch.device("cpu")
        self.replay = ReplayBuffer(
            columns,
            env.num_envs,
            config.replay_capacity,
            config.replayed_rows,
            index,
            context_rows=1 + config.burn_in,
        )
        self.ranks = spec.ranks
        join(self.module, self.ranks)
        self.collector = ReplayCollector(
            env, self.replay, task_names, spec.seed, spec.device, self.ranks
        )
        self.optimizer = _optimizer(self.module, config)
        # The update in use, and whether actors and critics learn in it.
        self._prepared: tuple[bool, Update] | None = None
        self.updates = 0
        self._owed = 0.0
        self._can_sample = False

    @property
    def steps(self) -> int:
        """Return the agent steps over all environments."""
        return self.collector.steps * self.collector.env.num_envs * self.ranks.count

    @property
    def frames(self) -> int:
        """Return the control steps over all environments."""
        return self.steps * self.frames_per_step

    def iterate(self) -> dict[str, float | int]:
        """Return the metrics of `log_interval` steps of every environment, with their updates.

        The train ratio says how many updates are made.
        """
        returns: dict[str, list[float]] = {}
        measured: list[dict[str, Tensor]] = []
        for _ in range(self.config.log_interval):
            with torch.no_grad():
                for key, values in self.collector.collect(self.policy, 1).items():
                    returns.setdefault(key, []).extend(values)
            measured += [self.update() for _ in range(self._updates_due())]
        ended = self.ranks.merge(returns)
        episodes = {key: sum(values) / len(values) for key, values in ended.items()}
        losses = _means(measured)
        return {
            "frames": self.frames,
            "steps": self.steps,
            "updates": self.updates,
            **with_task_means(episodes, len(self.collector.task_names)),
            **losses,
        }

    def update(self) -> dict[str, Tensor]:
        """Make one update from the replay, and return its metrics, which stay on the device.

        Raises:
            NonFiniteUpdate: the loss, a gradient or a metric is not finite; parameters and moments
                are as they were.
        """
        seed = self.spec.seed
        source = torch_generator(seed, self.ranks.stream("replay"), self.updates)
        batch = self.replay.sample(self.config.batch_size, source)
        columns = {name: rows.to(self.spec.device) for name, rows in batch.columns.items()}
        torch.manual_seed(stream_seed(seed, self.ranks.stream("update"), self.updates))
        metrics, latents = self._update_in_use()(columns)
        if not bool(metrics["finite"]):
            means = _means([metrics])
            name = next(name for name, value in means.items() if not math.isfinite(value))
            raise NonFiniteUpdate(name, self.updates, columns, means)
        # The row of context keeps its own latents: only the rows after it were updated.
        self.replay.update_latents(batch.sequence_index, latents)
        self.updates += 1
        return metrics

    def sample_for_video(self, count: int) -> dict[str, Tensor]:
        """Return rows [row, ...] of the replay by column, for a video.

        Training continues as if none had been drawn. There are none where the replay does not hold
        as many sequences yet.
        """
        if not self.replay.can_sample(count):
            return {}
        batch = self.replay.sample_uniform(
            count, torch_generator(self.spec.seed, "sample_uniform", self.updates)
        )
        return {name: rows[:, -1].to(self.spec.device) for name, rows in batch.columns.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimiser state, replay, counters and the collector's state."""
        return {
            "policy": self.module.state_dict(),
            "optimizer": optimizer_state(self.optimizer),
            "replay": self.replay.state_dict(),
            "collector": self.collector.state_dict(),
            "updates": self.updates,
            "owed": self._owed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._prepared = None  # a recorded graph has the optimiser state that is replaced
        self.module.load_state_dict(state["policy"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        self.replay.load_state_dict(state["replay"])
        self.collector.load_state_dict(state["collector"])
        self.updates = state["updates"]
        self._owed = float(state["owed"])
        self._can_sample = False

    @property
    def own_keys(self) -> tuple[str, ...]:
        """Return the keys of `state_dict` that belong to this rank's environments."""
        return ("collector", "replay")

    def parameter_counts(self) -> dict[str, int]:
        """Return the numbers of trainable parameters by module, without slow copies."""
        return parameter_counts(self.policy.parts())

    def parts(self) -> Parts:
        """Return the agent's modules by part and name."""
        return self.policy.parts()

    def saved_modules(self) -> dict[str, nn.Module]:
        """Return the agent by its key in `state_dict`."""
        return {"policy": self.module}

    # Private methods.

    def _updates_due(self) -> int:
        """Return the number of updates to make now."""
        if not self._every_rank_can_sample():
            return 0
        per_step = self.config.train_ratio / (self.config.batch_size * self.config.sequence_length)
        self._owed += per_step * self.collector.env.num_envs
        count = int(self._owed)
        self._owed -= count
        return count

    def _every_rank_can_sample(self) -> bool:
        """Return whether updates can begin; then they go on."""
        if not self._can_sample:
            short = not self.replay.can_sample(self.config.batch_size)
            self._can_sample = not self.ranks.any(short)
        return self._can_sample

    def _update_in_use(self) -> Update:
        """Return the update, compiled and recorded where the configuration asks for it.

        It is of the world model alone, or of everything. Once actors and critics learn, the other
        one is dropped: a recorded graph keeps the memory of its update.
        """
        train_actor_critic = self.updates >= self.config.actor_critic_start
        if self._prepared is None or self._prepared[0] != train_actor_critic:
            self._prepared = train_actor_critic, self._prepare(train_actor_critic)
        return self._prepared[1]

    def _prepare(self, train_actor_critic: bool) -> Update:
        def update(batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
            return self._eager_update(batch, train_actor_critic)

        if self.config.compile == "whole":
            # Made here: an update that makes them while it is traced is traced twice.
            self.optimizer.averages()
        prepared = COMPILE_MODES[self.config.compile](update)
        return GraphedUpdate(prepared) if self.config.cuda_graph else prepared

    def _eager_update(
        self, batch: Mapping[str, Tensor], train_actor_critic: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        # Scales and coefficients, a few numbers, which a failed update must not change.
        buffers = [buffer.clone() for buffer in self.module.buffers()]
        loss, metrics, latents = self.policy.loss(batch, train_actor_critic)
        learning = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        for parameter in learning:
            parameter.grad = None
        # `backward` would cut a compiled update in two. It would also lay gradients out like their
        # parameters.
        gradients = torch.autograd.grad(loss, learning, allow_unused=True)
        for parameter, gradient in zip(learning, gradients, strict=True):
            parameter.grad = None if gradient is None else gradient.contiguous()
        self.ranks.average_gradients(learning)
        norms = torch._foreach_norm([p.grad for p in learning if p.grad is not None])
        norm = torch.stack(norms).norm()
        metrics |= {"loss/total": loss.detach(), "gradient_norm": norm}
        metrics = self.ranks.average_metrics(metrics)
        measured = torch.stack([value.detach().float() for value in metrics.values()])
        finite = torch.isfinite(measured).all()
        self._step(finite)
        for buffer, old in zip(self.module.buffers(), buffers, strict=True):
            buffer.copy_(torch.where(finite, buffer, old))
        return metrics | {"finite": finite}, latents

    def _step(self, finite: Tensor) -> None:
        """Take the optimiser's step if all is finite; otherwise leave weights and moments alone."""
        if not (self.config.cuda_graph or torch.compiler.is_compiling()):
            if bool(finite):
                self.optimizer.step()
                self.policy.update_target()
            return
        # A compiled update cannot branch: the step is taken, and taken back.
        moving = [parameter.detach() for parameter in self.module.parameters()]
        moving += self.optimizer.averages()
        before = [values.clone() for values in moving]
        self.optimizer.step()
        self.policy.update_target()
        for values, old in zip(moving, before, strict=True):
            values.copy_(torch.where(finite, values, old))


def _optimizer(module: nn.Module, config: ModelBasedConfig) -> LaProp:
    """Return one optimiser, in which actors and critics have a learning rate of their own."""
    actor_critics = [part for part in module.modules() if isinstance(part, ActorCritic)]
    chosen = {
        parameter
        for part in actor_critics
        for parameter in part.parameters()
        if parameter.requires_grad
    }
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    rate = config.learning_rate
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in learning if parameter not in chosen]},
        {
            "params": [parameter for parameter in learning if parameter in chosen],
            "lr": rate * config.actor_critic_lr_scale,
        },
    ]
    betas = (MOMENTUM_DECAY, config.beta2)
    return LaProp(groups, rate, betas, warmup=config.warmup, lr_decay_start=config.lr_decay_start)


def _means(measured: list[dict[str, Tensor]]) -> dict[str, float]:
    """Return means over updates, read back from the device in one go."""
    if not measured:
        return {}
    names = [name for name in measured[-1] if name != "finite"]
    # Actors and critics may have begun to learn in between: the mean is over the updates that
    # measured a metric.
    means = [
        torch.stack([update[name].float() for update in measured if name in update]).mean()
        for name in names
    ]
    return dict(zip(names, torch.stack(means).tolist(), strict=True))
