"""Several bodies in one vector environment, so that one agent trains on walker, cheetah and
quadruped at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from envs.families import resolve
from envs.suites import Suite
from envs.tasks import Task
from envs.vector.mujoco import EnvOptions, Observation, PixelVectorEnv, checked_tasks, task_vectors


class MultiBodyVectorEnv(PixelVectorEnv):
    """A `PixelVectorEnv` for each body, side by side: observations, infos and seeds as there.

    World i follows `tasks[i % len(tasks)]` in its first episode and keeps its body for ever; in
    later episodes it goes on with the tasks of that body. The action has as many numbers as the
    body with most actuators needs; to the others the last ones are padding, which the
    observation's "action_mask" says. The task vector begins with which body it is (see
    `envs.families.mixed`).
    """

    def __init__(
        self, suite: Suite, num_envs: int, tasks: Sequence[Task] | None, options: EnvOptions
    ) -> None:
        """As `envs.make_vec`.

        Raises:
            ValueError: an argument out of range, or so few worlds that a body has none.
        """
        self._take(suite, num_envs, checked_tasks(suite, tasks), options)
        self._vectors = task_vectors([suite.family] * len(self.tasks), self.tasks)
        self._pixels = np.zeros(
            (1, self.image_size, self.image_size, 3 * self.frame_stack), np.uint8
        )
        bodies = [resolve(task) for task in self.tasks]
        self._make_spaces([int(body.scene.model.nu) for body in bodies], suite.action_size)
        self._parts: list[_Part] = []
        for number, body in enumerate(dict.fromkeys(bodies)):
            own = np.flatnonzero([other is body for other in bodies])
            worlds = np.flatnonzero(np.isin(np.arange(self.num_envs) % len(self.tasks), own))
            if not len(worlds):
                needed = 1 + max(bodies.index(other) for other in bodies)
                raise ValueError(
                    f"num_envs is {self.num_envs}; suite {suite.name!r} needs at least {needed}, or a body has no world"
                )
            chosen = tuple(self.tasks[task] for task in own)
            alone = replace(suite, splits={"train": chosen}, mixed=False)
            # Worlds are numbered anew in every part: streams of their own keep their random numbers
            # apart.
            own_options = replace(options, stream=f"{options.stream}/{number}")
            self._parts.append(
                _Part(worlds, own, PixelVectorEnv(alone, len(worlds), None, own_options))
            )
        self.metadata = dict(self._parts[0].env.metadata)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict]:
        """See `PixelVectorEnv.reset`."""
        results = [part.env.reset(seed=seed, options=options) for part in self._parts]
        infos = self._infos([infos for _, infos in results])
        return self._seen([observation for observation, _ in results], infos["task_index"]), infos

    def step(
        self, actions: Float32[np.ndarray, "env actuator"]
    ) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """See `PixelVectorEnv.step`."""
        values = self._checked_actions(actions).astype(np.float32)
        results = [part.step(values) for part in self._parts]
        seen, infos = [result[0] for result in results], [result[4] for result in results]
        rewards = self._gathered([result[1] for result in results])
        terminated = self._gathered([result[2] for result in results])
        truncated = self._gathered([result[3] for result in results])
        merged = self._infos(infos)
        now = self._gathered([part.task_index for part in self._parts])
        if truncated.any():
            finals = [
                found.get("final_obs", present) for found, present in zip(infos, seen, strict=True)
            ]
            last = np.where(truncated, merged["task_index"], now)
            merged |= {
                "final_obs": self._seen(finals, last),
                "_final_obs": truncated,
                "_episode": truncated.copy(),
            }
        return self._seen(seen, now), rewards, terminated, truncated, merged

    def render_frames(self, index: int, size: int = 128) -> UInt8[np.ndarray, "height width 3"]:
        """See `PixelVectorEnv.render_frames`."""
        if not 0 <= index < self.num_envs:
            raise ValueError(f"index must be from 0 to {self.num_envs - 1}, got {index}")
        part = next(part for part in self._parts if index in part.worlds)
        return part.env.render_frames(int(np.flatnonzero(part.worlds == index)[0]), size)

    def state_dict(self) -> dict[str, np.ndarray]:
        """See `PixelVectorEnv.state_dict`; each body's keys begin with its number."""
        parts = enumerate(self._parts)
        return {
            f"{number}.{key}": value
            for number, part in parts
            for key, value in part.env.state_dict().items()
        }

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """See `PixelVectorEnv.load_state_dict`."""
        for number, part in enumerate(self._parts):
            prefix = f"{number}."
            own = {
                key.removeprefix(prefix): value
                for key, value in state.items()
                if key.startswith(prefix)
            }
            part.env.load_state_dict(own)

    def close_extras(self, **kwargs: Any) -> None:
        """Give back the threads (called by `close`)."""
        for part in self._parts:
            part.env.close()

    def _require_reset(self) -> None:
        self._parts[0].env._require_reset()

    def _gathered(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """One row a world from every part's rows."""
        gathered = np.zeros((self.num_envs, *values[0].shape[1:]), values[0].dtype)
        for part, rows in zip(self._parts, values, strict=True):
            gathered[part.worlds] = rows
        return gathered

    def _seen(self, observations: Sequence[Observation], task_index: np.ndarray) -> Observation:
        pixels = self._gathered([observation["pixels"] for observation in observations])
        return {
            "pixels": pixels,
            "task": self._vectors[task_index],
            "action_mask": self._masks[task_index],
        }

    def _infos(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        pairs = list(zip(self._parts, infos, strict=True))
        merged: dict[str, Any] = {
            "task_index": self._gathered(
                [part.tasks[found["task_index"]] for part, found in pairs]
            ),
            "success": self._gathered([found["success"] for found in infos]),
        }
        if any("episode" in found for found in infos):
            # Where no episode has ended, what stands there has no meaning (`_episode`).
            rows = [
                found.get("episode") or part.env._episodes.statistics() for part, found in pairs
            ]
            merged["episode"] = {key: self._gathered([row[key] for row in rows]) for key in rows[0]}
        return merged


class _Part:
    """The worlds of one body, the numbers of its tasks, and the environment that they are simulated
    in.
    """

    def __init__(self, worlds: np.ndarray, tasks: np.ndarray, env: PixelVectorEnv) -> None:
        self.worlds, self.tasks, self.env = worlds, tasks, env
        self._actuators = int(np.prod(env.action_space.shape or ())) // env.num_envs

    @property
    def task_index(self) -> np.ndarray:
        """Which of all tasks each of these worlds follows."""
        present: np.ndarray = self.tasks[self.env._episodes.task_index]
        return present

    def step(
        self, actions: np.ndarray
    ) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Under these worlds' rows of the actions, without the numbers that this body has no use
        for.
        """
        return self.env.step(actions[self.worlds, : self._actuators])
