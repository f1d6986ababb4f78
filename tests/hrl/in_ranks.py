"""Ranks in one process, and one rank that draws its random numbers as several ranks would.

What is compared is two ranks of n environments each and one rank of 2n: the latter draws action
noise and permutations for each block of n environments from that rank's own stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from threading import Lock, local
from typing import Any, TypeVar
from unittest.mock import patch

import torch
from torch import Tensor, distributed

from envs import make_vec
from hrl.agents.base import AgentSpec
from hrl.agents.director import Director, DirectorConfig
from hrl.agents.dreamer import Dreamer, DreamerConfig
from hrl.agents.model_based import ModelBasedLearner
from hrl.agents.on_policy_learner import OnPolicyLearner
from hrl.agents.ppo import PPO, PPOConfig
from hrl.agents.skills import Skills, SkillsConfig
from hrl.data.observation import Observation, PolicyState
from hrl.data.replay_buffer import Batch, ReplayBuffer, SequenceIndex
from hrl.data.rollout import Rollout
from hrl.ranks import ONE_RANK, Ranks
from hrl.seeding import torch_generator
from tests.fakes import model_setting, small_setting

Result = TypeVar("Result")
RANKS = 2
ENVS = 6
"""Environments of each rank: two of every task of the suite debug."""
SEED = 3
BUILDING = Lock()
"""Held while weights are drawn from torch's own generator, which all threads share."""
_ROLLOUT = {"n_steps": 8, "n_epochs": 2, "n_minibatches": 2}
_BATCH, _LENGTH = 6, 5
_MODEL = {
    "batch_size": _BATCH,
    "sequence_length": _LENGTH,
    "horizon": 4,
    "log_interval": 4,
    "train_ratio": 1.25,
    "replay_capacity": 600,
    "learning_rate": 1e-3,
    "warmup": 0,
}
CONFIGS: dict[str, Any] = {
    "ppo": PPOConfig(**_ROLLOUT),
    "skills": SkillsConfig(
        num_skills=3, skill_duration=3, load_balance_coefficient=0.5, **_ROLLOUT
    ),
    "dreamer": DreamerConfig(replay_value_scale=0.3, exploration_bonus=0.1, **_MODEL),
    "director": DirectorConfig(skill_duration=2, **_MODEL),
}


def together(
    work: Callable[[Ranks], Result], count: int = RANKS, seconds: float = 60
) -> list[Result]:
    """Call `work` in so many threads, each of which is a rank; return what they return."""
    store = distributed.HashStore()

    def one(rank: int) -> Result:
        group = distributed.ProcessGroupGloo(store, rank, count, timedelta(seconds=seconds))
        return work(Ranks(group, lambda: "a test ended it"))

    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(one, rank) for rank in range(count)]]


def stream(name: str, block: int) -> str:
    """The name of a rank's stream, written out so that a change of it is noticed."""
    return f"{name}/{block}" if block else name


def blocks(rows: int) -> Iterator[Tensor]:
    return iter(torch.arange(rows).chunk(RANKS))


class _ExploresInBlocks:
    """Draws the action noise of every block from its own stream."""

    acted = 0

    def explore(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState, dict[str, Tensor]]:
        found = []
        for number, rows in enumerate(blocks(len(observation.task))):
            part = {key: value[rows] for key, value in state.items()}
            source = torch_generator(SEED, stream("act", number), self.acted)
            found.append(super().explore(observation.rows(rows), part, source))  # type: ignore[misc]
        self.acted += 1
        actions, states, records = zip(*found, strict=True)
        return torch.cat(actions), joined(states, 0), joined(records, 0)


class PPOInBlocks(_ExploresInBlocks, PPO):
    pass


class SkillsInBlocks(_ExploresInBlocks, Skills):
    pass


@dataclass
class RolloutInBlocks(Rollout):
    """Permutes the rows of every block on their own; a minibatch has as many of each."""

    updates: int = 0

    def minibatches(self, size: int, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
        parts = []
        for number, envs in enumerate(blocks(self.steps["reward"].shape[1])):
            own = Rollout({key: value[:, envs] for key, value in self.steps.items()})
            source = torch_generator(SEED, stream("minibatches", number), self.updates)
            parts.append(own.minibatches(size // RANKS, source))
        for batches in zip(*parts, strict=True):
            yield joined(batches, 0)
            self.updates += 1


class LearnerInBlocks(OnPolicyLearner):
    def learn(self, rollout: Rollout) -> dict[str, float]:
        return super().learn(RolloutInBlocks(rollout.steps, updates=self.updates))


class ReplayInBlocks:
    """Keeps the rows of every block on their own; a batch has as many sequences of each."""

    def __init__(self, whole: ReplayBuffer) -> None:
        capacity = whole.capacity // RANKS
        self.parts = [
            ReplayBuffer(
                whole.columns,
                ENVS,
                capacity,
                whole.sequence_length,
                whole.device,
                whole.context_rows,
            )
            for _ in range(RANKS)
        ]
        self.batches = 0

    def add(self, rows: dict[str, Tensor], envs: Tensor) -> None:
        for number, part in enumerate(self.parts):
            mine = torch.nonzero(envs // ENVS == number).squeeze(1)
            if len(mine):
                part.add({key: value[mine] for key, value in rows.items()}, envs[mine] % ENVS)

    def can_sample(self, batch_size: int) -> bool:
        return all(part.can_sample(batch_size // RANKS) for part in self.parts)

    def sample(self, batch_size: int, generator: torch.Generator) -> Batch:
        self.last = [
            part.sample(
                batch_size // RANKS, torch_generator(SEED, stream("replay", number), self.batches)
            )
            for number, part in enumerate(self.parts)
        ]
        self.batches += 1
        columns = joined([batch.columns for batch in self.last], 0)
        return Batch(columns, self.last[0].sequence_index)

    def update_latents(self, index: SequenceIndex, latents: dict[str, Tensor]) -> None:
        for number, (part, batch) in enumerate(zip(self.parts, self.last, strict=True)):
            own = {key: value.chunk(RANKS)[number] for key, value in latents.items()}
            part.update_latents(batch.sequence_index, own)


_noise = local()
"""Of each thread, the generators that stand for torch's own, one a block; none outside updates."""


@contextmanager
def noise_by_thread() -> Iterator[None]:
    """Let updates of several ranks run in threads, which share torch's own generator."""
    with ExitStack() as stack:
        for name in ("rand", "randn"):
            draw = _by_blocks(getattr(torch, name))
            stack.enter_context(patch.object(torch, name, draw))
        yield


def _by_blocks(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(*shape: Any, **options: Any) -> Tensor:
        sources = getattr(_noise, "sources", None)
        if not sources or "generator" in options:
            return draw(*shape, **options)
        sizes = list(shape[0] if isinstance(shape[0], tuple | torch.Size) else shape)
        share = len(sources)
        rows = {_BATCH // RANKS * share, _BATCH // RANKS * share * _LENGTH}
        dim = next(dim for dim, size in enumerate(sizes) if size in rows)
        sizes[dim] //= share
        return torch.cat([draw(*sizes, generator=source) for source in sources], dim)

    return call


class _DrawsByBlocks:
    """Draws the noise of an update for each of its blocks from that block's own stream."""

    numbers: tuple[int, ...] = tuple(range(RANKS))
    learned = 0

    def loss(self, batch: dict[str, Tensor], train_actor_critic: bool = True) -> Any:
        _noise.sources = [
            torch_generator(SEED, stream("update", number), self.learned) for number in self.numbers
        ]
        self.learned += 1
        try:
            return super().loss(batch, train_actor_critic)  # type: ignore[misc]
        finally:
            _noise.sources = None


class DreamerInBlocks(_DrawsByBlocks, _ExploresInBlocks, Dreamer):
    pass


class DirectorInBlocks(_DrawsByBlocks, _ExploresInBlocks, Director):
    pass


class DreamerInThread(_DrawsByBlocks, Dreamer):
    pass


class DirectorInThread(_DrawsByBlocks, Director):
    pass


def joined(parts: Any, dim: int) -> dict[str, Tensor]:
    return {key: torch.cat([part[key] for part in parts], dim) for key in parts[0]}


PLAIN = {"ppo": PPO, "skills": Skills, "dreamer": Dreamer, "director": Director}
IN_BLOCKS = {
    "ppo": PPOInBlocks,
    "skills": SkillsInBlocks,
    "dreamer": DreamerInBlocks,
    "director": DirectorInBlocks,
}
IN_THREADS = {**PLAIN, "dreamer": DreamerInThread, "director": DirectorInThread}


def small_learner(name: str, ranks: Ranks, in_threads: bool = True) -> Any:
    """A learner of one of several ranks, or the one that draws in blocks of them."""
    alone = ranks is ONE_RANK
    env = make_vec(
        "debug",
        ENVS * RANKS // ranks.count,
        seed=SEED,
        image_size=16,
        threads=1,
        first_env=ranks.index * ENVS,
        total_envs=ENVS * RANKS,
    )
    config = CONFIGS[name].of_rank(ranks.count)
    spec = _spec(name, env.observation_space["task"].shape[1], ranks)
    with BUILDING:
        torch.manual_seed(0)
        agent = (IN_BLOCKS if alone else IN_THREADS if in_threads else PLAIN)[name](config, spec)
    if isinstance(agent, _DrawsByBlocks) and not alone:
        agent.numbers = (ranks.index,)
    names = [task.name for task in env.tasks]
    if name in ("ppo", "skills"):
        learner = LearnerInBlocks if alone else OnPolicyLearner
        return learner(agent, config, spec, env, names, env.action_repeat)
    model_based = ModelBasedLearner(agent, config, spec, env, names, env.action_repeat)
    if alone:
        model_based.replay = ReplayInBlocks(model_based.replay)
        model_based.collector.replay = model_based.replay
    return model_based


def _spec(name: str, task_size: int, ranks: Ranks) -> AgentSpec:
    if name in ("ppo", "skills"):
        spec = small_setting(task_size=task_size, action_size=2, seed=SEED)
    else:
        spec = model_setting(task_size=task_size, action_size=2)
    return replace(spec, seed=SEED, ranks=ranks)


def trained(learner: Any, iterations: int) -> list[dict[str, float]]:
    """The metrics of so many iterations, after which the environment is closed."""
    metrics = [learner.iterate() for _ in range(iterations)]
    learner.collector.env.close()
    return metrics


def assert_learned_the_same(
    alone: Any, start: dict[str, Tensor], found: dict[str, Tensor], tolerance: float = 1e-3
) -> None:
    """Weights and statistics differ by less than a thousandth of what learning changed."""
    expected = alone.module.state_dict()
    assert found.keys() == expected.keys()
    for name, one in expected.items():
        change = (one - start[name]).double().norm()
        assert (found[name] - one).double().norm() <= tolerance * change + 1e-7, name
    assert any(not torch.equal(one, start[name]) for name, one in expected.items())
