"""Make environments of the family `jaco`: dm_control's manipulation tasks of a Jaco arm.

Source: `dm_control.manipulation` (Tassa et al. 2020, "dm_control", section 6): rewards in [0, 1],
250 control steps of 40 ms.
"""

from collections.abc import Mapping
from typing import Any

import dm_env
import gymnasium
import numpy as np
from gymnasium import spaces
from typing_extensions import override

from envs.external.camera import NamedView
from envs.external.env import ExternalEnv
from envs.external.family import OWN_START, NamedTasks, text
from envs.external.render import OwnRenderer, RayTracedRenderer
from envs.families.description import FamilyDescription
from envs.tasks import Task

TRAINED = ("reach_site", "reach_duplo", "lift_brick", "place_brick")
HELD_OUT = ("lift_large_box", "place_cradle", "stack_2_bricks")
TASKS = TRAINED + HELD_OUT
CAMERA = "front_close"
# dm_control has no success of its own; every one of its rewards here is 1 in the state that the
# task asks for.
SUCCESS_REWARD = 0.9
_RENDER_SIZE = 256


class Jaco(NamedTasks):
    """Play one manipulation task an environment.

    Success: a reward of at least 0.9 (`SUCCESS_REWARD`).
    """

    description = FamilyDescription(
        body="a Jaco arm with 9 motors: six joints and three fingers",
        goal="Do what the task's name says: reach a site or a brick, lift, place, stack.",
        image="A camera before the arm.",
        task_vector="One-hot over all tasks, held-out ones included.",
        rewards={"": r"r \in [0, 1]"},
        symbols="The reward is dm_control's own: 1 where the task is done, less with the distance.",
        success=f"A reward of at least {SUCCESS_REWARD:g}; dm_control defines none.",
        start=OWN_START,
        source="Manipulation tasks of dm_control (Tassa et al. 2020, arXiv 2006.12983).",
    )

    def __init__(self) -> None:
        super().__init__(TASKS)

    @override
    def action_size(self, task: Task) -> int:
        # Velocities of six joints and three fingers.
        return 9

    @override
    def check(self, task: Task) -> None:
        pass  # dm_control is always installed

    @override
    def make_env(self, task: Task) -> ExternalEnv:
        env = Manipulation(text(task, "task"))
        if text(task, "render") == "opengl":
            return ExternalEnv(env, OwnRenderer(env), _success)
        return ExternalEnv(env, RayTracedRenderer(env.state, NamedView(CAMERA)), _success)


def _success(info: Mapping[str, Any], reward: float) -> bool:
    return reward >= SUCCESS_REWARD


class Manipulation(gymnasium.Env[Any, Any]):
    """Adapt a manipulation task of dm_control to Gymnasium; observations are without a camera.

    Args:
        name: of the task.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 25}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, name: str) -> None:
        # Importing it chooses an OpenGL backend: only worker processes do.
        from dm_control import manipulation

        load: Any = manipulation.load
        self._env = load(f"{name}_features", seed=0)
        bounds = self._env.action_spec()
        self.action_space = spaces.Box(bounds.minimum, bounds.maximum, bounds.shape, np.float64)
        self.observation_space = spaces.Dict()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: of the episode.
            options: ignored; there are none.
        """
        super().reset(seed=seed)
        if seed is not None:
            # The generator that every part of the task draws from.
            self._env._random_state.seed(seed)
        return self._env.reset().observation, {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one control step: the time limit truncates, a diverged simulation terminates."""
        moment: dm_env.TimeStep = self._env.step(action)
        terminated = moment.last() and moment.discount == 0
        truncated = moment.last() and not terminated
        return moment.observation, float(moment.reward or 0.0), terminated, truncated, {}

    def render(self) -> np.ndarray:
        """Return the image of `CAMERA` in OpenGL."""
        return np.asarray(self._env.physics.render(_RENDER_SIZE, _RENDER_SIZE, camera_id=CAMERA))

    def state(self) -> tuple[Any, Any]:
        """Return MuJoCo's model and data, which a reset replaces."""
        return self._env.physics.model.ptr, self._env.physics.data.ptr

    def close(self) -> None:
        """Give back the simulation."""
        self._env.close()
