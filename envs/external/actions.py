"""Translate actions in [-1, 1] to what a Gymnasium environment takes."""

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Float32

Translation = Callable[[Float32[np.ndarray, " action"]], Any]


def action_size(space: spaces.Space[Any]) -> int:
    """Return how many numbers in [-1, 1] an action of this space is made from.

    Raises:
        ValueError: a space that `translation` does not know.
    """
    return _size_and_translation(space)[0]


def translation(space: spaces.Space[Any]) -> Translation:
    """Return the function from `action_size` numbers in [-1, 1] to an action of `space`.

    A bounded box is scaled to its bounds, and numbers beyond [-1, 1] are clipped. Of a discrete
    space the action with the largest number is taken, also where several are beyond 1; of equal
    numbers the first counts.

    Raises:
        ValueError: any other space.
    """
    return _size_and_translation(space)[1]


def _size_and_translation(space: spaces.Space[Any]) -> tuple[int, Translation]:
    if isinstance(space, spaces.Box):
        return _box(space)
    if isinstance(space, spaces.Discrete):
        first = int(space.start)
        return int(space.n), lambda numbers: first + int(np.argmax(numbers))
    raise ValueError(f"actions must be a bounded Box or Discrete, got {space}")


def chooses(space: spaces.Space[Any]) -> bool:
    """Return whether an action of this space is the choice of the largest of its numbers."""
    return isinstance(space, spaces.Discrete)


def _box(space: spaces.Box) -> tuple[int, Translation]:
    low = space.low.astype(np.float64)
    high = space.high.astype(np.float64)
    dtype = space.dtype
    if not (np.isfinite(low).all() and np.isfinite(high).all()) or dtype is None:
        raise ValueError(f"actions must have bounds to be scaled to, got {space}")
    if not np.issubdtype(dtype, np.floating):
        raise ValueError(f"actions in a Box must be floating-point numbers, got {space}")
    # Halved before they are added: the sum and the width of very wide boxes are infinite.
    centre = low / 2 + high / 2
    half = high / 2 - low / 2

    def scale(numbers: Float32[np.ndarray, " action"]) -> np.ndarray:
        scaled = centre + half * np.clip(numbers, -1, 1).reshape(low.shape)
        inside: np.ndarray = np.clip(scaled, low, high)  # rounding may have led out of it
        return inside.astype(dtype)

    return low.size, scale
