"""The hierarchical agent: one imagined trajectory read by two levels, and a worker that learns to
reach goals."""

import math

import pytest
import torch

from hrl.agents.actor_critic import ActorCriticConfig
from hrl.agents.director import Director, DirectorConfig
from hrl.agents.goal_segments import max_cosine
from hrl.optim.laprop import LaProp
from hrl.world_model.model import WorldModelLossConfig
from hrl.world_model.rssm import RSSMState
from tests.fakes import randomise, replayed
from tests.hrl.small_directors import BATCH, COUNT, LENGTH, director, labelled, rows, states

SPLITS = [(2, 3), (1, 4), (4, 1), (3, 2)]


def slow_max_cosine(state: torch.Tensor, goal: torch.Tensor) -> float:
    product = sum(a * b for a, b in zip(state.tolist(), goal.tolist(), strict=True))
    squares = [sum(a * a for a in vector.tolist()) for vector in (state, goal)]
    return product / max(squares)


# The split of an imagined trajectory.


@pytest.mark.parametrize(("skill_duration", "decisions"), SPLITS)
@pytest.mark.parametrize("alignment", ["own", "current"])
def test_worker_segments_by_time_index(skill_duration, decisions, alignment):
    """Segment j of start b has states jk to jk + k, all with goal j; rewards are those of
    arriving at its states.

    Its last reward is measured against goal j + 1 in the published code.
    """
    imagined = labelled(skill_duration, decisions)
    rewards = {"worker_reward": "max_cosine", "task_reward_to_worker": 0.5}
    agent = director(
        skill_duration=skill_duration,
        horizon=skill_duration * decisions,
        goal_alignment=alignment,
        **rewards,
    )
    trajectory, _ = agent._worker_trajectory(imagined)
    assert trajectory.inputs.shape == (skill_duration + 1, decisions * COUNT, 32 + 16 + 32)
    assert trajectory.discount == agent.config.discount
    for j in range(decisions):
        for b in range(COUNT):
            row = j * COUNT + b
            assert torch.equal(trajectory.task[0, row], imagined.task[0, b])
            for i in range(skill_duration + 1):
                time = j * skill_duration + i
                seen = torch.cat(
                    [
                        imagined.states.deter[time, b],
                        imagined.states.stoch[time, b],
                        imagined.goals[j, b],
                    ]
                )
                assert torch.equal(trajectory.inputs[i, row], seen)
                own = slice(time, time + 1) if i else slice(time + 1)
                expected = float(imagined.continues[own, b].prod())
                assert float(trajectory.continues[i, row]) == pytest.approx(expected, rel=1e-6)
            for i in range(skill_duration):
                time = j * skill_duration + i
                assert torch.equal(trajectory.actions[i, row], imagined.actions[time, b])
                assert trajectory.rewards["task"][i, row] == imagined.rewards[time, b]
                goal = imagined.goals[j + (alignment == "current" and i == skill_duration - 1), b]
                expected = slow_max_cosine(imagined.states.deter[time + 1, b], goal)
                assert float(trajectory.rewards["goal"][i, row]) == pytest.approx(
                    expected, rel=1e-5
                )


@pytest.mark.parametrize(("skill_duration", "decisions"), SPLITS)
def test_progress_orders_policies_as_max_cosine_does(skill_duration, decisions):
    """Discounted progress is (1 - discount) times discounted max_cosine, less the first max_cosine:
    in every segment.

    The sums stop at a segment's end, where discount^k times the last max_cosine stands for all that
    follows.
    """
    imagined = labelled(skill_duration, decisions)
    views = {
        kind: director(
            skill_duration=skill_duration, horizon=skill_duration * decisions, worker_reward=kind
        )._worker_trajectory(imagined)[0]
        for kind in ("max_cosine", "progress")
    }
    discount = views["progress"].discount
    powers = discount ** torch.arange(skill_duration)[:, None]
    near = views["max_cosine"].rewards["goal"]
    for j in range(decisions):
        for b in range(COUNT):
            row = j * COUNT + b
            first = slow_max_cosine(
                imagined.states.deter[j * skill_duration, b], imagined.goals[j, b]
            )
            follows = discount**skill_duration * float(near[-1, row])
            total = (1 - discount) * float((powers[:, 0] * near[:, row]).sum()) + follows - first
            progress = float((powers[:, 0] * views["progress"].rewards["goal"][:, row]).sum())
            assert progress == pytest.approx(total, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("skill_duration", "decisions"), SPLITS)
def test_manager_decisions_by_time_index(skill_duration, decisions):
    """Its inputs are states 0, k, 2k and so on; the code of the last of them is never acted on and
    is not learned from."""
    imagined = labelled(skill_duration, decisions)
    agent = director(skill_duration=skill_duration, horizon=skill_duration * decisions)
    trajectory = agent._manager_trajectory(imagined)
    assert trajectory.inputs.shape == (decisions + 1, COUNT, 32 + 16)
    assert trajectory.inputs[:, 0, 0].tolist() == [j * skill_duration for j in range(decisions + 1)]
    assert torch.equal(
        trajectory.inputs, imagined.states.features()[torch.arange(decisions + 1) * skill_duration]
    )
    assert torch.equal(trajectory.actions, imagined.codes[:decisions])
    assert torch.equal(trajectory.task, imagined.task)
    for b in range(COUNT):
        assert trajectory.continues[0, b] == imagined.continues[0, b]
        for j in range(decisions):
            chance = math.prod(
                imagined.continues[
                    j * skill_duration + 1 : (j + 1) * skill_duration + 1, b
                ].tolist()
            )
            assert float(trajectory.continues[j + 1, b]) == pytest.approx(chance, rel=1e-5)


@pytest.mark.parametrize(("skill_duration", "decisions"), SPLITS)
@pytest.mark.parametrize("kind", ["discounted_sum", "mean"])
def test_manager_rewards_by_a_loop(skill_duration, decisions, kind):
    """Of a decision's k rewards, each by the chance that the episode still goes on when its action
    is taken.

    The published mean counts that the episode goes on at the decision itself too.
    """
    imagined = labelled(skill_duration, decisions)
    agent = director(
        skill_duration=skill_duration,
        horizon=skill_duration * decisions,
        manager_reward=kind,
        discount=0.9,
    )
    agent.goals.exploration_reward = lambda deter, task: (
        deter[..., 0] + 0.1 * deter[..., 1]
    )  # says which state it is of
    trajectory = agent._manager_trajectory(imagined)
    for j in range(decisions):
        for b in range(COUNT):
            alive = (
                1.0
                if kind == "discounted_sum"
                else float(imagined.continues[j * skill_duration, b])
            )
            task, exploration_reward = 0.0, 0.0
            for i in range(skill_duration):
                time = j * skill_duration + i
                weight = alive * (0.9**i if kind == "discounted_sum" else 1 / skill_duration)
                task += weight * float(imagined.rewards[time, b])
                exploration_reward += weight * (time + 1 + 0.1 * b)
                alive *= float(imagined.continues[time + 1, b])
            assert float(trajectory.rewards["task"][j, b]) == pytest.approx(task, rel=1e-5)
            assert float(trajectory.rewards["exploration"][j, b]) == pytest.approx(
                exploration_reward, rel=1e-5
            )


def test_discounted_sums_and_their_discount_make_the_flat_methods_return():
    """Decisions worth their discounted rewards, discounted by discount^k, come to the discounted
    sum over steps."""
    imagined = labelled(2, 3)
    agent = director(discount=0.9)
    trajectory = agent._manager_trajectory(imagined)
    total, chance = torch.zeros(COUNT), torch.ones(COUNT)
    for j in range(3):
        total += 0.9 ** (2 * j) * chance * trajectory.rewards["task"][j]
        chance = chance * trajectory.continues[j + 1]
    assert trajectory.discount == pytest.approx(0.81)
    for b in range(COUNT):
        flat = sum(
            0.9**t
            * math.prod(imagined.continues[1 : t + 1, b].tolist())
            * float(imagined.rewards[t, b])
            for t in range(6)
        )
        assert float(total[b]) == pytest.approx(flat, rel=1e-5)


def test_the_managers_discount_is_per_decision():
    """By default as far-sighted as the flat method per step; the published code's is set on its
    own."""
    assert DirectorConfig().discount_per_decision == pytest.approx(0.99**8)
    assert DirectorConfig(
        discount=0.5, skill_duration=4, horizon=8
    ).discount_per_decision == pytest.approx(0.0625)
    agent = director(manager_discount=0.99, skill_duration=3)
    assert agent._manager_trajectory(labelled(3, 2)).discount == 0.99
    assert agent._worker_trajectory(labelled(3, 2))[0].discount == agent.config.discount


@pytest.mark.parametrize(("alignment", "is_decision"), [("own", 3), ("current", 4)])
def test_goals_and_actions_of_an_imagined_trajectory(alignment, is_decision):
    """The manager decides at states 0, k, 2k, ..., and at T where the next goal counts; its goals
    are what its codes decode to, and c_0 is the truth.
    """
    agent, batch = director(goal_alignment=alignment, worker_reward="max_cosine"), rows()
    with torch.no_grad():
        imagined = agent._imagine(agent.starts(batch, states(agent, batch)))
        task = imagined.task[0]
        count = BATCH * LENGTH
        assert (
            len(imagined.states.deter),
            len(imagined.actions),
            len(imagined.codes),
            len(imagined.goals),
        ) == (
            7,
            6,
            is_decision,
            is_decision,
        )
        assert bool((imagined.codes.sum(-1) == 1).all())
        for j in range(is_decision):
            torch.testing.assert_close(
                imagined.goals[j], agent.goals.decode(imagined.codes[j], task)
            )
        features = imagined.states.features()
        for time in range(6):
            expected = agent.world_model.predict_reward(features[time + 1], task).mean()
            # Rewards of 1e5, powers of e, enlarge the rounding of products of other shapes.
            torch.testing.assert_close(imagined.rewards[time], expected, rtol=1e-4, atol=1e-5)
            goes_on = agent.world_model.predict_continue(features[time + 1], task)
            torch.testing.assert_close(imagined.continues[time + 1], goes_on)
    done = batch["is_terminal"][:, 1:].reshape(count)
    assert bool(done.any())
    assert torch.equal(imagined.continues[0], (~done).float())
    assert torch.equal(task, batch["task"][:, 1:].reshape(count, 2))


def test_each_imagined_action_pursues_the_goal_of_its_segment():
    """With a worker that does not explore, actions are its mean at the state and the goal in
    force."""
    agent, batch, noise = director(), rows(), Director.noise
    agent.noise = lambda *shape, normal=False: (
        torch.zeros(shape) if normal else noise(agent, *shape)
    )
    with torch.no_grad():
        imagined = agent._imagine(agent.starts(batch, states(agent, batch)))
        for time in range(6):
            seen = torch.cat([imagined.states.features()[time], imagined.goals[time // 2]], -1)
            torch.testing.assert_close(
                imagined.actions[time], agent.worker.actor(seen, imagined.task[0]).mean
            )
            wrong = torch.cat([imagined.states.features()[time], imagined.goals[time // 2 - 1]], -1)
            assert not torch.isclose(
                imagined.actions[time], agent.worker.actor(wrong, imagined.task[0]).mean
            ).all()


# Closeness.


def test_max_cosine_by_hand():
    """Cosine times the ratio of norms: 1 only at the goal, whatever is longer."""
    goal = torch.tensor([3.0, 4.0])
    for state, value in (
        ([3.0, 4.0], 1.0),
        ([6.0, 8.0], 0.5),
        ([1.5, 2.0], 0.5),
        ([-3.0, -4.0], -1.0),
        ([4.0, -3.0], 0.0),
        ([0.0, 0.0], 0.0),
        ([5.0, 0.0], 0.6),
        ([10.0, 0.0], 0.3),
    ):
        assert float(max_cosine(torch.tensor(state), goal)) == pytest.approx(value)
        assert float(max_cosine(goal, torch.tensor(state))) == pytest.approx(value)
    assert float(max_cosine(torch.zeros(2), torch.zeros(2))) == 0.0


def test_max_cosine_is_one_only_at_the_goal():
    generator = torch.Generator().manual_seed(0)
    goal = torch.randn(200, 6, generator=generator)
    for scale in (1e-2, 0.3, 3.0):
        near = goal + scale * torch.randn(200, 6, generator=generator)
        assert bool((max_cosine(near, goal) < 1).all())
        assert float(max_cosine(near, goal).min()) >= -1
    torch.testing.assert_close(max_cosine(goal, goal), torch.ones(200))


@pytest.mark.parametrize("longer", ["state", "goal"])
def test_max_cosine_gradient(longer):
    """d/dh of g.h / max(|g|, |h|)^2: through the norm where the state is longer, else along the
    goal alone."""
    state = torch.tensor([1.0, 2.0, -1.0], requires_grad=True)
    goal = (torch.tensor([0.5, 1.0, 0.7]) * (0.5 if longer == "state" else 5.0)).requires_grad_()
    max_cosine(state, goal).backward()
    h, g = state.detach(), goal.detach()
    expected = g / g.square().sum()
    if longer == "state":
        expected = g / h.square().sum() - 2 * (g @ h) * h / h.square().sum() ** 2
    torch.testing.assert_close(state.grad, expected)
    assert goal.grad is None


# Learning.


def steerable(gradient: str) -> tuple[Director, dict[str, torch.Tensor], RSSMState]:
    """A fixed world model whose states its actions move far, and starts in it."""
    level = ActorCriticConfig(layers=1, entropy="fixed", entropy_scale=0.01)
    agent = director(
        False,
        32,
        horizon=3,
        skill_duration=3,
        sequence_length=8,
        worker=level,
        action_gradient=gradient,
    )
    randomise(agent.world_model.rssm, 0.5)
    batch = replayed(agent.spec, BATCH, 8)
    batch["is_terminal"][:] = False
    with torch.no_grad():
        agent.world_model.rssm.from_action.layers[1].scale.mul_(5)
        noise = torch.rand(BATCH, 8, 4, generator=torch.Generator().manual_seed(0))
        return agent, batch, agent.world_model.observe(batch, noise, WorldModelLossConfig()).states


@pytest.mark.parametrize("gradient", ["reinforce", "dynamics"])
def test_a_worker_learns_to_reach_goals_in_a_fixed_world(gradient):
    """Goals are states that some action, kept up, led to. Of the way from a fresh worker's
    max_cosine to what those very actions come to it goes two fifths or more; sent to each other's
    goals it ends farther from its own.
    """
    agent, batch, start = steerable(gradient)
    count, generator = BATCH * 8, torch.Generator().manual_seed(0)
    repeated = torch.rand(count, 2, generator=generator) * 2 - 1

    @torch.no_grad()
    def lead() -> torch.Tensor:
        uniform = torch.rand(3, count, 4, generator=generator)
        task = batch["task"][:, 1:].flatten(0, 1)
        return agent.world_model.imagine(
            start.flatten(), task, lambda time, state: repeated, uniform, False
        )[0].deter[-1]

    goal = lead()
    before = {
        name: value.clone()
        for name, value in agent.state_dict().items()
        if not name.startswith("worker.")
    }
    attainable = float(torch.stack([max_cosine(lead(), goal).mean() for _ in range(8)]).mean())

    @torch.no_grad()
    def reached_with(given: torch.Tensor) -> float:
        """Closeness to the own goal at the end of segments in which `given` is pursued."""
        torch.manual_seed(3)
        agent.goals.decode = lambda code, task: given
        ends = [agent._imagine(agent.starts(batch, start)).states.deter[-1] for _ in range(8)]
        agent.goals.decode = lambda code, task: goal
        return float(torch.stack([max_cosine(end, goal).mean() for end in ends]).mean())

    first = reached_with(goal)
    optimizer = LaProp([p for p in agent.worker.parameters() if p.requires_grad], 4e-2)
    torch.manual_seed(4)
    for _ in range(80):
        loss, _ = agent.worker.loss(
            agent._worker_trajectory(agent._imagine(agent.starts(batch, start)))[0]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        agent.worker.update_target()
    last, swapped = reached_with(goal), reached_with(goal.roll(1, 0))
    assert last - first > 0.4 * (attainable - first)
    assert last - swapped > 0.05
    after = agent.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items()), (
        "nothing else was trained"
    )


def test_segments_are_measured_at_their_start_and_end():
    """Diagnostics: max_cosine of first and last states, the goal's distance, and that over how far
    a segment goes."""
    imagined = labelled(2, 3)
    _, measured = director()._worker_trajectory(imagined)
    first, last, far, gone = [], [], [], []
    for j in range(3):
        for b in range(COUNT):
            begin, end, goal = (
                imagined.states.deter[2 * j, b],
                imagined.states.deter[2 * j + 2, b],
                imagined.goals[j, b],
            )
            first.append(slow_max_cosine(begin, goal))
            last.append(slow_max_cosine(end, goal))
            far.append(math.dist(begin.tolist(), goal.tolist()))
            gone.append(math.dist(begin.tolist(), end.tolist()))
    assert float(measured["goal/max_cosine_first"]) == pytest.approx(sum(first) / 12, rel=1e-4)
    assert float(measured["goal/max_cosine_last"]) == pytest.approx(sum(last) / 12, rel=1e-4)
    assert float(measured["goal/distance"]) == pytest.approx(sum(far) / 12, rel=1e-4)
    assert float(measured["goal/distance_over_displacement"]) == pytest.approx(
        sum(far) / sum(gone), rel=1e-4
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"skill_duration": 5}, r"skill_duration is 5; it must divide horizon, which is 16"),
        ({"skill_duration": 32}, r"skill_duration is 32; it must divide horizon"),
        (
            {"action_gradient": "both"},
            r"action_gradient is 'both'; choose from reinforce, dynamics",
        ),
        ({"goal_alignment": "next"}, r"goal_alignment is 'next'; choose from own, current"),
        (
            {"manager_reward": "sum"},
            r"manager_reward is 'sum'; choose from discounted_sum, mean",
        ),
        ({"manager_discount": 1.0}, r"manager_discount is 1\.0; it must be at least 0 and below 1"),
        ({"exploration_bonus": -1.0}, r"exploration_bonus is -1\.0; it must be at least 0"),
    ],
)
def test_impossible_hierarchies_are_refused_by_key(change, message):
    with pytest.raises(ValueError, match=message):
        DirectorConfig(**change)
