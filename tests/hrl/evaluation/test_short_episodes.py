"""Evaluation, videos and diagnostics of episodes of one to three steps."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from envs import Suite, make_vec
from hrl.agents.base import GoalReacher, Predictor
from hrl.config import load
from hrl.data.observation import Observation, PolicyState
from hrl.evaluation.episodes import INTERVENTIONS, EvalConfig, evaluate
from hrl.evaluation.goal_reaching import goal_distance, goal_reaching
from hrl.evaluation.imagination_video import record_imagination
from hrl.evaluation.open_loop import DIAGNOSTIC_STEPS, open_loop_error
from hrl.evaluation.policy_video import record_video
from hrl.evaluation.probe_episodes import DiagnosticRollouts
from tests.hrl.evaluation.test_video_writer import decode

SIZE = 16
EVAL_CONFIG = EvalConfig(2, 3, 1, SIZE, torch.device("cpu"), 1)


class Drifter:
    """A manager and worker whose goals, states and actions depend on the steps since the reset.

    The state crosses episodes: only `initial_state` restarts it. Predicted images are as bright as
    the last image.
    """

    def initial_state(self, num_envs: int) -> PolicyState:
        zeros = torch.zeros(num_envs, 2)
        return {"deter": zeros, "goal": zeros, "image": torch.zeros(num_envs, SIZE, SIZE, 3)}

    def is_decision_step(self, state: PolicyState) -> Tensor:
        return torch.ones(len(state["deter"]), dtype=torch.bool)

    def decide(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> PolicyState:
        return {**state, "goal": state["deter"] + observation.task}

    def act_low_level(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        image = observation.pixels.float() / 255
        return state["goal"].clamp(-1, 1), {**state, "deter": state["deter"] + 0.1, "image": image}

    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        decided = self.decide(observation, state, generator)
        return self.act_low_level(observation, decided, generator)

    def high_level_action(self, state: PolicyState) -> Tensor:
        return state["goal"]

    def with_high_level_action(self, state: PolicyState, high_level_action: Tensor) -> PolicyState:
        return {**state, "goal": high_level_action}

    def predict_images(self, state: PolicyState, actions: Tensor, task: Tensor) -> Tensor:
        assert len(actions), "an image needs an action"
        return state["image"].expand(len(actions), -1, -1, -1, -1)

    def reach(
        self, state: PolicyState, steps: Sequence[int], task: Tensor, action_mask: Tensor
    ) -> Tensor:
        return state["goal"].expand(len(steps), -1, -1)

    def reach_images(
        self, state: PolicyState, steps: int, task: Tensor, action_mask: Tensor
    ) -> Tensor:
        return state["image"].expand(steps, -1, -1, -1, -1)


def short_suite(steps: int) -> Suite:
    """The debug suite with episodes of so many agent steps."""
    suite = Suite.from_dict(load(["suite=debug", "agent=zero"])[1]["suite"])
    length = steps * suite.action_repeat
    splits = {
        name: tuple(replace(task, episode_length=length) for task in tasks)
        for name, tasks in suite.splits.items()
    }
    return replace(suite, splits=splits)


@pytest.mark.parametrize(
    "steps", [1, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (2, 3))]
)
def test_every_episode_starts_from_the_initial_state_and_has_a_score(steps: int) -> None:
    suite = short_suite(steps)
    tasks = suite.tasks("train")
    scores = evaluate(Drifter(), suite, ["train"], EVAL_CONFIG, INTERVENTIONS).scores
    assert scores.groupby(["intervention", "task"]).size().tolist() == [2] * 3 * len(tasks)
    assert set(scores["length"]) == {steps * suite.action_repeat}
    env = make_vec(suite, 2 * len(tasks), tasks, EVAL_CONFIG.seed, image_size=SIZE, evaluation=True)
    task = torch.from_numpy(env.reset()[0]["task"].copy())
    returns = np.zeros(env.num_envs)
    for step in range(steps):
        returns += env.step((task + 0.1 * step).clamp(-1, 1).numpy())[1]
    env.close()
    plain = scores[scores["intervention"] == "none"].sort_values(["episode"], kind="stable")
    order = [task.name for task in tasks] * 2
    assert plain["task"].tolist() == order
    np.testing.assert_allclose(plain["return"], returns, rtol=1e-5)


@pytest.mark.parametrize(
    "steps", [1, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (2, 3))]
)
def test_videos_show_all_steps(steps: int, tmp_path: Path) -> None:
    suite, policy = short_suite(steps), Drifter()
    task = suite.tasks("train")[0]
    path = record_video(policy, suite, task, EVAL_CONFIG, 50, tmp_path / "a.mp4", size=64)
    assert len(decode(path)[1]) == steps
    assert decode(path)[1].shape[2] == 64
    paths = record_imagination(policy, suite, task, EVAL_CONFIG, path, size=32)
    assert [path.name for path in paths] == ["a_open_loop.mp4", "a_goal_reaching.mp4"]
    assert len(decode(paths[0])[1]) == 1, "the image after the last step, predicted from the first"
    assert len(decode(paths[1])[1]) == 45 * 2, "a goal of this episode and one of another"


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_diagnostics_have_rows(steps: int) -> None:
    suite, policy = short_suite(steps), Drifter()
    assert isinstance(policy, GoalReacher)
    assert isinstance(policy, Predictor)
    rollouts = DiagnosticRollouts(policy, suite, "train", EVAL_CONFIG, DIAGNOSTIC_STEPS)
    assert len(rollouts.actions) == len(rollouts.states) == len(rollouts.pixels) - 1 == steps
    errors = open_loop_error(policy, rollouts)
    assert errors["horizon"].tolist() == [horizon for horizon in (1, 2) if horizon <= steps]
    first, last = rollouts.pixels[0].double() / 255, rollouts.pixels[1].double() / 255
    expected = float((first - last).square().sum() / len(first))
    assert errors["model"][0] == pytest.approx(expected, rel=1e-4)
    assert expected > 0, "the image after the step is of the same episode"
    reaching = goal_reaching(policy, rollouts)
    # Episodes of this policy start alike, so that no start of another one is a goal.
    assert list(dict.fromkeys(reaching["goal_offset"])) == (["2"] if steps == 3 else [])
    assert goal_distance(policy, rollouts)["count"].tolist() == [steps * len(rollouts.task)] * 2
