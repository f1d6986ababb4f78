"""Speed of our environments beside the usual way to the same observations: dm_control pixels in SB3's SubprocVecEnv."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv

from envs import load_suite, make_vec

IMAGE_SIZE, ACTION_REPEAT = 64, 2
ROUNDS = 3
# Our suite, and the task of dm_control's with the same body, camera, picture size and action repeat.
PEERS = {"walker_speed": ("walker", "walk"), "point_mass": ("point_mass", "easy")}


def run(num_envs: int = 64, seconds: float = 5.0) -> dict[str, Any]:
    """Agent steps per second under random actions, ours and the peer's in turn.

    Args:
        num_envs: worlds in our vector environment.
        seconds: length of each of the three measurements of either; the peer also tries two numbers of processes.

    Returns:
        By suite `steps_per_second`, `peer_steps_per_second`, `ratio` (medians; median of the ratios of neighbours in
        time) and `peer_processes`; without OpenGL the peer's numbers are None. `load_average` is the machine's, over
        the last minute, at the start and at the end.
    """
    before = os.getloadavg()[0]
    backend = opengl_backend()
    if backend is None:
        print("no OpenGL (neither egl nor osmesa works here): dm_control's pixels are skipped", file=sys.stderr)
    result: dict[str, Any] = {suite: _compare(suite, num_envs, seconds, backend) for suite in PEERS}
    return result | {"num_envs": num_envs, "load_average": [round(load, 2) for load in (before, os.getloadavg()[0])]}


def opengl_backend() -> str | None:
    """The value of MUJOCO_GL with which dm_control can draw here without a display, None when there is none."""
    probe = "from dm_control import suite; suite.load('point_mass', 'easy').physics.render(8, 8, camera_id=0)"
    for backend in ("egl", "osmesa"):
        done = subprocess.run(
            [sys.executable, "-c", probe], env=os.environ | {"MUJOCO_GL": backend}, capture_output=True, check=False
        )
        if done.returncode == 0:
            return backend
    return None


class DmControlPixels(gymnasium.Env[np.ndarray, np.ndarray]):
    """A dm_control task seen through its first camera, in OpenGL at MuJoCo's default quality."""

    def __init__(self, domain: str, task: str) -> None:
        # Imported in the process that draws: the import chooses OpenGL's backend.
        from dm_control import suite

        self._env = suite.load(domain, task)
        size = self._env.action_spec().shape
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, size, np.float32)
        self.observation_space = gymnasium.spaces.Box(0, 255, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        self._env.reset()
        return self._pixels(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One agent step."""
        reward = 0.0
        for _ in range(ACTION_REPEAT):
            moment = self._env.step(action)
            reward += moment.reward or 0.0
            if moment.last():
                break
        return self._pixels(), reward, False, moment.last(), {}

    def _pixels(self) -> np.ndarray:
        return np.asarray(self._env.physics.render(IMAGE_SIZE, IMAGE_SIZE, camera_id=0))


def _compare(suite: str, num_envs: int, seconds: float, backend: str | None) -> dict[str, Any]:
    ours = partial(_ours, suite, num_envs, seconds)
    if backend is None:
        return _summary([ours() for _ in range(ROUNDS)], None, None)
    cores = len(os.sched_getaffinity(0))
    speeds = {count: _peer(suite, count, seconds, backend) for count in (cores, 2 * cores)}
    best = max(speeds, key=lambda count: speeds[count])
    pairs = [(ours(), _peer(suite, best, seconds, backend)) for _ in range(ROUNDS)]
    return _summary([pair[0] for pair in pairs], [pair[1] for pair in pairs], best)


def _summary(ours: list[float], peer: list[float] | None, processes: int | None) -> dict[str, Any]:
    ratio = None if peer is None else statistics.median(one / other for one, other in zip(ours, peer, strict=True))
    return {
        "steps_per_second": round(statistics.median(ours), 1),
        "peer_steps_per_second": None if peer is None else round(statistics.median(peer), 1),
        "ratio": None if ratio is None else round(ratio, 1),
        "measurements": [round(speed, 1) for speed in ours],
        "peer_processes": processes,
    }


def _ours(suite: str, num_envs: int, seconds: float) -> float:
    env = make_vec(load_suite(suite), num_envs, image_size=IMAGE_SIZE)
    env.reset()
    speed = _speed(env.step, (num_envs, *env.single_action_space.shape), seconds)
    env.close()
    return speed


def _peer(suite: str, processes: int, seconds: float, backend: str) -> float:
    os.environ["MUJOCO_GL"] = backend  # the processes inherit it
    env = SubprocVecEnv([partial(DmControlPixels, *PEERS[suite])] * processes, start_method="spawn")
    env.reset()
    speed = _speed(env.step, (processes, *env.action_space.shape), seconds)
    env.close()
    return speed


def _speed(step: Callable[[np.ndarray], Any], shape: tuple[int, ...], seconds: float) -> float:
    """Steps per second, all worlds counted."""
    actions = np.random.default_rng(0).uniform(-1, 1, (64, *shape)).astype(np.float32)
    for action in actions[:3]:
        step(action)  # compiles, fills caches
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        step(actions[count % len(actions)])
        count += 1
    return count * shape[0] / (time.perf_counter() - started)
