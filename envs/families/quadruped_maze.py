"""Let the quadruped walk through mazes, seen by a camera on its body."""

from envs.families import quadruped
from envs.families.egocentric_maze import EgocentricMaze


class QuadrupedMaze(EgocentricMaze):
    """Walk through a maze with the quadruped of dm_control's suite, 12 actuators.

    There are 50 control steps a second. See `EgocentricMaze`.
    """

    def __init__(self) -> None:
        super().__init__("quadruped_maze", quadruped.SUBSTEPS, quadruped.spec, quadruped.BODY)
