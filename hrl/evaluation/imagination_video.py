"""Films of what a world model imagines, beside what happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from envs import Suite, Task
from hrl.agents.base import GoalReacher, Policy, Predictor
from hrl.data.observation import Observation, PolicyState
from hrl.evaluation.episodes import EvalConfig
from hrl.evaluation.policy_video import enlarged, one_world
from hrl.evaluation.video_writer import beside, caption, write_mp4

SEEN, IMAGINED = 5, 45  # agent steps, as in the published films of Dreamer and Director
GOALS_AT = (10, 25, 50)  # agent steps of the episode whose states become goals
ELSEWHERE_AT = (1, 25)  # and of another one, which starts elsewhere
REPLAYED = 3  # goals from the replay
FRAMES_PER_SECOND = 12

Goal = tuple[torch.Tensor, torch.Tensor, str]
"""deter, image [height, width, channel] in [0, 1], words."""


@torch.inference_mode()
def record_imagination(
    policy: Policy,
    suite: Suite,
    task: Task,
    eval_config: EvalConfig,
    path: Path,
    sample_for_video: Mapping[str, torch.Tensor] | None = None,
) -> list[Path]:
    """Writes films of open-loop predictions and of the worker on its way to fixed goals, where the
    policy has such.

    PATH_open_loop.mp4: what happened, what the model predicted from the first steps and the actions
        alone, and their
    difference. PATH_reach.mp4: for a few goals that were states of the same episode, of another
    one, and of the replay, the goal and the imagined way.

    Args:
        path: of the film that these belong to.
        sample_for_video: rows of the replay, `pixels` and `deter` [row, ...], as goals; none where
            a run is filmed without.

    Returns:
        The files that were written.
    """
    if not isinstance(policy, Predictor):
        return []
    episode = _Episode(policy, suite, task, eval_config)
    films = {"open_loop": _open_loop(policy, episode)}
    if isinstance(policy, GoalReacher):
        other = _Episode(policy, suite, task, replace(eval_config, seed=eval_config.seed + 1))
        films["reach"] = _reach(policy, episode, other, sample_for_video or {})
    paths = []
    for name, frames in films.items():
        paths.append(path.with_name(f"{path.stem}_{name}.mp4"))
        write_mp4(paths[-1], frames, FRAMES_PER_SECOND)
    return paths


class _Episode:
    """The first steps of a greedy episode: what was seen, sample_for_video and done."""

    def __init__(self, policy: Policy, suite: Suite, task: Task, eval_config: EvalConfig) -> None:
        env = one_world(suite, task, eval_config)
        self.states: list[PolicyState] = []
        seen, actions = [], []
        observation, state = (
            Observation.from_arrays(env.reset()[0], eval_config.device),
            policy.initial_state(1),
        )
        for _ in range(SEEN + IMAGINED + 1):
            seen.append(observation.pixels[0].float() / 255)
            action, state = policy.act(observation, state, None)
            self.states.append(state)
            actions.append(action)
            arrays, _, terminated, truncated, _ = env.step(action.cpu().numpy())
            if terminated[0] or truncated[0]:
                break
            observation = Observation.from_arrays(arrays, eval_config.device)
        env.close()
        self.pixels, self.actions, self.task = (
            torch.stack(seen),
            torch.stack(actions),
            observation.task,
        )


def _open_loop(policy: Predictor, episode: _Episode) -> list[np.ndarray]:
    start = min(SEEN, len(episode.pixels) - 1)
    predicted = policy.predict_images(
        episode.states[start - 1], episode.actions[start - 1 : -1], episode.task
    )[:, 0]
    pairs = zip(episode.pixels[start:], predicted, strict=True)
    return [_compare(truth, model) for truth, model in pairs]


def _compare(truth: Float[torch.Tensor, "height width channel"], model: torch.Tensor) -> np.ndarray:
    images = {"seen": truth, "imagined": model, "difference": (model - truth + 1) / 2}
    return beside(*(caption(enlarged(image), name) for name, image in images.items()))


def _reach(
    policy: GoalReacher,
    episode: _Episode,
    other: _Episode,
    sample_for_video: Mapping[str, torch.Tensor],
) -> list[np.ndarray]:
    """Every goal's film, one after the other, from the state that the episode began with."""
    frames = []
    for deter, image, name in [
        *_goals_of(episode, GOALS_AT, ""),
        *_goals_of(other, ELSEWHERE_AT, ", another episode"),
        *_replayed_goals(sample_for_video),
    ]:
        goal = caption(enlarged(image), f"goal: {name}")
        state = policy.with_high_level_action(episode.states[0], deter.unsqueeze(0))
        ways = policy.reach_images(state, IMAGINED, episode.task)[:, 0]
        frames += [beside(goal, caption(enlarged(imagined), "imagined")) for imagined in ways]
    return frames


def _goals_of(episode: _Episode, times: Sequence[int], where: str) -> list[Goal]:
    there = [time for time in times if time < len(episode.states)]
    return [
        (episode.states[time]["deter"][0], episode.pixels[time], f"step {time}{where}")
        for time in there
    ]


def _replayed_goals(rows: Mapping[str, torch.Tensor]) -> list[Goal]:
    if not rows:
        return []
    pairs = zip(rows["deter"].float(), rows["pixels"].float() / 255, strict=True)
    return [(deter, image, "from the replay") for deter, image in pairs]
