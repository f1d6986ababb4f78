"""Ground that differs from world to world: the meshes that the ray tracer draws in place of a model's height field."""

import mujoco
import numpy as np
import warp
from jaxtyping import Float32, Int32

from envs.physics import Scene


def has_terrain(scene: Scene) -> bool:
    """Whether the scene's one height field may differ from world to world."""
    return scene.remodel is not None and bool(scene.model.nhfield)


class Terrain:
    """One world's height field as a mesh: two triangles for each of its cells.

    Attributes:
        id: by which the ray tracer knows it.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        """Args: model: with one height field, whose present heights it takes."""
        points = warp.array(_points(model), dtype=warp.vec3)
        self._mesh = warp.Mesh(points=points, indices=warp.array(_triangles(model), dtype=int))
        self.id = int(self._mesh.id)

    def mold(self, model: mujoco.MjModel) -> None:
        """Take the heights of another model of the same scene."""
        self._mesh.points.assign(_points(model))
        self._mesh.refit()


def _points(model: mujoco.MjModel) -> Float32[np.ndarray, "point 3"]:
    """Corners of the cells in the frame of the height field, metres: row by row, south to north."""
    rows, columns = int(model.hfield_nrow[0]), int(model.hfield_ncol[0])
    east, north, up, _ = model.hfield_size[0]
    heights = up * model.hfield_data[: rows * columns].reshape(rows, columns)
    grid = np.meshgrid(np.linspace(-east, east, columns), np.linspace(-north, north, rows))
    return np.stack([*grid, heights], -1).reshape(-1, 3).astype(np.float32)


def _triangles(model: mujoco.MjModel) -> Int32[np.ndarray, " corner"]:
    """Numbers of their corners, one after the other, anticlockwise as seen from above."""
    rows, columns = int(model.hfield_nrow[0]), int(model.hfield_ncol[0])
    first = np.arange(rows * columns).reshape(rows, columns)[:-1, :-1].reshape(-1)
    east, north, both = first + 1, first + columns, first + columns + 1
    return np.stack([first, east, both, first, both, north], -1).reshape(-1).astype(np.int32)
