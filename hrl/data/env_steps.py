"""Step a vector environment for a collector, by arrays or by tensors that stay on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from typing_extensions import override

from hrl.data.nonfinite import NonFiniteQuantity, step_finite
from hrl.data.observation import Observation, PolicyState


class EndedEpisodes(NamedTuple):
    """Hold the episodes that ended in a step.

    Attributes:
        numbers: of their environments, int64 [ended] on the host.
        envs: the same, on the collector's device.
        terminated: those that ended in a terminal state, bool [ended] on the host.
        observation: what was last observed.
    """

    numbers: np.ndarray
    envs: Int64[Tensor, " ended"]
    terminated: np.ndarray
    observation: Observation

    def limited(self) -> EndedEpisodes | None:
        """Return those that a time limit ended; None where there is none."""
        if not self.terminated.any():
            return self
        kept = np.flatnonzero(~self.terminated)
        if not len(kept):
            return None
        rows = torch.from_numpy(kept).to(self.envs.device)
        return EndedEpisodes(
            self.numbers[kept],
            self.envs.index_select(0, rows),
            self.terminated[kept],
            self.observation.rows(rows),
        )


class EnvStep(NamedTuple):
    """Store the outcome of one agent step, on the collector's device.

    Attributes:
        observation: of every environment, after those that ended have begun anew.
        reward: [env].
        done: where an episode ended.
        ended: these episodes; None where there is none.
    """

    observation: Observation
    reward: Float[Tensor, " env"]
    done: Bool[Tensor, " env"]
    ended: EndedEpisodes | None


@runtime_checkable
class EnvSteps(Protocol):
    """Step an environment, and remember how its episodes ended."""

    def reset(self) -> Observation:
        """Begin an episode in every environment."""

    def step(self, observation: Observation, state: PolicyState, action: Tensor) -> EnvStep:
        """Take one agent step.

        Args:
            observation: what the policy saw, for errors.
            state: the policy's state before it acted, for errors.
            action: what it did.

        Raises:
            NonFiniteQuantity: an action, a reward or a task vector is not finite, or the simulation
                failed.
        """

    def take_episodes(self) -> dict[str, list[float]]:
        """Return returns and successes of whole episodes since the last call, by metric name.

        It waits for the device once, if episodes are counted there.
        """


@runtime_checkable
class DeviceEnv(Protocol):
    """Step with tensors and without waiting for their device, as `envs.vector.warp` does."""

    device: torch.device

    def reset_tensors(self) -> dict[str, Tensor]:
        """Begin an episode in every environment and return the observation."""

    def step_tensors(self, actions: Tensor) -> Any:
        """Take one agent step."""

    def episode_tasks(self) -> np.ndarray:
        """Return the number of every environment's task, on the host."""


def env_steps(env: gym.vector.VectorEnv, task_names: list[str], device: torch.device) -> EnvSteps:
    """Return how to step an environment: on its own device if that is the collector's."""
    if isinstance(env, DeviceEnv) and env.device == _with_number(device):
        return DeviceSteps(env, task_names)
    return HostSteps(env, task_names, device)


class HostSteps(EnvSteps):
    """Step an environment that speaks numpy.

    Args:
        env: with same-step autoreset.
        task_names: the names that `infos["task_index"]` counts through.
        device: of the tensors.
    """

    def __init__(
        self, env: gym.vector.VectorEnv, task_names: list[str], device: torch.device
    ) -> None:
        self._env = env
        self._names = task_names
        self._device = device
        self._episodes: dict[str, list[float]] = {}

    @override
    def reset(self) -> Observation:
        return Observation.from_arrays(self._env.reset()[0], self._device)

    @override
    def step(self, observation: Observation, state: PolicyState, action: Tensor) -> EnvStep:
        arrays, reward, terminated, truncated, infos = step_finite(
            self._env, observation, state, action
        )
        record_episodes(self._episodes, infos, self._names)
        numbers = np.flatnonzero(terminated | truncated)
        ended = None
        if len(numbers):
            final = Observation.from_final(infos["final_obs"][numbers], self._device)
            envs = torch.from_numpy(numbers).to(self._device)
            ended = EndedEpisodes(numbers, envs, terminated[numbers], final)
        return EnvStep(
            Observation.from_arrays(arrays, self._device),
            torch.from_numpy(reward).to(self._device),
            torch.from_numpy(terminated | truncated).to(self._device),
            ended,
        )

    @override
    def take_episodes(self) -> dict[str, list[float]]:
        taken, self._episodes = self._episodes, {}
        return taken


class DeviceSteps(EnvSteps):
    """Step an environment on its device, without copies to the host.

    What is not finite is noted on the device, and reported by a later step.

    Args:
        env: steps with tensors.
        task_names: the names that `DeviceEnv.episode_tasks` counts through.
    """

    def __init__(self, env: DeviceEnv, task_names: list[str]) -> None:
        self._env = env
        self._names = task_names
        self._ended: list[tuple[list[str], np.ndarray, Any]] = []

    @override
    def reset(self) -> Observation:
        return _kept(self._env.reset_tensors())

    @override
    def step(self, observation: Observation, state: PolicyState, action: Tensor) -> EnvStep:
        tasks = self._env.episode_tasks()
        try:
            found = self._env.step_tensors(action)
        except FloatingPointError as error:
            before = {f"policy_state.{key}": value for key, value in state.items()}
            fed = {**observation.parts(), **before, "action": action}
            raise NonFiniteQuantity(str(error), fed) from error
        ended = None
        if found.ended is not None:
            numbers = found.ended.envs
            final = Observation.of(found.ended.final)
            ended = EndedEpisodes(numbers, found.ended.rows, found.ended.terminated, final)
            names = [self._names[task] for task in tasks[numbers]]
            self._ended.append(
                (names, found.ended.columns["partial"][found.ended.envs], found.ended)
            )
        done = found.terminated | found.truncated
        return EnvStep(_kept(found.observation), found.rewards, done, ended)

    @override
    def take_episodes(self) -> dict[str, list[float]]:
        taken, self._ended = self._ended, []
        episodes: dict[str, list[float]] = {}
        if not taken:
            return episodes
        returns = torch.cat([ended.returns for *_, ended in taken]).tolist()
        success = torch.cat([ended.first_success > 0 for *_, ended in taken]).tolist()
        names = [name for several, *_ in taken for name in several]
        partial = [is_partial for _, several, _ in taken for is_partial in several]
        for name, reached, total, is_partial in zip(names, success, returns, partial, strict=True):
            if not is_partial:
                episodes.setdefault(f"train/return/{name}", []).append(total)
                episodes.setdefault(f"train/success/{name}", []).append(float(reached))
        return episodes


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


def _kept(observation: dict[str, Tensor]) -> Observation:
    """Return an observation that the environment's next step does not overwrite."""
    overwritten = ("pixels", "state")
    return Observation.of(
        {
            name: values.clone() if name in overwritten else values
            for name, values in observation.items()
        }
    )


def _with_number(device: torch.device) -> torch.device:
    """Return a GPU by its number: `cuda` is the current one."""
    if str(device) == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return device
