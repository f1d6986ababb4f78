"""Let the ant walk through mazes, seen by a camera on its body."""

from envs.families import ant
from envs.families.egocentric_maze import EgocentricMaze


class AntMaze(EgocentricMaze):
    """Walk through a maze with the ant of dm_control's locomotion library, 8 actuators.

    There are 50 control steps a second. See `EgocentricMaze`.
    """

    def __init__(self) -> None:
        super().__init__("ant_maze", ant.SUBSTEPS, ant.spec, ant.BODY)
