"""Experience of one on-policy iteration: gathered from a vector env, stored as [time, env, ...]."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from hrl.data.observation import Observation, PolicyState, reset_state
from hrl.seeding import torch_generator


@runtime_checkable
class Explorer(Protocol):
    """A policy that also says what its learner needs to know of each action."""

    def initial_state(self, num_envs: int) -> PolicyState:
        """The state in which every episode starts."""

    def explore(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState, dict[str, Tensor]]:
        """Actions, the state to carry on, and records [env, ...] to be stored with the step."""

    def bootstrap_values(self, observation: Observation, state: PolicyState) -> dict[str, Tensor]:
        """Values [env], by name, of standing at `observation` with `state` carried there."""


@dataclass
class Rollout:
    """Steps of several environments.

    steps: [time, env, ...] by name: `pixels` and `task` (or what the explorer records in their
        place, such as patches cut once), `reward`, `done`, the explorer's other records, and for
        each value NAME of `bootstrap_values`, `NAME_bootstrap`, which is zero but where a time
        limit ended the episode.
    last_values: [env] by name, the values after the last step.
    episodes: returns and successes of the whole episodes that ended, by metric name.
    """

    steps: dict[str, Tensor] = field(default_factory=dict)
    last_values: dict[str, Tensor] = field(default_factory=dict)
    episodes: dict[str, list[float]] = field(default_factory=dict)

    def store(self, time: int, length: int, step: Mapping[str, Tensor]) -> None:
        """Writes one step [env, ...]; memory for all `length` steps is taken at the first."""
        for key, value in step.items():
            if key not in self.steps:
                self.steps[key] = torch.zeros(
                    length, *value.shape, dtype=value.dtype, device=value.device
                )
            self.steps[key][time] = value

    def minibatches(self, size: int, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
        """Shuffled minibatches [size, ...] that cover every step once."""
        flat = {key: value.flatten(0, 1) for key, value in self.steps.items()}
        count = len(flat["reward"])
        order = torch.randperm(count, generator=generator, device=generator.device).to(
            flat["reward"].device
        )
        for chunk in order.split(size):
            yield {key: value.index_select(0, chunk) for key, value in flat.items()}


class RolloutCollector:
    """Steps a vector env with an explorer, and remembers where it stands.

    Args:
        env: a vector env with same-step autoreset, the last observation of an episode in
            `infos["final_obs"]`.
        task_names: name of each task that `infos["task_index"]` can name.
        seed: of the run; the action noise of step n is drawn from the stream (seed, "act", n).
        device: where observations go.

    Raises:
        ValueError: where the env resets in another way.
    """

    def __init__(
        self, env: gym.vector.VectorEnv, task_names: list[str], seed: int, device: torch.device
    ) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode != gym.vector.AutoresetMode.SAME_STEP:
            raise ValueError(
                f"the env's autoreset_mode is {mode}; the collector needs AutoresetMode.SAME_STEP"
            )
        self.env, self.task_names, self.seed, self.device = env, task_names, seed, device
        self.steps = 0
        self._observation: Observation | None = None
        self._state: PolicyState = {}

    def collect(self, explorer: Explorer, length: int) -> Rollout:
        """The next `length` steps of every environment.

        Raises:
            FloatingPointError: where the env gives a reward or a task vector that is not finite.
        """
        rollout = Rollout()
        initial = explorer.initial_state(self.env.num_envs)
        if self._observation is None:
            self._observation = Observation.from_arrays(self.env.reset()[0], self.device)
            self._state = initial
        for time in range(length):
            self._step(explorer, initial, rollout, time, length)
        rollout.last_values = explorer.bootstrap_values(self._observation, self._state)
        return rollout

    def state_dict(self) -> dict[str, Any]:
        """The counter, the last observation and the policy's state; the env's own state is saved by
        its owner.
        """
        observation = {} if self._observation is None else self._observation._asdict()
        return {"steps": self.steps, "observation": observation, "policy": dict(self._state)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`, on this collector's device: a checkpoint's tensors are in
        host memory.
        """
        self.steps = state["steps"]
        observation = {key: value.to(self.device) for key, value in state["observation"].items()}
        self._observation = Observation(**observation) if observation else None
        self._state = {key: value.to(self.device) for key, value in state["policy"].items()}

    # Private methods.

    def _step(
        self, explorer: Explorer, initial: PolicyState, rollout: Rollout, time: int, length: int
    ) -> None:
        assert self._observation is not None
        observation, generator = (
            self._observation,
            torch_generator(self.seed, "act", self.steps, self.device),
        )
        action, state, records = explorer.explore(observation, self._state, generator)
        arrays, reward, terminated, truncated, infos = self.env.step(action.cpu().numpy())
        check_finite(reward, arrays["task"], self.steps)
        done = torch.from_numpy(terminated | truncated).to(self.device)
        vectors = {key: value for key, value in observation._asdict().items() if key != "pixels"}
        step = {
            **vectors,
            **records,
            "reward": torch.from_numpy(reward).to(self.device),
            "done": done,
            **self._bootstraps(
                explorer, state, torch.from_numpy(truncated & ~terminated).to(self.device), infos
            ),
        }
        rollout.store(time, length, step)
        record_episodes(rollout.episodes, infos, self.task_names)
        self._observation = Observation.from_arrays(arrays, self.device)
        self._state = reset_state(explorer, state, initial, done)
        self.steps += 1

    def _bootstraps(
        self,
        explorer: Explorer,
        state: PolicyState,
        truncated: Bool[Tensor, " env"],
        infos: Mapping[str, Any],
    ) -> dict[str, Tensor]:
        """Values of the observations that time limits cut off; an empty mask costs nothing."""
        if not truncated.any():
            return {}
        rows = truncated.nonzero()[:, 0]
        final = Observation.from_arrays(infos["final_obs"], self.device).rows(rows)
        values = explorer.bootstrap_values(
            final, {key: value[rows] for key, value in state.items()}
        )
        return {
            f"{name}_bootstrap": _scatter(value, rows, len(truncated))
            for name, value in values.items()
        }


def _scatter(values: Tensor, rows: Tensor, size: int) -> Tensor:
    return torch.zeros(size, dtype=values.dtype, device=values.device).index_copy(0, rows, values)


def check_finite(reward: np.ndarray, task: np.ndarray, step: int) -> None:
    """Raises FloatingPointError, naming the environments, where a reward or a task vector is not
    finite.
    """
    for name, values in (("reward", reward), ("task vector", task)):
        bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))
        if len(bad):
            raise FloatingPointError(
                f"{name} of environments {bad.tolist()} at step {step} is not finite"
            )


def record_episodes(
    episodes: dict[str, list[float]], infos: Mapping[str, Any], names: list[str]
) -> None:
    """Adds returns and successes of the whole episodes that ended in this step, by metric name."""
    if "_episode" not in infos:
        return
    done = infos["episode"]
    for env in np.flatnonzero(infos["_episode"] & ~done["partial"]):
        task = names[infos["task_index"][env]]
        episodes.setdefault(f"train/return/{task}", []).append(float(done["return"][env]))
        episodes.setdefault(f"train/success/{task}", []).append(float(done["success"][env]))
