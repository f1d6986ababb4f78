"""Cut one imagined trajectory into a worker's segments and a manager's decisions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hrl.agents.actor_critic import Trajectory
from hrl.world_model.rssm import RSSMState


class ImaginedTrajectory(NamedTuple):
    """Hold an imagined trajectory of both levels: states 0 to T, k steps to a decision.

    Attributes:
        states: states 0 to T.
        actions: the worker's actions 0 to T - 1.
        codes: of every decision, and where goals are aligned as published, of the one that would
            follow the last step.
        goals: the decoded codes.
        rewards: the task's rewards, predicted on arriving at states 1 to T.
        continues: probability that the episode continues at states 0 to T.
        task: task vectors.
        action_mask: False for numbers of an action that are padding.
    """

    states: RSSMState
    actions: Float[Tensor, "time batch action"]
    codes: Float[Tensor, "decisions batch group class"]
    goals: Float[Tensor, "decisions batch deter"]
    rewards: Float[Tensor, "time batch"]
    continues: Float[Tensor, "states batch"]
    task: Float[Tensor, "1 batch task"]
    action_mask: Bool[Tensor, "1 batch action"]


def max_cosine(
    deter: Float[Tensor, "*batch deter"], goal: Float[Tensor, "*batch deter"]
) -> Float[Tensor, "*batch"]:
    """Return how close a state is to a goal: the worker's reward (Director, equation 6).

    It is the product of goal and state over the square of the longer one's norm, that is, the
    cosine times the ratio of the shorter to the longer norm: in [-1, 1], and 1 only at the goal.
    Gradient reaches the state, through its direction and, where it is the longer one, its norm.
    """
    deter = deter.float()
    goal = goal.detach().float()
    longer: Tensor = torch.maximum(deter.square().sum(-1), goal.square().sum(-1)).clamp(min=1e-24)
    return (deter * goal).sum(-1) / longer


def segments(
    values: Float[Tensor, "states batch *rest"], skill_duration: int
) -> Float[Tensor, "segment_states rows *rest"]:
    """Return states 0 to T as segments of `skill_duration` steps side by side.

    The last state of a segment is the first state of the next one.
    """
    starts = range(0, len(values) - 1, skill_duration)
    return torch.cat([values[start : start + skill_duration + 1] for start in starts], 1)


def steps_of_segments(
    values: Float[Tensor, "time batch *rest"], skill_duration: int
) -> Float[Tensor, "duration rows *rest"]:
    """Return steps 1 to T (or actions 0 to T - 1) as segments side by side."""
    return torch.cat(list(values.split(skill_duration)), 1)


def steps_of_decisions(
    values: Float[Tensor, "time batch"], skill_duration: int
) -> Float[Tensor, "decision duration batch"]:
    """Return steps 1 to T by the decision that they belong to."""
    return values.reshape(-1, skill_duration, *values.shape[1:])


def side_by_side(first: Trajectory, second: Trajectory) -> Trajectory:
    """Return the rows of two trajectories of as many decisions, the first one's before.

    Both have an action mask, the same reward types and the same discount.
    """
    pairs = zip(first[:3], second[:3], strict=True)
    inputs, task, actions = (torch.cat(pair, 1) for pair in pairs)
    rewards = {
        name: torch.cat([values, second.rewards[name]], 1) for name, values in first.rewards.items()
    }
    continues = torch.cat([first.continues, second.continues], 1)
    assert first.action_mask is not None
    assert second.action_mask is not None
    action_mask = torch.cat([first.action_mask, second.action_mask], 1)
    return Trajectory(inputs, task, actions, rewards, continues, first.discount, action_mask)


@torch.no_grad()
def goal_metrics(
    deter: Float[Tensor, "segment_states rows deter"],
    goal: Float[Tensor, "segment_states rows deter"],
) -> dict[str, Tensor]:
    """Return metrics that say whether goals are far, and whether they are reached.

    They are max_cosine at a segment's start and end, the distance to the goal, its ratio to the
    distance that a segment moves, and the share of it that is left at the segment's end.
    """
    close = max_cosine(deter, goal)
    moved = (deter[-1] - deter[0]).norm(dim=-1).mean()
    distance = (goal[0] - deter[0]).norm(dim=-1).mean()
    left = (goal[-1] - deter[-1]).norm(dim=-1).mean()
    return {
        "max_cosine_first": close[0].mean(),
        "max_cosine_last": close[-1].mean(),
        "distance": distance,
        "distance_over_displacement": distance / moved.clamp(min=1e-8),
        "distance_left": left / distance.clamp(min=1e-8),
    }
