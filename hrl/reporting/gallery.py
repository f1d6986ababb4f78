"""Record a moving picture of several suites' robots side by side, under random actions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from envs import Suite, make_vec

SUITES = (
    "walker_speed",
    "cheetah_speed",
    "quadruped_speed",
    "jaco",
    "ant_maze",
    "maze_many_point",
)
COLUMNS = 3
SIZE = 160  # pixels of a robot's image
FRAMES = 40
MILLISECONDS = 80  # that a frame is shown
HELD_STEPS = 6  # agent steps of an action: long enough that it moves the body
_GAP = 4  # pixels
_SMALLEST = 8  # pixels of the images that agents would see, which nobody looks at here
_WEBP: dict[str, Any] = {"quality": 55, "method": 6}


def record_gallery(suites: Sequence[Suite], path: Path, frames: int = FRAMES) -> None:
    """Write an animated WebP of the first training task of each suite.

    Actions are drawn at random, and each is held for some agent steps.
    """
    films = [_film(suite, frames) for suite in suites]
    pictures = [Image.fromarray(_tile([film[time] for film in films])) for time in range(frames)]
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = pictures
    first.save(path, save_all=True, append_images=others, duration=MILLISECONDS, loop=0, **_WEBP)


def _film(suite: Suite, frames: int) -> UInt8[np.ndarray, "frame size size 3"]:
    env = make_vec(suite, 1, [suite.tasks("train")[0]], evaluation=True, image_size=_SMALLEST)
    rng = np.random.default_rng(0)
    shape = (1, suite.action_size)
    action = np.zeros(shape, np.float32)
    shown = np.zeros((frames, SIZE, SIZE, 3), np.uint8)
    env.reset()
    for time in range(frames):
        if time % HELD_STEPS == 0:
            action = rng.uniform(-1, 1, shape).astype(np.float32)
        env.step(action)
        shown[time] = env.render_frames(0, SIZE)
    env.close()
    return shown


def _tile(
    images: Sequence[UInt8[np.ndarray, "size size 3"]],
) -> UInt8[np.ndarray, "height width 3"]:
    """Return images in rows of `COLUMNS`, with white gaps."""
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    step = SIZE + _GAP
    tiled = np.full((rows * step - _GAP, columns * step - _GAP, 3), 255, np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        tiled[row * step : row * step + SIZE, column * step : column * step + SIZE] = image
    return tiled
