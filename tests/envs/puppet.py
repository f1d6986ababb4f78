"""Imitate a physics with quantities set by hand, for rewards that are worked out by hand."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from envs.simulation.physics import Physics

Rows = Mapping[str, list[list[float]]]


class _Puppet:
    def __init__(self, positions: Rows, sensors: Rows, upright: list[float]) -> None:
        self._positions = positions
        self._sensors = sensors
        self._upright = upright

    def geom_position(self, name: str) -> Tensor:
        return torch.tensor(self._positions[name], dtype=torch.float64)

    body_position = geom_position

    def body_rotation(self, name: str) -> Tensor:
        rotation = torch.zeros((len(self._upright), 3, 3), dtype=torch.float64)
        rotation[:, 2, 2] = torch.tensor(self._upright, dtype=torch.float64)
        return rotation

    def sensor(self, name: str) -> Tensor:
        return torch.tensor(self._sensors[name], dtype=torch.float64)


def puppet(
    positions: Rows | None = None, sensors: Rows | None = None, upright: list[float] | None = None
) -> Physics:
    """Return a physics that answers a family's questions by name, with a row a world.

    `positions` are of bodies or geoms; `upright` is the cosine of every body's tilt, one number a
    world.
    """
    return cast(Physics, _Puppet(positions or {}, sensors or {}, upright or []))


def at_heights(**heights: list[float]) -> Rows:
    """Return positions of bodies by name at these heights, far from the origin otherwise."""
    return {name: [[5.0, 5.0, height] for height in column] for name, column in heights.items()}


def goal_rows(*rows: tuple[float, ...]) -> Tensor:
    """Return goals, one row a world."""
    return torch.tensor(rows, dtype=torch.float64)
