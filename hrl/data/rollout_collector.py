"""Collect the experience of one on-policy iteration from a vector env, as [time, env, ...]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from hrl.data.nonfinite import step_finite
from hrl.data.observation import Observation, PolicyState, reset_state
from hrl.data.rollout import Explorer, Rollout
from hrl.seeding import torch_generator


class RolloutCollector:
    """Step a vector env with an explorer, and continue where the last rollout ended.

    Args:
        env: a vector env with same-step autoreset, which gives the last observation of an episode
            in `infos["final_obs"]`.
        task_names: the names that `infos["task_index"]` counts through.
        seed: of the run; the action noise of step n is drawn from the stream (seed, "act", n).
        device: of the observations.

    Raises:
        ValueError: the env resets in another way.
    """

    def __init__(
        self, env: gym.vector.VectorEnv, task_names: list[str], seed: int, device: torch.device
    ) -> None:
        check_autoreset(env)
        self.env = env
        self.task_names = task_names
        self.seed = seed
        self.device = device
        self.steps = 0
        self._observation: Observation | None = None
        self._state: PolicyState = {}

    def collect(self, explorer: Explorer, n_steps: int) -> Rollout:
        """Return the next `n_steps` steps of every environment.

        Raises:
            NonFiniteQuantity: an action, a reward or a task vector is not finite.
        """
        rollout = Rollout()
        initial = explorer.initial_state(self.env.num_envs)
        if self._observation is None:
            self._observation = Observation.from_arrays(self.env.reset()[0], self.device)
            self._state = initial
        for time in range(n_steps):
            self._step(explorer, initial, rollout, time, n_steps)
        rollout.last_values = explorer.bootstrap_values(self._observation, self._state)
        return rollout

    def state_dict(self) -> dict[str, Any]:
        """Return the step counter, the current observation and the policy's state.

        The env's own state is saved by its owner.
        """
        observation = {} if self._observation is None else self._observation._asdict()
        return {"steps": self.steps, "observation": observation, "policy": dict(self._state)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; tensors move from host memory to this collector's device."""
        self.steps = state["steps"]
        observation = {key: value.to(self.device) for key, value in state["observation"].items()}
        self._observation = Observation(**observation) if observation else None
        self._state = {key: value.to(self.device) for key, value in state["policy"].items()}

    # Private methods.

    def _step(
        self, explorer: Explorer, initial: PolicyState, rollout: Rollout, time: int, n_steps: int
    ) -> None:
        assert self._observation is not None
        observation = self._observation._asdict()
        generator = torch_generator(self.seed, "act", self.steps, self.device)
        action, state, records = explorer.explore(self._observation, self._state, generator)
        arrays, reward, terminated, truncated, infos = step_finite(
            self.env, self._observation, self._state, action
        )
        done = torch.from_numpy(terminated | truncated).to(self.device)
        time_limit = torch.from_numpy(truncated & ~terminated).to(self.device)
        step = {
            **{key: value for key, value in observation.items() if key != "pixels"},
            **records,
            "reward": torch.from_numpy(reward).to(self.device),
            "done": done,
            **self._bootstraps(explorer, state, time_limit, infos),
        }
        rollout.store(time, n_steps, step)
        record_episodes(rollout.episodes, infos, self.task_names)
        self._observation = Observation.from_arrays(arrays, self.device)
        self._state = reset_state(explorer, state, initial, done)
        self.steps += 1

    def _bootstraps(
        self,
        explorer: Explorer,
        state: PolicyState,
        time_limit: Bool[Tensor, " env"],
        infos: Mapping[str, Any],
    ) -> dict[str, Tensor]:
        """Return the values of the observations at which time limits ended episodes.

        Without any time limit there is nothing to compute, and no column.
        """
        if not time_limit.any():
            return {}
        rows = time_limit.nonzero()[:, 0]
        final = Observation.from_final(infos["final_obs"][rows.cpu().numpy()], self.device)
        final_state = {key: value[rows] for key, value in state.items()}
        values = explorer.bootstrap_values(final, final_state)
        return {
            f"{name}_bootstrap": _scatter(value, rows, len(time_limit))
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


def record_episodes(
    episodes: dict[str, list[float]], infos: Mapping[str, Any], names: list[str]
) -> None:
    """Add returns and successes of the whole episodes that ended in this step, by metric name."""
    if "_episode_statistics" not in infos:
        return
    ended = infos["episode_statistics"]
    for env in np.flatnonzero(infos["_episode_statistics"] & ~ended["partial"]):
        task = names[infos["task_index"][env]]
        episodes.setdefault(f"train/return/{task}", []).append(float(ended["return"][env]))
        episodes.setdefault(f"train/success/{task}", []).append(float(ended["success"][env]))


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
