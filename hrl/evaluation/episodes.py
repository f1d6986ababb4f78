"""Evaluate a policy on the splits of a suite: fixed episodes, greedy actions, shuffle tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int64
from torch import Tensor

from envs import PixelVectorEnv, Suite, Task, make_vec
from hrl.agents.base import GoalReacher, HierarchicalPolicy, Policy
from hrl.data.nonfinite import step_finite
from hrl.data.observation import Observation, PolicyState, reset_state

INTERVENTIONS = ("none", "high_level_action_shuffle", "task_shuffle")
SCORE_COLUMNS = [
    "method",
    "seed",
    "split",
    "task",
    "frames",
    "episode",
    "return",
    "success",
    "steps_to_success",
    "length",
    "layout",
    "path_length",
    "intervention",
]
USAGE_COLUMNS = ["task", "split", "skill", "weight"]

Progress = Callable[[int], None]
"""Receives the number of episodes that have ended since the last call."""


@dataclass(frozen=True)
class EvalConfig:
    """Set how evaluation episodes are played, in the same way for all methods.

    Attributes:
        episodes: number of episodes per task.
        seed: seed of the initial states. The initial state of episode e of a task depends on this
            seed, on the task's own `evaluation_seed` and on e alone. It does not depend on the
            method, nor on which tasks and splits and how many episodes are played beside it.
        frame_stack: frames in an observation, as in training.
        image_size: height and width in pixels, as in training.
        device: where the policy runs.
        threads: worker threads of the environment; None is one for every core.
        physics: what simulates, as in training: see `envs.make_vec`.
        observation: what is observed, as in training.
    """

    episodes: int
    seed: int
    frame_stack: int
    image_size: int
    device: torch.device
    threads: int | None = None
    physics: str = "auto"
    observation: str = "pixels"


@dataclass(frozen=True)
class Evaluation:
    """Hold the tables of an evaluation.

    Attributes:
        scores: one row per episode, with the columns of SCORE_COLUMNS except `method`, `seed` and
            `frames`. `steps_to_success` counts control steps until the first success and is missing
            where there was none. `layout` and `path_length`, cells from the start to the goal, are
            missing where the suite's tasks draw no layouts.
        usage: mean skill weights per task (USAGE_COLUMNS) for a hierarchical policy with skills;
            empty for others.
    """

    scores: pd.DataFrame
    usage: pd.DataFrame


def evaluate(
    policy: Policy,
    suite: Suite,
    splits: Iterable[str],
    eval_config: EvalConfig,
    interventions: Iterable[str] = ("none",),
    progress: Progress | None = None,
) -> Evaluation:
    """Play every task of every split under every intervention that applies to the policy.

    Interventions show which inputs a policy uses. `task_shuffle` replaces the task vector of each
    environment by that of an environment with another task; `high_level_action_shuffle` does the
    same with the manager's high-level action. If returns do not fall, the policy ignores its task,
    or the low-level policy ignores the high-level action. An intervention is skipped for a split
    of one task, and for the only task of a body with its own number of actuators (see
    `previous_worlds`).

    Args:
        policy: acts greedily.
        suite: tasks by split.
        splits: names of the splits to play.
        eval_config: how episodes are played.
        interventions: names from INTERVENTIONS.
        progress: called after every control step in which episodes ended, with their number. All
            calls together add up to `count_episodes`.

    Raises:
        ValueError: a split or an intervention is unknown.
        NonFiniteQuantity: an action, a reward or a task vector is not finite.
    """
    scores = [pd.DataFrame(columns=_EPISODE_COLUMNS)]
    usage = [pd.DataFrame(columns=USAGE_COLUMNS)]
    for split, intervention in _evaluations(policy, suite, splits, interventions):
        rows, weights = _play(policy, suite, split, eval_config, intervention, progress)
        scores.append(rows)
        usage.append(weights)
    return Evaluation(_concatenated(scores), _concatenated(usage))


def count_episodes(
    policy: Policy,
    suite: Suite,
    splits: Iterable[str],
    eval_config: EvalConfig,
    interventions: Iterable[str] = ("none",),
) -> int:
    """Return the number of episodes that `evaluate` plays with the same arguments.

    Raises:
        ValueError: a split or an intervention is unknown.
    """
    return eval_config.episodes * sum(
        int(_is_played(suite, suite.tasks(split), len(suite.tasks(split)), intervention).sum())
        for split, intervention in _evaluations(policy, suite, splits, interventions)
    )


def metrics(evaluation: Evaluation) -> dict[str, float | int]:
    """Return `eval/<split>/return` and `success`, over all tasks and per task, for the log."""
    plain = evaluation.scores[evaluation.scores["intervention"] == "none"]
    result: dict[str, float | int] = {}
    for split, rows in plain.groupby("split", sort=False):
        for column in ("return", "success"):
            per_task = rows.groupby("task", sort=False)[column].mean()
            result[f"eval/{split}/{column}"] = float(per_task.mean())
            result |= {
                f"eval/{split}/{column}/{task}": float(value) for task, value in per_task.items()
            }
    for row in evaluation.usage.itertuples():
        result[f"skills/usage/{row.task}/{row.skill}"] = float(str(row.weight))
    return result


def worlds_at_once(suite: Suite, tasks: int, episodes: int) -> int:
    """Return the number of worlds that play so many episodes of so many tasks side by side.

    It is a multiple of the number of tasks: one world per episode, or, where the suite limits the
    number of its worlds (`Suite.max_worlds`), at most that many or one per task; the other episodes
    follow in further rounds. The number does not depend on the machine, because shuffles are among
    the worlds of one round.
    """
    if suite.max_worlds is None:
        return tasks * episodes
    rounds = math.ceil(episodes / max(1, suite.max_worlds // tasks))
    return tasks * math.ceil(episodes / rounds)


def evaluation_env(
    suite: Suite, tasks: Sequence[Task], worlds: int, eval_config: EvalConfig
) -> PixelVectorEnv:
    """Make an environment that plays the evaluation episodes of these tasks.

    Args:
        suite: the tasks' suite.
        tasks: world i plays task i modulo their number.
        worlds: number of worlds, a multiple of the number of tasks.
        eval_config: how episodes are played.
    """
    return make_vec(
        suite,
        worlds,
        tasks=tasks,
        seed=eval_config.seed,
        evaluation=True,
        frame_stack=eval_config.frame_stack,
        image_size=eval_config.image_size,
        observation=eval_config.observation,
        threads=eval_config.threads,
        physics=eval_config.physics,
        device=eval_config.device,
    )


def previous_worlds(
    suite: Suite, tasks: Sequence[Task], worlds: int
) -> Int64[np.ndarray, " world"]:
    """Return, for each world, the one before it whose body has as many actuators.

    Tasks are assigned to worlds round-robin, so that world has another task, unless there is no
    other task of such a body. Worlds with more or fewer actuators are passed over: their actions
    do not fit the body, and a task vector that names a very different body would lower the return
    of any policy that knows its body.
    """
    sizes = np.array([suite.actuator_count(task) for task in tasks])[np.arange(worlds) % len(tasks)]
    previous = np.arange(worlds)
    for size in np.unique(sizes):
        same_size = np.flatnonzero(sizes == size)
        previous[same_size] = np.roll(same_size, 1)
    return previous


# Private functions.

_EPISODE_COLUMNS = [name for name in SCORE_COLUMNS if name not in ("method", "seed", "frames")]


def _evaluations(
    policy: Policy, suite: Suite, splits: Iterable[str], interventions: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Yield each split with each intervention that applies to it, in the order they are played."""
    chosen = list(interventions)
    for intervention in chosen:
        _check_intervention(intervention)
    for split in splits:
        for intervention in chosen:
            if _applies(intervention, policy, suite, split):
                yield split, intervention


def _check_intervention(intervention: str) -> None:
    if intervention not in INTERVENTIONS:
        raise ValueError(
            f"intervention {intervention!r} is unknown; choose from {', '.join(INTERVENTIONS)}"
        )


def _applies(intervention: str, policy: Policy, suite: Suite, split: str) -> bool:
    """Return whether there is another task to shuffle with, and a high-level action to shuffle."""
    tasks = suite.tasks(split)
    if intervention == "high_level_action_shuffle" and not isinstance(policy, HierarchicalPolicy):
        return False
    return bool(_is_played(suite, tasks, len(tasks), intervention).any())


def _is_played(suite: Suite, tasks: Sequence[Task], worlds: int, intervention: str) -> np.ndarray:
    """Return bool [world], False where a shuffle would be among episodes of the same task."""
    if intervention == "none":
        return np.ones(worlds, bool)
    offset = previous_worlds(suite, tasks, worlds) - np.arange(worlds)
    return np.not_equal(offset % len(tasks), 0)


@torch.inference_mode()
def _play(
    policy: Policy,
    suite: Suite,
    split: str,
    eval_config: EvalConfig,
    intervention: str,
    progress: Progress | None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of one split's episodes, and its skill usage if there is no intervention."""
    tasks = suite.tasks(split)
    worlds = worlds_at_once(suite, len(tasks), eval_config.episodes)
    previous = torch.from_numpy(previous_worlds(suite, tasks, worlds)).to(eval_config.device)
    env = evaluation_env(suite, tasks, worlds, eval_config)
    try:
        player = _Player(policy, env, eval_config, _Shuffle(intervention, previous), progress)
        rows = player.play(_is_played(suite, tasks, worlds, intervention))
        scores = pd.DataFrame(rows).assign(split=split, intervention=intervention)
        usage = player.high_level_actions.table(env.tasks, split)
    finally:
        env.close()
    scores = scores[_EPISODE_COLUMNS].astype({"steps_to_success": "Int64", "path_length": "Int64"})
    return scores, usage if intervention == "none" else usage.iloc[:0]


class _Shuffle(NamedTuple):
    """Name the input that is taken from another world, and the index of that world: int64 [env]."""

    intervention: str
    previous: Tensor


class _Player:
    """Play episodes in all worlds of an environment until every task has had its number of them."""

    def __init__(
        self,
        policy: Policy,
        env: PixelVectorEnv,
        eval_config: EvalConfig,
        shuffle: _Shuffle,
        progress: Progress | None,
    ) -> None:
        self.policy = policy
        self.env = env
        self.eval_config = eval_config
        self.shuffle = shuffle
        self.progress = progress
        self.high_level_actions = HighLevelActionMeans(env.num_envs)

    def play(self, is_played: np.ndarray) -> list[dict[str, object]]:
        """Return a row per episode of the worlds that are played, round by round."""
        tasks = self.env.tasks
        per_round = self.env.num_envs // len(tasks)
        rank = np.arange(self.env.num_envs) // len(tasks)
        rows: list[dict[str, object]] = []
        initial = self.policy.initial_state(self.env.num_envs)
        everywhere = torch.ones(self.env.num_envs, dtype=torch.bool, device=self.eval_config.device)
        state = initial
        for number, first in enumerate(range(0, self.eval_config.episodes, per_round)):
            wanted = is_played & (first + rank < self.eval_config.episodes)
            state = reset_state(self.policy, state, initial, everywhere)
            outcomes, state = self._play_round(number, wanted, state)
            for index, outcome in outcomes.items():
                task = tasks[index % len(tasks)].name
                rows.append({"task": task, "episode": first + int(rank[index]), **outcome})
        return rows

    def _play_round(
        self, number: int, wanted: np.ndarray, state: PolicyState
    ) -> tuple[dict[int, dict[str, object]], PolicyState]:
        """Play the episode of this number in every world from a policy's state.

        Returns:
            The wanted episodes, by world, and the state after the last step.
        """
        arrays = self.env.reset(options={"episode": number})[0]
        running = wanted.copy()
        rows: dict[int, dict[str, object]] = {}
        while running.any():
            observation = Observation.from_arrays(arrays, self.eval_config.device)
            before = state
            action, state = _act(self.policy, observation, before, self.shuffle)
            self.high_level_actions.add(self.policy, state, running)
            arrays, _, _, _, infos = step_finite(self.env, observation, before, action)
            done = infos.get("_episode_statistics", np.zeros_like(running)) & running
            for index in np.flatnonzero(done).tolist():
                rows[index] = _outcome(index, infos["episode_statistics"])
            running &= ~done
            self._report(int(done.sum()))
        return dict(sorted(rows.items())), state

    def _report(self, ended: int) -> None:
        if ended and self.progress is not None:
            self.progress(ended)


def _outcome(index: int, episode: dict[str, np.ndarray]) -> dict[str, object]:
    return {
        "return": float(episode["return"][index]),
        "success": int(episode["success"][index]),
        "steps_to_success": int(episode["steps_to_success"][index]) or pd.NA,
        "length": int(episode["length"][index]),
        "layout": str(episode["layout"][index]) if "layout" in episode else pd.NA,
        "path_length": int(episode["path_length"][index]) if "layout" in episode else pd.NA,
    }


def _act(
    policy: Policy, observation: Observation, state: PolicyState, shuffle: _Shuffle
) -> tuple[Tensor, PolicyState]:
    """Return greedy actions under the intervention, and the next policy state."""
    if shuffle.intervention == "task_shuffle":
        # The task vector alone: each world keeps the action mask of its own body.
        task = observation.task[shuffle.previous]
        return policy.act(observation._replace(task=task), state, None)
    if shuffle.intervention == "high_level_action_shuffle":
        assert isinstance(policy, HierarchicalPolicy), "checked before the split is played"
        return _act_with_shuffled_high_level_actions(policy, observation, state, shuffle.previous)
    return policy.act(observation, state, None)


def _act_with_shuffled_high_level_actions(
    policy: HierarchicalPolicy, observation: Observation, state: PolicyState, previous: Tensor
) -> tuple[Tensor, PolicyState]:
    """Shuffle the high-level actions at decision steps; they stay in force until the next one."""
    is_decision_step = policy.is_decision_step(state)
    state = policy.decide(observation, state, None)
    own = policy.high_level_action(state)
    shuffled = torch.where(is_decision_step.reshape(-1, 1), own[previous], own)
    state = policy.with_high_level_action(state, shuffled)
    return policy.act_low_level(observation, state, None)


def _concatenated(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of all tables; the first one gives the columns and may be empty."""
    filled = [table for table in tables if len(table)]
    return pd.concat(filled or [tables[0]], ignore_index=True)


class HighLevelActionMeans:
    """Average over time the high-level actions in force, per environment.

    They are averaged where they are weights of skills, and ignored where they are goals.

    Args:
        num_envs: number of environments.
    """

    def __init__(self, num_envs: int) -> None:
        self.sums: np.ndarray | None = None
        self.counts = np.zeros((num_envs, 1))

    def add(self, policy: Policy, state: PolicyState, running: np.ndarray) -> None:
        """Add one step of the environments whose episode is still running."""
        if isinstance(policy, HierarchicalPolicy) and not isinstance(policy, GoalReacher):
            weights = policy.high_level_action(state).double().cpu().numpy() * running[:, None]
            self.sums = weights if self.sums is None else self.sums + weights
            self.counts += running[:, None]

    def table(self, tasks: Sequence[Task], split: str) -> pd.DataFrame:
        """Return the mean weights of each task, one row per task and skill (USAGE_COLUMNS)."""
        if self.sums is None:
            return pd.DataFrame(columns=USAGE_COLUMNS)
        # Worlds that play no episode under a shuffle have no steps to average.
        means = self.sums / np.maximum(self.counts, 1)
        rows = [
            (task.name, split, skill, weight)
            for index, task in enumerate(tasks)
            for skill, weight in enumerate(means[index :: len(tasks)].mean(0))
        ]
        return pd.DataFrame(rows, columns=USAGE_COLUMNS)
