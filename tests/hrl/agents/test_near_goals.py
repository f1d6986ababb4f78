"""The worker's near goals: states that the imagined trajectory passes soon after its start."""

from dataclasses import replace

import pytest
import torch

from hrl.agents.actor_critic import Trajectory
from hrl.agents.director import Director, DirectorConfig
from hrl.agents.goal_segments import ImaginedTrajectory, max_cosine, side_by_side
from hrl.agents.parts import modules_by_name
from hrl.agents.world_model_agent import ImaginationStart
from tests.fakes import reached
from tests.hrl.small_directors import BATCH, COUNT, LENGTH, director, labelled, rows, states

STARTS = BATCH * LENGTH
NEAR = STARTS // 2


def near(**changes: object) -> Director:
    """Segments of three steps, and near goals for half of the starts."""
    return director(near_goals=0.5, skill_duration=3, **changes)


def imagined_from(agent: Director) -> tuple[ImaginationStart, ImaginedTrajectory]:
    batch = rows()
    starts = agent.starts(batch, states(agent, batch))
    return starts, agent._imagine(starts)


def with_noise(agent: Director, value: float) -> Director:
    """Every uniform number is `value`, and actions are their means."""
    agent.noise = lambda *shape, normal=False: torch.full(shape, 0.0 if normal else value)
    return agent


@pytest.mark.parametrize("skill_duration", [1, 2, 3])
def test_near_goals_are_states_of_their_own_trajectory_one_to_k_steps_ahead(skill_duration):
    """Every number of steps equally often; `deter` says the time and the start."""
    agent = director(skill_duration=skill_duration, horizon=6)
    deter = labelled(skill_duration, 6 // skill_duration).states.deter
    torch.manual_seed(0)
    times = []
    for _ in range(300):
        goals = agent._near_goals(deter)
        for start in range(COUNT):
            time = int(goals[start, 0])
            assert torch.equal(goals[start], deter[time, start])
            times.append(time)
    counts = [times.count(time) for time in range(7)]
    assert [count > 0 for count in counts] == [1 <= time <= skill_duration for time in range(7)]
    assert min(counts[1 : skill_duration + 1]) > 0.8 * len(times) / skill_duration


@pytest.mark.parametrize(("uniform", "time"), [(0.0, 1), (0.34, 2), (0.7, 3), (1 - 2**-24, 3)])
def test_the_step_of_a_near_goal_by_hand(uniform, time):
    deter = labelled(3, 2).states.deter
    assert torch.equal(with_noise(near(), uniform)._near_goals(deter), deter[time])


def test_near_goals_carry_no_gradient():
    """A worker does not learn to make its goals easy."""
    _, imagined = imagined_from(agent := near(action_gradient="dynamics"))
    assert imagined.states.deter.requires_grad
    assert not agent._near_goals(imagined.states.deter).requires_grad


@pytest.mark.parametrize(
    "changes", [{}, {"goal_alignment": "current", "worker_reward": "max_cosine"}]
)
def test_near_segments_by_a_loop(changes):
    """They begin at some of the starts, the first where all numbers drawn are equal, and keep their
    goal; every action pursues it, and every reward is measured against it, the last one of the
    published alignment too."""
    agent = near(**changes)
    starts, imagined = imagined_from(agent)
    with torch.no_grad():
        trajectory, _ = with_noise(agent, 0.5)._near_goal_trajectory(starts, imagined)
        assert trajectory.inputs.shape == (4, NEAR, 32 + 16 + 32)
        assert trajectory.actions.shape == (3, NEAR, 2)
        assert set(trajectory.rewards) == {"goal"}
        for row in range(NEAR):
            goal = imagined.states.deter[2, row]
            task = starts.task[row]
            assert torch.equal(trajectory.task[0, row], task)
            assert torch.equal(trajectory.action_mask[0, row], starts.action_mask[row])
            assert trajectory.continues[0, row] == starts.alive[row]
            first = torch.cat([starts.states.deter[row], starts.states.stoch[row], goal])
            assert torch.equal(trajectory.inputs[0, row], first)
            for time in range(3):
                before, after = trajectory.inputs[time : time + 2, row, :32]
                assert torch.equal(trajectory.inputs[time + 1, row, -32:], goal)
                mean = agent.worker.actor(trajectory.inputs[time, row], task).mean
                torch.testing.assert_close(trajectory.actions[time, row], mean)
                expected = max_cosine(after, goal)
                if not changes:
                    expected = expected - max_cosine(before, goal)
                torch.testing.assert_close(trajectory.rewards["goal"][time, row], expected)


def test_near_goals_begin_at_every_start_equally_often(monkeypatch):
    """The replay gives its newest sequences first: the first starts are not like the others."""
    seen: list[torch.Tensor] = []
    chosen = ImaginationStart.chosen

    def spy(starts: ImaginationStart, index: torch.Tensor) -> ImaginationStart:
        seen.append(index)
        return chosen(starts, index)

    monkeypatch.setattr(ImaginationStart, "chosen", spy)
    agent = near()
    starts, imagined = imagined_from(agent)
    torch.manual_seed(0)
    draws = 200
    with torch.no_grad():
        for _ in range(draws):
            trajectory, _ = agent._near_goal_trajectory(starts, imagined)
            first = trajectory.inputs[0, :, :32]
            assert torch.equal(first, starts.states.deter[seen[-1]])
    assert all(len(index.unique()) == NEAR for index in seen)
    counts = torch.cat(seen).bincount(minlength=STARTS)
    assert int(counts.min()) > 0.35 * draws
    assert int(counts.max()) < 0.65 * draws


def test_a_near_segment_is_a_step_of_the_model_after_another():
    agent = near()
    starts, imagined = imagined_from(agent)
    with torch.no_grad():
        trajectory, _ = with_noise(agent, 0.5)._near_goal_trajectory(starts, imagined)
        model, state = agent.world_model, starts.chosen(torch.arange(NEAR)).states
        for time in range(3):
            moves = model.dynamics_input(trajectory.actions[time], starts.task[:NEAR])
            state = model.rssm(state, moves, torch.full((NEAR, 4), 0.5))
            torch.testing.assert_close(trajectory.inputs[time + 1, :, :48], state.features())


def test_side_by_side_rows_stay_what_they_were():
    agent = director(task_reward_to_worker=0.5)
    first, second = (agent._worker_trajectory(labelled(2, count))[0] for count in (3, 1))
    second = second._replace(inputs=second.inputs + 1, actions=second.actions + 1)
    both = side_by_side(first, second)
    assert both.discount == first.discount
    for row in range(4 * COUNT):
        source, at = (first, row) if row < 3 * COUNT else (second, row - 3 * COUNT)
        for name in ("inputs", "task", "actions", "continues", "action_mask"):
            assert torch.equal(getattr(both, name)[:, row], getattr(source, name)[:, at])
        for name, values in both.rewards.items():
            assert torch.equal(values[:, row], source.rewards[name][:, at])
    assert set(both.rewards) == set(first.rewards) == {"goal", "task"}


def levels(agent: Director) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Metrics and gradients of one update's loss."""
    torch.manual_seed(2)
    loss, metrics, _ = agent.loss(rows())
    loss.backward()
    return metrics, {name: p.grad for name, p in agent.named_parameters() if p.grad is not None}


def test_only_the_worker_learns_from_near_goals():
    """To the bit: the manager, the model and the measures of the manager's goals are the same with
    them and without."""
    (plain, still), (found, moved) = (levels(director(near_goals=share)) for share in (0.0, 0.5))
    assert plain.keys() == {name for name in found if not name.startswith("goal/near_")}
    changed = {name for name, value in plain.items() if not torch.equal(value, found[name])}
    assert changed
    assert {name.split("/")[0] for name in changed} == {"worker"}
    changed = {name for name, value in still.items() if not torch.equal(value, moved[name])}
    assert {name.split(".")[0] for name in changed} == {"worker"}


@pytest.mark.parametrize("gradient", ["reinforce", "dynamics"])
def test_the_loss_of_near_goals_reaches_the_worker_alone(gradient):
    agent = near(action_gradient=gradient, task_reward_to_worker=0.5)
    starts, imagined = imagined_from(agent)
    trajectory, _ = agent._near_goal_trajectory(starts, imagined)
    agent.worker.loss(trajectory)[0].backward()
    assert reached(modules_by_name(agent.parts())) == {"worker", "worker_critic"}


def test_the_workers_rows_are_those_of_both_kinds_of_goals():
    """Every decision of the manager's, then the near ones, all with the same weight."""
    agent = near()
    seen: list[Trajectory] = []
    loss = agent.worker.loss
    agent.worker.loss = lambda trajectory: (seen.append(trajectory), loss(trajectory))[1]
    torch.manual_seed(2)
    _, metrics, _ = agent.loss(rows())
    assert seen[0].inputs.shape[1] == 2 * STARTS + NEAR
    deter, goal = seen[0].inputs[..., :32].detach(), seen[0].inputs[..., -32:].detach()
    distance = [(goal[time] - deter[time]).norm(dim=-1)[-NEAR:].mean() for time in (0, -1)]
    torch.testing.assert_close(metrics["goal/near_distance"], distance[0])
    torch.testing.assert_close(metrics["goal/near_distance_left"], distance[1] / distance[0])


def test_near_goals_are_learned_from_in_bfloat16_too():
    agent = near(action_gradient="dynamics")
    agent.spec = replace(agent.spec, autocast=torch.bfloat16)
    loss, metrics, _ = agent.loss(rows())
    loss.backward()
    assert all(bool(torch.isfinite(value).all()) for value in metrics.values())


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_is_refused_by_key(share):
    with pytest.raises(ValueError, match=rf"near_goals is {share}; it must be at least 0 and at"):
        DirectorConfig(near_goals=share)


def test_near_goals_count_in_the_memory_of_an_update():
    """One more segment, k + 1 states, for each of them."""
    assert DirectorConfig().imagined_states == 17
    assert DirectorConfig(near_goals=0.5, skill_duration=4).imagined_states == 17 + 0.5 * 5
