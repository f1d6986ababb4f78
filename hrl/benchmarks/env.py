"""Measure the speed of our environments beside dm_control images in SB3's SubprocVecEnv.

The latter is the usual way to the same observations.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv

from envs import load_suite, make_vec
from hrl.benchmarks.timing import check_at_least
from hrl.config import ConfigError
from hrl.run.memory import MemoryEstimate
from hrl.run.memory_estimate import RENDERER_BYTES, WORLD_BYTES
from hrl.run.stepping_speed import SteppingSpeed, check_seconds, measure_speed

IMAGE_SIZE = 64
ACTION_REPEAT = 2
ROUNDS = 3


class DmControlTask(NamedTuple):
    """Name a task of dm_control's suite, and the camera that shows it."""

    domain: str
    task: str
    camera: int | str = 0


# For each of our suites, dm_control's task with the same body, camera and action repeat.
PEERS = {
    "walker_speed": DmControlTask("walker", "walk"),
    "point_mass": DmControlTask("point_mass", "easy"),
}


def run(num_envs: int = 64, seconds: float = 5.0) -> dict[str, Any]:
    """Return agent steps per second under random actions, measured in turn with the peer's.

    Args:
        num_envs: number of worlds in our vector environment, at least 1.
        seconds: length of each of the three measurements of each side, above 0. Before them, the
            peer is measured with two numbers of processes, and the faster one is used.

    Returns:
        By suite `steps_per_second`, `peer_steps_per_second`, `ratio` (medians; the median of the
        ratios of successive measurements), all `measurements`, `cpu_milliseconds` of a step on each
        side, their `cpu_ratio` (which other programs on the machine disturb less) and
        `peer_processes`. Without OpenGL the peer's keys are missing. `load_average` is the
        machine's, over the last minute, at the start and at the end.

    Raises:
        ConfigError: an argument out of its range.
        MemoryEstimateError: so many worlds do not fit into memory.
    """
    check_at_least(1, num_envs=num_envs)
    _check_memory(num_envs)
    try:
        check_seconds(seconds)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    load_before = os.getloadavg()[0]
    backend = opengl_backend()
    if backend is None:
        print(
            "no OpenGL (neither egl nor osmesa works here): dm_control's images are skipped",
            file=sys.stderr,
        )
    result: dict[str, Any] = {suite: _compare(suite, num_envs, seconds, backend) for suite in PEERS}
    return result | {
        "num_envs": num_envs,
        "load_average": [round(load, 2) for load in (load_before, os.getloadavg()[0])],
    }


def opengl_backend() -> str | None:
    """Return the value of MUJOCO_GL with which dm_control can render here without a display.

    None: no value works.
    """
    probe = (
        "from dm_control import suite; "
        "suite.load('point_mass', 'easy').physics.render(8, 8, camera_id=0)"
    )
    for backend in ("egl", "osmesa"):
        done = subprocess.run(
            [sys.executable, "-P", "-c", probe],
            env=os.environ | {"MUJOCO_GL": backend},
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            return backend
    return None


class DmControlPixels(gymnasium.Env[np.ndarray, np.ndarray]):
    """Observe a dm_control task by one of its cameras, in OpenGL at MuJoCo's default quality."""

    def __init__(self, domain: str, task: str, camera: int | str = 0) -> None:
        # The import chooses OpenGL's backend, so it belongs into the process that renders.
        from dm_control import suite

        self._env = suite.load(domain, task)
        self._camera = camera
        size = self._env.action_spec().shape
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, size, np.float32)
        self.observation_space = gymnasium.spaces.Box(0, 255, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self._env.reset()
        return self._pixels(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Make one agent step."""
        reward = 0.0
        for _ in range(ACTION_REPEAT):
            time_step = self._env.step(action)
            reward += time_step.reward or 0.0
            if time_step.last():
                break
        return self._pixels(), reward, False, time_step.last(), {}

    def _pixels(self) -> np.ndarray:
        image = self._env.physics.render(IMAGE_SIZE, IMAGE_SIZE, camera_id=self._camera)
        return np.asarray(image)


def peer_speed(task: DmControlTask, processes: int, seconds: float, backend: str) -> SteppingSpeed:
    """Return the speed of dm_control's pixels, with a world in each of several processes."""
    os.environ["MUJOCO_GL"] = backend  # the processes inherit it
    env = SubprocVecEnv([partial(DmControlPixels, *task)] * processes, start_method="spawn")
    env.reset()
    pids = [process.pid for process in env.processes]
    measured = measure_speed(env.step, (processes, *(env.action_space.shape or ())), seconds, pids)
    env.close()
    return measured


def _check_memory(num_envs: int) -> None:
    """Print the memory that our worlds take, and refuse what does not fit."""
    estimate = MemoryEstimate()
    estimate.add("observations", 3 * num_envs * IMAGE_SIZE**2 * 3)
    estimate.add("simulation and rendering", RENDERER_BYTES + num_envs * WORLD_BYTES)
    print(estimate)
    estimate.check()


def _compare(suite: str, num_envs: int, seconds: float, backend: str | None) -> dict[str, Any]:
    if backend is None:
        return _summary([_ours(suite, num_envs, seconds) for _ in range(ROUNDS)])
    cores = len(os.sched_getaffinity(0))
    speeds = {
        count: peer_speed(PEERS[suite], count, seconds, backend).steps_per_second
        for count in (cores, 2 * cores)
    }
    best = max(speeds, key=lambda count: speeds[count])
    pairs = [
        (_ours(suite, num_envs, seconds), peer_speed(PEERS[suite], best, seconds, backend))
        for _ in range(ROUNDS)
    ]
    ours, peer = ([pair[side] for pair in pairs] for side in (0, 1))
    peer_summary = {f"peer_{key}": value for key, value in _summary(peer).items()}
    return _summary(ours) | peer_summary | _ratios(pairs) | {"peer_processes": best}


def _summary(measurements: list[SteppingSpeed]) -> dict[str, Any]:
    speeds = [measured.steps_per_second for measured in measurements]
    cpu_milliseconds = statistics.median(measured.cpu_milliseconds for measured in measurements)
    return {
        "steps_per_second": round(statistics.median(speeds), 1),
        "measurements": [round(speed, 1) for speed in speeds],
        "cpu_milliseconds": round(cpu_milliseconds, 3),
    }


def _ratios(pairs: list[tuple[SteppingSpeed, SteppingSpeed]]) -> dict[str, float]:
    speeds = [ours.steps_per_second / peer.steps_per_second for ours, peer in pairs]
    costs = [peer.cpu_milliseconds / ours.cpu_milliseconds for ours, peer in pairs]
    return {
        "ratio": round(statistics.median(speeds), 1),
        "cpu_ratio": round(statistics.median(costs), 1),
    }


def _ours(suite: str, num_envs: int, seconds: float) -> SteppingSpeed:
    env = make_vec(load_suite(suite), num_envs, image_size=IMAGE_SIZE)
    env.reset()
    measured = measure_speed(env.step, env.action_space.shape or (), seconds, [os.getpid()])
    env.close()
    return measured
