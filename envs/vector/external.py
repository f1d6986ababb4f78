"""External environments as the vector environment that agents meet."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from envs.external.families import external_family
from envs.external.render import resized
from envs.external.worker import EpisodeRequest
from envs.external.worker_pool import WorkerPool
from envs.suites import Suite
from envs.tasks import Task
from envs.vector.episodes import Episodes
from envs.vector.mujoco import (
    EnvOptions,
    Observation,
    PixelVectorEnv,
    checked_image_size,
    task_vectors,
)

_LARGEST_SEED = 2**31 - 1


class ExternalVectorEnv(PixelVectorEnv):
    """Gymnasium environments in worker processes: observations, actions, infos, seeds as in
    `PixelVectorEnv`.

    What differs:

    * Episodes may terminate. They are truncated by the task's time limit or by the environment's
        own.
    * Success is what the environment reports of it.
    * The action has as many numbers as the largest body of the suite needs; others leave the last
        ones aside.
    * An environment that ends within `action_repeat` control steps ends the agent step there.
    * A worker process that dies is started again, with a warning. The episodes of its environments
      end where they were: truncated, with no reward for that step, the last image seen as their
      last, and `partial` in their statistics.
    * Nobody can save an arbitrary environment in the middle of an episode. A continued run goes on
      as after the death of every worker: its first step ends all episodes, truncated and partial,
      and begins the next ones, which start as they would have started. So a continued run is not
      bit for bit the run that was never stopped.
    """

    def __init__(
        self, suite: Suite, num_envs: int, tasks: Sequence[Task] | None, options: EnvOptions
    ) -> None:
        """As `envs.make_vec`; `options.threads` is the number of worker processes.

        Raises:
            ValueError: an argument out of range, a package that is missing, or a task that it does
                not know.
        """
        self._take(suite, num_envs, _checked_tasks(suite, tasks), options)
        workers = options.threads or len(os.sched_getaffinity(0))
        self._vectors = task_vectors([external_family(task) for task in self.tasks], self.tasks)
        self._episodes = Episodes(self.tasks, self.num_envs, hold_steps=1)
        self._pixels = np.zeros(
            (self.num_envs, self.image_size, self.image_size, 3 * self.frame_stack), np.uint8
        )
        used = [external_family(task).action_size(task) for task in self.tasks]
        self._make_spaces(used, suite.action_size)
        opengl = any(task.parameters.get("render") == "opengl" for task in self.tasks)
        workers = min(workers, self.num_envs)
        self._crew = WorkerPool(
            self.tasks, self.num_envs, self.image_size, self.action_repeat, workers, opengl
        )
        self.metadata = {**self.metadata, "render_fps": 25}

    @property
    def worker_processes(self) -> list[int]:
        """Process numbers of the workers."""
        return self._crew.processes

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict]:
        """See `PixelVectorEnv.reset`.

        Raises:
            ValueError: a negative or non-integer seed or number, or another option.
            ExternalEnvError: an environment raised an error; the message names it.
        """
        self._take_seed(seed, options)
        self._begin_episodes(np.ones(self.num_envs, bool))
        infos = {"task_index": self._episodes.task_index, "success": np.zeros(self.num_envs, bool)}
        return self._observation(), infos

    def step(
        self, actions: Float32[np.ndarray, "env action"]
    ) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One agent step: up to `action_repeat` control steps under one action, then an image.

        Raises:
            ValueError: actions of the wrong shape or not finite, or no `reset` before.
            ExternalEnvError: an environment raised an error; the message names it.
        """
        values = self._checked_actions(actions).astype(np.float32)
        index, known = self._episodes.task_index, self._crew.alive.copy()
        rows = self._crew.act(values)
        lost = ~(known & self._crew.alive)
        rows[lost] = 0
        rewards, steps, success = rows[:, 0], rows[:, 1].astype(np.int64), rows[:, 4] > 0
        terminated, cut = rows[:, 2] > 0, rows[:, 3] > 0
        self._count(rewards, steps, success)
        ended = self._episodes.ended | terminated | cut | lost
        self._advance_frames(~lost)
        infos: dict[str, Any] = {"task_index": index, "success": success}
        if ended.any():
            infos |= self._begin_next(ended, lost)
        return (
            self._observation(),
            rewards.astype(np.float32),
            terminated,
            ended & ~terminated,
            infos,
        )

    def render_frames(self, index: int, size: int = 128) -> UInt8[np.ndarray, "height width 3"]:
        """See `PixelVectorEnv.render_frames`. Of an environment that is lost, the last observation
        enlarged.
        """
        if not 0 <= index < self.num_envs:
            raise ValueError(f"index must be from 0 to {self.num_envs - 1}, got {index}")
        if not self._crew.alive[index]:
            return resized(
                np.ascontiguousarray(self._pixels[index, ..., -3:]), checked_image_size(size)
            )
        image: np.ndarray = self._crew.ask(index, "image", checked_image_size(size))
        return image

    def own_observation(self, index: int) -> Any:
        """What the environment itself last observed, for scripted experts. Raises ValueError before
        the first reset.
        """
        if not self._crew.alive[index]:
            raise ValueError(f"environment {index} has no episode: call reset()")
        return self._crew.ask(index, "observation")

    def state_dict(self) -> dict[str, np.ndarray]:
        """What can be kept: which episodes were under way and the last observation (see the
        class).
        """
        return self._own_state()

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Go on after `state_dict` of an environment made with the same arguments; what is lost
        stands at the class.

        Raises:
            ValueError: a key is missing or does not fit this environment; the message names it.
        """
        self._load_own_state(state)
        self._crew.abandon()

    def close_extras(self, **kwargs: Any) -> None:
        """End the worker processes (called by `close`)."""
        self._crew.close()

    def _count(self, rewards: np.ndarray, steps: np.ndarray, success: np.ndarray) -> None:
        self._episodes.clock += steps
        self._episodes.returns += rewards
        self._episodes.note_success(success)

    def _begin_next(
        self, ended: Bool[np.ndarray, " env"], lost: Bool[np.ndarray, " env"]
    ) -> dict[str, Any]:
        """The infos of the episodes that have ended, with the next ones begun."""
        statistics = self._episodes.statistics()
        statistics["partial"] |= lost
        final = self._observation()
        self._begin_episodes(ended)
        present = self._observation()
        for key, values in final.items():
            values[~ended] = present[key][~ended]
        masks = {"_episode": ended.copy(), "_final_obs": ended.copy()}
        return {"episode": statistics, "final_obs": final} | masks

    def _begin_episodes(self, mask: Bool[np.ndarray, " env"]) -> None:
        """Begin the next episode of the environments in `mask`, and show its first frame."""
        self._episodes.begin(mask)
        self._crew.begin([self._next_start(int(env)) for env in np.flatnonzero(mask)])
        self._pixels[mask] = np.tile(self._crew.frames[mask], self.frame_stack)

    def _next_start(self, env: int) -> EpisodeRequest:
        task, episode = int(self._episodes.task_index[env]), int(self._episodes.number[env])
        rng = self._episode_rng(env)
        seed = int(rng.integers(_LARGEST_SEED))
        if self._options.random_initial_episode_step and episode == 0:
            self._episodes.random_initial_episode_step(env, rng.random(), self.action_repeat)
        return EpisodeRequest(env, task, seed)

    def _advance_frames(self, mask: Bool[np.ndarray, " env"]) -> None:
        """Add the newest frame to the stacks of the environments in `mask`."""
        self._pixels[mask] = np.concatenate(
            [self._pixels[mask][..., 3:], self._crew.frames[mask]], axis=-1
        )


def _checked_tasks(suite: Suite, tasks: Sequence[Task] | None) -> tuple[Task, ...]:
    chosen = suite.tasks("train") if tasks is None else tuple(tasks)
    if not chosen:
        raise ValueError("tasks must name at least one task")
    # A suite of just these tasks passes exactly when they can run side by side.
    Suite(
        suite.name, suite.action_repeat, suite.reference_return, suite.parameter, {"train": chosen}
    )
    for task in chosen:
        external_family(task).check(task)
    return chosen
