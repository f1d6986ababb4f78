"""Collect the experience of one on-policy iteration from a vector env, as [time, env, ...]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from hrl.data.env_steps import EndedEpisodes, env_steps
from hrl.data.observation import Observation, PolicyState, reset_state
from hrl.data.rollout import Explorer, Rollout
from hrl.ranks import ONE_RANK, Ranks
from hrl.seeding import torch_generator


class RolloutCollector:
    """Step a vector env with an explorer, and continue where the last rollout ended.

    Args:
        env: a vector env with same-step autoreset, which gives the last observation of an episode
            in `infos["final_obs"]`.
        task_names: the names that `infos["task_index"]` counts through.
        seed: of the run; the action noise of step n is drawn from the stream (seed, "act", n).
        device: of the observations.
        ranks: of the run, each with an env and action noise of its own.

    Raises:
        ValueError: the env resets in another way.
    """

    def __init__(
        self,
        env: gym.vector.VectorEnv,
        task_names: list[str],
        seed: int,
        device: torch.device,
        ranks: Ranks = ONE_RANK,
    ) -> None:
        check_autoreset(env)
        self.task_names = task_names
        self.seed = seed
        self.device = device
        self.ranks = ranks
        self.steps = 0
        self.env = env
        self._observation: Observation | None = None
        self._state: PolicyState = {}

    @property
    def env(self) -> gym.vector.VectorEnv:
        """Return the environment, which may be replaced by an equal one."""
        return self._env

    @env.setter
    def env(self, env: gym.vector.VectorEnv) -> None:
        self._env = env
        self._env_steps = env_steps(env, self.task_names, self.device)

    def collect(
        self, explorer: Explorer, n_steps: int, memory: Mapping[str, Tensor] | None = None
    ) -> Rollout:
        """Return the next `n_steps` steps of every environment.

        Args:
            explorer: what acts.
            n_steps: agent steps of each environment.
            memory: steps of a rollout that nobody reads any more; they are overwritten.

        Raises:
            NonFiniteQuantity: an action, a reward or a task vector is not finite.
        """
        rollout = Rollout(ranks=self.ranks, memory=memory or {})
        initial = explorer.initial_state(self.env.num_envs)
        if self._observation is None:
            self._observation = self._env_steps.reset()
            self._state = initial
        for time in range(n_steps):
            self._step(explorer, initial, rollout, time, n_steps)
        rollout.last_values = explorer.bootstrap_values(self._observation, self._state)
        return rollout

    def take_episodes(self) -> dict[str, list[float]]:
        """Return returns and successes of whole episodes since the last call, by metric name.

        This waits for the device, if that is where episodes are counted.
        """
        return self._env_steps.take_episodes()

    def state_dict(self) -> dict[str, Any]:
        """Return the step counter, the current observation and the policy's state.

        The env's own state is saved by its owner.
        """
        observation = {} if self._observation is None else self._observation.parts()
        return {"steps": self.steps, "observation": observation, "policy": dict(self._state)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; tensors move from host memory to this collector's device."""
        self.steps = state["steps"]
        observation = {key: value.to(self.device) for key, value in state["observation"].items()}
        self._observation = Observation.of(observation) if observation else None
        self._state = {key: value.to(self.device) for key, value in state["policy"].items()}

    # Private methods.

    def _step(
        self, explorer: Explorer, initial: PolicyState, rollout: Rollout, time: int, n_steps: int
    ) -> None:
        assert self._observation is not None
        observation = self._observation.parts()
        stream = self.ranks.stream("act")
        generator = torch_generator(self.seed, stream, self.steps, self.device)
        action, state, records = explorer.explore(self._observation, self._state, generator)
        found = self._env_steps.step(self._observation, self._state, action)
        step = {
            **{key: value for key, value in observation.items() if key != "pixels"},
            **records,
            "reward": found.reward,
            "done": found.done,
            **self._bootstraps(explorer, state, found.ended),
        }
        rollout.store(time, n_steps, step)
        self._observation = found.observation
        self._state = reset_state(explorer, state, initial, found.done)
        self.steps += 1

    def _bootstraps(
        self,
        explorer: Explorer,
        state: PolicyState,
        ended: EndedEpisodes | None,
    ) -> dict[str, Tensor]:
        """Return the values of the observations at which time limits ended episodes.

        Without any time limit there is nothing to compute, and no column.
        """
        limited = None if ended is None else ended.limited()
        if limited is None:
            return {}
        final_state = {key: value.index_select(0, limited.envs) for key, value in state.items()}
        values = explorer.bootstrap_values(limited.observation, final_state)
        return {
            f"{name}_bootstrap": _scatter(value, limited.envs, self.env.num_envs)
            for name, value in values.items()
        }


def _scatter(values: Tensor, rows: Tensor, size: int) -> Tensor:
    return torch.zeros(size, dtype=values.dtype, device=values.device).index_copy(0, rows, values)


def check_autoreset(env: gym.vector.VectorEnv) -> None:
    """Check that a vector env begins the next episode in the step that ends the last one.

    Raises:
        ValueError: the env resets in another way.
    """
    mode = env.metadata.get("autoreset_mode")
    if mode != gym.vector.AutoresetMode.SAME_STEP:
        raise ValueError(
            f"the env's autoreset_mode is {mode}; collectors need AutoresetMode.SAME_STEP"
        )


def with_task_means(episodes: dict[str, float], tasks: int) -> dict[str, float]:
    """Return metrics with the mean over tasks of returns and successes.

    The mean is there only where every task has an episode: otherwise it would shift with the mix.
    """
    means: dict[str, float] = {}
    for group in ("train/return", "train/success"):
        values = [value for key, value in episodes.items() if key.startswith(group + "/")]
        if len(values) == tasks:
            means[group] = sum(values) / len(values)
    return {**means, **dict(sorted(episodes.items()))}
