"""Locate a task relative to the training tasks: by its parameter, by distance from their hull."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import ConvexHull

from hrl.reporting.statistics import Array
from hrl.reporting.suite_record import SuiteRecord, TaskRecord

Place = tuple[str, str]  # (split, task name)


@dataclass(frozen=True)
class ParameterSpace:
    """Hold the tasks of one family that differ from a training task in the suite's parameter alone.

    values: (split, task) -> float64 [dimension], dimension 1 or 2.
    train: float64 [training task, dimension].
    """

    family: str
    parameter: str
    values: Mapping[Place, Array]
    train: Array

    @property
    def dimension(self) -> int:
        """Return 1 for a scalar parameter such as a speed, 2 for a position in the plane."""
        return int(self.train.shape[1])


def parameter_spaces(suite: SuiteRecord) -> list[ParameterSpace]:
    """Return one space per family whose parameter is a number or a pair of numbers."""
    families = dict.fromkeys(task.family for task in suite.splits["train"])
    spaces = (_space(suite, family) for family in families)
    return [space for space in spaces if space is not None]


def left_out(suite: SuiteRecord, spaces: list[ParameterSpace]) -> list[str]:
    """Return the names of tasks that no space holds.

    They change something besides the parameter, or their parameter is not numeric.
    """
    held = {place for space in spaces for place in space.values}
    return [
        task.name
        for split, tasks in suite.splits.items()
        for task in tasks
        if (split, task.name) not in held
    ]


def hull_vertices(points: Array) -> Array:
    """Return the corners of the convex hull of `points` [n, 2] in order, [corner, 2].

    Where all points lie on a line, they are its two ends.
    """
    centred = points - points.mean(axis=0)
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    if len(points) < 3 or spread[1] <= 1e-9 * max(spread[0], 1e-12):
        along = centred @ axes[0]
        return np.stack([points[along.argmin()], points[along.argmax()]])
    return np.asarray(points[ConvexHull(points).vertices], dtype=np.float64)


def signed_distance(points: Array, train: Array) -> Array:
    """Return the distance of `points` [n, 2] from the boundary of the hull of `train` [m, 2].

    The result is [n]: negative inside, 0 on the boundary.
    """
    corners = hull_vertices(train)
    starts = corners
    edges = np.roll(corners, -1, axis=0) - starts
    lengths = np.maximum((edges**2).sum(axis=1), 1e-24)
    offsets = points[:, None, :] - starts
    along = np.clip((offsets * edges).sum(axis=2) / lengths, 0, 1)
    distances = np.linalg.norm(offsets - along[..., None] * edges, axis=2).min(axis=1)
    # Corners run anticlockwise, so a point is inside where it lies left of every edge.
    left = edges[:, 0] * offsets[..., 1] - edges[:, 1] * offsets[..., 0]
    inside = (left > 0).all(axis=1)
    return np.asarray(np.where(inside, -distances, distances), dtype=np.float64)


def _space(suite: SuiteRecord, family: str) -> ParameterSpace | None:
    training = [task for task in suite.splits["train"] if task.family == family]
    others = [_other_parameters(task, suite.parameter) for task in training]
    values = {
        (split, task.name): value
        for split, tasks in suite.splits.items()
        for task in tasks
        if task.family == family and _other_parameters(task, suite.parameter) in others
        if (value := _vector(task.settings.get(suite.parameter))) is not None
    }
    train = [value for (split, _), value in values.items() if split == "train"]
    if not train or len({len(value) for value in values.values()}) != 1 or len(train[0]) > 2:
        return None
    return ParameterSpace(family, suite.parameter, values, np.stack(train))


def _other_parameters(task: TaskRecord, parameter: str) -> dict[str, Any]:
    return {key: value for key, value in task.settings.items() if key != parameter}


def _vector(value: Any) -> Array | None:
    entries = value if isinstance(value, list) else [value]
    if not entries or not all(
        isinstance(entry, int | float) and not isinstance(entry, bool) for entry in entries
    ):
        return None
    return np.asarray(entries, dtype=np.float64)
