"""Divide external environments among worker processes, and replace the processes that die."""

import math
import mmap
import os
import time
import warnings
from collections.abc import Collection, Sequence
from itertools import pairwise
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from envs.external import patience
from envs.external.families import external_family
from envs.external.forkserver import fork_server
from envs.external.temporary_folder import TemporaryFolder
from envs.external.worker import COLUMNS, EpisodeRequest, Setup
from envs.tasks import Task

# Deaths of one worker, with no step of its environments in between, after which the run stops.
MAX_DEATHS = 3
_PATIENCE_SECONDS = 5.0
# How often a wait for answers looks whether the process was asked to stop.
_POLL_SECONDS = 0.5
# Silence after which the environments are named, long before they are given up.
_NOTICE_SECONDS = 60.0


def parts(num_envs: int, workers: int) -> list[range]:
    """Return the environments of each worker: contiguous numbers, of sizes that differ by one."""
    bounds = [round(worker * num_envs / workers) for worker in range(workers + 1)]
    return [range(low, high) for low, high in pairwise(bounds)]


def envs_held(num_envs: int, tasks: int, workers: int) -> int:
    """Return how many `ExternalEnv`s the workers come to hold.

    Tasks are assigned round-robin, and a worker keeps what its environments change from: for each
    task as many as ever play it at the same time. These are as many as there are environments where
    the latter are a multiple of the tasks, more elsewhere.
    """
    rounds = range(tasks // math.gcd(num_envs, tasks))
    return sum(
        max(sum((env + number * num_envs) % tasks == task for env in part) for number in rounds)
        for part in parts(num_envs, workers)
        for task in range(tasks)
    )


class ExternalEnvError(RuntimeError):
    """Say that an external environment raised an error, or that its process keeps dying.

    The message names the environment and, of an error, has its traceback.
    """


class WorkerPool:
    """Run worker processes, each with a contiguous part of the environments.

    A worker that dies, or that is silent for longer than `patience.longest_silence()`, is started
    again, with a warning. Its environments are then lost: they are not `alive` until `begin` starts
    another episode in them.

    Args:
        tasks: tasks that the environments may follow.
        num_envs: number of environments.
        size: height and width of their images.
        repeat: control steps in an agent step.
        workers: number of processes.
        opengl: whether an environment draws with OpenGL.
        draws: whether every step is drawn.
        state_size: numbers of an environment's state that an agent observes; 0 for none.

    Attributes:
        alive: [env], the environments that have an episode to act in.
        frames: uint8 [env, size, size, 3], the present images; of an environment that is lost, the
            last one or what was drawn of it.
        states: float64 [env, state_size], the present states of those that are alive.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        num_envs: int,
        size: int,
        repeat: int,
        workers: int,
        opengl: bool,
        draws: bool = True,
        state_size: int = 0,
    ) -> None:
        self._tasks = tuple(tasks)
        registrations = tuple(
            spec for task in self._tasks for spec in external_family(task).registrations(task)
        )
        self._setup = Setup(
            self._tasks, (num_envs, size, size, 3), repeat, draws, state_size, registrations
        )
        self.states: Float[np.ndarray, "env state"] = np.zeros((num_envs, state_size))
        self.alive: Bool[np.ndarray, " env"] = np.zeros(num_envs, bool)
        self._folder = TemporaryFolder()
        self._file = os.memfd_create("frames")
        os.truncate(self._file, num_envs * size * size * 3)
        self._memory = mmap.mmap(self._file, 0)
        self.frames: UInt8[np.ndarray, "env size size 3"] = np.frombuffer(
            self._memory, np.uint8
        ).reshape(self._setup.shape)
        self._parts = parts(num_envs, workers)
        self._backend = _backend(opengl)
        self._processes = {worker: self._start() for worker in range(workers)}
        self._deaths = [0] * workers
        self._deaths_to_tell = 0

    @property
    def processes(self) -> list[int]:
        """Return the workers' process ids."""
        return [process for process, _ in self._processes.values()]

    def begin(self, requests: Sequence[EpisodeRequest]) -> None:
        """Start episodes, in these environments alone.

        Raises:
            ExternalEnvError: an environment raised an error.
            RuntimeError: a worker died again and again.
        """
        waiting = {
            worker: [request for request in requests if request.env in part]
            for worker, part in enumerate(self._parts)
        }
        waiting = {worker: chosen for worker, chosen in waiting.items() if chosen}
        while waiting:
            answers = self._ask(
                {worker: ("begin", (chosen,)) for worker, chosen in waiting.items()}
            )
            for worker, states in answers.items():
                begun = [request.env for request in waiting.pop(worker)]
                self.alive[begun] = True
                self.states[begun] = states

    def act(self, actions: Float32[np.ndarray, "env action"]) -> Float[np.ndarray, "env column"]:
        """Take one agent step of all environments that are alive.

        Returns:
            `worker.COLUMNS` numbers of each; zeros where one is not alive.

        Raises:
            ExternalEnvError: an environment raised an error.
            RuntimeError: a worker died again and again.
        """
        rows = np.zeros((len(self.alive), COLUMNS))
        envs = {
            worker: [env for env in part if self.alive[env]]
            for worker, part in enumerate(self._parts)
        }
        questions = {
            worker: ("act", (chosen, actions[chosen])) for worker, chosen in envs.items() if chosen
        }
        for worker, answer in self._ask(questions).items():
            rows[envs[worker]] = answer[:, :COLUMNS]
            self.states[envs[worker]] = answer[:, COLUMNS:]
            self._deaths[worker] = 0
        return rows

    def ask(self, env: int, method: str, *arguments: Any) -> Any:
        """Call a method of the worker that has `env`, for which it must be alive."""
        worker = next(worker for worker, part in enumerate(self._parts) if env in part)
        answers = self._ask({worker: (method, (env, *arguments))})
        if worker not in answers:
            raise ExternalEnvError(f"the worker process of {self._described(worker)} died")
        return answers[worker]

    def take_deaths(self) -> int:
        """Return how many workers died or were given up since the last call."""
        deaths = self._deaths_to_tell
        self._deaths_to_tell = 0
        return deaths

    def abandon(self) -> None:
        """Give up every episode."""
        self.alive[:] = False

    def close(self) -> None:
        """Close the environments, end the processes and give back the memory."""
        for _, connection in self._processes.values():
            connection.close()  # a worker ends when its pipe does
        limit = time.monotonic() + _PATIENCE_SECONDS
        for process, _ in self._processes.values():
            fork_server(self._backend).wait(process, limit - time.monotonic())
        self._processes = {}
        self._folder.remove()
        os.close(self._file)

    def _start(self) -> tuple[int, Connection]:
        ours, theirs = Pipe()
        process = fork_server(self._backend).start(
            theirs.fileno(), self._file, {"TMPDIR": str(self._folder.path)}
        )
        theirs.close()
        ours.send(self._setup)
        return process, ours

    def _ask(self, questions: dict[int, tuple[str, tuple[Any, ...]]]) -> dict[int, Any]:
        """Return the answers of the workers that gave one; the others have been started again."""
        dead = []
        for worker, question in questions.items():
            try:
                self._processes[worker][1].send(question)
            except OSError:
                dead.append(worker)
        # Every answer is taken before an error is raised, or the next question would get this
        # one's.
        received = self._receive([worker for worker in questions if worker not in dead])
        dead += [worker for worker, answer in received.items() if answer is None]
        silent = [worker for worker in questions if worker not in (*dead, *received)]
        for worker in dead:
            self._replace(worker)
        for worker in silent:
            self._replace(worker, silent=True)
        answers = {worker: answer for worker, answer in received.items() if answer is not None}
        errors = [f"{error}\n{trace}".rstrip() for error, trace in answers.values() if error]
        if errors:
            raise ExternalEnvError(errors[0])
        return {worker: result for worker, (_, result) in answers.items()}

    def _receive(self, workers: Collection[int]) -> dict[int, tuple[str | None, Any] | None]:
        """Return the answers, None of a worker that died; of one that is silent there is none."""
        waiting = {self._processes[worker][1]: worker for worker in workers}
        received: dict[int, tuple[str | None, Any] | None] = {}
        started = time.monotonic()
        noticed = False
        while waiting:
            for connection in wait(list(waiting), _POLL_SECONDS):
                assert isinstance(connection, Connection)
                received[waiting.pop(connection)] = _answer(connection)
            silence = time.monotonic() - started
            if silence > patience.longest_silence():
                break
            if silence > _NOTICE_SECONDS and not noticed:
                noticed = True
                self._notice(list(waiting.values()))
        return received

    def _notice(self, silent: Sequence[int]) -> None:
        for worker in silent:
            warnings.warn(
                f"{self._described(worker)}: no answer for {_NOTICE_SECONDS:g} s; the worker "
                f"process is ended after {patience.longest_silence():g} s ({patience.VARIABLE})",
                stacklevel=2,
            )

    def _replace(self, worker: int, silent: bool = False) -> None:
        process, connection = self._processes.pop(worker)
        connection.close()
        code = fork_server(self._backend).wait(process, 0.0 if silent else _PATIENCE_SECONDS)
        self.alive[self._parts[worker]] = False
        self._deaths[worker] += 1
        self._deaths_to_tell += 1
        how = (
            f"gave no answer for {patience.longest_silence():g} s and was ended"
            if silent
            else f"died (code {code})"
        )
        what = f"the worker process of {self._described(worker)} {how}"
        if self._deaths[worker] >= MAX_DEATHS:
            raise ExternalEnvError(f"{what} {MAX_DEATHS} times without a step in between")
        warnings.warn(
            f"{what}; it is started again, their episodes count as truncated", stacklevel=2
        )
        self._processes[worker] = self._start()

    def _described(self, worker: int) -> str:
        part = self._parts[worker]
        names = ", ".join(dict.fromkeys(task.name for task in self._tasks))
        return f"environments {part[0]} to {part[-1]} (tasks {names})"


def _answer(connection: Connection) -> tuple[str | None, Any] | None:
    """Return a worker's (error, result), None where it died."""
    try:
        answer: tuple[str | None, Any] = connection.recv()
    except (EOFError, OSError):
        return None
    return answer


def _backend(opengl: bool) -> str:
    """Return the value of MUJOCO_GL for the workers: OpenGL only where it is needed."""
    backend = os.environ.get("MUJOCO_GL", "")
    if not opengl:
        return "disabled"
    if backend not in ("", "disabled"):
        return backend
    return "glfw" if os.environ.get("DISPLAY") else "egl"
