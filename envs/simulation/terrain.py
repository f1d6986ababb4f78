"""Ground that differs from world to world: the meshes that the ray tracer draws in place of a
model's height field.
"""

import mujoco
import numpy as np
import warp
from jaxtyping import Float32, Int32

from envs.simulation.physics import Scene


def has_terrain(scene: Scene) -> bool:
    """Whether the scene's one height field may differ from world to world."""
    return scene.remodel is not None and bool(scene.model.nhfield)


class Terrain:
    """One world's height field as a mesh: two triangles for each of its cells.

    Args:
        model: with one height field.

    Attributes:
        id: by which the ray tracer knows it.
        model: whose heights it has.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self.model, self._points = model, _points(model)
        points = warp.array(self._points, dtype=warp.vec3)
        self._mesh = warp.Mesh(points=points, indices=warp.array(_triangles(model), dtype=int))
        self.id = int(self._mesh.id)

    def mold(self, model: mujoco.MjModel) -> None:
        """Take the heights of another model of the same scene."""
        self.model, self._points[:, 2] = model, _heights(model)
        self._mesh.points.assign(self._points)
        self._mesh.refit()


def _points(model: mujoco.MjModel) -> Float32[np.ndarray, "point 3"]:
    """Corners of the cells in the frame of the height field, metres: row by row, south to north."""
    rows, columns = int(model.hfield_nrow[0]), int(model.hfield_ncol[0])
    east, north = model.hfield_size[0, :2]
    grid = np.meshgrid(np.linspace(-east, east, columns), np.linspace(-north, north, rows))
    return np.stack([grid[0].ravel(), grid[1].ravel(), _heights(model)], -1).astype(np.float32)


def _heights(model: mujoco.MjModel) -> Float32[np.ndarray, " point"]:
    heights = model.hfield_data[: int(model.hfield_nrow[0] * model.hfield_ncol[0])]
    return np.asarray(model.hfield_size[0, 2] * heights, np.float32)


def _triangles(model: mujoco.MjModel) -> Int32[np.ndarray, " corner"]:
    """Numbers of their corners, one after the other, anticlockwise as seen from above."""
    rows, columns = int(model.hfield_nrow[0]), int(model.hfield_ncol[0])
    first = np.arange(rows * columns).reshape(rows, columns)[:-1, :-1].reshape(-1)
    east, north, both = first + 1, first + columns, first + columns + 1
    return np.stack([first, east, both, first, both, north], -1).reshape(-1).astype(np.int32)
