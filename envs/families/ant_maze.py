"""The ant in a maze, seen through its own eyes."""

from envs.families import ant
from envs.families.egocentric_maze import EgocentricMaze


class AntMaze(EgocentricMaze):
    """The ant of dm_control's locomotion library, 8 actuators, 50 control steps a second: see
    `EgocentricMaze`.
    """

    def __init__(self) -> None:
        super().__init__("ant_maze", ant.SUBSTEPS, ant.spec)
