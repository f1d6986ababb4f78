"""How near a worker gets to goals and how far goals are from states, against loops, with a worker
whose trajectories are known."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from envs import Suite
from hrl.agents.base import GoalReacher
from hrl.config import load
from hrl.evaluation.episodes import EvalConfig
from hrl.evaluation.goal_reaching import (
    GOAL_OFFSETS,
    OTHER_EPISODE,
    STEPS,
    goal_distance,
    goal_reaching,
    goal_reaching_table,
)
from hrl.evaluation.open_loop import DIAGNOSTIC_STEPS
from hrl.evaluation.probe_episodes import DiagnosticRollouts
from tests.fakes import all_used, seen
from tests.hrl.small_directors import director

WORLDS, TASKS, TIME, SIZE = 4, 2, 30, 3


class Walker:
    """Goes a tenth of the remaining distance with every step: to its goal, or always to the
    origin."""

    def __init__(self, uses_goal: bool = True) -> None:
        self.uses_goal = uses_goal

    def with_high_level_action(
        self, state: dict[str, torch.Tensor], high_level_action: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return {**state, "goal": high_level_action}

    def high_level_action(self, state: dict[str, torch.Tensor]) -> torch.Tensor:
        return state["goal"]

    def reach(
        self,
        state: dict[str, torch.Tensor],
        steps: tuple[int, ...],
        task: torch.Tensor,
        action_mask: torch.Tensor,
    ) -> torch.Tensor:
        assert len(task) == len(action_mask) == len(state["deter"])
        goal = state["goal"] if self.uses_goal else torch.zeros_like(state["goal"])
        left = torch.tensor([0.9**step for step in steps])[:, None, None]
        return goal + left * (state["deter"] - goal)


def rollouts(time: int = TIME, worlds: int = WORLDS) -> Any:
    generator = torch.Generator().manual_seed(0)
    states = [
        {
            "deter": torch.randn(worlds, SIZE, generator=generator),
            "goal": torch.randn(worlds, SIZE, generator=generator),
        }
        for _ in range(time)
    ]
    is_decision = torch.rand(time, worlds, generator=generator) < 0.3
    previous = (torch.arange(worlds) - 1) % worlds
    return SimpleNamespace(
        states=states,
        task=torch.zeros(worlds, 2),
        action_mask=all_used(worlds, 2),
        n_tasks=min(TASKS, worlds),
        is_decision=is_decision,
        previous=previous,
    )


def test_remaining_distances_are_those_of_a_known_trajectory() -> None:
    table = goal_reaching(Walker(), rollouts())
    assert list(dict.fromkeys(table["goal_offset"])) == ["2", "4", "8", "16", OTHER_EPISODE], (
        "32 steps are more than the episode has left"
    )
    assert table["steps"].tolist() == list(STEPS) * 5
    assert table["distance"].tolist() == pytest.approx([0.9**step for step in STEPS] * 5, rel=1e-3)
    assert set(table["trajectories"]) == {WORLDS}
    assert (
        table[table["steps"] >= 16]["other_goal_distance"]
        > table[table["steps"] >= 16]["distance"] + 0.3
    ).all()
    assert "other_episode" in goal_reaching_table(table)


def test_max_cosine_and_other_goals_by_a_loop() -> None:
    """A worker that goes to the origin whatever its goal is."""
    found = rollouts()
    table = goal_reaching(Walker(uses_goal=False), found).set_index(["goal_offset", "steps"])
    starts = found.states[8]["deter"].numpy()
    for offset, goals in (
        ("4", found.states[12]["deter"].numpy()),
        (OTHER_EPISODE, np.roll(starts, TASKS, 0)),
    ):
        for steps in (0, 8, 64):
            ends = 0.9**steps * starts
            near = [
                end @ goal / max(end @ end, goal @ goal)
                for end, goal in zip(ends, goals, strict=True)
            ]  # Director's equation 6
            assert table.loc[(offset, steps), "max_cosine"] == pytest.approx(
                np.mean(near), abs=1e-5
            )
            for name, goal in (
                ("distance", goals),
                ("other_goal_distance", np.roll(found.states[-1]["deter"].numpy(), 1, 0)),
            ):
                left = sum(np.linalg.norm(end - g) for end, g in zip(ends, goal, strict=True))
                first = sum(
                    np.linalg.norm(start - g) for start, g in zip(starts, goal, strict=True)
                )
                assert table.loc[(offset, steps), name] == pytest.approx(left / first, rel=1e-4)


def test_goals_are_compared_with_states_of_other_worlds_by_a_loop() -> None:
    found = rollouts()
    table = goal_distance(Walker(), found).set_index("points")
    for name, key in (("goals", "goal"), ("states", "deter")):
        nearest, typical = [], []
        for time in range(TIME):
            for world in range(WORLDS):
                if key == "goal" and not found.is_decision[time, world]:
                    continue
                point = found.states[time][key][world]
                others = [
                    float((point - found.states[other]["deter"][place]).norm())
                    for other in range(TIME)
                    for place in range(WORLDS)
                    if place != world
                ]
                nearest.append(min(others))
                typical.append(np.mean(others))
        assert table.loc[name, "nearest_distance"] == pytest.approx(np.mean(nearest), rel=1e-4)
        assert table.loc[name, "mean_distance"] == pytest.approx(np.mean(typical), rel=1e-4)
        assert table.loc[name, "count"] == len(nearest)


@pytest.mark.parametrize("worlds", [1, TASKS, WORLDS])
@pytest.mark.parametrize("time", [1, 2, 3, 9, 10, 11])
def test_few_worlds_and_short_episodes_have_fewer_goals(worlds: int, time: int) -> None:
    table = goal_reaching(Walker(), rollouts(time, worlds))
    offsets = {1: [], 2: [], 3: ["2"], 9: ["2", "4", "8"], 10: ["2", "4", "8"], 11: ["2"]}[time]
    others = [OTHER_EPISODE] if worlds > TASKS else []
    assert list(dict.fromkeys(table["goal_offset"])) == offsets + others
    assert len(goal_distance(Walker(), rollouts(time, worlds))) == (0 if worlds == 1 else 2)
    assert goal_reaching_table(table)


@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_goals_at_which_the_worlds_already_are_count_for_nothing(noise: float) -> None:
    """Where all states are alike up to rounding, a share of the distance would be of none."""
    found = rollouts()
    for state in found.states:
        state["deter"] = torch.ones(WORLDS, SIZE) + noise * state["deter"]
    table = goal_reaching(Walker(), found)
    assert table.empty
    assert goal_reaching_table(table).startswith("(no goals")
    found.states[8 + 4]["deter"] = torch.zeros(WORLDS, SIZE)
    found.states[-1]["deter"] = torch.zeros(WORLDS, SIZE)
    assert set(goal_reaching(Walker(), found)["goal_offset"]) == {"4"}


def test_diagnostic_rollouts_are_long_enough_for_all_goals() -> None:
    assert max(GOAL_OFFSETS) + 8 < DIAGNOSTIC_STEPS


def test_rollouts_store_the_managers_decisions_and_the_images() -> None:

    suite = Suite.from_dict(load(["suite=debug", "agent=zero"])[1]["suite"])
    agent = director(skill_duration=3)
    found = DiagnosticRollouts(
        agent, suite, "train", EvalConfig(2, 3, 1, 16, torch.device("cpu"), 1), 12
    )
    worlds = 2 * len(suite.tasks("train"))
    assert found.pixels.shape == (13, worlds, 16, 16, 3)
    assert found.n_tasks == len(suite.tasks("train"))
    assert found.is_decision.tolist() == [[step % 3 == 0] * worlds for step in range(12)]
    assert isinstance(agent, GoalReacher)
    again = agent.initial_state(worlds)
    generator = torch.Generator().manual_seed(3)
    for step in range(2):
        with torch.inference_mode():
            observation = seen(found.pixels[step], found.task, found.action_mask)
            action, again = agent.act(observation, again, generator)
        torch.testing.assert_close(action, found.actions[step])
        torch.testing.assert_close(again["goal"], found.states[step]["goal"])


@torch.no_grad()
def test_a_directors_trajectory_is_what_its_images_show() -> None:
    """The images are those of the states, which greedy steps lead to one after the other."""
    agent, task = director(), torch.zeros(3, 2)
    state = {
        key: torch.randn_like(value) if value.is_floating_point() else value
        for key, value in agent.initial_state(3).items()
    }
    mask = all_used(3, agent.spec.action_size)
    trajectory = agent.reach(state, (1, 2, 3, 4), task, mask)
    images = agent.reach_images(state, 4, task, mask)
    assert trajectory.shape == (4, 3, 32)
    assert images.shape == (4, 3, 16, 16, 3)
    torch.testing.assert_close(agent.reach(state, (2, 4), task, mask), trajectory[[1, 3]])
    other = agent.reach(
        agent.with_high_level_action(state, -agent.high_level_action(state)),
        (1, 2, 3, 4),
        task,
        mask,
    )
    assert not torch.allclose(other, trajectory)
