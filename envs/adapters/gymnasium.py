"""Adapt one world to Gymnasium's `Env`, for libraries that expect a single environment."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from typing_extensions import override

from envs.vector.base import Observation, PixelVectorEnv


class SingleEnv(gymnasium.Env[Observation, np.ndarray]):
    """Step a vector environment of one world without its automatic resets.

    Observations and actions are as in `PixelVectorEnv`, without the first axis. After the end of an
    episode `reset` must be called. `info` has "task_index" and "success", and at the end of an
    episode "is_success" (at any step), which stable-baselines3 reads, and "episode_statistics" with
    "return", "length" in control steps, "success", "steps_to_success" (0 without one) and
    "partial". The key "episode" is left to Gymnasium's `RecordEpisodeStatistics` and
    stable-baselines3's `Monitor`, whose lengths count agent steps.

    Args:
        env: a vector environment of one world, which this object takes over.

    Raises:
        ValueError: `env` has more than one world.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012  as Gymnasium has it

    def __init__(self, env: PixelVectorEnv) -> None:
        if env.num_envs != 1:
            raise ValueError(f"env must have num_envs=1, got {env.num_envs}")
        self._env = env
        self.render_mode = "rgb_array"
        self.metadata = {**self.metadata, "render_fps": env.metadata["render_fps"]}
        self.observation_space = env.single_observation_space
        self.action_space = env.single_action_space
        # The vector environment begins the next episode by itself; it is kept until `reset` asks
        # for it.
        self._next: tuple[Observation, dict[str, Any]] | None = None
        self._running = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: a run seed, whose first episode is begun; None: the next episode.
            options: as in `PixelVectorEnv.reset`.
        """
        super().reset(seed=seed)
        if seed is not None or self._next is None:
            observation, infos = self._env.reset(seed=seed, options=options)
            self._next = _first(observation), _first(infos)
        first = self._next
        self._next = None
        self._running = True
        return first

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one agent step.

        Raises:
            ResetNeeded: the episode is over, or none has begun.
            ValueError: an action of the wrong shape or not finite.
        """
        if not self._running:
            raise ResetNeeded("call reset() before step(): the episode is over or none has begun")
        observation, reward, terminated, truncated, infos = self._env.step(np.asarray(action)[None])
        info: dict[str, Any] = {
            "task_index": int(infos["task_index"][0]),
            "success": bool(infos["success"][0]),
        }
        if "_final_obs" in infos:
            self._next = _first(observation), {"task_index": info["task_index"], "success": False}
            self._running = False
            last: Observation = infos["final_obs"][0]
            info["episode_statistics"] = _first(infos["episode_statistics"])
            info["is_success"] = info["episode_statistics"]["success"]
        else:
            last = _first(observation)
        return last, float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> np.ndarray:
        """Return the present image, at the size of the videos."""
        return self._env.render_frames(0)

    @override
    def close(self) -> None:
        self._env.close()


def _first(values: dict[str, np.ndarray]) -> dict[str, Any]:
    return {key: value[0].item() if value.ndim == 1 else value[0] for key, value in values.items()}
