"""Make the meshes that are drawn in place of height fields that differ between worlds."""

import mujoco
import numpy as np
import warp
from jaxtyping import Float32, Int32

from envs.simulation.physics import Scene


def has_terrain(scene: Scene) -> bool:
    """Return whether the scene has a height field that may differ between worlds."""
    return scene.remodel is not None and bool(scene.model.nhfield)


class Terrain:
    """Hold one world's height field as a mesh with two triangles per cell.

    Args:
        model: a model with one height field.

    Attributes:
        id: the ray tracer's name of the mesh.
        model: the model that the heights are of.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self.model = model
        self._points = _points(model)
        points = warp.array(self._points, dtype=warp.vec3)
        self._mesh = warp.Mesh(points=points, indices=warp.array(_triangles(model), dtype=int))
        self.id = int(self._mesh.id)

    def update(self, model: mujoco.MjModel) -> None:
        """Take the heights of another model of the same scene."""
        self.model = model
        self._points[:, 2] = _heights(model)
        self._mesh.points.assign(self._points)
        self._mesh.refit()


def _points(model: mujoco.MjModel) -> Float32[np.ndarray, "point 3"]:
    """Return the cells' corners in the height field's frame, metres, row by row from the south."""
    rows = int(model.hfield_nrow[0])
    columns = int(model.hfield_ncol[0])
    east, north = model.hfield_size[0, :2]
    grid = np.meshgrid(np.linspace(-east, east, columns), np.linspace(-north, north, rows))
    return np.stack([grid[0].ravel(), grid[1].ravel(), _heights(model)], -1).astype(np.float32)


def _heights(model: mujoco.MjModel) -> Float32[np.ndarray, " point"]:
    heights = model.hfield_data[: int(model.hfield_nrow[0] * model.hfield_ncol[0])]
    return np.asarray(model.hfield_size[0, 2] * heights, np.float32)


def _triangles(model: mujoco.MjModel) -> Int32[np.ndarray, " corner"]:
    """Return the indices of the triangles' corners, anticlockwise as seen from above."""
    rows = int(model.hfield_nrow[0])
    columns = int(model.hfield_ncol[0])
    first = np.arange(rows * columns).reshape(rows, columns)[:-1, :-1].reshape(-1)
    east = first + 1
    north = first + columns
    north_east = north + 1
    return (
        np.stack([first, east, north_east, first, north_east, north], -1)
        .reshape(-1)
        .astype(np.int32)
    )
