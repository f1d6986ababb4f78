"""Move a point mass through mazes, seen from above.

It asks the questions of the large mazes at a fraction of their cost.
"""

import mujoco
import numpy as np
from jaxtyping import Float64
from typing_extensions import override

from envs.families.maze import FULLEST, LARGEST, Maze
from envs.families.maze_family import (
    GOAL,
    TOUCH,
    MazeFamily,
    add_markers_and_walls,
    maze_description,
)
from envs.simulation.physics import Scene

CELL = 0.0625
# In cells: the point can be a fifth of a cell off the centre of a corridor.
RADIUS = 0.3
START_SPREAD = 0.15
WALL_HEIGHT = 0.04

_VIEW_FROM = 4.0

# This is the point mass of envs.families.point_mass with twice its force: 3.2 cells a second at
# most. The camera is so far away that walls hide nothing, and shows the arena from edge to edge,
# which is 7 of 64 pixels per cell for an arena of 9 by 9. There is no friction, so that walls only
# stop motion into them.
_MJCF = """
<mujoco model="point mass in a maze">
  <option timestep="0.02" gravity="0 0 0"/>
  <visual>
    <headlight ambient=".55 .55 .55" diffuse=".45 .45 .45" specular="0 0 0"/>
    <map znear=".01"/>
  </visual>
  <default>
    <joint type="slide" damping="1"/>
    <motor gear=".2" ctrlrange="-1 1" ctrllimited="true"/>
    <geom contype="0" conaffinity="0" condim="1"/>
  </default>
  <worldbody>
    <camera name="fixed" pos="0 0 {view_from}" fovy="{view_angle}"/>
    <body name="{goal}" mocap="true">
      <geom name="{goal}" type="cylinder" size="{touch} .001" rgba=".9 .25 .2 1"/>
    </body>
    <body name="pointmass">
      <joint name="root_x" axis="1 0 0"/>
      <joint name="root_y" axis="0 1 0"/>
      <geom name="pointmass" type="sphere" size="{radius}" mass=".3" rgba="1 .9 .3 1"
            conaffinity="1"/>
    </body>
  </worldbody>
  <actuator>
    <motor name="x" joint="root_x"/>
    <motor name="y" joint="root_y"/>
  </actuator>
</mujoco>
"""
_WALL_COLOUR = (0.45, 0.6, 0.65, 1.0)


def point_scene(name: str, arena: int, fullest: Maze) -> Scene:
    """Return the scene of a point mass among as many walls as a maze has.

    Args:
        name: of the scene, for messages.
        arena: width of the square that the camera shows, cells.
        fullest: see `add_markers_and_walls`.
    """

    def build() -> mujoco.MjSpec:
        view_angle = 2 * np.degrees(np.arctan(arena * CELL / 2 / _VIEW_FROM))
        model = _MJCF.format(
            view_from=_VIEW_FROM,
            view_angle=view_angle,
            goal=GOAL,
            touch=TOUCH * CELL,
            radius=RADIUS * CELL,
        )
        spec = mujoco.MjSpec.from_string(model)
        add_markers_and_walls(spec, CELL, WALL_HEIGHT, (_WALL_COLOUR,), fullest)
        return spec

    return Scene(
        name,
        build,
        substeps=1,
        camera="fixed",
        background=(0.12, 0.2, 0.3),
        textures=False,
    )


class PointMaze(MazeFamily):
    """Move a point mass through a maze: see `MazeFamily`.

    Initial state: at rest, uniform within 0.15 cells (`START_SPREAD`) of the centre of the start's
    cell, north and east.
    """

    scene = point_scene("point_maze", LARGEST, FULLEST)
    cell = CELL
    description = maze_description(
        "a point mass with 2 motors",
        "A camera above the maze shows all of it: walls, ball and the red goal, which disappears "
        "at its first touch.",
        f"At rest, within {START_SPREAD:g} cells of the centre of the start's cell.",
    )
    body = "pointmass"
    # In the mazes' plane: otherwise the ray tracer's boxes around several walls would fill the
    # image.
    aside = (1.0, 0.0, 0.0)
    # The marker lies under the point's centre, so that the point is drawn on top of it.
    heights = (-RADIUS * CELL, 0.0)

    @override
    def scene_with(self, fullest: Maze) -> Scene:
        return point_scene("point_maze", self.arena, fullest)

    @override
    def pose(
        self, place: Float64[np.ndarray, " 2"], rng: np.random.Generator
    ) -> tuple[Float64[np.ndarray, " nq"], Float64[np.ndarray, " nv"]]:
        return place + rng.uniform(-START_SPREAD, START_SPREAD, 2) * CELL, np.zeros(2)
