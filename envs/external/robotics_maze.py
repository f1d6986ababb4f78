"""Make environments of the family `robotics_maze`: Gymnasium-Robotics' point and ant in mazes.

The mazes are our own, and seen whole from above.

Source: the package gymnasium-robotics 1.4.2, after Fu et al. 2020, "D4RL": control steps of 10 ms
(point) and 50 ms (ant); success within 0.45 m of the goal, which is drawn as a red ball.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import gymnasium
import mujoco
import numpy as np
from jaxtyping import Float32
from typing_extensions import override

from envs.external.camera import OrbitView
from envs.external.env import ExternalEnv
from envs.external.family import RENDER, ExternalFamily, Text, require_package, text
from envs.external.maze_ascii import Maze, read_maze
from envs.external.render import OwnRenderer, RayTracedRenderer
from envs.families.description import FamilyDescription
from envs.families.family import Choice, Parameter
from envs.tasks import Task

ROBOTS = ("point", "ant")
# Ids, and the side of a cell in metres.
_IDS = {"point": "PointMaze_UMazeDense-v3", "ant": "AntMaze_UMazeDense-v5"}
_CELL = {"point": 1.0, "ant": 4.0}
_ACTUATORS = {"point": 2, "ant": 8}
# A goal so many cells from the centre is at 1 in the task vector.
_REACH = 6.0
_FIELD = 45.0
_RENDER_SIZE = 256
# The package's ant is pale on a chequered floor, and a leg is less than a pixel wide.
_FLOOR = (0.13, 0.2, 0.3, 1.0)
_ANT = (1.0, 1.0, 1.0, 1.0)


class RoboticsMaze(ExternalFamily):
    """Play one robot in one maze an environment.

    Goal and start are drawn from within a quarter of a cell around the centres of their cells.
    Reward per control step: exp(-distance to the goal in metres), so that resting there earns most.
    Task vector: the goal's cell east and north of the centre, over six cells, and which robot it is
    (-1 the point, 1 the ant).
    """

    description = FamilyDescription(
        body="a point mass with 2 motors, or an ant with 8",
        goal="Go through the maze to the red ball and stay there.",
        image="A camera above the maze shows all of it.",
        task_vector="The goal's cell east and north of the centre, over six cells, and which robot "
        "it is (-1 the point, 1 the ant).",
        rewards={"": r"r = e^{-d}"},
        symbols="$d$ is the distance to the goal in metres.",
        success="Within 0.45 m of the goal.",
        start="Within a quarter of a cell of the centre of the start's cell, and so the goal.",
        source="Gymnasium-Robotics 1.4.2, after D4RL (Fu et al. 2020, arXiv 2004.07219).",
    )
    parameters: Mapping[str, Parameter | Text] = MappingProxyType(
        {"robot": Choice(ROBOTS), "maze": Text(read_maze), "render": RENDER}
    )
    task_size = 3

    @override
    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        east, north = _maze(task).goal_place
        return np.array(
            [east / _REACH, north / _REACH, 1.0 if text(task, "robot") == "ant" else -1.0],
            np.float32,
        )

    @override
    def action_size(self, task: Task) -> int:
        return _ACTUATORS[text(task, "robot")]

    @override
    def check(self, task: Task) -> None:
        require_package("gymnasium_robotics")

    @override
    def make_env(self, task: Task) -> ExternalEnv:
        require_package("gymnasium_robotics")
        view = top_view(_maze(task).size, _CELL[text(task, "robot")])
        if text(task, "render") == "ray":
            env = _make(task)
            own: Any = env.unwrapped
            if text(task, "robot") == "ant":
                _recolour(own.model)
            return ExternalEnv(env, RayTracedRenderer(lambda: (own.model, own.data), view))
        drawn = _make(task, "rgb_array")
        renderer = _body(drawn).mujoco_renderer
        renderer.default_cam_config = {
            "lookat": np.array(view.target),
            "distance": view.distance,
            "azimuth": view.azimuth,
            "elevation": view.elevation,
        }
        renderer.camera_id = -1
        return ExternalEnv(drawn, OwnRenderer(drawn))


def top_view(size: tuple[int, int], cell: float) -> OrbitView:
    """Return a view straight down on a maze, with half of the outer walls in the image.

    Args:
        size: rows and columns of the maze; north is upwards in the image.
        cell: side of a cell, metres.
    """
    distance = (max(size) - 1) * cell / 2 / np.tan(np.radians(_FIELD / 2))
    return OrbitView((0.0, 0.0, 0.0), float(distance), azimuth=90.0, elevation=-90.0, field=_FIELD)


def _recolour(model: mujoco.MjModel) -> None:
    """Give the model a white ant on a plain dark floor."""
    for geom in range(model.ngeom):
        floor = model.geom_type[geom] == int(mujoco.mjtGeom.mjGEOM_PLANE)
        if floor or model.geom_bodyid[geom] > 0:
            model.geom_matid[geom] = -1
            model.geom_rgba[geom] = _FLOOR if floor else _ANT


def _maze(task: Task) -> Maze:
    return read_maze(text(task, "maze"))


def _make(task: Task, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    sizes = {"width": _RENDER_SIZE, "height": _RENDER_SIZE} if render_mode else {}
    return gymnasium.make(
        _IDS[text(task, "robot")],
        maze_map=_maze(task).cells(),
        continuing_task=True,
        reset_target=False,
        max_episode_steps=task.episode_length,
        render_mode=render_mode,
        disable_env_checker=True,
        **sizes,
    )


def _body(env: gymnasium.Env[Any, Any]) -> Any:
    """Return the robot's own environment, which the maze's contains and which draws."""
    own: Any = env.unwrapped
    return own.point_env if hasattr(own, "point_env") else own.ant_env
