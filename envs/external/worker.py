"""Run several external environments in a worker process.

The process is asked through a pipe and draws into shared memory.
"""

import mmap
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import DependencyNotInstalled

from envs.external.env import ExternalEnv
from envs.external.families import external_family
from envs.tasks import Task

# The columns of a step's outcome: reward, control steps, terminated, truncated, success.
COLUMNS = 5


@dataclass(frozen=True)
class Setup:
    """Store a worker's first message: the environment to make.

    Attributes:
        tasks: of the whole vector environment.
        shape: of the frames in shared memory, [env, size, size, 3]; a worker draws those of its own
            environments.
        repeat: control steps in an agent step.
        draws: whether every step is drawn.
        state_size: numbers of an environment's state that an agent observes; 0 for none.
        registrations: Gymnasium's records of environments that may replace the worker's own.
    """

    tasks: tuple[Task, ...]
    shape: tuple[int, int, int, int]
    repeat: int
    draws: bool = True
    state_size: int = 0
    registrations: tuple[EnvSpec, ...] = ()


@dataclass(frozen=True)
class EpisodeRequest:
    """Ask for an episode: the numbers of the environment and of the task, and the seed."""

    env: int
    task: int
    seed: int


class Worker:
    """Run the environments of one process, by their numbers in the vector environment.

    An `ExternalEnv` belongs to one task for good. Where the next episode of a number has another
    task, its `ExternalEnv` is put aside for the number that needs that task next.

    Args:
        setup: what to make.
        frames: images in shared memory, [env, size, size, 3].
    """

    def __init__(self, setup: Setup, frames: np.ndarray) -> None:
        gymnasium.registry.update({spec.id: spec for spec in setup.registrations})
        self._setup = setup
        self._frames = frames
        self._envs: dict[int, tuple[int, ExternalEnv]] = {}
        self._idle: dict[int, list[ExternalEnv]] = {}

    def begin(self, requests: list[EpisodeRequest]) -> np.ndarray:
        """Start episodes, draw their first frames, and return their first states [env, state]."""
        states = [
            self._naming(request.env, request.task, partial(self._begin, request))
            for request in requests
        ]
        return np.array(states, np.float64).reshape(len(requests), self._setup.state_size)

    def act(self, envs: list[int], actions: np.ndarray) -> np.ndarray:
        """Take one agent step of the listed environments, and draw them.

        Returns:
            float64 [env, COLUMNS + state_size].
        """
        rows = [
            self._naming(env, self._envs[env][0], partial(self._act, env, action))
            for env, action in zip(envs, actions, strict=True)
        ]
        return np.array(rows, np.float64).reshape(len(envs), COLUMNS + self._setup.state_size)

    def image(self, env: int, size: int) -> np.ndarray:
        """Return an image of one environment at another size."""
        out = np.empty((size, size, 3), np.uint8)
        self._naming(env, self._envs[env][0], lambda: self._envs[env][1].draw(out))
        return out

    def observation(self, env: int) -> Any:
        """Return what the environment itself last observed."""
        return self._envs[env][1].observation

    def close(self) -> None:
        """Release what the environments hold, programs that they started among it."""
        held = [env for _, env in self._envs.values()]
        for env in [*held, *(env for idle in self._idle.values() for env in idle)]:
            try:
                env.close()
            except Exception:  # of one environment, which must not keep the others open
                traceback.print_exc()

    def _begin(self, request: EpisodeRequest) -> list[float]:
        task, env = self._envs.pop(request.env, (-1, None))
        if env is not None and task != request.task:
            self._idle.setdefault(task, []).append(env)
            env = None
        if env is None:
            idle = self._idle.get(request.task)
            chosen = self._setup.tasks[request.task]
            env = idle.pop() if idle else external_family(chosen).make_env(chosen)
        self._envs[request.env] = (request.task, env)
        env.begin(request.seed)
        return self._observe(request.env)

    def _act(self, number: int, action: np.ndarray) -> list[float]:
        env = self._envs[number][1]
        reward = 0.0
        success = False
        terminated = False
        truncated = False
        steps = 0
        while steps < self._setup.repeat and not (terminated or truncated):
            outcome = env.act(action)
            reward += outcome.reward
            success |= outcome.success
            terminated = outcome.terminated
            truncated = outcome.truncated
            steps += 1
        return [reward, steps, terminated, truncated, success, *self._observe(number)]

    def _observe(self, number: int) -> list[float]:
        """Draw an environment and return its state, as far as either is observed."""
        env = self._envs[number][1]
        if self._setup.draws:
            env.draw(self._frames[number])
        if not self._setup.state_size:
            return []
        state: list[float] = env.state().tolist()
        if len(state) != self._setup.state_size:
            raise ValueError(
                f"its observation has {len(state)} numbers, and its observation space "
                f"{self._setup.state_size}"
            )
        return state

    def _naming(self, env: int, task: int, work: Callable[[], Any]) -> Any:
        """Do some work with an environment; where it fails, name the environment and its task."""
        try:
            return work()
        except Exception as error:
            name = self._setup.tasks[task].name
            raise RuntimeError(
                f"environment {env} (task {name!r}): {type(error).__name__}: {error}"
            ) from error


def serve(connection: Connection, frames: int) -> None:
    """Answer messages until the other end of the pipe closes, then close the environments.

    A message is (method, arguments); the answer is (None, result) or (error, traceback). The
    traceback is empty where a package is missing: the error says all there is to know.

    Args:
        connection: on which the first message is a `Setup`.
        frames: file descriptor of the shared memory.
    """
    setup: Setup = connection.recv()
    memory = mmap.mmap(frames, 0)
    worker = Worker(setup, np.frombuffer(memory, np.uint8).reshape(setup.shape))
    try:
        _answer_all(connection, worker)
    finally:
        worker.close()


def refuse(connection: Connection, error: Exception) -> None:
    """Answer the first message with an error of the user's modules, which made no worker.

    Args:
        connection: as `serve` gets it; nothing is made of its messages, which may need a module.
        error: what was raised while modules were imported.
    """
    with suppress(EOFError, OSError):
        for _ in ("setup", "message"):
            connection.recv_bytes()
        trace = "".join(traceback.format_exception(error))
        connection.send((f"a worker process: {error}", trace))


def _answer_all(connection: Connection, worker: Worker) -> None:
    while True:
        try:
            method, arguments = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            answer: tuple[str | None, Any] = (None, getattr(worker, method)(*arguments))
        except RuntimeError as error:
            missing = isinstance(error.__cause__, DependencyNotInstalled)
            answer = (str(error), "" if missing else traceback.format_exc())
        try:
            connection.send(answer)
        except OSError:  # nobody waits for it any more
            return
