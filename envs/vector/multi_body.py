"""Simulate several bodies in one vector environment, so that one agent trains on all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8
from typing_extensions import override

from envs.families import resolve
from envs.families.family import EpisodeTask
from envs.families.mixed import MixedFamily
from envs.suites import Suite
from envs.tasks import Task
from envs.vector.base import EnvOptions, PixelVectorEnv, Transition, check_tasks
from envs.vector.mujoco import repeat_action
from envs.vector.mujoco_worlds import MujocoWorlds


class _Body(NamedTuple):
    """Hold the worlds of one body.

    Attributes:
        envs: numbers of these worlds in the vector environment.
        actuators: numbers of an action that the body uses.
        worlds: what simulates them; worlds and tasks are numbered anew there.
    """

    envs: Int64[np.ndarray, " world"]
    actuators: int
    worlds: MujocoWorlds


class MultiBodyVectorEnv(PixelVectorEnv):
    """Simulate worlds of several scenes, one body each, such as walker, cheetah and quadruped.

    World i follows `tasks[i % len(tasks)]` in its first episode and keeps its body for ever; in
    later episodes it goes on with the tasks of that body (see `Episodes`). The action has as many
    numbers as the body with most actuators needs; for the others the last ones are padding, which
    the observation's "action_mask" says. The task vector begins with which body it is (see
    `envs.families.mixed`).
    """

    def __init__(
        self, suite: Suite, num_envs: int, tasks: Sequence[Task] | None, options: EnvOptions
    ) -> None:
        """Make the worlds; for the arguments see `envs.make_vec`.

        Raises:
            ValueError: an argument is out of range, or so few worlds that a body has none.
        """
        chosen = check_tasks(suite, tasks)
        families = [resolve(task) for task in chosen]
        distinct = list(dict.fromkeys(families))
        bodies = [distinct.index(family) for family in families]
        hold_steps = [family.hold_steps for family in families]
        super().__init__(suite, num_envs, chosen, options, hold_steps, bodies)
        needed = 1 + max(bodies.index(body) for body in bodies)
        if self.num_envs < needed:
            raise ValueError(
                f"num_envs is {num_envs}; suite {suite.name!r} needs at least {needed}, or a body "
                "has no world"
            )
        # The number of each task among the tasks of its body.
        self._own_task = np.array([bodies[:task].count(body) for task, body in enumerate(bodies)])
        # The number of each world among this environment's worlds of its body.
        self._own_world = np.zeros(self.num_envs, np.int64)
        self._bodies: list[_Body] = []
        for body, family in enumerate(distinct):
            envs = np.flatnonzero(self._episodes.body == body)
            self._own_world[envs] = np.arange(len(envs))
            own = [task for task, other in zip(chosen, bodies, strict=True) if other == body]
            worlds = MujocoWorlds(family, own, len(envs), options)
            self._bodies.append(_Body(envs, int(family.scene.model.nu), worlds))
        ends = np.array([family.ends_with_success for family in distinct])
        self._end_with_success = ends[self._episodes.body]
        assert isinstance(suite.family, MixedFamily)
        self._family = suite.family
        fps = 1 / (self._bodies[0].worlds.seconds * self.action_repeat)
        self.metadata = {**self.metadata, "render_fps": fps}

    @override
    def close_extras(self, **kwargs: Any) -> None:
        for body in self._bodies:
            body.worlds.physics.close()

    @override
    def _stream(self, env: int) -> str:
        # Worlds are numbered anew for every body: streams of their own keep their random numbers
        # apart.
        return f"{self._options.stream}/{self._episodes.body[env]}"

    @override
    def _start_episodes(self, worlds: Int64[np.ndarray, " started"]) -> None:
        index = self._task_index()
        own = self._own_world
        for body, envs in self._split(worlds):
            for env in envs.tolist():
                rng = self._episode_rng(env)
                episode = body.worlds.choose_start(int(own[env]), index[env], rng)
                self._set_episode(env, self._with_body(env, episode))
                self._choose_initial_step(env, rng)
                body.worlds.choose_distractor_start(int(own[env]), rng)
            body.worlds.start(own[envs], index[body.envs])

    @override
    def _simulate(
        self, actions: Float64[np.ndarray, "env action"], task_index: Int64[np.ndarray, " env"]
    ) -> Transition:
        controls = [
            body.worlds.control(actions[body.envs, : body.actuators]) for body in self._bodies
        ]
        reward = np.zeros(self.num_envs)
        holding = np.zeros(self.num_envs, bool)

        def step() -> tuple[np.ndarray, np.ndarray]:
            for body, control in zip(self._bodies, controls, strict=True):
                rows = body.envs
                reward[rows], holding[rows] = body.worlds.advance(control)
            return reward, holding

        return repeat_action(step, self.action_repeat, self._episodes, self._end_with_success)

    @override
    def _draw(
        self,
        out: UInt8[np.ndarray, "drawn size size 3"],
        worlds: Int64[np.ndarray, " drawn"] | None = None,
    ) -> None:
        drawn = np.arange(self.num_envs) if worlds is None else worlds
        self._place_distractors()
        for body, envs in self._split(drawn):
            images = np.empty((len(envs), *out.shape[1:]), np.uint8)
            body.worlds.draw(images, self._own_world[envs])
            out[np.isin(drawn, envs)] = images

    @override
    def _read_states(self) -> Float32[np.ndarray, "env state"]:
        raise AssertionError("refused by Suite.check_observation")

    @override
    def _image(self, index: int, size: int) -> UInt8[np.ndarray, "size size 3"]:
        self._place_distractors()
        body = self._bodies[self._episodes.body[index]]
        image: np.ndarray = body.worlds.physics.image(int(self._own_world[index]), size)
        return image

    @override
    def _simulation_state(self) -> dict[str, np.ndarray]:
        state: dict[str, np.ndarray] = {}
        for number, body in enumerate(self._bodies):
            state[f"distractor_start.{number}"] = body.worlds.distractor_start.copy()
            state[f"physics.{number}"] = body.worlds.physics.state()
        return state

    @override
    def _load_simulation_state(self, state: dict[str, np.ndarray]) -> None:
        for number, body in enumerate(self._bodies):
            body.worlds.distractor_start = np.array(state[f"distractor_start.{number}"])
            body.worlds.physics.load_state(np.asarray(state[f"physics.{number}"]))

    @override
    def _recall_episode(self, env: int) -> EpisodeTask | None:
        worlds = self._bodies[self._episodes.body[env]].worlds
        task, own = int(self._task_index()[env]), int(self._own_world[env])
        return self._with_body(env, worlds.recall_episode(own, task, self._episode_rng(env)))

    def _with_body(self, env: int, episode: EpisodeTask | None) -> EpisodeTask | None:
        """Return what a task says in an episode, with the body in front of the task vector."""
        if episode is None:
            return None
        task = self.tasks[self._episodes.task_index[env]]
        vector = self._family.with_body(task, episode.task_vector)
        return replace(episode, task_vector=vector)

    def _split(
        self, worlds: Int64[np.ndarray, " world"]
    ) -> Iterator[tuple[_Body, Int64[np.ndarray, " world"]]]:
        """Yield every body that some of these worlds have, with the numbers of those worlds."""
        for number, body in enumerate(self._bodies):
            envs = worlds[self._episodes.body[worlds] == number]
            if len(envs):
                yield body, envs

    def _task_index(self) -> Int64[np.ndarray, " env"]:
        """Return the number of each world's task among the tasks of its body."""
        return np.asarray(self._own_task[self._episodes.task_index])

    @override
    def _place_distractors(self) -> None:
        index = self._task_index()
        for body in self._bodies:
            body.worlds.place_distractors(index[body.envs], self._episodes.step[body.envs])
