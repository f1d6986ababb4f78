"""The first steps of explored episodes: what was seen, sample_for_video and done, for diagnostics
of what was learned.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from envs import Suite
from hrl.agents.base import HierarchicalPolicy, Policy
from hrl.data.observation import Observation, PolicyState
from hrl.evaluation.episodes import EvalConfig, evaluation_env, previous_worlds, worlds_at_once

_WORLDS = 4  # of each task at most: no more than are evaluated, which the memory was counted for


class DiagnosticRollouts:
    """Episodes of a split's tasks, side by side, under actions that are drawn; nothing of the
    second episode.

    Exploring rather than greedy, so that something moves; noise is held for as long as the policy
    was trained with.

    Attributes:
        pixels: before every step.
        states: the policy's, after it has seen them and acted.
        actions: that followed.
        is_decision: where a manager decided; nowhere for a policy without one.
        task: vectors.
        tasks: number of tasks; world i follows task i % tasks.
        previous: of each world, the one before it whose body has as many actuators; itself where
            there is none.
    """

    @torch.inference_mode()
    def __init__(
        self, policy: Policy, suite: Suite, split: str, eval_config: EvalConfig, steps: int
    ) -> None:
        chosen = suite.tasks(split)
        worlds = worlds_at_once(suite, len(chosen), min(_WORLDS, eval_config.episodes))
        env = evaluation_env(suite, chosen, worlds, eval_config)
        generator = torch.Generator(eval_config.device).manual_seed(eval_config.seed)
        observation = Observation.from_arrays(env.reset()[0], eval_config.device)
        state, pixels, actions = policy.initial_state(env.num_envs), [], []
        self.states: list[PolicyState] = []
        nowhere, is_decision = (
            torch.zeros(env.num_envs, dtype=torch.bool, device=eval_config.device),
            [],
        )
        try:
            for _ in range(steps):
                pixels.append(observation.pixels)
                is_decision.append(
                    policy.is_decision_step(state)
                    if isinstance(policy, HierarchicalPolicy)
                    else nowhere
                )
                action, state = policy.act(observation, state, generator)
                self.states.append(state)
                actions.append(action)
                arrays, _, terminated, truncated, _ = env.step(action.cpu().numpy())
                if np.any(terminated | truncated):
                    break
                observation = Observation.from_arrays(arrays, eval_config.device)
        finally:
            env.close()
        self.pixels: UInt8[Tensor, "time env height width channel"] = torch.stack(pixels)
        self.actions: Float[Tensor, "time env action"] = torch.stack(actions)
        self.is_decision: Bool[Tensor, "time env"] = torch.stack(is_decision)
        self.task: Float[Tensor, "env task"] = observation.task
        self.tasks = len(chosen)
        self.previous = torch.from_numpy(previous_worlds(suite, chosen, worlds)).to(
            eval_config.device
        )
