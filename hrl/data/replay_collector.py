"""Step a vector env with a policy, and add the experience to a replay buffer.

    row:   observation(t)   action(t)   reward on arriving at t   latents of the policy at t

With same-step autoreset the last observation of an episode and the first of the next one arrive
together. They become two rows; the last one has a zero action that leads nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import torch
from torch import Tensor

from hrl.data.env_steps import EndedEpisodes, env_steps
from hrl.data.observation import Observation, PolicyState, reset_state
from hrl.data.replay_buffer import Column, ReplayBuffer
from hrl.data.rollout_collector import check_autoreset
from hrl.ranks import ONE_RANK, Ranks
from hrl.seeding import torch_generator


@runtime_checkable
class LatentExplorer(Protocol):
    """Act, and return the latents that belong to each step."""

    def initial_state(self, num_envs: int) -> PolicyState:
        """Return the state in which every episode starts."""

    def explore(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState, dict[str, Tensor]]:
        """Return actions, the next state, and latents [env, ...] to be stored with the row."""


def replay_columns(
    observation: Mapping[str, gym.Space], action_size: int, latents: Mapping[str, Column]
) -> dict[str, Column]:
    """Return the buffer's columns for a single env's spaces and a policy's latents."""
    return {
        "pixels": Column(_shape(observation["pixels"]), torch.uint8),
        "task": Column(_shape(observation["task"]), torch.float32),
        "action_mask": Column((action_size,), torch.bool),
        "action": Column((action_size,), torch.float32),
        "reward": Column((), torch.float32),
        "is_first": Column((), torch.bool),
        "is_terminal": Column((), torch.bool),
        **latents,
    }


class ReplayCollector:
    """Add experience to a replay buffer, and continue where the last call ended.

    Args:
        env: a vector env with same-step autoreset, which gives the last observation of an episode
            in `infos["final_obs"]`.
        replay: a buffer with the columns of `replay_columns`.
        task_names: the names that `infos["task_index"]` counts through.
        seed: of the run; the noise of step n is drawn from the stream (seed, "act", n).
        device: of the policy; the buffer may be on another one.
        ranks: of the run, each with an env, a replay and action noise of its own.

    Raises:
        ValueError: the env resets in another way.
    """

    def __init__(
        self,
        env: gym.vector.VectorEnv,
        replay: ReplayBuffer,
        task_names: list[str],
        seed: int,
        device: torch.device,
        ranks: Ranks = ONE_RANK,
    ) -> None:
        check_autoreset(env)
        self.replay = replay
        self.task_names = task_names
        self.seed = seed
        self.device = device
        self.ranks = ranks
        self.steps = 0
        self._all_envs = torch.arange(env.num_envs)
        self.env = env
        self._current: dict[str, Tensor] = {}
        self._state: PolicyState = {}

    @property
    def env(self) -> gym.vector.VectorEnv:
        """Return the environment, which may be replaced by an equal one."""
        return self._env

    @env.setter
    def env(self, env: gym.vector.VectorEnv) -> None:
        self._env = env
        self._env_steps = env_steps(env, self.task_names, self.device)

    def collect(self, policy: LatentExplorer, n_steps: int) -> dict[str, list[float]]:
        """Make the next `n_steps` steps of every environment.

        Returns:
            Returns and successes of episodes that ended, by metric name.

        Raises:
            NonFiniteQuantity: an action, a reward or a task vector is not finite.
        """
        initial = policy.initial_state(self.env.num_envs)
        if not self._current:
            self._begin(initial)
        for _ in range(n_steps):
            self._step(policy, initial)
        return self._env_steps.take_episodes()

    def state_dict(self) -> dict[str, Any]:
        """Return the step counter, the current row's beginning and the policy's state.

        The env's own state is saved by its owner.
        """
        return {"steps": self.steps, "current": dict(self._current), "policy": dict(self._state)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; tensors move from host memory to this collector's device."""
        self.steps = state["steps"]
        self._current = {key: value.to(self.device) for key, value in state["current"].items()}
        self._state = {key: value.to(self.device) for key, value in state["policy"].items()}

    # Private methods.

    def _begin(self, initial: PolicyState) -> None:
        count = self.env.num_envs
        observation = self._env_steps.reset()
        self._set_current(observation, torch.zeros(count), torch.ones(count, dtype=torch.bool))
        self._state = initial

    def _set_current(self, observation: Observation, reward: Tensor, is_first: Tensor) -> None:
        """Remember what is known of the next row before its action is chosen."""
        row = {
            **observation.parts(),
            "reward": reward,
            "is_first": is_first,
            "is_terminal": torch.zeros_like(is_first),
        }
        self._current = {key: value.to(self.device) for key, value in row.items()}

    def _step(self, policy: LatentExplorer, initial: PolicyState) -> None:
        observation = Observation.of(self._current)
        stream = self.ranks.stream("act")
        generator = torch_generator(self.seed, stream, self.steps, self.device)
        action, state, latents = policy.explore(observation, self._state, generator)
        found = self._env_steps.step(observation, self._state, action)
        self.replay.add({**self._current, "action": action, **latents}, self._all_envs)
        if found.ended is not None:
            self._add_last(found.ended, found.reward, action, latents)
        self._set_current(found.observation, found.reward * ~found.done, found.done)
        self._state = reset_state(policy, state, initial, found.done)
        self.steps += 1

    def _add_last(
        self,
        ended: EndedEpisodes,
        reward: Tensor,
        action: Tensor,
        latents: Mapping[str, Tensor],
    ) -> None:
        """Add rows for the observations that episodes ended in.

        No row of the same episode follows them, so their latents are never used and are zero.
        """
        count = len(ended.numbers)
        rows = {
            **ended.observation.parts(),
            "action": torch.zeros_like(action[:count]),
            "reward": reward.index_select(0, ended.envs),
            "is_first": torch.zeros(count, dtype=torch.bool),
            "is_terminal": torch.from_numpy(ended.terminated),
            **{key: torch.zeros_like(value[:count]) for key, value in latents.items()},
        }
        numbers = torch.from_numpy(ended.numbers)
        self.replay.add({key: value.to(self.device) for key, value in rows.items()}, numbers)


def _shape(space: gym.Space) -> tuple[int, ...]:
    assert space.shape is not None
    return space.shape
