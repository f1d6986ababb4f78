"""Steps a vector env with a policy and writes what happens into a replay.

    row:   observation(t)  action taken at t  reward received on arriving at t  latents of the policy at t

With same-step autoreset the last observation of an episode and the first of the next arrive
together; they become two rows, the last one with a zero action that leads nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import torch
from torch import Tensor

from hrl.data.observation import Observation, PolicyState, reset_state
from hrl.data.replay_buffer import Column, ReplayBuffer
from hrl.data.rollout_collector import check_finite, record_episodes
from hrl.seeding import torch_generator


@runtime_checkable
class LatentExplorer(Protocol):
    """A policy that says what it remembers at every step."""

    def initial_state(self, num_envs: int) -> PolicyState:
        """The state in which every episode starts."""

    def explore(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState, dict[str, Tensor]]:
        """Actions, the state to carry on, and latents [env, ...] to be kept with the row."""


def columns(
    observation: Mapping[str, gym.Space], action_size: int, latents: Mapping[str, Column]
) -> dict[str, Column]:
    """The replay's columns for a single env's spaces and a policy's latents."""
    return {
        "pixels": Column(_shape(observation["pixels"]), torch.uint8),
        "task": Column(_shape(observation["task"]), torch.float32),
        "action": Column((action_size,), torch.float32),
        "reward": Column((), torch.float32),
        "is_first": Column((), torch.bool),
        "is_terminal": Column((), torch.bool),
        **latents,
    }


class ReplayCollector:
    """Gathers experience, and remembers where it stands.

    Args:
        env: a vector env with same-step autoreset, the last observation of an episode in
            `infos["final_obs"]`.
        replay: with the columns of `columns`.
        task_names: of the tasks that `infos["task_index"]` can name.
        seed: of the run; the noise of step n is drawn from the stream (seed, "act", n).

    Raises:
        ValueError: where the env resets in another way.
    """

    def __init__(
        self,
        env: gym.vector.VectorEnv,
        replay: ReplayBuffer,
        task_names: list[str],
        seed: int,
        device: torch.device,
    ) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode != gym.vector.AutoresetMode.SAME_STEP:
            raise ValueError(
                f"the env's autoreset_mode is {mode}; the replay needs AutoresetMode.SAME_STEP"
            )
        self.env, self.replay, self.task_names, self.seed, self.device = (
            env,
            replay,
            task_names,
            seed,
            device,
        )
        self.steps = 0
        self._everyone = torch.arange(env.num_envs)
        self._arrived: dict[str, Tensor] = {}
        self._state: PolicyState = {}

    def collect(self, policy: LatentExplorer, steps: int) -> dict[str, list[float]]:
        """The next `steps` steps of every environment; returns and successes of episodes that
        ended, by metric name.

        Raises:
            FloatingPointError: where the env gives a reward or a task vector that is not finite.
        """
        episodes: dict[str, list[float]] = {}
        initial = policy.initial_state(self.env.num_envs)
        if not self._arrived:
            self._begin(initial)
        for _ in range(steps):
            self._step(policy, initial, episodes)
        return episodes

    def state_dict(self) -> dict[str, Any]:
        """The counter, the observation that was arrived at, the policy's state; the env's is saved
        by its owner.
        """
        return {"steps": self.steps, "arrived": dict(self._arrived), "policy": dict(self._state)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`, on this collector's device: a checkpoint's tensors are in host
        memory.
        """
        self.steps = state["steps"]
        self._arrived = {key: value.to(self.device) for key, value in state["arrived"].items()}
        self._state = {key: value.to(self.device) for key, value in state["policy"].items()}

    # Private methods.

    def _begin(self, initial: PolicyState) -> None:
        count = self.env.num_envs
        observation = Observation.from_arrays(self.env.reset()[0], self.device)
        self._arrive(observation, torch.zeros(count), torch.ones(count, dtype=torch.bool))
        self._state = initial

    def _arrive(self, observation: Observation, reward: Tensor, first: Tensor) -> None:
        flags = {"is_first": first, "is_terminal": torch.zeros_like(first)}
        arrived = {**observation._asdict(), "reward": reward, **flags}
        self._arrived = {key: value.to(self.device) for key, value in arrived.items()}

    def _step(
        self, policy: LatentExplorer, initial: PolicyState, episodes: dict[str, list[float]]
    ) -> None:
        observation = Observation(self._arrived["pixels"], self._arrived["task"])
        generator = torch_generator(self.seed, "act", self.steps, self.device)
        action, state, latents = policy.explore(observation, self._state, generator)
        self.replay.add({**self._arrived, "action": action, **latents}, self._everyone)
        arrays, reward, terminated, truncated, infos = self.env.step(action.cpu().numpy())
        check_finite(reward, arrays["task"], self.steps)
        done, rewards = torch.from_numpy(terminated | truncated), torch.from_numpy(reward)
        if done.any():
            self._write_last(infos, done, rewards, torch.from_numpy(terminated), action, latents)
        record_episodes(episodes, infos, self.task_names)
        self._arrive(Observation.from_arrays(arrays, self.device), rewards * ~done, done)
        self._state = reset_state(policy, state, initial, done.to(self.device))
        self.steps += 1

    def _write_last(
        self,
        infos: Mapping[str, Any],
        done: Tensor,
        reward: Tensor,
        terminated: Tensor,
        action: Tensor,
        latents: Mapping[str, Tensor],
    ) -> None:
        """Rows of the observations that episodes ended in. Nothing follows them, so their latents
        are never used.
        """
        rows = done.nonzero()[:, 0]
        final = Observation.from_arrays(infos["final_obs"], self.device).rows(rows.to(self.device))
        values = {
            **final._asdict(),
            "action": torch.zeros_like(action[: len(rows)]),
            "reward": reward[rows],
            "is_first": torch.zeros(len(rows), dtype=torch.bool),
            "is_terminal": terminated[rows],
            **{key: torch.zeros_like(value[: len(rows)]) for key, value in latents.items()},
        }
        self.replay.add({key: value.to(self.device) for key, value in values.items()}, rows)


def _shape(space: gym.Space) -> tuple[int, ...]:
    assert space.shape is not None
    return space.shape
