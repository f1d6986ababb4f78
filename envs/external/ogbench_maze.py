"""Make environments of the family `ogbench_maze`: OGBench's ant in visual mazes.

The camera is behind the ant's back, and the floor's colours tell places apart.

Source: Park et al. 2024, "OGBench", and the package ogbench 1.2.2: control steps of 50 ms; reward
-1 in every step that does not begin within 0.5 m of the goal; reaching it ends the episode. The
goal is not in the image: the task vector has it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import gymnasium
import numpy as np
from jaxtyping import Float32
from typing_extensions import override

from envs.external.camera import NamedView
from envs.external.env import ExternalEnv
from envs.external.family import RENDER, ExternalFamily, Text, require_package, text
from envs.external.render import OwnRenderer, RayTracedRenderer
from envs.families.description import FamilyDescription
from envs.families.family import Choice, Number, Parameter, number
from envs.tasks import Task

# Rows and columns of a maze, and its five goals' row and column, as the package has them (tested).
SIZES = {"medium": (8, 8), "large": (9, 12)}
GOALS = {
    "medium": ((6, 6), (1, 6), (4, 2), (6, 1), (1, 1)),
    "large": ((7, 10), (7, 1), (1, 10), (5, 4), (5, 4)),
}
# A goal so many cells from the centre is at 1 in the task vector.
_REACH = 6.0


class OgbenchMaze(ExternalFamily):
    """Play one of a maze's five evaluation tasks an environment.

    The start is near the middle of one cell, the goal in the middle of another.

    Task vector: the goal's cell right of and above the maze's centre on its map, over six cells.
    """

    description = FamilyDescription(
        body="an ant with 8 motors",
        goal="Go through the maze to the goal, which is not drawn.",
        image="A camera behind the ant's back. The floor's colours tell places apart.",
        task_vector="The goal's cell right of and above the maze's centre, over six cells.",
        rewards={"": r"r = \begin{cases} 0 & d \le 0.5 \\ -1 & \text{otherwise} \end{cases}"},
        symbols="$d$ is the distance to the goal in metres where the control step begins.",
        success="The goal is reached, which ends the episode.",
        start="Near the middle of the start's cell.",
        source="OGBench (Park et al. 2024, arXiv 2410.20092), the package ogbench 1.2.2.",
    )
    parameters: Mapping[str, Parameter | Text] = MappingProxyType(
        {"maze": Choice(tuple(SIZES)), "goal": Number(1, 5), "render": RENDER}
    )
    task_size = 2

    @override
    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        maze = text(task, "maze")
        row, column = GOALS[maze][_goal(task) - 1]
        height, width = SIZES[maze]
        cells = np.array([column + 0.5 - width / 2, height / 2 - row - 0.5], np.float32)
        return cells / np.float32(_REACH)

    @override
    def action_size(self, task: Task) -> int:
        # The ant's hips and ankles.
        return 8

    @override
    def check(self, task: Task) -> None:
        _goal(task)
        require_package("ogbench")

    @override
    def make_env(self, task: Task) -> ExternalEnv:
        require_package("ogbench")
        name = f"visual-antmaze-{text(task, 'maze')}-singletask-task{_goal(task)}-v0"
        if text(task, "render") == "opengl":
            drawn = gymnasium.make(name)
            return ExternalEnv(drawn, OwnRenderer(drawn))
        # The visual scene comes only together with an OpenGL renderer that draws at every step,
        # which nobody asked for.
        with patch("mujoco.Renderer", Undrawn):
            env: Any = gymnasium.make(name, disable_env_checker=True)
        own = env.unwrapped
        return ExternalEnv(
            env, RayTracedRenderer(lambda: (own.model, own.data), NamedView(own.camera_name))
        )


class Undrawn:
    """Stand in for `mujoco.Renderer` where its images are not used: they are black."""

    def __init__(self, model: Any, height: int, width: int) -> None:
        self._image = np.zeros((height, width, 3), np.uint8)

    def update_scene(self, data: Any, camera: Any = None) -> None:
        """Do nothing."""

    def render(self) -> np.ndarray:
        """Return a black image."""
        return self._image

    def close(self) -> None:
        """Do nothing."""


def _goal(task: Task) -> int:
    goal = number(task, "goal")
    if goal != int(goal):
        raise ValueError(
            f"task {task.name!r}: parameter 'goal' must be a whole number from 1 to 5, got {goal:g}"
        )
    return int(goal)
