"""Films of a policy at work, with a manager's commands drawn in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from envs import PixelVectorEnv, Suite, Task
from hrl.agents.base import DecodableHighLevelAction, HierarchicalPolicy, Policy
from hrl.data.observation import Observation, PolicyState
from hrl.evaluation.episodes import EvalConfig, evaluation_env
from hrl.evaluation.video_writer import beside, caption, draw_skill_weights, write_mp4

SIZE = 192
FRAMES_PER_SECOND = 25


@torch.inference_mode()
def record_video(
    policy: Policy, suite: Suite, task: Task, eval_config: EvalConfig, steps: int, path: Path
) -> Path:
    """Writes an MP4 of the first `steps` agent steps of one greedy episode of `task`: the first
    that is evaluated.

    Args:
        eval_config: seed and observation sizes; its number of episodes is not used.
        path: of the file, whose folder is made.
    """
    env = one_world(suite, task, eval_config)
    frames: list[np.ndarray] = []
    earned = 0.0
    try:
        observation = Observation.from_arrays(env.reset()[0], eval_config.device)
        state = policy.initial_state(1)
        for _ in range(steps):
            image = env.render_frames(0, size=SIZE)
            action, state = policy.act(observation, state, None)
            frames.append(_annotate(image, policy, state, f"{task.name}  return {earned:.0f}"))
            arrays, reward, terminated, truncated, _ = env.step(action.cpu().numpy())
            earned += float(reward[0])
            if terminated[0] or truncated[0]:
                break
            observation = Observation.from_arrays(arrays, eval_config.device)
    finally:
        env.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(path, frames, FRAMES_PER_SECOND)
    return path


def one_world(suite: Suite, task: Task, eval_config: EvalConfig) -> PixelVectorEnv:
    """An environment with one world, whose episodes are those that are evaluated."""
    return evaluation_env(suite, (task,), 1, replace(eval_config, threads=1))


def _annotate(image: np.ndarray, policy: Policy, state: PolicyState, text: str) -> np.ndarray:
    titled = caption(image, text)
    if isinstance(policy, DecodableHighLevelAction):
        return beside(titled, caption(enlarged(policy.decode_high_level_action(state)[0]), "goal"))
    if isinstance(policy, HierarchicalPolicy):
        return draw_skill_weights(titled, policy.high_level_action(state)[0].float().cpu().numpy())
    return titled


def enlarged(
    image: Float[torch.Tensor, "height width channel"],
) -> UInt8[np.ndarray, "side side 3"]:
    """An image in [0, 1] as bytes of about a film's size, its newest frame only."""
    pixels = (image[..., -3:].clamp(0, 1) * 255).to(torch.uint8).cpu().numpy()
    factor = max(SIZE // len(pixels), 1)
    return pixels.repeat(factor, 0).repeat(factor, 1)
