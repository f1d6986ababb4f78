"""Finding a goal in a maze, whatever body does it: tasks, task vector, reward and success.

All mazes are one scene. A wall is a box of one cell that is a mocap body, so that every world has
its own; the boxes that a maze does not need are out of sight. What an episode must remember is part
of the scene as well, and so is saved and reset with the physics: the goal's marker goes out of
sight when it is first touched, which also shows in the image, and a body without a shape stays
where the walker was one control step ago.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType

import mujoco
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor

from envs.families.family import Choice, Parameter, TaskStart
from envs.families.maze import LARGEST, MAZES, MOST_WALLS, PLACES, Cell, Maze
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task

GOAL, FOOTPRINT = "goal", "footprint"
REWARDS = ("latched", "once", "progress")
# A goal counts as touched when the walker is this near to its middle, in cells.
TOUCH = 0.4

_LATCHED, _ONCE, _PROGRESS = range(len(REWARDS))
# More than any way is long: where the table of distances has a wall.
_FAR = float(LARGEST**2)
_NUMBERS = 6
# A cell itself and those around it, as rows and columns.
_AROUND = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))


class MazeFamily(ABC):
    """Go from `start` to `goal` in `maze`.

    A task names a layout of `envs.families.maze.MAZES`, two of the places in it, and a reward per
    control step:

    * `latched`: 1 from the first touch of the goal to the episode's end, also away from the goal
      (an episode's sum is the number of control steps that were left; Director's maze tasks, Hafner
      et al. 2022, arXiv 2206.04114).
    * `once`: 1 in the control step of the first touch only.
    * `progress`: by how much the way to the goal has become shorter, as a share of the way from the
      start's cell, so that going all the way sums to 1 (more or less by what the start and the
      touch are off their cells' middles). It is negative on the way back, the only reward here that
      can be.

    A touch is being within 0.4 cells (`TOUCH`) of the middle of the goal's cell. Task vector: the
    goal's place east and north of the maze's middle, over half the width of the largest maze.
    Success: a touch.

    Attributes, besides those of `Family`:
        cell: width of a cell, metres.
        body: the body that must touch the goal.
        aside: where boxes and markers are out of sight, metres.
        heights: of the middle of the goal's marker and of the walls, metres.
    """

    scene: Scene
    cell: float
    body: str
    aside: tuple[float, float, float]
    heights: tuple[float, float]
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

    @abstractmethod
    def pose(
        self, place: Float64[np.ndarray, " 2"], rng: np.random.Generator
    ) -> tuple[Float64[np.ndarray, " nq"], Float64[np.ndarray, " nv"]]:
        """Draw joint positions and velocities for a start in the cell with its middle at `place`,
        metres.
        """

    def check(self, task: Task) -> None:
        """Raise ValueError unless start and goal, already known to be letters, are two places of
        the task's maze.
        """
        maze, where = _maze(task), f"task {task.name!r} of family {task.family!r}"
        for key in ("start", "goal"):
            if task.parameters[key] not in maze.places:
                named = f"{key!r} of maze {task.parameters['maze']!r}"
                valid = ", ".join(maze.places)
                raise ValueError(
                    f"{where}: parameter {named} must be one of {valid}, got {task.parameters[key]!r}"
                )
        if task.parameters["start"] == task.parameters["goal"]:
            raise ValueError(
                f"{where}: 'start' and 'goal' must be two places, got {task.parameters['goal']!r} twice"
            )

    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        """See `Family.task_vector`."""
        return (_maze(task).centre(_cell(task, "goal")) / (LARGEST / 2)).astype(np.float32)

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Goal east and north, reward, way from the start, rows, columns, the way from every cell;
        all in cells.
        """
        maze, goal = _maze(task), _cell(task, "goal")
        kind, ways = REWARDS.index(str(task.parameters["reward"])), maze.distances(goal)
        table = np.full((LARGEST, LARGEST), _FAR)
        for cell, way in ways.items():
            table[cell] = way
        return np.array(
            [
                *maze.centre(goal),
                kind,
                ways[_cell(task, "start")],
                maze.height,
                maze.width,
                *table.flat,
            ]
        )

    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        """See `Family.start`: in the start's cell; the body says how."""
        maze = _maze(task)
        place = maze.centre(_cell(task, "start")) * self.cell
        positions, velocities = self.pose(place, rng)
        markers = [
            [*maze.centre(_cell(task, "goal")) * self.cell, self.heights[0]],
            [*positions[:2], 0.0],
        ]
        walls = [[*maze.centre(cell) * self.cell, self.heights[1]] for cell in maze.walls]
        unused = [self.aside] * (MOST_WALLS - len(walls))
        return TaskStart(positions, velocities, np.array([*markers, *walls, *unused], np.float64))

    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        """Reward of the control step that led to the present state.

        Puts the markers where they are to be at the next control step: to be asked once after each.
        """
        kind, touching, before = (
            goal[:, 2],
            self.holding(physics, goal, goal[:, 0]),
            self._touched(physics),
        )
        reward = torch.where(kind == _ONCE, touching & ~before, touching | before).to(goal.dtype)
        advancing = kind == _PROGRESS
        # Ways cost a dozen operations: a suite without this reward does not pay for them.
        if advancing.any():
            reward = torch.where(advancing, self._progress(physics, goal), reward)
            physics.place(FOOTPRINT, physics.body_position(self.body).clone(), advancing)
        physics.place(GOAL, goal.new_tensor(self.aside).expand(len(goal), 3), touching & ~before)
        return reward

    def holding(
        self, physics: Physics, goal: Float[Tensor, "world goal"], reward: Float[Tensor, " world"]
    ) -> Bool[Tensor, " world"]:
        """See `Family.holding`."""
        away: Tensor = torch.linalg.vector_norm(
            self._place(physics, self.body) - goal[:, :2], dim=-1
        )
        return away <= TOUCH

    def _place(self, physics: Physics, body: str) -> Tensor:
        """East and north of a body, in cells."""
        return physics.body_position(body)[:, :2] / self.cell

    def _touched(self, physics: Physics) -> Tensor:
        """Whether the goal has been touched in an earlier control step."""
        marker = physics.body_position(GOAL)
        touched: Tensor = (marker == marker.new_tensor(self.aside)).all(dim=1)
        return touched

    def _progress(self, physics: Physics, goal: Tensor) -> Tensor:
        before, now = (
            way_length(self._place(physics, body), goal) for body in (FOOTPRINT, self.body)
        )
        return (before - now) / goal[:, 3]


def way_length(
    place: Float[Tensor, "world 2"], goal: Float[Tensor, "world goal"]
) -> Float[Tensor, " world"]:
    """Length of a shortest way to the goal, in cells.

    The way goes straight to the middle of the present cell or of a free one beside it, whichever is
    better, and on from middle to middle. Along a straight corridor it changes evenly; where it
    turns, it becomes shorter by up to 0.6 cells at once when the corner's cell is entered, because
    from there the corner can be cut.

    Args:
        place: east and north of the maze's middle, in cells.
        goal: rows as `MazeFamily.goal` makes them.
    """
    height, width = goal[:, 4, None], goal[:, 5, None]
    around = goal.new_tensor(_AROUND)
    rows = (height / 2 - place[:, 1:]).floor() + around[:, 0]
    columns = (place[:, :1] + width / 2).floor() + around[:, 1]
    first = torch.hypot(
        columns + 0.5 - width / 2 - place[:, :1], height / 2 - rows - 0.5 - place[:, 1:]
    )
    index = rows.clamp(0, LARGEST - 1) * LARGEST + columns.clamp(0, LARGEST - 1)
    shortest: Tensor = (first + goal[:, _NUMBERS:].gather(1, index.long())).amin(dim=1)
    return shortest


def add_markers_and_walls(
    spec: mujoco.MjSpec, cell: float, wall_height: float, colours: tuple[tuple[float, ...], ...]
) -> None:
    """Add the bodies that `MazeFamily` places, in the order of its start states, all as mocap
    bodies.

    Walls touch geoms of contact affinity 1 but not each other.

    Args:
        spec: the scene; the goal's marker is the scene's own body, whose name is `GOAL`.
        cell: metres.
        wall_height: metres.
        colours: red, green, blue, opacity; wall boxes take them in turn.
    """
    spec.worldbody.add_body(name=FOOTPRINT, mocap=True)
    # The ray tracer sorts geoms by these positions, once: images take twice as long when boxes that
    # come to be neighbours do not begin as such.
    fullest = max(MAZES.values(), key=lambda maze: len(maze.walls))
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
