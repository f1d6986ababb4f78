"""Bring actions that a policy has drawn into [-1, 1]."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def bounded(action: Float[Tensor, "*batch action"]) -> Float[Tensor, "*batch action"]:
    """Return actions scaled down to a magnitude of at most 1, each number on its own.

    A policy's draws may exceed it.
    """
    return action / action.detach().abs().clamp(min=1)


def bounded_choice(action: Float[Tensor, "*batch action"]) -> Float[Tensor, "*batch action"]:
    """Return actions scaled down to a magnitude of at most 1, all numbers by the same factor.

    The order of the numbers, of which the largest chooses a discrete action, stays the same.
    """
    return action / action.detach().abs().amax(-1, keepdim=True).clamp(min=1)
