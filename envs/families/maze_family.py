"""Define maze tasks for any body: tasks, task vector, reward and success.

All mazes are one scene. A wall is a box of one cell that is a mocap body, so that every world has
its own walls; the boxes that a maze does not need are out of sight. The state of an episode is also
part of the scene, so that it is saved and reset with the physics: the goal's marker moves out of
sight when it is first touched, which the image shows too, and a body without a shape marks where
the walking body was one control step ago.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Self

import mujoco
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor
from typing_extensions import override

from envs.families.constants import constant
from envs.families.description import FamilyDescription
from envs.families.family import Choice, Family, Parameter, TaskStart
from envs.families.maze import FULLEST, LARGEST, MAZES, PLACES, Cell, Maze
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task

GOAL = "goal"
FOOTPRINT = "footprint"
REWARDS = ("latched", "once", "progress")
# A goal is touched when the body is at most this far from its centre, in cells.
TOUCH = 0.4

_LATCHED, _ONCE, _PROGRESS = range(len(REWARDS))
# The distance of a wall in the table of distances, longer than any path.
_FAR = 1e4
_NUMBERS = 6
# A cell itself and those around it, as rows and columns.
_AROUND = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))


FORMULAS = {
    "latched": r"r_t = \begin{cases} 1 & \text{the goal was touched in step } t \text{ or before} "
    r"\\ 0 & \text{otherwise} \end{cases}",
    "once": r"r_t = \begin{cases} 1 & \text{the goal is touched in step } t \text{ for the first "
    r"time} \\ 0 & \text{otherwise} \end{cases}",
    "progress": r"r_t = \frac{\ell_{t-1} - \ell_t}{\ell_0}",
}


def maze_description(body: str, image: str, start: str, state: str = "") -> FamilyDescription:
    """Return what pages of suites say of a body's mazes; see `FamilyDescription`."""
    return FamilyDescription(
        body=body,
        goal="Find the way through the maze and touch the goal.",
        image=image,
        task_vector="Where the goal is, east and north of the maze's centre, over half the width "
        "of the largest maze.",
        rewards=FORMULAS,
        symbols=r"$t$ counts control steps, and $\ell_t$ is the length of the shortest path to the "
        f"goal. A touch is being within {TOUCH:g} cells of the goal's centre.",
        success="The goal is touched.",
        start=start,
        reward_parameter="reward",
        state=state,
        source="The reward `latched` is that of Director's maze tasks (Hafner et al. 2022, arXiv "
        "2206.04114).",
    )


class MazeFamily(Family, ABC):
    """Go from `start` to `goal` in `maze`.

    A task names a layout of `envs.families.maze.MAZES`, two of the places in it, and a reward per
    control step:

    * `latched`: 1 from the first touch of the goal to the episode's end, also away from the goal
      (an episode's sum is the number of remaining control steps; Director's maze tasks, Hafner
      et al. 2022, arXiv 2206.04114).
    * `once`: 1 in the control step of the first touch only.
    * `progress`: by how much the path to the goal has become shorter, as a share of the path from
      the start's cell, so that reaching the goal sums to 1 (more or less by the offsets of start
      and touch from their cells' centres). It is negative for moving away, the only reward here
      that can be.

    A touch is being within 0.4 cells (`TOUCH`) of the centre of the goal's cell. Task vector: the
    goal's position east and north of the maze's centre, over half the arena's width. Success: a
    touch.

    Attributes:
        cell: width of a cell, metres.
        body: the body that must touch the goal.
        aside: a position that is out of sight, for unused boxes and markers, metres.
        heights: heights of the centres of the goal's marker and of the walls, metres.
        arena: width of the square that every maze fits into, cells.
        num_walls: number of wall boxes in the scene.
        pays_progress: whether any task's reward may be `progress`, which takes more computing.
    """

    scene: Scene
    cell: float
    body: str
    aside: tuple[float, float, float]
    heights: tuple[float, float]
    arena: int = LARGEST
    num_walls: int = len(FULLEST.walls)
    parameters: Mapping[str, Parameter] = MappingProxyType(
        {
            "maze": Choice(tuple(MAZES)),
            "start": Choice(PLACES),
            "goal": Choice(PLACES),
            "reward": Choice(REWARDS),
        }
    )
    task_size = 2
    hold_steps = 1
    pays_progress: bool = True

    @abstractmethod
    def scene_with(self, fullest: Maze) -> Scene:
        """Return the scene with as many wall boxes as a maze has walls."""

    @abstractmethod
    def pose(
        self, place: Float64[np.ndarray, " 2"], rng: np.random.Generator
    ) -> tuple[Float64[np.ndarray, " nq"], Float64[np.ndarray, " nv"]]:
        """Draw joint positions and velocities in the cell whose centre is `place`, metres."""

    @override
    def for_tasks(self, tasks: Sequence[Task]) -> Self:
        """Return the family for these tasks, which computes no progress that none of them pays."""
        family = copy.copy(self)
        family.pays_progress = any(
            task.parameters["reward"] == REWARDS[_PROGRESS] for task in tasks
        )
        return family

    def check(self, task: Task) -> None:
        """Check that start and goal, known to be letters, are two places of the task's maze.

        Raises:
            ValueError: one is not in the maze, or both are the same.
        """
        maze = _maze(task)
        where = f"task {task.name!r} of family {task.family!r}"
        for key in ("start", "goal"):
            if task.parameters[key] not in maze.places:
                named = f"{key!r} of maze {task.parameters['maze']!r}"
                valid = ", ".join(maze.places)
                raise ValueError(
                    f"{where}: parameter {named} must be one of {valid}, "
                    f"got {task.parameters[key]!r}"
                )
        if task.parameters["start"] == task.parameters["goal"]:
            raise ValueError(
                f"{where}: 'start' and 'goal' must be two places, "
                f"got {task.parameters['goal']!r} twice"
            )

    @override
    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        return self.goal_vector(_maze(task), _cell(task, "goal"))

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Return the numbers of the task's path: see `path_numbers`."""
        start, goal = _cell(task, "start"), _cell(task, "goal")
        return self.path_numbers(_maze(task), start, goal, str(task.parameters["reward"]))

    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        """Draw an initial state in the start's cell, with the pose that the body needs."""
        return self.start_in(_maze(task), _cell(task, "start"), _cell(task, "goal"), rng)

    def goal_vector(self, maze: Maze, goal: Cell) -> Float32[np.ndarray, " task_size"]:
        """Return where the goal is, as the task vector says it."""
        return (maze.centre(goal) / (self.arena / 2)).astype(np.float32)

    def path_numbers(
        self, maze: Maze, start: Cell, goal: Cell, reward: str
    ) -> Float64[np.ndarray, " goal"]:
        """Return the goal and the distances to it, all in cells.

        They are: goal east and north, index of the reward, distance from the start, rows, columns,
        and the distance from every cell of the arena.
        """
        distances = maze.distances(goal)
        table = np.full((self.arena, self.arena), _FAR)
        for cell, distance in distances.items():
            table[cell] = distance
        kind = REWARDS.index(reward)
        numbers = [*maze.centre(goal), kind, distances[start], maze.height, maze.width]
        return np.array([*numbers, *table.flat])

    def start_in(self, maze: Maze, start: Cell, goal: Cell, rng: np.random.Generator) -> TaskStart:
        """Draw an initial state in a cell of a maze, with its walls and its goal's marker."""
        positions, velocities = self.pose(maze.centre(start) * self.cell, rng)
        markers = [
            [*maze.centre(goal) * self.cell, self.heights[0]],
            [*positions[:2], 0.0],
        ]
        walls = [[*maze.centre(cell) * self.cell, self.heights[1]] for cell in maze.walls]
        unused = [self.aside] * (self.num_walls - len(walls))
        return TaskStart(positions, velocities, np.array([*markers, *walls, *unused], np.float64))

    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        """Return the reward of the control step that led to the present state.

        This moves the markers for the next control step, so call it once after each.
        """
        kind = goal[:, 2]
        touching = self.holding(physics, goal, goal[:, 0])
        before = self._touched(physics)
        reward = torch.where(kind == _ONCE, touching & ~before, touching | before).to(goal.dtype)
        # Path lengths take a dozen operations, which a suite without this reward does not need.
        if self.pays_progress:
            advancing = kind == _PROGRESS
            reward = torch.where(advancing, self._progress(physics, goal), reward)
            physics.place(FOOTPRINT, physics.body_position(self.body).clone(), advancing)
        aside = constant(self.aside, goal).expand(len(goal), 3)
        physics.place(GOAL, aside, touching & ~before)
        return reward

    @override
    def holding(
        self, physics: Physics, goal: Float[Tensor, "world goal"], reward: Float[Tensor, " world"]
    ) -> Bool[Tensor, " world"]:
        distance: Tensor = torch.linalg.vector_norm(
            self._place(physics, self.body) - goal[:, :2], dim=-1
        )
        return distance <= TOUCH

    def _place(self, physics: Physics, body: str) -> Tensor:
        """Return a body's position, east and north, in cells."""
        return physics.body_position(body)[:, :2] / self.cell

    def _touched(self, physics: Physics) -> Tensor:
        """Return whether the goal has been touched in an earlier control step."""
        marker = physics.body_position(GOAL)
        touched: Tensor = (marker == constant(self.aside, marker)).all(dim=1)
        return touched

    def _progress(self, physics: Physics, goal: Tensor) -> Tensor:
        before, now = (
            path_length(self._place(physics, body), goal) for body in (FOOTPRINT, self.body)
        )
        return (before - now) / goal[:, 3]


def path_length(
    place: Float[Tensor, "world 2"], goal: Float[Tensor, "world goal"]
) -> Float[Tensor, " world"]:
    """Return the length of a shortest path to the goal, in cells.

    The path goes straight to the centre of the present cell or of a free neighbour, whichever is
    better, and on from centre to centre. Along a straight corridor the length changes evenly; at a
    turn it becomes shorter by up to 0.6 cells at once when the corner's cell is entered, because
    from there the corner can be cut.

    Args:
        place: positions east and north of the maze's centre, in cells.
        goal: rows as `MazeFamily.path_numbers` makes them.
    """
    height = goal[:, 4, None]
    width = goal[:, 5, None]
    around = constant(_AROUND, goal)
    rows = (height / 2 - place[:, 1:]).floor() + around[:, 0]
    columns = (place[:, :1] + width / 2).floor() + around[:, 1]
    first = torch.hypot(
        columns + 0.5 - width / 2 - place[:, :1], height / 2 - rows - 0.5 - place[:, 1:]
    )
    arena = math.isqrt(goal.shape[1] - _NUMBERS)
    index = rows.clamp(0, arena - 1) * arena + columns.clamp(0, arena - 1)
    shortest: Tensor = (first + goal[:, _NUMBERS:].gather(1, index.long())).amin(dim=1)
    return shortest


def add_markers_and_walls(
    spec: mujoco.MjSpec,
    cell: float,
    wall_height: float,
    colours: tuple[tuple[float, ...], ...],
    fullest: Maze,
) -> None:
    """Add the mocap bodies that `MazeFamily` places, in the order of its initial states.

    Walls touch geoms of contact affinity 1 but not each other.

    Args:
        spec: the scene, which must already have the goal's marker, named `GOAL`.
        cell: width of a cell, metres.
        wall_height: metres.
        colours: red, green, blue and opacity, assigned to wall boxes in turn.
        fullest: the maze with the most walls; there is a box for each of them.
    """
    spec.worldbody.add_body(name=FOOTPRINT, mocap=True)
    # The ray tracer sorts geoms by these positions, once. Images take twice as long when boxes that
    # become neighbours are not neighbours here.
    for index, wall in enumerate(fullest.walls):
        name = f"wall_{index}"
        body = spec.worldbody.add_body(name=name, mocap=True, pos=[*fullest.centre(wall) * cell, 0])
        body.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[cell / 2, cell / 2, wall_height / 2],
            rgba=colours[index % len(colours)],
            contype=1,
            conaffinity=0,
            condim=1,
        )


def _maze(task: Task) -> Maze:
    return MAZES[str(task.parameters["maze"])]


def _cell(task: Task, key: str) -> Cell:
    return _maze(task).places[str(task.parameters[key])]
