"""Errors of predicted images against a loop over worlds and steps."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from envs import Suite, make_vec
from hrl.config import load
from hrl.data.observation import Observation, PolicyState
from hrl.evaluation.episodes import EvalConfig
from hrl.evaluation.open_loop import DIAGNOSTIC_STEPS, OPEN_LOOP_COLUMNS, open_loop_error
from hrl.evaluation.probe_episodes import DiagnosticRollouts

SIZE, TASKS = 16, 2
EVAL_CONFIG = EvalConfig(4, 3, 1, SIZE, torch.device("cpu"), 1)
BEGIN, LAST = (
    8,
    19,
)  # episodes of suite debug have 20 steps: images 0 to 19 before the one that they end in


class Guesser:
    """Acts at random and stores the image; predicts images as bright as the action before them."""

    def __init__(self, still: bool) -> None:
        self.still = still
        self.actions: list[torch.Tensor] = []

    def initial_state(self, num_envs: int) -> PolicyState:
        return {"seen": torch.zeros(num_envs, SIZE, SIZE, 3)}

    def act(self, observation: Observation, state: PolicyState, generator: torch.Generator | None):
        assert generator is not None, "actions are sampled"
        self.actions.append(torch.rand(len(observation.task), 2, generator=generator))
        return self.actions[-1], {"seen": observation.pixels.float() / 255}

    def predict_images(
        self, state: PolicyState, actions: torch.Tensor, task: torch.Tensor
    ) -> torch.Tensor:
        assert len(task) == len(state["seen"])
        if self.still:
            return state["seen"].expand(len(actions), -1, -1, -1, -1)
        return actions[..., :1, None, None].expand(-1, -1, SIZE, SIZE, 3)


def suite() -> Suite:
    return Suite.from_dict(load(["suite=debug", "agent=zero"])[1]["suite"])


def measured_error(policy: Guesser, eval_config: EvalConfig) -> pd.DataFrame:
    return open_loop_error(
        policy, DiagnosticRollouts(policy, suite(), "train", eval_config, DIAGNOSTIC_STEPS)
    )


def test_a_model_that_predicts_no_motion_is_as_good_as_the_last_image():
    table = measured_error(Guesser(still=True), EVAL_CONFIG)
    assert list(table.columns) == OPEN_LOOP_COLUMNS
    assert table["horizon"].tolist() == [1, 2, 4, 8], "16 steps are more than the episode has left"
    pd.testing.assert_series_equal(table["model"], table["last_image"], check_names=False)
    pd.testing.assert_series_equal(
        table["shuffled_actions"], table["last_image"], check_names=False
    )
    assert bool((table["last_image"] > 0).all())
    assert table["last_image"].is_monotonic_increasing


def test_errors_by_a_loop():
    """Predictions begin at the eighth image, of the actions from there on, or of the previous
    world's."""
    policy, debug = Guesser(still=False), suite()
    table = measured_error(policy, EVAL_CONFIG).set_index("horizon")
    tasks = debug.tasks("train")
    few = Guesser(still=False)
    measured_error(few, replace(EVAL_CONFIG, episodes=1))
    assert len(few.actions[0]) == len(tasks), "no more worlds than are evaluated"
    worlds = len(policy.actions[0])
    assert worlds == 4 * len(tasks)
    env = make_vec(debug, worlds, tasks=tasks, seed=3, evaluation=True, image_size=SIZE)
    images = [env.reset()[0]["pixels"]]
    images += [np.array(env.step(action.numpy())[0]["pixels"]) for action in policy.actions[:LAST]]
    env.close()
    for ahead in (1, 2, 4, 8):
        expected = {"model": 0.0, "shuffled_actions": 0.0}
        for world in range(worlds):
            truth = images[BEGIN + ahead][world].astype(np.float64) / 255
            for name, other in (("model", world), ("shuffled_actions", (world - 1) % worlds)):
                bright = float(policy.actions[BEGIN + ahead - 1][other, 0])
                expected[name] += float(np.square(truth - bright).sum()) / worlds
        for name, value in expected.items():
            assert table.loc[ahead, name] == pytest.approx(value, rel=1e-4), (name, ahead)
        assert table.loc[ahead, "images"] == worlds
