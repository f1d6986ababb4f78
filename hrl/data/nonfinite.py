"""Find numbers that are not finite, and keep what they were computed from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from torch import Tensor

from hrl.data.observation import Observation, PolicyState

Fed = Mapping[str, Tensor | np.ndarray]
"""Tensors and arrays by name, from which a quantity was computed."""


class NonFiniteQuantity(FloatingPointError):  # noqa: N818  a quantity is what it names
    """Report a quantity that is NaN or infinite.

    Attributes:
        batch: what it was computed from.
        metrics: numbers that were computed with it.
        counters: numbers that say where it was, such as updates before it.
    """

    def __init__(
        self,
        message: str,
        batch: Fed | None = None,
        metrics: Mapping[str, float | int] | None = None,
        counters: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(message)
        self.batch = dict(batch or {})
        self.metrics = dict(metrics or {})
        self.counters = dict(counters or {})


def check_rows(quantities: Mapping[str, np.ndarray], fed: Fed) -> None:
    """Check that quantities [env, ...] are finite.

    Args:
        quantities: arrays by name.
        fed: what they were computed from, for the error.

    Raises:
        NonFiniteQuantity: names the environments where one of them is not.
    """
    for name, values in quantities.items():
        bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))
        if len(bad):
            message = f"{name} of environments {bad.tolist()} is not finite"
            raise NonFiniteQuantity(message, {**fed, **quantities})


def observed_numbers(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return those parts of an observation that may not be finite, by what messages call them."""
    state = {"state": arrays["state"]} if "state" in arrays else {}
    return {"task vector": arrays["task"], **state}


def step_finite(
    env: gym.vector.VectorEnv, observation: Observation, state: PolicyState, action: Tensor
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    """Step a vector environment and return what it returns, all of it finite.

    Args:
        env: the environment.
        observation: what the policy saw, for the error.
        state: the policy's state before it acted, for the error.
        action: what it did.

    Raises:
        NonFiniteQuantity: an action, a reward, a task vector or a state is not finite, or the
            simulation failed. It holds all arguments and the rewards.
    """
    before = {f"policy_state.{key}": value for key, value in state.items()}
    fed: Fed = {**observation.parts(), **before, "action": action}
    sent = action.cpu().numpy()
    check_rows({"action": sent}, fed)
    try:
        arrays, reward, terminated, truncated, infos = env.step(sent)
    except FloatingPointError as error:
        raise NonFiniteQuantity(str(error), fed) from error
    check_rows({"reward": reward, **observed_numbers(arrays)}, fed)
    return arrays, reward, terminated, truncated, infos
