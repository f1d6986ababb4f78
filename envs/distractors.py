"""What crosses a picture and has nothing to do with the task: coloured discs on paths of their own.

They are drawn over the picture and are no geoms of the scene: cameras that follow a body would leave geoms behind,
those of a body's own eyes would carry them along, and every scene would have to find a place for them. So they look the
same in all scenes, cost next to nothing, and hide what is behind them.
"""

import numpy as np
from jaxtyping import Float, Int, UInt8

# Of a disc, in heights of the picture.
RADIUS = 1 / 12
_REACH = 0.5 - RADIUS
# None of the colours that goals, targets and the point mass have.
_COLOURS = np.array(
    [
        (70, 110, 240),
        (200, 80, 220),
        (60, 210, 220),
        (240, 240, 240),
        (150, 150, 160),
        (110, 60, 170),
        (30, 60, 120),
        (240, 140, 190),
    ],
    np.uint8,
)
MOST = len(_COLOURS)
# Cycles a second, across and upwards, and where in a cycle time begins: multiples of the golden and of the plastic
# ratio, so that no two discs keep together and no path comes round to itself within an episode.
_TURNS = np.arange(1, MOST + 1)[:, None] * np.array([0.6180339887, 0.7548776662]) % 1
_CYCLES, _FIRST = 0.1 + 0.15 * _TURNS, _TURNS[::-1]


def centres(seconds: Float[np.ndarray, " world"]) -> Float[np.ndarray, "world disc 2"]:
    """Where discs are at a time: from the left and from the top, in heights of the picture."""
    phase = seconds[:, None, None] * _CYCLES + _FIRST
    return np.asarray(0.5 + _REACH * np.sin(2 * np.pi * phase))


def draw_distractors(
    pictures: UInt8[np.ndarray, "world height width 3"],
    counts: Int[np.ndarray, " world"],
    seconds: Float[np.ndarray, " world"],
) -> None:
    """Draws the first `counts` discs over square pictures, in place, which may be a strided view.

    Args:
        seconds: all that their places depend on.
    """
    size = pictures.shape[1]
    middles = (np.arange(size) + 0.5) / size
    for disc in range(int(counts.max(initial=0))):
        worlds = np.flatnonzero(counts > disc)
        across, down = centres(seconds[worlds])[:, disc].T
        squares = (middles - across[:, None])[:, None, :] ** 2 + (middles - down[:, None])[:, :, None] ** 2
        covered = squares < RADIUS**2
        pictures[worlds] = np.where(covered[..., None], _COLOURS[disc], pictures[worlds])
