"""Cut one imagined trajectory into a worker's segments and a manager's decisions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


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
