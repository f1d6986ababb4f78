"""The quadruped in a maze, seen through its own eyes."""

from envs.families import quadruped
from envs.families.egocentric_maze import EgocentricMaze


class QuadrupedMaze(EgocentricMaze):
    """The quadruped of dm_control's suite, 12 actuators, 50 control steps a second: see
    `EgocentricMaze`.
    """

    def __init__(self) -> None:
        super().__init__("quadruped_maze", quadruped.SUBSTEPS, quadruped.spec)
