"""Wrap one external environment for a worker: seeded starts, actions, success and images."""

import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces.utils import flatten
from jaxtyping import Float32, Float64, UInt8

from envs.external.actions import action_size, translation
from envs.external.render import ExternalRenderer

SUCCESS_KEYS = ("success", "is_success")


class Outcome(NamedTuple):
    """Store the outcome of one control step."""

    reward: float
    terminated: bool
    truncated: bool
    success: bool


def success_in(info: Mapping[str, Any], reward: float) -> bool:
    """Return success as most libraries report it: under one of `SUCCESS_KEYS`, else False.

    NaN, by which some say that it is unknown, is no success.
    """
    return any(_is_reported(info[key]) for key in SUCCESS_KEYS if key in info)


class ExternalEnv:
    """Join a Gymnasium environment with its renderer.

    Args:
        env: the environment, which this object takes over.
        renderer: draws its present state.
        success: judges a step by its info and reward.

    Attributes:
        env: as given.
        observation: what the environment itself last observed.

    Raises:
        ValueError: actions that cannot be made from numbers in [-1, 1].
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        renderer: ExternalRenderer,
        success: Callable[[Mapping[str, Any], float], bool] = success_in,
    ) -> None:
        self.env = env
        self.observation: Any = None
        self._renderer = renderer
        self._success = success
        self._action_size = action_size(env.action_space)
        self._translate = translation(env.action_space)

    def begin(self, seed: int) -> None:
        """Start the episode of this seed.

        Libraries differ in which random numbers they start from, so that all of them are seeded:
        the environment's, its action space's, NumPy's and Python's.
        """
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  the generator that those libraries use
        self.env.action_space.seed(seed)
        self.observation, _ = self.env.reset(seed=seed)
        self._renderer.begin()

    def act(self, action: Float32[np.ndarray, " action"]) -> Outcome:
        """Take one control step.

        Args:
            action: numbers in [-1, 1]; those beyond what the environment takes, which are there for
                larger bodies, are ignored.
        """
        translated = self._translate(action[: self._action_size])
        self.observation, reward, terminated, truncated, info = self.env.step(translated)
        success = self._success(info, float(reward))
        return Outcome(float(reward), bool(terminated), bool(truncated), success)

    def state(self) -> Float64[np.ndarray, " state"]:
        """Return what the environment itself last observed, flattened as Gymnasium does it."""
        space = self.env.observation_space
        return np.asarray(flatten(space, self.observation), np.float64)

    def draw(self, out: UInt8[np.ndarray, "size size 3"]) -> None:
        """Draw the present state into `out`."""
        self._renderer.draw(out)

    def close(self) -> None:
        """Release the environment's resources."""
        self.env.close()


def _is_reported(success: Any) -> bool:
    values = np.asarray(success)
    return bool((values.astype(bool) & (values == values)).any())
