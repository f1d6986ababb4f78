"""The running episodes of a batch of worlds: which task each follows, its clock, its return, its
success.
"""

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from jaxtyping import Bool, Float, Int64

from envs.tasks import Task

# What `state_dict` saves of the episodes: [env] each.
_SAVED = ("number", "clock", "first_clock", "returns", "held", "first_success")


def episode_rng(seed: int, stream: str, env: int, episode: int) -> np.random.Generator:
    """The random numbers of one episode: a function of these four, so that a resumed run needs no
    stored state.
    """
    return np.random.default_rng(
        np.random.SeedSequence([seed, crc32(stream.encode()), env, episode])
    )


def evaluation_rng(seed: int, evaluation_seed: int, episode: int) -> np.random.Generator:
    """The random numbers of a task's `episode`-th evaluation episode, wherever and beside whatever
    it is played.

    Args:
        seed: the evaluator's own.
        evaluation_seed: of the task (`Task.evaluation_seed`).
        episode: number of the episode among the task's, from 0.
    """
    stream = crc32(b"evaluation episodes")
    return np.random.default_rng(np.random.SeedSequence([seed, stream, evaluation_seed, episode]))


class Episodes:
    """Clocks in control steps, one row a world.

    The task of world i in its e-th episode is `tasks[(i + e * num_envs) % len(tasks)]`: every task
    gets its share whatever the number of worlds. It is that task's episode number `(i + e *
    num_envs) // len(tasks)`, so that the episodes of a task are numbered from 0 without a gap
    however many worlds and tasks there are.

    Attributes:
        number: index of each world's episode, counted from 0 since the run seed was set.
        clock: control steps since the episode's start; `first_clock` is where a staggered first
            episode began.
        returns: sum of rewards, float64.
        held: control steps for which the success condition has held without a break.
        first_success: control steps until the episode first was a success; 0 where it has not been
            one yet.
        task_index: which task each world follows.
    """

    def __init__(self, tasks: Sequence[Task], num_envs: int, hold_steps: int) -> None:
        self.num_envs = num_envs
        self._lengths = np.array([task.episode_length for task in tasks])
        self._hold_steps = hold_steps
        # Before the first `begin` no episode has run.
        self.number: Int64[np.ndarray, " env"] = np.full(num_envs, -1, np.int64)
        self.clock: Int64[np.ndarray, " env"] = np.zeros(num_envs, np.int64)
        self.first_clock: Int64[np.ndarray, " env"] = np.zeros(num_envs, np.int64)
        self.returns: Float[np.ndarray, " env"] = np.zeros(num_envs, np.float64)
        self.held: Int64[np.ndarray, " env"] = np.zeros(num_envs, np.int64)
        self.first_success: Int64[np.ndarray, " env"] = np.zeros(num_envs, np.int64)

    @property
    def task_index(self) -> Int64[np.ndarray, " env"]:
        """Index into the tasks, a new array."""
        return np.asarray(self._assigned_round_robin % len(self._lengths), np.int64)

    @property
    def task_episode(self) -> Int64[np.ndarray, " env"]:
        """Number of each world's episode among the episodes of its task, a new array."""
        return np.asarray(self._assigned_round_robin // len(self._lengths), np.int64)

    @property
    def ended(self) -> Bool[np.ndarray, " env"]:
        """Whether the time limit has been reached, a new array."""
        return np.asarray(self.clock >= self._lengths[self.task_index])

    def begin(self, mask: Bool[np.ndarray, " env"]) -> None:
        """Start the next episode of the worlds in `mask`."""
        self.number[mask] += 1
        for values in (self.clock, self.first_clock, self.returns, self.held, self.first_success):
            values[mask] = 0

    def random_initial_episode_step(self, env: int, share: float, multiple: int) -> None:
        """Let a world's episode begin at a share in [0, 1) of its time limit, at a multiple of the
        action repeat.
        """
        length = self._lengths[self.task_index[env]]
        self.clock[env] = self.first_clock[env] = int(share * length / multiple) * multiple

    def advance(
        self, reward: Float[np.ndarray, " env"], holding: Bool[np.ndarray, " env"]
    ) -> Bool[np.ndarray, " env"]:
        """Count one control step; returns where the success condition has now held for long
        enough.
        """
        self.clock += 1
        self.returns += reward
        self.held = np.where(holding, self.held + 1, 0)
        success: np.ndarray = self.held >= self._hold_steps
        self.note_success(success)
        return success

    def note_success(self, success: Bool[np.ndarray, " env"]) -> None:
        """Remember when worlds first were successful; the clock counts the step that they are so
        after.
        """
        first = success & (self.first_success == 0)
        self.first_success[first] = (self.clock - self.first_clock)[first]

    def statistics(self) -> dict[str, np.ndarray]:
        """Of each world's episode, new arrays.

        return; length, in control steps; success, at any step; steps_to_success, control steps
        until the first one, 0 where there was none; partial: whether it is only the end of an
        episode.
        """
        return {
            "return": self.returns.copy(),
            "length": self.clock - self.first_clock,
            "success": self.first_success > 0,
            "steps_to_success": self.first_success.copy(),
            "partial": self.first_clock > 0,
        }

    @property
    def _assigned_round_robin(self) -> Int64[np.ndarray, " env"]:
        """Place of each world's episode in the order in which tasks are dealt out."""
        return np.asarray(np.arange(self.num_envs) + np.maximum(self.number, 0) * self.num_envs)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all counters."""
        return {name: getattr(self, name).copy() for name in _SAVED}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Continue from `state_dict`."""
        for name in _SAVED:
            setattr(self, name, np.array(state[name], dtype=getattr(self, name).dtype))
