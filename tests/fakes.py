"""Small vector environments and an agent that assert the contract between environments, collector
and learner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from hrl.agents.base import AgentSpec
from hrl.data.observation import Observation, PolicyState
from hrl.nets.encoder import EncoderConfig
from hrl.world_model.model import WorldModelConfig


def small_setting(
    image_size: int = 16, task_size: int = 1, action_size: int = 1, seed: int = 0
) -> AgentSpec:
    """Networks that train in seconds."""
    encoder = EncoderConfig(patch=4, channels=[16, 16], features=32)
    return AgentSpec(
        image_size,
        3,
        task_size,
        action_size,
        encoder,
        8,
        (32,),
        seed,
        torch.device("cpu"),
        torch.float32,
        WorldModelConfig(),
    )


def model_setting(task_size: int = 2, action_size: int = 2, **sizes: Any) -> AgentSpec:
    """World models that train in seconds."""
    small = {
        "deter": 32,
        "hidden": 8,
        "groups": 4,
        "classes": 4,
        "blocks": 4,
        "units": 16,
        "depth": 4,
    }
    model = WorldModelConfig(**(small | {"kernel": 3, "strided": True} | sizes))
    return replace(small_setting(task_size=task_size, action_size=action_size), world_model=model)


def replayed(spec: AgentSpec, batch: int, time: int, seed: int = 0) -> dict[str, Tensor]:
    """Sequences of random rows as a replay hands them out: [batch, 1 + time, ...], the first row of
    each context.

    Some rows begin an episode, and some rows before those ended theirs by termination.
    """
    generator = torch.Generator().manual_seed(seed)
    rows, sizes = (batch, time + 1), spec.world_model

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*rows, *shape, generator=generator) * 2 - 1

    def below(most: int, *shape: int) -> Tensor:
        return torch.randint(most, (*rows, *shape), dtype=torch.uint8, generator=generator)

    first = uniform() > 0.5
    return {
        "pixels": below(256, spec.image_size, spec.image_size, spec.channels),
        "task": uniform(spec.task_size),
        "action": uniform(spec.action_size),
        "reward": 3 * uniform(),
        "is_first": first,
        "is_terminal": torch.cat([first[:, 1:], first[:, :1]], 1) & (uniform() > 0),
        "deter": uniform(sizes.deter).bfloat16(),
        "stoch": below(sizes.classes, sizes.groups),
        "action_mask": torch.ones(*rows, spec.action_size, dtype=torch.bool),
    }


def seen(pixels: Tensor, task: Tensor, action_mask: Tensor) -> Observation:
    """An observation without a state."""
    return Observation.of({"pixels": pixels, "task": task, "action_mask": action_mask})


def all_used(num_envs: int, action_size: int) -> Tensor:
    """The action masks of bodies without padding."""
    return torch.ones(num_envs, action_size, dtype=torch.bool)


def randomise(module: nn.Module, scale: float = 0.3, seed: int = 0) -> Any:
    """The module with every parameter moved, so that heads which start at zero say something and
    take gradient."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return module


def reached(modules: Mapping[str, nn.Module]) -> set[str]:
    """Names of those whose parameters have a gradient that is not zero."""
    return {
        name
        for name, module in modules.items()
        if any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())
    }


class _SameStepEnv(gym.vector.VectorEnv):
    """Same-step autoreset around `_observe`, `_begin` and `_advance` of a subclass."""

    metadata = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}  # noqa: RUF012  as the base class has it

    def __init__(
        self, num_envs: int, length: int, size: int = 16, task_size: int = 1, action_size: int = 1
    ) -> None:
        self.num_envs, self.length = num_envs, length
        pixels = gym.spaces.Box(0, 255, (size, size, 3), np.uint8)
        task = gym.spaces.Box(-1, 1, (task_size,), np.float32)
        mask = gym.spaces.Box(0, 1, (action_size,), np.bool_)
        self.action_mask = np.ones((num_envs, action_size), np.bool_)
        self.single_observation_space = gym.spaces.Dict(
            {"pixels": pixels, "task": task, "action_mask": mask}
        )
        self.single_action_space = gym.spaces.Box(-1, 1, (action_size,), np.float32)
        self.steps_since_decision = np.zeros(num_envs, np.int64)
        self.returns = np.zeros(num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        del seed, options
        self.steps_since_decision[:], self.returns[:] = 0, 0.0
        self._begin(np.ones(self.num_envs, dtype=bool))
        return self._observation(), {}

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        assert actions.shape == (self.num_envs, *self.single_action_space.shape), actions.shape
        assert actions.dtype == np.float32, actions.dtype
        assert np.abs(actions).max() <= 1, "actions must lie in [-1, 1]"
        self.steps_since_decision += 1
        reward, terminated = self._advance(actions)
        self.returns += reward
        truncated = (self.steps_since_decision >= self.length) & ~terminated
        done = terminated | truncated
        infos: dict[str, Any] = {
            "task_index": np.zeros(self.num_envs, np.int64),
            "success": terminated.copy(),
        }
        if done.any():
            infos |= self._final_infos(done, terminated)
            self.steps_since_decision[done], self.returns[done] = 0, 0.0
            self._begin(done)
        return self._observation(), reward.astype(np.float32), terminated, truncated, infos

    def _observation(self) -> dict[str, np.ndarray]:
        return {**self._observe(), "action_mask": self.action_mask.copy()}

    def _final_infos(self, done: np.ndarray, terminated: np.ndarray) -> dict[str, Any]:
        never = np.zeros_like(done)
        episode = {
            "return": self.returns.copy(),
            "length": self.steps_since_decision.copy(),
            "success": terminated.copy(),
            "partial": never,
        }
        return {
            "final_obs": _rows(self._observation(), done),
            "_final_obs": done,
            "episode_statistics": episode,
            "_episode_statistics": done,
        }


def _rows(observation: Mapping[str, np.ndarray], done: np.ndarray) -> np.ndarray:
    """One observation an environment, and None where no episode ended."""
    rows = np.full(len(done), None, object)
    for index in np.flatnonzero(done):
        rows[index] = {key: values[index].copy() for key, values in observation.items()}
    return rows


class CounterEnv(_SameStepEnv):
    """Pixels show the step of the episode, the task the episode's number; the reward is the step
    just taken.

    Environment i ends its episodes after `length + i` steps, by termination where i is odd.
    """

    def __init__(self, num_envs: int, length: int) -> None:
        super().__init__(num_envs, length)
        self.limits = length + np.arange(num_envs)
        self.episodes = np.full(num_envs, -1)
        self.length = 10**9

    def _begin(self, mask: np.ndarray) -> None:
        self.episodes[mask] += 1

    def _observe(self) -> dict[str, np.ndarray]:
        pixels = np.zeros((self.num_envs, 16, 16, 3), np.uint8)
        pixels[:] = self.steps_since_decision[:, None, None, None]
        return {"pixels": pixels, "task": self.episodes[:, None].astype(np.float32)}

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        del actions
        done = self.steps_since_decision >= self.limits
        odd = np.arange(self.num_envs) % 2 == 1
        self.length = self.limits  # type: ignore[assignment]  # compared per environment
        return self.steps_since_decision.astype(np.float64), done & odd


class ToyReach(_SameStepEnv):
    """A bright column that moves left or right with the action; the task says where it should be.

    The reward is 1 at the target and falls by 1 per half image; an episode starts at the far side
    from the target, so that a policy blind to pixels or task earns little.
    """

    def __init__(
        self,
        num_envs: int,
        length: int = 24,
        seed: int = 0,
        targets: tuple[float, ...] = (-0.8, 0.8),
        action_size: int = 1,
    ) -> None:
        super().__init__(num_envs, length, action_size=action_size)
        self.rng = np.random.default_rng(seed)
        self.targets = np.array(targets)[np.arange(num_envs) % len(targets)]
        self.position = np.zeros(num_envs)

    def _begin(self, mask: np.ndarray) -> None:
        starts = -np.sign(self.targets) * self.rng.uniform(0.2, 0.9, self.num_envs)
        self.position[mask] = starts[mask]

    def _observe(self) -> dict[str, np.ndarray]:
        pixels = np.zeros((self.num_envs, 16, 16, 3), np.uint8)
        columns = np.clip(((self.position + 1) * 8).astype(int), 0, 15)
        pixels[np.arange(self.num_envs), :, columns] = 255
        return {"pixels": pixels, "task": self.targets[:, None].astype(np.float32)}

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.position = np.clip(self.position + 0.25 * actions[:, 0], -0.99, 0.99)
        reward = np.maximum(1 - np.abs(self.position - self.targets), 0)
        return reward, np.zeros(self.num_envs, dtype=bool)


class StateReach(ToyReach):
    """The same without an image: the state is where the column would be, and its square."""

    def _observe(self) -> dict[str, np.ndarray]:
        state = np.stack([self.position, self.position**2], -1).astype(np.float32)
        return {"state": state, "task": super()._observe()["task"]}


class CounterAgent:
    """Asserts that it meets every step of a `CounterEnv` once, in order, with its own state carried
    and restarted."""

    def __init__(self) -> None:
        self.last: Tensor | None = None

    def initial_state(self, num_envs: int) -> PolicyState:
        return {"age": torch.zeros(num_envs, dtype=torch.int64)}

    def explore(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState, dict[str, Tensor]]:
        assert generator is not None
        shown = observation.pixels[:, 0, 0, 0].long()
        assert torch.equal(shown, state["age"]), (
            "the state restarts where an episode does, and nowhere else"
        )
        if self.last is not None:
            episode = observation.task[:, 0]
            same = episode == self.last[1]
            assert torch.equal(shown[same], self.last[0][same] + 1), (
                "no step is skipped or met twice"
            )
            assert bool((shown[~same] == 0).all()), "a new episode starts at its first step"
        self.last = torch.stack([shown.float(), observation.task[:, 0]])
        action = torch.rand(len(shown), 1, generator=generator) * 2 - 1
        records = {"shown": shown, "age": state["age"], "action": action[:, 0]}
        return action, {"age": state["age"] + 1}, records

    def bootstrap_values(self, observation: Observation, state: PolicyState) -> dict[str, Tensor]:
        shown = observation.pixels[:, 0, 0, 0].long()
        assert torch.equal(shown, state["age"]), (
            "values ahead are asked of the state carried to that observation"
        )
        return {"value": 1000.0 + shown.float()}
