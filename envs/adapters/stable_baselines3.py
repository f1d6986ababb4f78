"""Adapt our vector environment to stable-baselines3's `VecEnv`."""

import time
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from envs.vector.base import Observation, PixelVectorEnv


class Sb3VecEnv(VecEnv):
    """Step a `PixelVectorEnv`; observations, actions and automatic resets are as there.

    At an episode's end `infos[i]` has what SB3 looks for: "terminal_observation",
    "TimeLimit.truncated" and, unless the episode began part of the way, "episode" with return "r",
    length "l" in agent steps and seconds since the start "t", beside "is_success".

    Args:
        env: the vector environment, which this object takes over.
    """

    def __init__(self, env: PixelVectorEnv) -> None:
        self._env = env
        self._actions: np.ndarray | None = None
        self._started = time.time()
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.metadata = env.metadata  # `VecVideoRecorder` reads its frames per second

    def reset(self) -> Observation:
        """Begin an episode in every world, with the seed given to `seed` if there is one."""
        observation, infos = self._env.reset(seed=self._seeds[0])
        self.reset_infos = self._rows(infos)
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions until `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Take one agent step.

        Raises:
            ValueError: there was no `step_async` before.
        """
        if self._actions is None:
            raise ValueError("call step_async(actions) before step_wait()")
        observation, rewards, terminated, truncated, infos = self._env.step(self._actions)
        self._actions = None
        done = terminated | truncated
        rows = self._rows({key: infos[key] for key in ("task_index", "success")})
        for index in np.flatnonzero(done):
            rows[index] |= self._ending(infos, int(index)) | {
                "TimeLimit.truncated": not bool(terminated[index])
            }
        return observation, rewards, done, rows

    def close(self) -> None:
        """Close the vector environment."""
        self._env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Return the present image of every world."""
        return self._env.render()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the vector environment, once for every world asked for."""
        return [getattr(self._env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Raise ValueError: an attribute cannot be set, because the worlds are one environment."""
        raise ValueError(
            f"{attr_name!r} cannot be set: the worlds share one environment, make it anew"
        )

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Call a method of the vector environment once; return its result for every world."""
        result = getattr(self._env, method_name)(*args, **kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return True for SB3's `Monitor`, whose records the infos have, else False."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]

    def _rows(self, infos: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        return [
            {key: values[index].item() for key, values in infos.items()}
            for index in range(self.num_envs)
        ]

    def _ending(self, infos: dict[str, Any], index: int) -> dict[str, Any]:
        row: dict[str, Any] = {"terminal_observation": infos["final_obs"][index]}
        statistics = infos["episode_statistics"]
        episode = {key: values[index].item() for key, values in statistics.items()}
        if not episode["partial"]:
            steps = episode["length"] // self._env.action_repeat
            seconds = round(time.time() - self._started, 6)
            row |= {
                "episode": {"r": episode["return"], "l": steps, "t": seconds},
                "is_success": episode["success"],
            }
        return row
