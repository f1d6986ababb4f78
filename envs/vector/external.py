"""Play external environments in worker processes, as a vector environment."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from typing_extensions import override

from envs.external import patience
from envs.external.families import external_family
from envs.external.render import resize
from envs.external.worker import EpisodeRequest
from envs.external.worker_pool import WorkerPool
from envs.suites import Suite
from envs.tasks import Task
from envs.vector.base import EnvOptions, PixelVectorEnv, Transition, check_tasks

_LARGEST_SEED = 2**31 - 1


class ExternalVectorEnv(PixelVectorEnv):
    """Play Gymnasium environments in worker processes.

    Observations, actions, infos and seeds are as in `PixelVectorEnv`. These points differ:

    * Episodes may terminate. They are truncated by the task's time limit or by the environment's
      own.
    * Success is what the environment reports of it.
    * The action has as many numbers as the largest body of the suite needs; environments that take
      fewer ignore the last ones, which are False in the observation's "action_mask".
    * An environment that ends within `action_repeat` control steps ends the agent step there.
    * A worker process that dies is started again, with a warning. The episodes of its environments
      end where they were: truncated, with no reward for that step, the last image seen as their
      last, and `partial` in their statistics. `take_counts` counts such deaths.
    * Nobody can save an arbitrary environment in the middle of an episode. A continued run goes on
      as after the death of every worker: its first step ends all episodes, truncated and partial,
      and begins the next ones, which start as they would have started. So a continued run is not
      bit for bit the run that was never stopped.
    """

    def __init__(
        self, suite: Suite, num_envs: int, tasks: Sequence[Task] | None, options: EnvOptions
    ) -> None:
        """Start the worker processes; for the arguments see `envs.make_vec`.

        Args:
            suite: an external suite.
            num_envs: number of environments.
            tasks: tasks to follow; the training split by default.
            options: of `make_vec`; `threads` is the number of worker processes.

        Raises:
            ValueError: an argument is out of range, a package is missing, or does not know a task;
                or the environment variable of `patience` holds no time.
        """
        patience.longest_silence()  # refused now, not in the middle of an episode
        chosen = check_tasks(suite, tasks)
        for task in chosen:
            external_family(task).check(task)
        super().__init__(suite, num_envs, chosen, options, hold_steps=[1] * len(chosen))
        workers = min(options.threads or len(os.sched_getaffinity(0)), self.num_envs)
        opengl = any(task.parameters.get("render") == "opengl" for task in self.tasks)
        self._pool = WorkerPool(
            self.tasks,
            self.num_envs,
            self.image_size,
            self.action_repeat,
            workers,
            opengl,
            self._shows_images,
            self._states.shape[1],
        )
        self.metadata = {**self.metadata, "render_fps": 25}

    @property
    def worker_processes(self) -> list[int]:
        """Return the process ids of the workers."""
        return self._pool.processes

    def own_observation(self, index: int) -> Any:
        """Return what the environment itself last observed, for scripted experts.

        Raises:
            ValueError: there was no `reset` before.
        """
        if not self._pool.alive[index]:
            raise ValueError(f"environment {index} has no episode: call reset()")
        return self._pool.ask(index, "observation")

    @override
    def take_counts(self) -> dict[str, int]:
        return {"env/worker_deaths": self._pool.take_deaths()}

    @override
    def close_extras(self, **kwargs: Any) -> None:
        self._pool.close()

    @override
    def _start_episodes(self, worlds: Int64[np.ndarray, " started"]) -> None:
        index = self._episodes.task_index
        requests = []
        for env in worlds.tolist():
            rng = self._episode_rng(env)
            seed = int(rng.integers(_LARGEST_SEED))
            self._choose_initial_step(env, rng)
            requests.append(EpisodeRequest(env, int(index[env]), seed))
        self._pool.begin(requests)

    @override
    def _simulate(
        self, actions: Float64[np.ndarray, "env action"], task_index: Int64[np.ndarray, " env"]
    ) -> Transition:
        alive = self._pool.alive.copy()
        rows = self._pool.act(actions.astype(np.float32))
        lost: Bool[np.ndarray, " env"] = ~(alive & self._pool.alive)
        rows[lost] = 0
        rewards = rows[:, 0]
        terminated = rows[:, 2] > 0
        truncated = rows[:, 3] > 0
        success = rows[:, 4] > 0
        self._episodes.step += rows[:, 1].astype(np.int64)
        self._episodes.returns += rewards
        self._episodes.note_success(success)
        truncated |= self._episodes.ended | lost
        return Transition(rewards.astype(np.float32), success, terminated, truncated, lost)

    @override
    def _draw(
        self,
        out: UInt8[np.ndarray, "drawn size size 3"],
        worlds: Int64[np.ndarray, " drawn"] | None = None,
    ) -> None:
        out[:] = self._pool.frames if worlds is None else self._pool.frames[worlds]

    @override
    def _read_states(self) -> Float32[np.ndarray, "env state"]:
        known = self._pool.alive[:, None]
        return np.where(known, self._pool.states, self._states).astype(np.float32)

    @override
    def _image(self, index: int, size: int) -> UInt8[np.ndarray, "size size 3"]:
        if not self._pool.alive[index]:
            seen = self._pixels if self._shows_images else self._pool.frames
            return resize(np.ascontiguousarray(seen[index, ..., -3:]), size)
        image: np.ndarray = self._pool.ask(index, "image", size)
        return image

    @override
    def _simulation_state(self) -> dict[str, np.ndarray]:
        return {}

    @override
    def _load_simulation_state(self, state: dict[str, np.ndarray]) -> None:
        self._pool.abandon()
