"""Record videos of a world model's imagination beside the observed images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from envs import PixelVectorEnv, Suite, Task
from hrl.agents.base import GoalReacher, Policy, Predictor
from hrl.data.nonfinite import step_finite
from hrl.data.observation import Observation, PolicyState
from hrl.evaluation.episodes import EvalConfig
from hrl.evaluation.policy_video import SIZE, enlarged, one_world
from hrl.evaluation.probe_episodes import next_pixels
from hrl.evaluation.video_writer import beside, caption, write_mp4

CONTEXT_STEPS = 5
"""Agent steps that the model observes first, as in the published videos of Dreamer and Director."""
IMAGINED_STEPS = 45
"""Agent steps that it imagines after them."""
GOAL_STEPS = (10, 25, 50)
"""Agent steps of the episode whose states become goals."""
OTHER_EPISODE_GOAL_STEPS = (1, 25)
"""Agent steps of another episode, with another initial state, whose states become goals."""
REPLAY_GOALS = 3
"""Number of goals from the replay buffer."""
FRAMES_PER_SECOND = 12

Goal = tuple[Tensor, Tensor, str]
"""`deter`, image [height, width, channel] in [0, 1], caption."""


@torch.inference_mode()
def record_imagination(
    policy: Policy,
    suite: Suite,
    task: Task,
    eval_config: EvalConfig,
    path: Path,
    replay_rows: Mapping[str, Tensor] | None = None,
    size: int = SIZE,
) -> list[Path]:
    """Write videos of open-loop predictions, and of a goal-reaching worker's imagined trajectories.

    PATH_open_loop.mp4 shows what happened, what the model predicted from the first steps and the
    actions alone, and their difference. PATH_goal_reaching.mp4 shows several goals, which were
    states of the same episode, of another one and of the replay buffer, and the worker's imagined
    trajectory towards each.

    Args:
        policy: acts greedily; one without a world model gets no video.
        suite: the task's suite.
        task: the task to play.
        eval_config: seed and observation sizes; its number of episodes is not used.
        path: the policy's own video, whose name these extend.
        replay_rows: rows of the replay buffer that serve as goals: `pixels` and `deter`
            [row, ...].
        size: height and width of an image in pixels, at most.

    Returns:
        The files that were written.
    """
    if not isinstance(policy, Predictor):
        return []
    episode = _Episode(policy, suite, task, eval_config)
    videos = {"open_loop": _open_loop_frames(policy, episode, size)}
    if isinstance(policy, GoalReacher):
        other = _Episode(policy, suite, task, replace(eval_config, seed=eval_config.seed + 1))
        goals = [
            *_goals_of(episode, GOAL_STEPS, ""),
            *_goals_of(other, OTHER_EPISODE_GOAL_STEPS, ", another episode"),
            *_replay_goals(replay_rows or {}),
        ]
        videos["goal_reaching"] = _goal_reaching_frames(policy, episode, goals, size)
    paths = []
    for name, frames in videos.items():
        paths.append(path.with_name(f"{path.stem}_{name}.mp4"))
        write_mp4(paths[-1], frames, FRAMES_PER_SECOND)
    return paths


# Private functions.


class _Episode:
    """Store the first steps of a greedy episode.

    Attributes:
        pixels: images in [0, 1] before every step and, where the episode ended, after the last.
        states: the policy's state after each step.
        actions: the actions of the steps.
        task: the task vector.
    """

    pixels: Float[Tensor, "images height width channel"]
    actions: Float[Tensor, "time 1 action"]
    task: Float[Tensor, "1 task"]

    def __init__(self, policy: Policy, suite: Suite, task: Task, eval_config: EvalConfig) -> None:
        env = one_world(suite, task, eval_config)
        try:
            self._collect(policy, env, eval_config.device)
        finally:
            env.close()

    def _collect(self, policy: Policy, env: PixelVectorEnv, device: torch.device) -> None:
        arrays: Mapping[str, np.ndarray] = env.reset()[0]
        state = policy.initial_state(1)
        self.states: list[PolicyState] = []
        pixels: list[Tensor] = []
        actions: list[Tensor] = []
        done = False
        while not done and len(actions) < CONTEXT_STEPS + IMAGINED_STEPS + 1:
            observation = Observation.from_arrays(arrays, device)
            pixels.append(observation.pixels[0])
            before = state
            action, state = policy.act(observation, before, None)
            self.states.append(state)
            actions.append(action)
            arrays, _, terminated, truncated, infos = step_finite(env, observation, before, action)
            done = bool(terminated[0] or truncated[0])
        if done:
            pixels.append(torch.from_numpy(next_pixels(arrays, infos)[0]).to(device))
        self.pixels = torch.stack(pixels).float() / 255
        self.actions = torch.stack(actions)
        self.task = observation.task
        self.action_mask = observation.action_mask


def _open_loop_frames(policy: Predictor, episode: _Episode, size: int) -> list[np.ndarray]:
    last = len(episode.pixels) - 1
    start = min(CONTEXT_STEPS, last)
    predicted = policy.predict_images(
        episode.states[start - 1], episode.actions[start - 1 : last], episode.task
    )[:, 0]
    pairs = zip(episode.pixels[start:], predicted, strict=True)
    return [_compare(observed, imagined, size) for observed, imagined in pairs]


def _compare(
    observed: Float[Tensor, "height width channel"],
    imagined: Float[Tensor, "height width channel"],
    size: int,
) -> np.ndarray:
    images = {
        "observed": observed,
        "imagined": imagined,
        "difference": (imagined - observed + 1) / 2,
    }
    return beside(*(caption(enlarged(image, size), name) for name, image in images.items()))


def _goal_reaching_frames(
    policy: GoalReacher, episode: _Episode, goals: Sequence[Goal], size: int
) -> list[np.ndarray]:
    """Return the trajectories to all goals, one after another, from the episode's first state."""
    frames = []
    for deter, image, name in goals:
        goal = caption(enlarged(image, size), f"goal: {name}")
        state = policy.with_high_level_action(episode.states[0], deter.unsqueeze(0))
        trajectory = policy.reach_images(state, IMAGINED_STEPS, episode.task, episode.action_mask)[
            :, 0
        ]
        frames += [
            beside(goal, caption(enlarged(imagined, size), "imagined")) for imagined in trajectory
        ]
    return frames


def _goals_of(episode: _Episode, steps: Sequence[int], suffix: str) -> list[Goal]:
    """Return the episode's states after these steps; its last one where it is too short for all."""
    count = len(episode.states)
    return [
        (episode.states[step]["deter"][0], episode.pixels[step], f"step {step}{suffix}")
        for step in [step for step in steps if step < count] or [count - 1]
    ]


def _replay_goals(rows: Mapping[str, Tensor]) -> list[Goal]:
    if not rows:
        return []
    pairs = zip(rows["deter"].float(), rows["pixels"].float() / 255, strict=True)
    return [(deter, image, "from the replay") for deter, image in pairs]
