"""Train on a Gymnasium environment of your own, from what it draws or from what it observes.

    export PYTHONPATH=examples
    pixel-hrl train agent=ppo suite=gym/own_environment:Docking-v0 folder=runs/docking
    pixel-hrl evaluate runs/docking --import=own_environment
    pixel-hrl train agent=ppo suite=gym/own_environment:Docking-v0 observation=state

Any environment works that is registered with Gymnasium and whose `render` returns an RGB array, as
agents see what `render` returns. The part before the colon is the module that registers it, which
must be importable: it is on the PYTHONPATH or installed.
"""

from typing import Any, ClassVar

import gymnasium
import numpy as np

IMAGE_SIZE = 64
THRUST = 0.02
FRICTION = 0.9
DOCKED = 0.1


class Docking(gymnasium.Env[np.ndarray, np.ndarray]):
    """Steer a boat by its thrust to a dock that lies elsewhere in every episode.

    The reward of a step is 1 at the dock and falls linearly with the distance to it.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (6,), np.float64)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Place boat and dock; draw both from `self.np_random`, which the seed decides."""
        super().reset(seed=seed)
        self.boat = self.np_random.uniform(-1, 1, 2)
        self.dock = self.np_random.uniform(-1, 1, 2)
        self.velocity = np.zeros(2)
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advance by one step; Gymnasium itself truncates after `max_episode_steps`."""
        self.velocity = FRICTION * self.velocity + THRUST * action
        self.boat = np.clip(self.boat + self.velocity, -1, 1)
        distance = float(np.linalg.norm(self.boat - self.dock))
        reward = max(0.0, 1 - distance)
        # The entry `success` of the info becomes the success rate in scores and reports.
        return self._observe(), reward, False, False, {"success": distance < DOCKED}

    def render(self) -> np.ndarray:
        """Return the image that agents see; any size will do, as it is resized."""
        image = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), (30, 60, 90), np.uint8)
        _draw_square(image, self.dock, 5, (230, 80, 60))
        _draw_square(image, self.boat, 3, (250, 230, 120))
        return image

    def _observe(self) -> np.ndarray:
        return np.concatenate([self.boat, self.velocity, self.dock])


def _draw_square(
    image: np.ndarray, place: np.ndarray, radius: int, colour: tuple[int, int, int]
) -> None:
    column, row = ((place * [1, -1] + 1) / 2 * (IMAGE_SIZE - 1)).round().astype(int)
    rows = slice(max(row - radius, 0), row + radius + 1)
    columns = slice(max(column - radius, 0), column + radius + 1)
    image[rows, columns] = colour


# The episode's length in steps, and the return that counts as a score of 1.
gymnasium.register(
    "Docking-v0", f"{__name__}:Docking", max_episode_steps=100, reward_threshold=100.0
)
