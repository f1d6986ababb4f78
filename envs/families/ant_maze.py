"""The ant in a maze, seen through its own eyes."""

from functools import cache

import mujoco

from envs.families import ant
from envs.families.egocentric_maze import FLOOR_HALF_LENGTH, EgocentricMaze, add_maze
from envs.families.scenery import SKY, light_from_the_camera
from envs.physics import Scene


def _spec() -> mujoco.MjSpec:
    spec = ant.spec(FLOOR_HALF_LENGTH)
    light_from_the_camera(spec)
    return spec


def _build() -> mujoco.MjModel:
    spec = _spec()
    add_maze(spec)
    return spec.compile()


@cache
def _alone() -> mujoco.MjModel:
    return _spec().compile()


class AntMaze(EgocentricMaze):
    """The ant of dm_control's locomotion library, 8 actuators, 50 control steps a second: see `EgocentricMaze`."""

    scene = Scene("ant_maze", _build, ant.SUBSTEPS, "egocentric", SKY)

    def alone(self) -> mujoco.MjModel:
        """See `EgocentricMaze.alone`."""
        return _alone()
