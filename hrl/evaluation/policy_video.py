"""Record videos of a policy, annotated with its return and the manager's high-level action."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from envs import PixelVectorEnv, Suite, Task
from hrl.agents.base import DecodableHighLevelAction, HierarchicalPolicy, Policy
from hrl.data.nonfinite import step_finite
from hrl.data.observation import Observation, PolicyState
from hrl.evaluation.episodes import EvalConfig, evaluation_env
from hrl.evaluation.video_writer import beside, caption, draw_skill_weights, write_mp4

SIZE = 192
FRAMES_PER_SECOND = 25


@torch.inference_mode()
def record_video(
    policy: Policy,
    suite: Suite,
    task: Task,
    eval_config: EvalConfig,
    steps: int,
    path: Path,
    size: int = SIZE,
) -> Path:
    """Write an MP4 of the start of a task's first evaluation episode, and return its path.

    Args:
        policy: acts greedily.
        suite: the task's suite.
        task: the task to play.
        eval_config: seed and observation sizes; its number of episodes is not used.
        steps: agent steps, at most.
        path: the file; its folder is made.
        size: height and width of the rendered image in pixels.

    Raises:
        NonFiniteQuantity: an action, a reward or a task vector is not finite.
    """
    env = one_world(suite, task, eval_config)
    frames: list[np.ndarray] = []
    episode_return = 0.0
    done = False
    try:
        arrays = env.reset()[0]
        state = policy.initial_state(1)
        while not done and len(frames) < steps:
            observation = Observation.from_arrays(arrays, eval_config.device)
            image = env.render_frames(0, size=size)
            before = state
            action, state = policy.act(observation, before, None)
            text = f"{task.name}  return {episode_return:.0f}"
            # First, because high-level actions that are not finite cannot be drawn.
            arrays, reward, terminated, truncated, _ = step_finite(env, observation, before, action)
            frames.append(_annotate(image, policy, state, text))
            episode_return += float(reward[0])
            done = bool(terminated[0] or truncated[0])
    finally:
        env.close()
    write_mp4(path, frames, FRAMES_PER_SECOND)
    return path


def one_world(suite: Suite, task: Task, eval_config: EvalConfig) -> PixelVectorEnv:
    """Make an environment with one world that plays the task's evaluation episodes."""
    return evaluation_env(suite, (task,), 1, replace(eval_config, threads=1))


def enlarged(
    image: Float[torch.Tensor, "height width channel"], size: int = SIZE
) -> UInt8[np.ndarray, "side side 3"]:
    """Return the newest frame of an image in [0, 1] as bytes, enlarged to at most `size` pixels.

    Every pixel becomes a square of a whole number of pixels, at least one.
    """
    pixels = (image[..., -3:].clamp(0, 1) * 255).to(torch.uint8).cpu().numpy()
    factor = max(size // len(pixels), 1)
    return pixels.repeat(factor, 0).repeat(factor, 1)


# Private functions.


def _annotate(image: np.ndarray, policy: Policy, state: PolicyState, text: str) -> np.ndarray:
    titled = caption(image, text)
    if isinstance(policy, DecodableHighLevelAction):
        goal = enlarged(policy.decode_high_level_action(state)[0], len(image))
        return beside(titled, caption(goal, "goal"))
    if isinstance(policy, HierarchicalPolicy):
        return draw_skill_weights(titled, policy.high_level_action(state)[0].float().cpu().numpy())
    return titled
