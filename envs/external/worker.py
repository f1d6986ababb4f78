"""A worker process: several external environments, asked through a pipe, drawing into shared
memory.
"""

import mmap
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from envs.external.env import ExternalEnv
from envs.external.families import external_family
from envs.tasks import Task

# What a step of every environment led to: reward, control steps, terminated, truncated, success.
COLUMNS = 5


@dataclass(frozen=True)
class Setup:
    """The first message to a worker.

    Attributes:
        tasks: of the whole vector environment.
        shape: of the frames in shared memory, [env, size, size, 3], of which a worker draws its own
            environments'.
        repeat: control steps in an agent step.
    """

    tasks: tuple[Task, ...]
    shape: tuple[int, int, int, int]
    repeat: int


@dataclass(frozen=True)
class EpisodeRequest:
    """An episode to begin: which environment, which task, which seed."""

    env: int
    task: int
    seed: int


class Worker:
    """The environments of one process, by their numbers in the vector environment.

    An environment belongs to one task for good. Where an environment's next episode has another
    task, it is put aside for whoever needs that task next.
    """

    def __init__(self, setup: Setup, frames: np.ndarray) -> None:
        self._setup, self._frames = setup, frames
        self._worlds: dict[int, tuple[int, ExternalEnv]] = {}
        self._idle: dict[int, list[ExternalEnv]] = {}

    def begin(self, starts: list[EpisodeRequest]) -> None:
        """Start episodes and draw their first frames."""
        for start in starts:
            self._naming(start.env, start.task, partial(self._begin, start))

    def act(self, envs: list[int], actions: np.ndarray) -> np.ndarray:
        """One agent step of the listed environments; returns [env, COLUMNS] float64, and draws."""
        rows = [
            self._naming(env, self._worlds[env][0], partial(self._act, env, action))
            for env, action in zip(envs, actions, strict=True)
        ]
        return np.array(rows, np.float64).reshape(len(envs), COLUMNS)

    def image(self, env: int, size: int) -> np.ndarray:
        """One environment drawn at another size."""
        out = np.empty((size, size, 3), np.uint8)
        self._naming(env, self._worlds[env][0], lambda: self._worlds[env][1].draw(out))
        return out

    def observation(self, env: int) -> Any:
        """What the environment itself last observed."""
        return self._worlds[env][1].observation

    def _begin(self, start: EpisodeRequest) -> None:
        task, world = self._worlds.pop(start.env, (-1, None))
        if world is not None and task != start.task:
            self._idle.setdefault(task, []).append(world)
            world = None
        if world is None:
            idle = self._idle.get(start.task)
            chosen = self._setup.tasks[start.task]
            world = idle.pop() if idle else external_family(chosen).world(chosen)
        self._worlds[start.env] = (start.task, world)
        world.begin(start.seed)
        world.draw(self._frames[start.env])

    def _act(self, env: int, action: np.ndarray) -> list[float]:
        world, reward, success, steps = self._worlds[env][1], 0.0, False, 0
        terminated = truncated = False
        while steps < self._setup.repeat and not (terminated or truncated):
            outcome = world.act(action)
            terminated, truncated = outcome.terminated, outcome.truncated
            reward, success, steps = reward + outcome.reward, success or outcome.success, steps + 1
        world.draw(self._frames[env])
        return [reward, steps, terminated, truncated, success]

    def _naming(self, env: int, task: int, work: Callable[[], Any]) -> Any:
        """Do something with an environment; where it fails, say with which."""
        try:
            return work()
        except Exception as error:
            name = self._setup.tasks[task].name
            raise RuntimeError(
                f"environment {env} (task {name!r}): {type(error).__name__}: {error}"
            ) from error


def serve(connection: Connection, frames: int) -> None:
    """Answer messages (method, arguments) with (None, result) or (message, traceback) until the
    other end closes.

    Args:
        connection: on which the first message is a `Setup`.
        frames: file descriptor of the shared memory.
    """
    setup: Setup = connection.recv()
    memory = mmap.mmap(frames, 0)
    worker = Worker(setup, np.frombuffer(memory, np.uint8).reshape(setup.shape))
    while True:
        try:
            method, arguments = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            answer: tuple[str | None, Any] = (None, getattr(worker, method)(*arguments))
        except RuntimeError as error:
            answer = (str(error), traceback.format_exc())
        connection.send(answer)
