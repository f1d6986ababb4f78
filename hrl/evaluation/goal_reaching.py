"""Measure whether a worker reaches goals, and how far a manager's goals are from observed states.

A hierarchy that does not learn either has goals that its worker does not reach, or goals that mean
nothing. Returns and losses do not distinguish the two.
"""

from __future__ import annotations

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hrl.agents.base import GoalReacher
from hrl.agents.goal_segments import max_cosine
from hrl.evaluation.probe_episodes import DiagnosticRollouts

GOAL_OFFSETS = (2, 4, 8, 16, 32, 64)
"""Agent steps from the start to the later state of the same episode that is the goal."""
OTHER_EPISODE = "other_episode"
"""Value of `goal_offset` where the goal is a state of another episode of the same task."""
STEPS = (0, 4, 8, 16, 32, 64)
"""Agent steps that the worker takes towards the goal."""
GOAL_REACHING_COLUMNS = [
    "goal_offset",
    "steps",
    "max_cosine",
    "distance",
    "other_goal_distance",
    "trajectories",
]
GOAL_DISTANCE_COLUMNS = ["points", "nearest_distance", "mean_distance", "count"]
_ROUNDING = 1e-3  # distance of equal states that were computed in another order, over their length
_START = 8  # agent step at which trajectories start: the model has observed the scene by then


@torch.inference_mode()
def goal_reaching(policy: GoalReacher, rollouts: DiagnosticRollouts) -> pd.DataFrame:
    """Let the worker act greedily, in imagination, from observed states towards observed states.

    Trajectories start at agent step 8, or at the first one in episodes too short for a later goal.

    Returns:
        A row for every pair of goal (GOAL_OFFSETS that episodes are long enough for, and
        OTHER_EPISODE where a task has several worlds) and STEPS. Goals at which the worlds already
        are, as where one-step episodes start alike, are left out. The columns are
        GOAL_REACHING_COLUMNS: the mean `max_cosine` to the goal (Director's reward, 1 at the goal);
        `distance`, the remaining distance to the goal as a share of that at the start; and
        `other_goal_distance`, the same share for a state of another world, which is not the goal.
        For a worker that reaches its goals `distance` falls towards 0 with the steps, and far below
        `other_goal_distance`.
    """
    start_step = _START if len(rollouts.states) > _START + GOAL_OFFSETS[0] else 0
    start = rollouts.states[start_step]["deter"]
    other = rollouts.states[-1]["deter"][rollouts.previous]
    goals = {
        offset: goal
        for offset, goal in _goals(rollouts, start_step).items()
        if _are_apart(start, goal) and _are_apart(start, other)
    }
    if not goals:
        return pd.DataFrame(columns=GOAL_REACHING_COLUMNS)
    trajectories = _trajectories(policy, rollouts, start_step, goals)
    rows = [
        (
            offset,
            steps,
            float(max_cosine(trajectory[row], goal).mean()),
            _remaining(trajectory, row, goal),
            _remaining(trajectory, row, other),
            len(goal),
        )
        for (offset, goal), trajectory in zip(goals.items(), trajectories, strict=True)
        for row, steps in enumerate(STEPS)
    ]
    return pd.DataFrame(rows, columns=GOAL_REACHING_COLUMNS)


@torch.inference_mode()
def goal_distance(policy: GoalReacher, rollouts: DiagnosticRollouts) -> pd.DataFrame:
    """Measure how far a manager's goals are from the nearest observed state.

    Returns:
        Two rows (none where there is only one world), with the columns GOAL_DISTANCE_COLUMNS: for
        the manager's `goals`, and for comparison for the `states` themselves, the mean distance to
        the nearest state of another world and to all of them. Goals that resemble no state have a
        `nearest_distance` well above that of states.
    """
    if len(rollouts.task) < 2:
        return pd.DataFrame(columns=GOAL_DISTANCE_COLUMNS)
    states = torch.stack([state["deter"] for state in rollouts.states])
    goals = torch.stack([policy.high_level_action(state) for state in rollouts.states])
    everywhere = torch.ones_like(rollouts.is_decision)
    rows = [
        ("goals", *_distances(goals, rollouts.is_decision, states)),
        ("states", *_distances(states, everywhere, states)),
    ]
    return pd.DataFrame(rows, columns=GOAL_DISTANCE_COLUMNS)


def goal_distance_table(table: pd.DataFrame) -> str:
    """Return the distances of `goal_distance` as text."""
    if table.empty:
        return "(none: a single world was played)"
    return str(table.round(2).to_string(index=False))


def goal_reaching_table(table: pd.DataFrame) -> str:
    """Return the remaining distance by goal offset and steps taken, as text."""
    if table.empty:
        return "(no goals: episodes are too short, or all their states alike)"
    pivot = table.pivot_table("distance", "goal_offset", "steps", sort=False)
    return str(pivot.round(2).to_string())


# Private functions.


def _goals(rollouts: DiagnosticRollouts, start_step: int) -> dict[str, Float[Tensor, "env deter"]]:
    """Return the goals by offset from the start."""
    states = rollouts.states[start_step:]
    goals = {
        str(offset): states[offset]["deter"] for offset in GOAL_OFFSETS if offset < len(states)
    }
    if rollouts.n_tasks < len(rollouts.task):
        # Worlds of the same task are `n_tasks` apart.
        goals[OTHER_EPISODE] = states[0]["deter"].roll(rollouts.n_tasks, 0)
    return goals


def _trajectories(
    policy: GoalReacher,
    rollouts: DiagnosticRollouts,
    start_step: int,
    goals: dict[str, Float[Tensor, "env deter"]],
) -> Float[Tensor, "goal steps env deter"]:
    """Return the worker's imagined states after each number of STEPS, for each goal."""
    start = {
        key: torch.cat([value] * len(goals)) for key, value in rollouts.states[start_step].items()
    }
    state = policy.with_high_level_action(start, torch.cat(list(goals.values())))
    task = torch.cat([rollouts.task] * len(goals))
    action_mask = torch.cat([rollouts.action_mask] * len(goals))
    reached = policy.reach(state, STEPS[1:], task, action_mask)
    states = torch.cat([start["deter"].unsqueeze(0), reached])
    return torch.stack(states.chunk(len(goals), 1))


def _are_apart(start: Float[Tensor, "env deter"], goal: Float[Tensor, "env deter"]) -> bool:
    """Return whether worlds start away from their goals, by more than rounding."""
    return bool((start - goal).norm(dim=-1).sum() > _ROUNDING * goal.norm(dim=-1).sum())


def _remaining(
    trajectory: Float[Tensor, "steps env deter"], row: int, goal: Float[Tensor, "env deter"]
) -> float:
    """Return the remaining distance to the goal as a share of that at the start."""
    remaining = (trajectory[row] - goal).norm(dim=-1).sum()
    initial = (trajectory[0] - goal).norm(dim=-1).sum()
    return float(remaining / initial)


def _distances(
    points: Float[Tensor, "time env deter"],
    chosen: Bool[Tensor, "time env"],
    states: Float[Tensor, "time env deter"],
) -> tuple[float, float, int]:
    """Return the mean distance to the nearest state of another world, to all, and the count."""
    nearest = []
    mean = []
    for world in range(states.shape[1]):
        own = points[:, world][chosen[:, world]]
        others = torch.cat([states[:, :world], states[:, world + 1 :]], 1).flatten(0, 1)
        distances = torch.cdist(own.float(), others.float())
        nearest.append(distances.amin(1))
        mean.append(distances.mean(1))
    return float(torch.cat(nearest).mean()), float(torch.cat(mean).mean()), int(chosen.sum())
