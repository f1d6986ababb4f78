"""Simulate one body in many worlds on the CPU, as a vector environment."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from typing_extensions import override

from envs.families import resolve
from envs.families.family import EpisodeTask
from envs.suites import Suite
from envs.tasks import Task
from envs.vector.base import EnvOptions, PixelVectorEnv, Transition, check_tasks
from envs.vector.episodes import Episodes
from envs.vector.mujoco_worlds import MujocoWorlds

ControlStep = Callable[[], tuple[np.ndarray, np.ndarray]]


class MujocoVectorEnv(PixelVectorEnv):
    """Simulate worlds of one scene."""

    def __init__(
        self, suite: Suite, num_envs: int, tasks: Sequence[Task] | None, options: EnvOptions
    ) -> None:
        """Make the worlds; for the arguments see `envs.make_vec`.

        Raises:
            ValueError: an argument is out of range.
        """
        chosen = check_tasks(suite, tasks)
        family = resolve(chosen[0])
        super().__init__(suite, num_envs, chosen, options, [family.hold_steps] * len(chosen))
        self._worlds = MujocoWorlds(family, self.tasks, self.num_envs, options)
        fps = 1 / (self._worlds.seconds * self.action_repeat)
        self.metadata = {**self.metadata, "render_fps": fps}

    @override
    def close_extras(self, **kwargs: Any) -> None:
        self._worlds.physics.close()

    @override
    def _start_episodes(self, worlds: Int64[np.ndarray, " started"]) -> None:
        index = self._episodes.task_index
        for env in worlds.tolist():
            rng = self._episode_rng(env)
            self._set_episode(env, self._worlds.choose_start(env, index[env], rng))
            self._choose_initial_step(env, rng)
            self._worlds.choose_distractor_start(env, rng)
        self._worlds.start(worlds, index)

    @override
    def _simulate(
        self, actions: Float64[np.ndarray, "env action"], task_index: Int64[np.ndarray, " env"]
    ) -> Transition:
        control = self._worlds.control(actions)
        return repeat_action(
            lambda: self._worlds.advance(control),
            self.action_repeat,
            self._episodes,
            np.full(self.num_envs, self._worlds.family.ends_with_success),
        )

    @override
    def _draw(
        self,
        out: UInt8[np.ndarray, "drawn size size 3"],
        worlds: Int64[np.ndarray, " drawn"] | None = None,
    ) -> None:
        self._place_distractors()
        self._worlds.draw(out, worlds)

    @override
    def _read_states(self) -> Float32[np.ndarray, "env state"]:
        return self._worlds.states()

    @override
    def _image(self, index: int, size: int) -> UInt8[np.ndarray, "size size 3"]:
        self._place_distractors()
        return self._worlds.physics.image(index, size)

    @override
    def _simulation_state(self) -> dict[str, np.ndarray]:
        return {
            "distractor_start": self._worlds.distractor_start.copy(),
            "physics": self._worlds.physics.state(),
        }

    @override
    def _load_simulation_state(self, state: dict[str, np.ndarray]) -> None:
        self._worlds.distractor_start = np.array(state["distractor_start"])
        self._worlds.physics.load_state(np.asarray(state["physics"]))

    @override
    def _recall_episode(self, env: int) -> EpisodeTask | None:
        task = int(self._episodes.task_index[env])
        return self._worlds.recall_episode(env, task, self._episode_rng(env))

    @override
    def _place_distractors(self) -> None:
        self._worlds.place_distractors(self._episodes.task_index, self._episodes.step)


def repeat_action(
    step: ControlStep, repeat: int, episodes: Episodes, ends_with_success: Bool[np.ndarray, " env"]
) -> Transition:
    """Take several control steps under one action, and count each of them.

    Args:
        step: takes one control step of all worlds; returns the rewards and where the success
            condition holds.
        repeat: number of control steps.
        episodes: the episodes of all worlds.
        ends_with_success: worlds whose episodes a success ends, with the agent step it happens in.
    """
    total = np.zeros(episodes.num_envs)
    success = np.zeros(episodes.num_envs, bool)
    nowhere = np.zeros(episodes.num_envs, bool)
    for _ in range(repeat):
        reward, holding = step()
        total += reward
        success |= episodes.advance(reward, holding)
    terminated = success & ends_with_success
    return Transition(total.astype(np.float32), success, terminated, episodes.ended, nowhere)
