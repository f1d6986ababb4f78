"""Build mazes for walking bodies with a camera on the torso.

Corridors are 3 m wide; the walls' colours show where the body is.
"""

from collections.abc import Callable
from functools import cached_property

import mujoco
import numpy as np
from jaxtyping import Float64
from typing_extensions import override

from envs.families.contacts import lifted
from envs.families.maze import FULLEST, Maze
from envs.families.maze_family import (
    GOAL,
    TOUCH,
    MazeFamily,
    add_markers_and_walls,
    maze_description,
)
from envs.families.scenery import SKY, light_from_the_camera
from envs.simulation.physics import Scene

CELL = 3.0
# In cells. The corridor leaves a quadruped with spread legs about half a metre on each side.
START_SPREAD = 0.1
WALL_HEIGHT = 2.0

# Sections of three wall boxes each have one colour.
_SECTION = 3
_COLOURS = (
    (0.85, 0.3, 0.25, 1.0),
    (0.25, 0.5, 0.85, 1.0),
    (0.9, 0.75, 0.25, 1.0),
    (0.55, 0.35, 0.75, 1.0),
    (0.9, 0.55, 0.7, 1.0),
    (0.3, 0.75, 0.8, 1.0),
    (0.6, 0.4, 0.25, 1.0),
)
_GOAL_COLOUR = (0.2, 0.85, 0.2, 1.0)


def with_maze(
    body_on_floor: Callable[[float], mujoco.MjSpec], arena: int, fullest: Maze
) -> mujoco.MjSpec:
    """Return a body on its floor with the parts of a maze: the goal's marker and walls.

    The marker is a half sphere on the floor.

    Args:
        body_on_floor: makes the body, given how far the floor reaches, metres.
        arena: width of the floor, cells.
        fullest: see `add_markers_and_walls`.
    """
    spec = lit(body_on_floor, arena)
    marker = spec.worldbody.add_body(name=GOAL, mocap=True)
    sphere = mujoco.mjtGeom.mjGEOM_SPHERE
    marker.add_geom(
        name=GOAL,
        type=sphere,
        size=[TOUCH * CELL, 0, 0],
        rgba=_GOAL_COLOUR,
        contype=0,
        conaffinity=0,
    )
    sections = tuple(colour for colour in _COLOURS for _ in range(_SECTION))
    add_markers_and_walls(spec, CELL, WALL_HEIGHT, sections, fullest)
    return spec


def lit(body_on_floor: Callable[[float], mujoco.MjSpec], arena: int) -> mujoco.MjSpec:
    """Return a body on a floor of `arena` by `arena` cells, with the light of mazes."""
    spec = body_on_floor(arena * CELL / 2)
    light_from_the_camera(spec)
    return spec


class EgocentricMaze(MazeFamily):
    """Walk through a maze to the goal, a half sphere on the floor that the torso must touch.

    See `MazeFamily`. The camera is dm_control's on the torso, which looks forwards. Initial state:
    upright, just above the floor, at rest, in any direction, uniform within 0.1 cells
    (`START_SPREAD`) of the centre of the start's cell, north and east.

    Args:
        name: name of the scene, for messages.
        substeps: physics steps in a control step.
        body_on_floor: makes the body, given how far the floor reaches, metres.
        named: the body in words, for pages of suites.
    """

    cell = CELL
    body = "torso"
    # Under the floor.
    aside = (0.0, 0.0, -4.0)
    heights = (0.0, WALL_HEIGHT / 2)

    def __init__(
        self,
        name: str,
        substeps: int,
        body_on_floor: Callable[[float], mujoco.MjSpec],
        named: str,
    ) -> None:
        self._name = name
        self.description = maze_description(
            named,
            "A camera on the torso looks forwards. The walls' colours show where the body is; the "
            "goal is a green half sphere on the floor, which disappears at its first touch.",
            f"Upright, at rest, in any direction, within {START_SPREAD:g} cells of the centre of "
            f"the start's cell. A cell is {CELL:g} m wide.",
        )
        self._substeps = substeps
        self._body_on_floor = body_on_floor
        self.scene = self.scene_with(FULLEST)

    @override
    def scene_with(self, fullest: Maze) -> Scene:
        body_on_floor, arena = self._body_on_floor, self.arena
        return Scene(
            self._name,
            lambda: with_maze(body_on_floor, arena, fullest),
            self._substeps,
            "egocentric",
            SKY,
        )

    @cached_property
    def _alone(self) -> mujoco.MjModel:
        """Return the model without walls, to find the height at which the body stands."""
        return lit(self._body_on_floor, self.arena).compile()

    @override
    def pose(
        self, place: Float64[np.ndarray, " 2"], rng: np.random.Generator
    ) -> tuple[Float64[np.ndarray, " nq"], Float64[np.ndarray, " nv"]]:
        half_turn = rng.uniform(-np.pi, np.pi) / 2
        start = lifted(self._alone, np.array([np.cos(half_turn), 0.0, 0.0, np.sin(half_turn)]))
        start.joint_positions[:2] = place + rng.uniform(-START_SPREAD, START_SPREAD, 2) * CELL
        return start.joint_positions, start.joint_velocities
