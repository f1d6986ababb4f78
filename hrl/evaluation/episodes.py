"""Evaluation of a policy on the splits of a suite: fixed episodes, greedy at every level, and the
shuffle tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int64
from torch import Tensor

from envs import PixelVectorEnv, Suite, Task, make_vec
from envs.external.family import ExternalFamily
from hrl.agents.base import GoalReacher, HierarchicalPolicy, Policy
from hrl.data.observation import Observation, PolicyState

INTERVENTIONS = ("none", "high_level_action_shuffle", "task_shuffle")
_IDENTITY, _OUTCOME = (
    ["method", "seed", "split", "task", "frames", "episode"],
    ["return", "success", "steps_to_success"],
)
SCORE_COLUMNS = [*_IDENTITY, *_OUTCOME, "length", "intervention"]
USAGE_COLUMNS = ["task", "split", "skill", "weight"]
EXTERNAL_WORLDS = 64  # of external suites, side by side


@dataclass(frozen=True)
class Protocol:
    """How episodes are played; equal for all methods.

    episodes: per task.  frame_stack, image_size: as in training.
    seed: of the episodes' starts. Where episode e of a task starts depends on this, the task's own
        `evaluation_seed` and e alone: not on the method, nor on which tasks, splits and how many
        episodes are played beside it.
    """

    episodes: int
    seed: int
    frame_stack: int
    image_size: int
    device: torch.device
    threads: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """scores: one row an episode, columns split to intervention of SCORE_COLUMNS but for frames.
    `steps_to_success`
    counts control steps until the first success, and is missing where there was none.

    usage: of a hierarchical policy, mean command per task, columns USAGE_COLUMNS; else empty.
    """

    scores: pd.DataFrame
    usage: pd.DataFrame


def evaluate(
    policy: Policy,
    suite: Suite,
    splits: Iterable[str],
    eval_config: Protocol,
    interventions: Iterable[str] = ("none",),
) -> Evaluation:
    """Plays every task of every split under every intervention that the policy allows.

    Interventions answer what a policy attends to. `task_shuffle` gives each environment the task
    vector of an environment with another task; `high_level_action_shuffle` gives it the manager's
    command of one. Returns that do not fall show a policy that ignores its task, or lower levels
    that ignore their commands. A split of one task is left alone, and so is a body's only task
    where bodies use different numbers of an action (see `previous_worlds`).

    Raises:
        ValueError: an unknown split or intervention.
    """
    scores, usage = [], []
    for split in splits:
        for intervention in interventions:
            _check(intervention)
            if not _applies(intervention, policy, suite, split):
                continue
            rows, high_level_action = _play(policy, suite, split, eval_config, intervention)
            scores.append(rows)
            if intervention == "none":
                usage.append(high_level_action)
    empty = pd.DataFrame(columns=USAGE_COLUMNS)
    return Evaluation(
        pd.concat(scores, ignore_index=True), pd.concat([empty, *usage], ignore_index=True)
    )


def metrics(evaluation: Evaluation) -> dict[str, float | int]:
    """`eval/<split>/return` and per task, with success, for the metrics log."""
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
    """Worlds that so many episodes of so many tasks are played in, the same number of them for
    every task.

    A world for each episode; of an external suite, whose worlds are large, at most
    `EXTERNAL_WORLDS` or one a task, and the others in further rounds. The number does not depend on
    the machine: shuffles are among worlds of one round.
    """
    if not isinstance(suite.family, ExternalFamily):
        return tasks * episodes
    rounds = math.ceil(episodes / max(1, EXTERNAL_WORLDS // tasks))
    return tasks * math.ceil(episodes / rounds)


def evaluation_env(
    suite: Suite, tasks: Sequence[Task], worlds: int, eval_config: Protocol
) -> PixelVectorEnv:
    """An environment whose worlds play the evaluation episodes of these tasks, each task in as many
    of them.
    """
    return make_vec(
        suite,
        worlds,
        tasks=tasks,
        seed=eval_config.seed,
        evaluation=True,
        frame_stack=eval_config.frame_stack,
        image_size=eval_config.image_size,
        threads=eval_config.threads,
    )


def previous_worlds(
    suite: Suite, tasks: Sequence[Task], worlds: int
) -> Int64[np.ndarray, " world"]:
    """The world before each one, of those whose bodies use as many numbers of an action.

    Worlds are dealt their tasks in turn, so it has another task, unless there is no other one of
    such bodies. The task of a larger or smaller body would also say which numbers of an action are
    padding, and a shuffle would no longer tell what a policy makes of its task.
    """
    actuators = suite.actuators()
    sizes = np.array([actuators[task] for task in tasks])[np.arange(worlds) % len(tasks)]
    previous = np.arange(worlds)
    for size in np.unique(sizes):
        alike = np.flatnonzero(sizes == size)
        previous[alike] = np.roll(alike, 1)
    return previous


# Private functions.


def _check(intervention: str) -> None:
    if intervention not in INTERVENTIONS:
        raise ValueError(
            f"intervention {intervention!r} is unknown; choose from {', '.join(INTERVENTIONS)}"
        )


def _applies(intervention: str, policy: Policy, suite: Suite, split: str) -> bool:
    """A shuffle needs another task to take from, and commands to shuffle."""
    tasks, hierarchical = suite.tasks(split), isinstance(policy, HierarchicalPolicy)
    others = (previous_worlds(suite, tasks, len(tasks)) != np.arange(len(tasks))).any()
    return intervention == "none" or bool(
        others and (hierarchical or intervention != "high_level_action_shuffle")
    )


@torch.inference_mode()
def _play(
    policy: Policy, suite: Suite, split: str, eval_config: Protocol, intervention: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    tasks = suite.tasks(split)
    env = evaluation_env(
        suite, tasks, worlds_at_once(suite, len(tasks), eval_config.episodes), eval_config
    )
    try:
        return _episodes(
            policy,
            env,
            previous_worlds(suite, tasks, env.num_envs),
            split,
            eval_config,
            intervention,
        )
    finally:
        env.close()


def _episodes(
    policy: Policy,
    env: PixelVectorEnv,
    previous: np.ndarray,
    split: str,
    eval_config: Protocol,
    intervention: str,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """An episode of every world, again and again until every task has had its number of them."""
    at_once, high_level_action = env.num_envs // len(env.tasks), HighLevelActionMeans(env.num_envs)
    shuffle = _Shuffle(intervention, torch.from_numpy(previous).to(eval_config.device))
    # A shuffle among the episodes of one task would shuffle nothing.
    played = (
        np.ones(env.num_envs, bool)
        if intervention == "none"
        else (previous - np.arange(env.num_envs)) % len(env.tasks) != 0
    )
    found: list[dict[str, object]] = []
    for number, first in enumerate(range(0, eval_config.episodes, at_once)):
        wanted = played & (first + np.arange(env.num_envs) // len(env.tasks) < eval_config.episodes)
        rows = _round(policy, env, number, wanted, high_level_action, eval_config.device, shuffle)
        for index, row in rows.items():
            task, episode = env.tasks[index % len(env.tasks)].name, first + index // len(env.tasks)
            found.append(
                {
                    "split": split,
                    "task": task,
                    "episode": episode,
                    **row,
                    "intervention": intervention,
                }
            )
    table = pd.DataFrame(found).astype({"steps_to_success": "Int64"})
    return table, high_level_action.table(env.tasks, split)


def _round(
    policy: Policy,
    env: PixelVectorEnv,
    number: int,
    wanted: np.ndarray,
    high_level_action: HighLevelActionMeans,
    device: torch.device,
    shuffle: _Shuffle,
) -> dict[int, dict[str, object]]:
    """The episode of this number of every world: what came of those that are wanted, by world."""
    observation = Observation.from_arrays(env.reset(options={"episode": number})[0], device)
    state = policy.initial_state(env.num_envs)
    running = wanted.copy()
    rows: dict[int, dict[str, object]] = {}
    while running.any():
        action, state = _act(policy, observation, state, shuffle)
        high_level_action.add(policy, state, running)
        arrays, _, _, _, infos = env.step(action.cpu().numpy())
        done = infos["_episode"] & running if "_episode" in infos else np.zeros_like(running)
        for index in np.flatnonzero(done).tolist():
            rows[index] = _outcome(index, infos["episode"])
        running &= ~done
        observation = Observation.from_arrays(arrays, device)
    return dict(sorted(rows.items()))


def _outcome(index: int, episode: dict[str, np.ndarray]) -> dict[str, object]:
    return {
        "return": float(episode["return"][index]),
        "success": int(episode["success"][index]),
        "steps_to_success": int(episode["steps_to_success"][index]) or pd.NA,
        "length": int(episode["length"][index]),
    }


class _Shuffle(NamedTuple):
    """What is taken from another world, and from which: [env] int64."""

    intervention: str
    previous: Tensor


def _act(
    policy: Policy, observation: Observation, state: PolicyState, shuffle: _Shuffle
) -> tuple[Tensor, PolicyState]:
    """Greedy actions."""
    if shuffle.intervention == "task_shuffle":
        return policy.act(
            Observation(observation.pixels, observation.task[shuffle.previous]), state, None
        )
    if shuffle.intervention == "high_level_action_shuffle" and isinstance(
        policy, HierarchicalPolicy
    ):
        is_decision_step = policy.is_decision_step(state)
        state = policy.decide(observation, state, None)
        high_level_action = policy.high_level_action(state)
        swapped = torch.where(
            is_decision_step.reshape(-1, 1), high_level_action[shuffle.previous], high_level_action
        )
        return policy.act_low_level(
            observation, policy.with_high_level_action(state, swapped), None
        )
    return policy.act(observation, state, None)


class HighLevelActionMeans:
    """Means over time of the commands in force, per environment, where they are weights of skills
    and not goals.
    """

    def __init__(self, num_envs: int) -> None:
        self.sums: np.ndarray | None = None
        self.counts = np.zeros((num_envs, 1))

    def add(self, policy: Policy, state: PolicyState, running: np.ndarray) -> None:
        """One step of the environments whose episode is still running."""
        if isinstance(policy, HierarchicalPolicy) and not isinstance(policy, GoalReacher):
            high_level_action = (
                policy.high_level_action(state).double().cpu().numpy() * running[:, None]
            )
            self.sums = high_level_action if self.sums is None else self.sums + high_level_action
            self.counts += running[:, None]

    def table(self, tasks: tuple[Task, ...], split: str) -> pd.DataFrame:
        """Mean command of each task, one row a task and skill."""
        if self.sums is None:
            return pd.DataFrame(columns=USAGE_COLUMNS)
        means = self.sums / self.counts
        rows = [
            (task.name, split, skill, weight)
            for index, task in enumerate(tasks)
            for skill, weight in enumerate(means[index :: len(tasks)].mean(0))
        ]
        return pd.DataFrame(rows, columns=USAGE_COLUMNS)
