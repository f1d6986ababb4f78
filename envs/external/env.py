"""One external environment as the adapter's workers use it: seeded starts, actions in [-1, 1],
success, images.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from jaxtyping import Float32, UInt8

from envs.external.actions import action_size, translation
from envs.external.render import Renderer

SUCCESS_KEYS = ("success", "is_success")


class Outcome(NamedTuple):
    """What one control step led to."""

    reward: float
    terminated: bool
    truncated: bool
    success: bool


def success_in(info: Mapping[str, Any], reward: float) -> bool:
    """Success as most libraries report it: under one of `SUCCESS_KEYS`; False where there is none
    of them.
    """
    return any(bool(np.asarray(info[key]).any()) for key in SUCCESS_KEYS if key in info)


class ExternalEnv:
    """A Gymnasium environment with a painter."""

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        painter: Renderer,
        success: Callable[[Mapping[str, Any], float], bool] = success_in,
    ) -> None:
        """Take over `env`; `success` judges a step by its info and reward.

        Raises:
            ValueError: actions that cannot be made from numbers in [-1, 1].
        """
        self.env = env
        self.observation: Any = None
        self._painter, self._success = painter, success
        self._size, self._translate = action_size(env.action_space), translation(env.action_space)

    def begin(self, seed: int) -> None:
        """Start the episode of this seed.

        Libraries differ in which random numbers they start from, so that all of them are seeded:
        the environment's, its action space's, NumPy's and Python's.
        """
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  the generator that those libraries use
        self.env.action_space.seed(seed)
        self.observation, _ = self.env.reset(seed=seed)
        self._painter.begin()

    def act(self, action: Float32[np.ndarray, " action"]) -> Outcome:
        """One control step; numbers beyond what the environment takes (those of larger bodies) are
        left aside.
        """
        taken = self._translate(action[: self._size])
        self.observation, reward, terminated, truncated, info = self.env.step(taken)
        return Outcome(
            float(reward), bool(terminated), bool(truncated), self._success(info, float(reward))
        )

    def draw(self, out: UInt8[np.ndarray, "size size 3"]) -> None:
        """Draw the present state."""
        self._painter.draw(out)

    def close(self) -> None:
        """Give back what the environment holds."""
        self.env.close()
