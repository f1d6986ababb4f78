"""How far a worker gets and whether a manager's goals exist, against loops, with a worker whose
ways are known."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hrl.agents.base import GoalReacher
from hrl.config import load
from hrl.data.observation import Observation
from hrl.evaluation.episodes import EvalConfig
from hrl.evaluation.goal_reaching import APART, ELSEWHERE, STEPS, goals, reach, reach_table
from hrl.evaluation.open_loop import EXPLORED
from hrl.evaluation.probe_episodes import DiagnosticRollouts
from tests.hrl.small_directors import director

WORLDS, TASKS, TIME, SIZE = 4, 2, 30, 3


class Walker:
    """Goes a tenth of the way that is left with every step, in a plane with a third number that
    never changes."""

    def __init__(self, heeds: bool = True) -> None:
        self.heeds = heeds

    def with_high_level_action(
        self, state: dict[str, torch.Tensor], high_level_action: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return {**state, "goal": high_level_action}

    def high_level_action(self, state: dict[str, torch.Tensor]) -> torch.Tensor:
        return state["goal"]

    def reach(
        self, state: dict[str, torch.Tensor], steps: tuple[int, ...], task: torch.Tensor
    ) -> torch.Tensor:
        assert len(task) == len(state["deter"])
        goal = state["goal"] if self.heeds else torch.zeros_like(state["goal"])
        left = torch.tensor([0.9**step for step in steps])[:, None, None]
        return goal + left * (state["deter"] - goal)


def explored(time: int = TIME, worlds: int = WORLDS) -> Any:
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
        tasks=min(TASKS, worlds),
        is_decision=is_decision,
        previous=previous,
    )


def test_distances_left_are_those_of_a_known_way() -> None:
    table = reach(Walker(), explored())
    assert list(dict.fromkeys(table["apart"])) == ["2", "4", "8", "16", ELSEWHERE], (
        "32 steps are more than the episode has left"
    )
    assert table["steps"].tolist() == list(STEPS) * 5
    assert table["distance"].tolist() == pytest.approx([0.9**step for step in STEPS] * 5, rel=1e-3)
    assert set(table["ways"]) == {WORLDS}
    assert (
        table[table["steps"] >= 16]["swapped"] > table[table["steps"] >= 16]["distance"] + 0.3
    ).all()
    assert "elsewhere" in reach_table(table)


def test_closeness_and_swapped_goals_by_a_loop() -> None:
    """A worker that goes to the origin whatever it is told: of two goals, which and how near."""
    seen = explored()
    table = reach(Walker(heeds=False), seen).set_index(["apart", "steps"])
    starts = seen.states[8]["deter"].numpy()
    for apart, told in (
        ("4", seen.states[12]["deter"].numpy()),
        (ELSEWHERE, np.roll(starts, TASKS, 0)),
    ):
        for steps in (0, 8, 64):
            ends = 0.9**steps * starts
            near = [
                end @ goal / max(end @ end, goal @ goal)
                for end, goal in zip(ends, told, strict=True)
            ]  # Director's equation 6
            assert table.loc[(apart, steps), "max_cosine"] == pytest.approx(np.mean(near), abs=1e-5)
            for name, goal in (
                ("distance", told),
                ("swapped", np.roll(seen.states[-1]["deter"].numpy(), 1, 0)),
            ):
                left = sum(np.linalg.norm(end - g) for end, g in zip(ends, goal, strict=True))
                first = sum(
                    np.linalg.norm(start - g) for start, g in zip(starts, goal, strict=True)
                )
                assert table.loc[(apart, steps), name] == pytest.approx(left / first, rel=1e-4)


def test_goals_are_compared_with_states_of_other_worlds_by_a_loop() -> None:
    seen = explored()
    table = goals(Walker(), seen).set_index("of")
    for name, key in (("manager's goals", "goal"), ("states", "deter")):
        nearest, typical = [], []
        for time in range(TIME):
            for world in range(WORLDS):
                if key == "goal" and not seen.is_decision[time, world]:
                    continue
                point = seen.states[time][key][world]
                others = [
                    float((point - seen.states[other]["deter"][place]).norm())
                    for other in range(TIME)
                    for place in range(WORLDS)
                    if place != world
                ]
                nearest.append(min(others))
                typical.append(np.mean(others))
        assert table.loc[name, "nearest"] == pytest.approx(np.mean(nearest), rel=1e-4)
        assert table.loc[name, "typical"] == pytest.approx(np.mean(typical), rel=1e-4)
        assert table.loc[name, "count"] == len(nearest)


@pytest.mark.parametrize("worlds", [1, TASKS, WORLDS])
def test_few_worlds_and_short_episodes_make_short_tables(worlds: int) -> None:
    assert reach(Walker(), explored(6, worlds)).empty, "the episode ends before any way begins"
    assert set(reach(Walker(), explored(9, worlds))["apart"]) == (
        {ELSEWHERE} if worlds > TASKS else set()
    )
    assert len(goals(Walker(), explored(6, worlds))) == (0 if worlds == 1 else 2)
    assert reach_table(reach(Walker(), explored(6, worlds)))
    assert max(APART) + 8 < EXPLORED, "what is explored is long enough for all"


def test_exploration_remembers_where_the_manager_decided_and_what_was_seen() -> None:
    from envs import Suite

    suite = Suite.from_dict(load(["suite=debug", "agent=zero"])[1]["suite"])
    agent = director(skill_duration=3)
    seen = DiagnosticRollouts(
        agent, suite, "train", EvalConfig(2, 3, 1, 16, torch.device("cpu"), 1), 12
    )
    worlds = 2 * len(suite.tasks("train"))
    assert seen.pixels.shape == (12, worlds, 16, 16, 3)
    assert seen.tasks == len(suite.tasks("train"))
    assert seen.is_decision.tolist() == [[step % 3 == 0] * worlds for step in range(12)]
    assert isinstance(agent, GoalReacher)
    again = agent.initial_state(worlds)
    generator = torch.Generator().manual_seed(3)
    for step in range(2):
        with torch.inference_mode():
            action, again = agent.act(Observation(seen.pixels[step], seen.task), again, generator)
        torch.testing.assert_close(action, seen.actions[step])
        torch.testing.assert_close(again["goal"], seen.states[step]["goal"])


@torch.no_grad()
def test_a_directors_way_is_what_its_images_show() -> None:
    """The images are those of the states, which greedy steps lead to one after the other."""
    agent, task = director(), torch.zeros(3, 2)
    state = {
        key: torch.randn_like(value) if value.is_floating_point() else value
        for key, value in agent.initial_state(3).items()
    }
    way, images = agent.reach(state, (1, 2, 3, 4), task), agent.reach_images(state, 4, task)
    assert way.shape == (4, 3, 32)
    assert images.shape == (4, 3, 16, 16, 3)
    torch.testing.assert_close(agent.reach(state, (2, 4), task), way[[1, 3]])
    other = agent.reach(
        agent.with_high_level_action(state, -agent.high_level_action(state)), (1, 2, 3, 4), task
    )
    assert not torch.allclose(other, way)
