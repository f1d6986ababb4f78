"""Whether a worker reaches goals, near and far, and whether a manager's goals are states that there
are, in numbers.

A hierarchy that does not learn has one of two ills: goals that the worker does not reach, or goals
that mean nothing. Returns and losses do not tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from hrl.agents.base import GoalReacher
from hrl.agents.goal_segments import max_cosine
from hrl.evaluation.probe_episodes import DiagnosticRollouts

APART = (2, 4, 8, 16, 32, 64)
"""Agent steps of exploration from a start to the state of the same episode that is its goal."""
STEPS = (0, 4, 8, 16, 32, 64)
"""Agent steps of the worker towards it."""
ELSEWHERE = (
    "elsewhere"  # in place of steps apart: the goal is a state of another episode of the same task
)
REACH_COLUMNS = ["apart", "steps", "max_cosine", "distance", "swapped", "ways"]
GOAL_COLUMNS = ["of", "nearest", "typical", "count"]
_BEGIN = 8  # agent step of the episode at which ways begin: the model has seen what there is


@torch.inference_mode()
def reach(policy: GoalReacher, seen: DiagnosticRollouts) -> pd.DataFrame:
    """Sends the worker, in imagination and greedily, from states that were seen to others that were
    seen.

    Returns:
        A row for every pair of APART (or ELSEWHERE) and STEPS that episodes are long enough for,
        columns
        REACH_COLUMNS: the mean max_cosine to the goal (Director's reward, 1 at the goal), the
            distance that is left as a
        share of that at the start, and the same share to a state of another world, which was not
        told (`swapped`). A worker that reaches its goals has `distance` fall towards 0 with steps,
        and far below `swapped`.
    """
    if len(seen.states) <= _BEGIN:
        return pd.DataFrame(columns=REACH_COLUMNS)
    now = seen.states[_BEGIN]
    told = {
        str(count): seen.states[_BEGIN + count]["deter"]
        for count in APART
        if _BEGIN + count < len(seen.states)
    }
    if seen.tasks < len(seen.task):  # worlds of one task are so many apart
        told[ELSEWHERE] = now["deter"].roll(seen.tasks, 0)
    if not told:
        return pd.DataFrame(columns=REACH_COLUMNS)
    start = {key: torch.cat([value] * len(told)) for key, value in now.items()}
    state = policy.with_high_level_action(start, torch.cat(list(told.values())))
    reached = policy.reach(state, STEPS[1:], torch.cat([seen.task] * len(told)))
    ways = torch.cat([start["deter"].unsqueeze(0), reached]).unflatten(1, (len(told), -1))
    other = seen.states[-1]["deter"][seen.previous]
    return pd.DataFrame(
        [
            (
                apart,
                steps,
                float(max_cosine(way[row], goal).mean()),
                *_left(way, row, goal, other),
                len(goal),
            )
            for (apart, goal), way in zip(told.items(), ways.unbind(1), strict=True)
            for row, steps in enumerate(STEPS)
        ],
        columns=REACH_COLUMNS,
    )


@torch.inference_mode()
def goals(policy: GoalReacher, seen: DiagnosticRollouts) -> pd.DataFrame:
    """How far a manager's goals are from the nearest state that was seen.

    Returns:
        Two rows (none where there is one world alone), columns GOAL_COLUMNS: of the goals that were
        set, and for comparison of the states themselves, the mean distance to the nearest state of
        another world, and to any of them. Goals that nothing looks like have `nearest` well above
        that of states.
    """
    if len(seen.task) < 2:
        return pd.DataFrame(columns=GOAL_COLUMNS)
    states = torch.stack([state["deter"] for state in seen.states])
    high_level_action = torch.stack([policy.high_level_action(state) for state in seen.states])
    rows = []
    for name, points, chosen in (
        ("manager's goals", high_level_action, seen.is_decision),
        ("states", states, torch.ones_like(seen.is_decision)),
    ):
        nearest, typical = [], []
        for world in range(states.shape[1]):
            own = points[:, world][chosen[:, world]]
            others = torch.cat([states[:, :world], states[:, world + 1 :]], 1).flatten(0, 1)
            distances = torch.cdist(own.float(), others.float())
            nearest.append(distances.amin(1))
            typical.append(distances.mean(1))
        rows.append(
            (
                name,
                float(torch.cat(nearest).mean()),
                float(torch.cat(typical).mean()),
                int(chosen.sum()),
            )
        )
    return pd.DataFrame(rows, columns=GOAL_COLUMNS)


def reach_table(ways: pd.DataFrame) -> str:
    """The distance that is left by steps apart and steps gone, as text."""
    return str(ways.pivot_table("distance", "apart", "steps", sort=False).round(2).to_string())


def _left(
    way: Float[Tensor, "time env deter"], row: int, *goals: Float[Tensor, "env deter"]
) -> Iterator[float]:
    """The distance that is left to each of the goals, as a share of that at the start."""
    for goal in goals:
        left, first = ((way[time] - goal).norm(dim=-1).sum() for time in (row, 0))
        yield float(left / first.clamp(min=1e-8))
