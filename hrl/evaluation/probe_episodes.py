"""Collect the first steps of exploring episodes, to diagnose what a policy has learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from envs import PixelVectorEnv, Suite
from hrl.agents.base import HierarchicalPolicy, Policy
from hrl.data.nonfinite import step_finite
from hrl.data.observation import Observation, PolicyState
from hrl.evaluation.episodes import EvalConfig, evaluation_env, previous_worlds, worlds_at_once

_MAX_WORLDS_PER_TASK = 4  # never more than are evaluated, whose memory was estimated


class DiagnosticRollouts:
    """Store the first steps of a first episode of each task of a split, in several worlds each.

    Actions are sampled rather than greedy, so that bodies move; noise is repeated for as long as
    in training. All worlds stop where the first episode ends.

    Args:
        policy: acts.
        suite: tasks by split.
        split: name of the split.
        eval_config: how episodes are played; its number of episodes limits the worlds per task.
        steps: agent steps, at most.

    Attributes:
        pixels: images before every step, and the one after the last.
        states: the policy's state after each step.
        actions: the actions of the steps.
        is_decision: True where a manager decided; False everywhere for a policy without one.
        task: task vectors.
        action_mask: False for numbers of an action that are padding.
        n_tasks: number of tasks; world i has task i modulo this number.
        previous: index of the world before each one whose body has as many actuators; its own where
            there is none.
    """

    pixels: UInt8[Tensor, "images env height width channel"]
    actions: Float[Tensor, "time env action"]
    is_decision: Bool[Tensor, "time env"]
    task: Float[Tensor, "env task"]
    action_mask: Bool[Tensor, "env action"]

    @torch.inference_mode()
    def __init__(
        self, policy: Policy, suite: Suite, split: str, eval_config: EvalConfig, steps: int
    ) -> None:
        tasks = suite.tasks(split)
        per_task = min(_MAX_WORLDS_PER_TASK, eval_config.episodes)
        worlds = worlds_at_once(suite, len(tasks), per_task)
        self.n_tasks = len(tasks)
        self.previous = torch.from_numpy(previous_worlds(suite, tasks, worlds)).to(
            eval_config.device
        )
        env = evaluation_env(suite, tasks, worlds, eval_config)
        try:
            self._collect(policy, env, eval_config, steps)
        finally:
            env.close()

    def _collect(
        self, policy: Policy, env: PixelVectorEnv, eval_config: EvalConfig, steps: int
    ) -> None:
        device = eval_config.device
        generator = torch.Generator(device).manual_seed(eval_config.seed)
        arrays: Mapping[str, np.ndarray] = env.reset()[0]
        state = policy.initial_state(env.num_envs)
        self.states: list[PolicyState] = []
        pixels: list[Tensor] = []
        actions: list[Tensor] = []
        decisions: list[Tensor] = []
        done = False
        while not done and len(actions) < steps:
            observation = Observation.from_arrays(arrays, device)
            pixels.append(observation.pixels)
            decisions.append(_decision_steps(policy, state, env.num_envs, device))
            before = state
            action, state = policy.act(observation, before, generator)
            self.states.append(state)
            actions.append(action)
            arrays, _, terminated, truncated, infos = step_finite(env, observation, before, action)
            done = bool(np.any(terminated | truncated))
        pixels.append(torch.from_numpy(next_pixels(arrays, infos)).to(device))
        self.pixels = torch.stack(pixels)
        self.actions = torch.stack(actions)
        self.is_decision = torch.stack(decisions)
        self.task = observation.task
        self.action_mask = observation.action_mask


def next_pixels(
    arrays: Mapping[str, np.ndarray], infos: Mapping[str, Any]
) -> UInt8[np.ndarray, "env height width channel"]:
    """Return the images that a step led to, also where it ended an episode.

    Args:
        arrays: observations after the step, of the next episode where one ended.
        infos: the step's `infos`, with `final_obs` where an episode ended.
    """
    if "_final_obs" not in infos:
        return arrays["pixels"]
    pixels = arrays["pixels"].copy()
    for env in np.flatnonzero(infos["_final_obs"]):
        pixels[env] = infos["final_obs"][env]["pixels"]
    return pixels


# Private functions.


def _decision_steps(
    policy: Policy, state: PolicyState, num_envs: int, device: torch.device
) -> Bool[Tensor, " env"]:
    if isinstance(policy, HierarchicalPolicy):
        return policy.is_decision_step(state)
    return torch.zeros(num_envs, dtype=torch.bool, device=device)
