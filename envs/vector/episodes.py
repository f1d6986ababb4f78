"""Track the running episodes: the task of each world, its steps, return and success."""

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from jaxtyping import Bool, Float, Int64

from envs.tasks import Task

# The attributes that `state_dict` saves, [env] each.
_SAVED = ("number", "step", "initial_step", "returns", "held", "first_success")


def episode_rng(seed: int, stream: str, env: int, episode: int) -> np.random.Generator:
    """Return the random numbers of one training episode.

    They are a function of these four arguments, so that a resumed run needs no stored state.
    """
    return np.random.default_rng(
        np.random.SeedSequence([seed, crc32(stream.encode()), env, episode])
    )


def evaluation_rng(seed: int, evaluation_seed: int, episode: int) -> np.random.Generator:
    """Return the random numbers of a task's `episode`-th evaluation episode.

    They do not depend on the world that plays it, nor on the tasks that are played beside it.

    Args:
        seed: the evaluator's own.
        evaluation_seed: of the task (`Task.evaluation_seed`).
        episode: number of the episode among the task's, from 0.
    """
    stream = crc32(b"evaluation episodes")
    return np.random.default_rng(np.random.SeedSequence([seed, stream, evaluation_seed, episode]))


class Episodes:
    """Count the episodes of many worlds in control steps, one row a world.

    World i plays `tasks[i % len(tasks)]` in its first episode and keeps the body of that task. The
    tasks of each body are assigned round-robin: the j-th of the n worlds of a body plays, in its
    e-th episode, number `(j + e * n) % m` of the body's m tasks. Every task gets its share whatever
    the number of worlds. It is that task's episode number `(j + e * n) // m`, so that the episodes
    of a task are numbered from 0 without a gap however many worlds and tasks there are. Where all
    tasks are of one body, j is i and n is the number of worlds.

    Args:
        tasks: tasks to assign.
        num_envs: number of worlds.
        hold_steps: for each task, control steps for which its condition must hold for a success.
        bodies: for each task, the number of its body; None: one body for all.
        first: number of the first of these worlds among the worlds of several processes.
        total: number of worlds of all these processes; None for `num_envs`.

    Attributes:
        num_envs: number of worlds.
        body: number of each world's body.
        rank: place of each world among the worlds of its body, those of other processes counted.
        hold_steps: for each world, as `hold_steps` has it for its tasks.
        number: index of each world's episode, counted from 0 since the run seed was set.
        step: control steps since the episode's start.
        initial_step: the step at which the episode began: 0, or more for a first episode that
            began part of the way.
        returns: sum of rewards, float64.
        held: control steps for which the success condition has held without a break.
        first_success: control steps until the episode first was a success; 0 where it has not been
            one yet.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        num_envs: int,
        hold_steps: Sequence[int],
        bodies: Sequence[int] | None = None,
        first: int = 0,
        total: int | None = None,
    ) -> None:
        self.num_envs = num_envs
        count = num_envs if total is None else total
        if not 0 <= first <= count - num_envs:
            raise ValueError(
                f"first_env is {first}; {num_envs} of total_envs={count} worlds begin at one from "
                f"0 to {count - num_envs}"
            )
        own = slice(first, first + num_envs)
        body_of_task = np.zeros(len(tasks), np.int64) if bodies is None else np.array(bodies)
        every_body = body_of_task[np.arange(count) % len(tasks)]
        ranks = np.zeros(count, np.int64)
        for body in np.unique(every_body):
            ranks[every_body == body] = np.arange((every_body == body).sum())
        first_task = (np.arange(count) % len(tasks))[own]
        self.body: Int64[np.ndarray, " env"] = every_body[own]
        self.rank: Int64[np.ndarray, " env"] = ranks[own]
        self._lengths = np.array([task.episode_length for task in tasks])
        # All tasks of a body, and so all episodes of a world, have the same number.
        self.hold_steps = np.array(hold_steps)[first_task]
        self._tasks_by_body = np.argsort(body_of_task, kind="stable")
        self._first_of_body = np.searchsorted(np.sort(body_of_task), self.body)
        self._tasks_of_body = (body_of_task[None] == self.body[:, None]).sum(axis=1)
        self._worlds_of_body = np.bincount(every_body)[self.body]
        # Before the first `begin` no episode has run.
        self.number: Int64[np.ndarray, " env"] = np.full(num_envs, -1, np.int64)
        self.step: Int64[np.ndarray, " env"] = np.zeros(num_envs, np.int64)
        self.initial_step: Int64[np.ndarray, " env"] = np.zeros(num_envs, np.int64)
        self.returns: Float[np.ndarray, " env"] = np.zeros(num_envs, np.float64)
        self.held: Int64[np.ndarray, " env"] = np.zeros(num_envs, np.int64)
        self.first_success: Int64[np.ndarray, " env"] = np.zeros(num_envs, np.int64)

    @property
    def task_index(self) -> Int64[np.ndarray, " env"]:
        """Return the index of each world's task, a new array."""
        place = self._first_of_body + self._round_robin_place % self._tasks_of_body
        return np.asarray(self._tasks_by_body[place], np.int64)

    @property
    def task_episode(self) -> Int64[np.ndarray, " env"]:
        """Return the number of each world's episode among the episodes of its task, a new array."""
        return np.asarray(self._round_robin_place // self._tasks_of_body, np.int64)

    @property
    def ended(self) -> Bool[np.ndarray, " env"]:
        """Return True for worlds that have reached their time limits, a new array."""
        return np.asarray(self.step >= self._lengths[self.task_index])

    def begin(self, mask: Bool[np.ndarray, " env"]) -> None:
        """Start the next episode of the worlds in `mask`."""
        self.number[mask] += 1
        for values in (self.step, self.initial_step, self.returns, self.held, self.first_success):
            values[mask] = 0

    def set_initial_step(self, env: int, share: float, multiple: int) -> None:
        """Let a world's episode begin part of the way to its time limit.

        Args:
            env: number of the world.
            share: where to begin, as a share in [0, 1) of the time limit.
            multiple: the action repeat; the initial step is a multiple of it.
        """
        length = self._lengths[self.task_index[env]]
        initial = int(share * length / multiple) * multiple
        self.initial_step[env] = initial
        self.step[env] = initial

    def advance(
        self, reward: Float[np.ndarray, " env"], holding: Bool[np.ndarray, " env"]
    ) -> Bool[np.ndarray, " env"]:
        """Count one control step, and return where the condition has held for long enough."""
        self.step += 1
        self.returns += reward
        self.held = np.where(holding, self.held + 1, 0)
        success: np.ndarray = self.held >= self.hold_steps
        self.note_success(success)
        return success

    def note_success(self, success: Bool[np.ndarray, " env"]) -> None:
        """Remember when worlds first were successful, after the steps counted so far."""
        first = success & (self.first_success == 0)
        self.first_success[first] = (self.step - self.initial_step)[first]

    def statistics(self) -> dict[str, np.ndarray]:
        """Return new arrays that describe each world's episode.

        return; length, in control steps; success, at any step; steps_to_success, control steps
        until the first one, 0 where there was none; partial, True for an episode that began part of
        the way.
        """
        return {
            "return": self.returns.copy(),
            "length": self.step - self.initial_step,
            "success": self.first_success > 0,
            "steps_to_success": self.first_success.copy(),
            "partial": self.initial_step > 0,
        }

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of all counters."""
        return {name: getattr(self, name).copy() for name in _SAVED}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Continue from `state_dict`."""
        for name in _SAVED:
            setattr(self, name, np.array(state[name], dtype=getattr(self, name).dtype))

    @property
    def _round_robin_place(self) -> Int64[np.ndarray, " env"]:
        """Return each world's place in the order in which its body's tasks are assigned."""
        return np.asarray(self.rank + np.maximum(self.number, 0) * self._worlds_of_body)
