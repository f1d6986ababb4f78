"""Define tasks whose episodes are in mazes of a set, for any body."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Float32, Float64
from typing_extensions import override

from envs.families import quadruped
from envs.families.egocentric_maze import EgocentricMaze
from envs.families.family import Choice, EpisodeTask, Parameter, TaskStart
from envs.families.layout_sets import NAMES, LayoutSet, stored_set
from envs.families.maze import Maze
from envs.families.maze_family import FORMULAS, MazeFamily
from envs.families.point_maze import PointMaze, point_scene
from envs.simulation.physics import Scene
from envs.tasks import Task

SHOWN = ("task_vector", "picture")


class ManyMazes(MazeFamily):
    """Go to a goal in a maze that differs from episode to episode.

    A task names a set of layouts (`layouts`, of `envs.families.layout_sets`). Each episode draws
    one of them, and two of its rooms as start and goal, all uniformly, from the episode's random
    numbers: in evaluations they are a function of the evaluation's seed, the task and the number of
    the episode, and so the same for every method. The task vector says where the goal is
    (`goal: task_vector`), or is 0 in all episodes, so that only the image shows it
    (`goal: picture`). The first touch of the goal is a success and ends the episode, as a terminal
    state. The rewards are `once` and `progress`.

    A scene has as many wall boxes as the fullest layout of the tasks that are played in it.

    Attributes:
        arena: width of the square that every layout must fit into, cells.
        top_speed: speed of the body at full throttle on a straight way, m/s.
    """

    parameters: Mapping[str, Parameter] = MappingProxyType(
        {
            "layouts": Choice(NAMES),
            "goal": Choice(SHOWN),
            "reward": Choice(("once", "progress")),
        }
    )
    ends_with_success = True
    top_speed: float

    def __init__(self) -> None:
        fitting = [name for name in NAMES if stored_set(name).width <= self.arena]
        self._fitted: dict[frozenset[str], ManyMazes] = {}
        self._set_scene(fitting)
        assert self.description is not None
        self.description = replace(
            self.description,
            goal="Find the way through a maze that differs from episode to episode, and touch the "
            "goal.",
            task_vector="Where the goal is, east and north of the maze's centre, over half the "
            "arena's width; 0 where only the image shows the goal.",
            rewards={name: FORMULAS[name] for name in ("once", "progress")},
            success="The goal is touched, which ends the episode.",
            start=f"{self.description.start} Layout, start and goal are drawn for the episode.",
            source="",
        )

    @override
    def check(self, task: Task) -> None:
        """Check that the layouts of a task fit the arena.

        Raises:
            ValueError: one does not; the message names it.
        """
        where = f"task {task.name!r} of family {task.family!r}"
        _layouts(task).check_fits(self.arena, where)

    @override
    def for_tasks(self, tasks: Sequence[Task]) -> "ManyMazes":
        """Return the family with a scene of as many walls as these tasks need."""
        names = frozenset(str(task.parameters["layouts"]) for task in tasks)
        if names not in self._fitted:
            fitted = copy.copy(self)
            fitted._set_scene(sorted(names))
            self._fitted[names] = fitted
        return MazeFamily.for_tasks(self._fitted[names], tasks)

    @override
    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        """Return zeros, which is all that there is to say of every episode."""
        return np.zeros(self.task_size, np.float32)

    @override
    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Return the numbers of the first layout's path from its first room to its last."""
        maze = _layouts(task).maze(0)
        return self.path_numbers(maze, maze.rooms[0], maze.rooms[-1], _reward(task))

    @override
    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        """Draw layout, start, goal and initial state of an episode."""
        layouts = _layouts(task)
        number = int(rng.integers(len(layouts.names)))
        maze = layouts.maze(number)
        start, goal = (maze.rooms[index] for index in rng.choice(len(maze.rooms), 2, replace=False))
        vector = self.goal_vector(maze, goal) if is_told_goal(task) else self.task_vector(task)
        episode = EpisodeTask(
            self.path_numbers(maze, start, goal, _reward(task)),
            vector,
            layouts.names[number],
            maze.distances(goal)[start],
        )
        return replace(self.start_in(maze, start, goal, rng), episode=episode)

    def _set_scene(self, names: Sequence[str]) -> None:
        """Give the scene as many walls as the fullest layout of these sets has."""
        mazes = [stored_set(name).fullest for name in names]
        fullest = max(mazes, key=lambda maze: len(maze.walls))
        self.num_walls = len(fullest.walls)
        self.scene = self.scene_with(fullest)


class PointMazes(ManyMazes, PointMaze):
    """Move a point mass through mazes of up to 5 by 5 rooms, seen from above.

    The camera shows 11 by 11 cells, of 5.8 of 64 pixels each, whatever the layout.
    """

    arena = 11
    # The force of a motor over the damping of its joint, 3.2 cells a second.
    top_speed = 0.2

    @override
    def scene_with(self, fullest: Maze) -> Scene:
        return point_scene("maze_many_point", self.arena, fullest)


class QuadrupedMazes(ManyMazes, EgocentricMaze):
    """Walk through mazes of up to 7 by 7 rooms with dm_control's quadruped, 12 actuators.

    There are 50 control steps a second. The camera is on the torso.
    """

    arena = 15
    # From this speed on dm_control's task quadruped-run pays its full reward.
    top_speed = 5.0

    def __init__(self) -> None:
        EgocentricMaze.__init__(
            self,
            "maze_many_quadruped",
            quadruped.SUBSTEPS,
            quadruped.spec,
            quadruped.BODY,
        )
        ManyMazes.__init__(self)


def is_told_goal(task: Task) -> bool:
    """Return whether the task vector says where the goal of each episode is."""
    return task.parameters["goal"] == SHOWN[0]


def _layouts(task: Task) -> LayoutSet:
    return stored_set(str(task.parameters["layouts"]))


def _reward(task: Task) -> str:
    return str(task.parameters["reward"])
