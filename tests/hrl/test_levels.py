"""Levels of behaviour: returns, weights, gradients; how an imagined trajectory is read by worker and manager."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from hrl.agents.actor_critic import CodeActor, ContinuousActor, Critic, Level, LevelConfig, Trajectory
from hrl.agents.director import Director, DirectorConfig, Dream, closeness, segments, steps_of_decisions
from hrl.agents.dreamer import Dreamer, DreamerConfig
from hrl.agents.interface import Observation, restart
from hrl.returns import lambda_returns
from hrl.rssm import State
from hrl.world_model import WorldModelConfig
from tests.fakes import small_setting
from tests.hrl.test_rssm_and_model import MODEL, batch

SETTING = replace(small_setting(action_size=2), world_model=MODEL)


def test_lambda_returns_are_mixtures_of_n_step_returns():
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(4, 2, generator=generator), torch.randn(5, 2, generator=generator)
    continues = torch.rand(4, 2, generator=generator)
    discount, trace = 0.9, 0.7
    for start in range(4):
        expected, n_step, left, weight = torch.zeros(2), torch.zeros(2), torch.ones(2), 1.0
        for end in range(start, 4):
            n_step = n_step + left * rewards[end]
            left = left * discount * continues[end]
            share = weight if end == 3 else weight * (1 - trace)
            expected = expected + share * (n_step + left * values[end + 1])
            weight *= trace
        actual = lambda_returns(rewards, values, continues, discount, trace)[start]
        torch.testing.assert_close(actual, expected)


def level(gradient: str = "reinforce", **changes: object) -> Level:
    torch.manual_seed(0)
    config = LevelConfig(layers=1, **changes)
    level = Level(
        ContinuousActor(6, 1, 4, 8, 2, config), {"task": Critic(6, 1, 4, 8, config)}, {"task": 1.0}, config, gradient
    )
    for net in (level.critics["task"].net, level.critics["task"].slow):
        torch.nn.init.normal_(net.dense.layers[-1].weight, std=0.05)
    return level


def trajectory(inputs: Tensor | None = None) -> Trajectory:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(4, 5, 6, generator=generator) if inputs is None else inputs
    rewards = torch.randn(3, 5, generator=generator)
    actions, continues = torch.randn(3, 5, 2, generator=generator), torch.rand(4, 5, generator=generator)
    return Trajectory(inputs, torch.zeros(1, 5, 1), actions, {"task": rewards}, continues, 0.9)


def test_weights_are_the_discounted_chance_to_get_there():
    seen = trajectory()
    weights = level()._weights(seen)
    c = seen.continues
    expected = torch.stack([c[0], c[0] * 0.9 * c[1], c[0] * 0.9 * c[1] * 0.9 * c[2]])
    torch.testing.assert_close(weights, expected)


def test_likelihood_gradients_reach_actor_and_critic_and_nothing_else():
    trained, inputs = level(), torch.randn(4, 5, 6, requires_grad=True)
    trained.loss(trajectory(inputs))[0].backward()
    assert inputs.grad is None or not inputs.grad.any()
    assert any(p.grad is not None and p.grad.any() for p in trained.actor.parameters())
    assert any(p.grad is not None and p.grad.any() for p in trained.critics["task"].net.parameters())
    assert all(p.grad is None for p in trained.critics["task"].slow.parameters())


def test_gradients_through_dynamics_reach_what_the_actor_did():
    """The actor's own inputs are cut off; what its actions lead to is not, and no critic learns from the actor."""
    trained, inputs = level("dynamics", normalise_advantage=False), torch.randn(4, 5, 6, requires_grad=True)
    loss, _ = trained.loss(trajectory(inputs))
    loss.backward()
    assert inputs.grad is not None
    assert inputs.grad[1:].any()


def test_each_dimensions_entropy_has_a_coefficient_of_its_own():
    trained = level()
    with torch.no_grad():  # the first dimension narrow, the second broad
        trained.actor.net.dense.layers[-1].bias.copy_(torch.tensor([0.0, 0.0, -9.0, 9.0]))
    before = trained.coefficients.value.clone()
    trained.loss(trajectory())
    assert trained.coefficients.value[0] > before[0]
    assert trained.coefficients.value[1] < before[1]


def test_the_slow_copy_follows():
    critic = level(slow_rate=0.25).critics["task"]
    with torch.no_grad():
        for parameter in critic.net.parameters():
            parameter += 1
    before = [p.clone() for p in critic.slow.parameters()]
    critic.follow()
    for old, slow, fast in zip(before, critic.slow.parameters(), critic.net.parameters(), strict=True):
        torch.testing.assert_close(slow, 0.75 * old + 0.25 * fast)


def test_codes_are_scored_by_their_likelihood():
    """REINFORCE: the code that earned more than expected becomes likelier."""
    torch.manual_seed(0)
    config = LevelConfig(layers=1, normalise_advantage=False, entropy="fixed", entropy_scale=0.0)
    actor = CodeActor(6, 0, 0, 8, 2, 3, config)
    manager = Level(actor, {"task": Critic(6, 0, 0, 8, config)}, {"task": 1.0}, config)
    inputs, task = torch.ones(2, 1, 6), torch.zeros(1, 1, 1)
    code = torch.zeros(1, 1, 2, 3)
    code[..., 1] = 1
    seen = Trajectory(inputs, task, code, {"task": torch.ones(1, 1)}, torch.ones(2, 1), 0.9)
    before = actor(inputs[0], task[0]).log_prob(code[0]).sum()
    manager.loss(seen)[0].backward()
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter -= 0.1 * parameter.grad
    assert actor(inputs[0], task[0]).log_prob(code[0]).sum() > before


# How Director reads an imagined trajectory. Everything is labelled by its time.


def director(**changes: object) -> Director:
    torch.manual_seed(0)
    config = DirectorConfig(hold=2, horizon=4, batch=3, length=5, **changes)
    return Director(config, SETTING)


def labelled(agent: Director, batch_size: int = 1) -> Dream:
    """Deter shows the time, goals the time that they were set at, rewards the time of arrival."""
    times = torch.arange(5.0)
    deter = times[:, None, None].expand(5, batch_size, 16) + 1
    goals = torch.tensor([10.0, 20.0, 30.0])[:, None, None].expand(3, batch_size, 16)
    codes = torch.eye(8)[:3, None, None, :].expand(3, batch_size, 8, 8)
    rewards = times[1:, None].expand(4, batch_size)
    continues = torch.tensor([1.0, 0.9, 0.8, 0.7, 0.6])[:, None].expand(5, batch_size)
    actions = times[:4, None, None].expand(4, batch_size, 2)
    return Dream(
        State(deter, torch.zeros(5, batch_size, 12)),
        actions,
        codes,
        goals,
        rewards,
        continues,
        torch.zeros(1, batch_size, 1),
    )


def test_segments_share_the_state_between_them():
    cut = segments(torch.arange(5.0)[:, None], 2)
    assert cut.T.tolist() == [[0, 1, 2], [2, 3, 4]]
    assert steps_of_decisions(torch.arange(1.0, 5)[:, None], 2)[..., 0].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(("alignment", "goals"), [("own", [[10, 10], [20, 20]]), ("current", [[10, 20], [20, 30]])])
def test_worker_rewards_are_measured_against_the_goals_of_their_alignment(alignment, goals):
    agent = director(goal_alignment=alignment)
    view, _ = agent._worker_view(labelled(agent))
    states = [[2, 3], [4, 5]]  # deter at arrival, by segment
    expected = [
        [closeness(torch.full((16,), float(s)), torch.full((16,), float(g))) for s, g in zip(*row, strict=True)]
        for row in zip(states, goals, strict=True)
    ]
    torch.testing.assert_close(view.rewards["goal"].T, torch.tensor(expected))
    # Whatever the alignment, a segment's states are seen, and its end is bootstrapped, with its own goal.
    seen = view.inputs[..., -16:].mean(-1)
    assert seen.T.tolist() == [[10, 10, 10], [20, 20, 20]]
    assert view.actions[..., 0].T.tolist() == [[0, 1], [2, 3]]
    torch.testing.assert_close(view.continues.T, torch.tensor([[1.0, 0.9, 0.8], [0.8, 0.7, 0.6]]))


def test_decisions_are_worth_what_their_steps_earn():
    agent = director(exploration_bonus=0.0, discount=0.5)
    view = agent._manager_view(labelled(agent))
    # Rewards 1, 2 and 3, 4; a step counts as far as the episode went on before it within the decision.
    torch.testing.assert_close(view.rewards["task"][:, 0], torch.tensor([1 + 0.5 * 0.9 * 2, 3 + 0.5 * 0.7 * 4]))
    torch.testing.assert_close(view.continues[:, 0], torch.tensor([1.0, 0.9 * 0.8, 0.7 * 0.6]))
    assert view.discount == 0.25
    assert view.inputs[:, 0, 0].tolist() == [1, 3, 5]
    assert view.actions.argmax(-1)[:, 0, 0].tolist() == [0, 1]
    mean = director(exploration_bonus=0.0, manager_reward="mean", manager_discount=0.99)
    view = mean._manager_view(labelled(mean))
    torch.testing.assert_close(view.rewards["task"][:, 0], torch.tensor([(1 + 0.9 * 2) / 2, (3 + 0.7 * 4) / 2]))
    assert view.discount == 0.99


def test_closeness_is_one_at_the_goal_only():
    goal = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(closeness(goal, goal), torch.ones(5))
    assert bool((closeness(2 * goal, goal) == 0.5).all())
    torch.testing.assert_close(closeness(-goal, goal), -torch.ones(5))
    turned = torch.roll(goal, 1, 0)
    cosine = torch.cosine_similarity(turned, goal)
    ratio = torch.minimum(turned.norm(dim=-1), goal.norm(dim=-1)) / torch.maximum(
        turned.norm(dim=-1), goal.norm(dim=-1)
    )
    torch.testing.assert_close(closeness(turned, goal), cosine * ratio)


REACH = {
    "world_model": {"world_model"},
    "goals": {"goals"},
    "worker": {"worker"},
    "manager": {"manager"},
}


@pytest.mark.parametrize("gradient", ["reinforce", "dynamics"])
@pytest.mark.parametrize("source", sorted(REACH))
def test_every_loss_reaches_its_own_module_alone(source, gradient):
    agent, rows = director(worker_gradient=gradient), batch()
    for name in ("worker", "manager"):  # critics start at zero, where actors have no advantage to learn from
        for critic in getattr(agent, name).critics.values():
            torch.nn.init.normal_(critic.slow.dense.layers[-1].weight, std=0.05)
    noise = torch.rand(3, 5, 3)
    observed = agent.world_model.observe(rows, noise, agent.config.world_model_loss)
    dream = agent._imagine(rows, observed.states)
    losses = {
        "world_model": lambda: torch.stack([loss.mean() for loss in observed.losses.values()]).sum(),
        "goals": lambda: agent.goals.loss(observed.states.deter, rows["task"][:, 1:])[0],
        "worker": lambda: agent.worker.loss(agent._worker_view(dream)[0])[0],
        "manager": lambda: agent.manager.loss(agent._manager_view(dream))[0],
    }
    losses[source]().backward()
    reached = {
        name
        for name in ("world_model", "goals", "worker", "manager")
        if any(p.grad is not None and bool(p.grad.any()) for p in getattr(agent, name).parameters())
    }
    assert reached == REACH[source]
    if source in ("worker", "manager"):
        assert any(p.grad is not None and bool(p.grad.any()) for p in getattr(agent, source).actor.parameters())


def test_goals_are_held_and_set_anew_with_an_episode():
    agent, generator = director(), torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8, generator=generator)
    observation, state, goals = Observation(pixels, torch.zeros(2, 1)), agent.initial_state(2), []
    for time in range(6):
        with torch.no_grad():
            _, state = agent.act(observation, state, generator)
        goals.append(state["goal"])
        if time == 2:
            state = restart(agent, state, agent.initial_state(2), torch.tensor([False, True]))
    changed = [(after != before).any(-1).tolist() for before, after in pairwise(goals)]
    # Decisions fall at 0, 2, 4; the second environment's episode ends after step 2, so it decides at 3 and 5.
    assert changed == [[False, False], [True, True], [False, True], [True, False], [False, True]]
    assert director(carry_over_episodes=True).outlives_episodes == ("goal", "clock")


def test_the_bonus_is_a_switch_and_the_flat_arm_can_have_it():
    assert set(director().manager.critics) == {"task", "exploration"}
    assert set(director(exploration_bonus=0.0).manager.critics) == {"task"}
    flat = Dreamer(DreamerConfig(batch=3, length=5, horizon=4, exploration_bonus=0.1), SETTING)
    loss, metrics, _ = flat.loss(batch())
    assert set(flat.level.critics) == {"task", "exploration"}
    assert torch.isfinite(loss)
    assert "goal_autoencoder/reconstruction" in metrics


@pytest.mark.parametrize("gradient", ["reinforce", "dynamics"])
def test_a_worker_learns_to_reach_goals_in_a_fixed_world(gradient):
    """Goals are states that random actions lead to; closeness at a segment's end rises well above the beginning's."""
    sizes = WorldModelConfig(deter=16, hidden=8, groups=2, classes=2, blocks=2, units=32, depth=2, kernel=3)
    torch.manual_seed(0)
    setting = replace(small_setting(action_size=2), world_model=sizes)
    agent = Director(DirectorConfig(hold=4, horizon=4, worker_gradient=gradient), setting)
    model = agent.world_model
    with torch.no_grad():  # a world that actions move
        model.rssm.from_action.layers[0].weight *= 4
        model.rssm.gates.weight *= 6
        model.rssm.core_inputs.weight *= 6
    count, task = 128, torch.zeros(128, 1)
    optimizer = torch.optim.Adam(agent.worker.parameters(), 3e-3)
    ends = []
    for _ in range(150):
        start = State(*(part for part in model.rssm.initial(count)))
        pull = (torch.rand(count, 2) * 2 - 1).sign()
        with torch.no_grad():
            noise = torch.zeros(4, count, 2)
            goal = model.imagine(start, task, lambda time, state, a=pull: a, noise, False)[0].deter[-1]

        def act(time: int, state: State, goal: Tensor = goal) -> Tensor:
            return agent.worker.actor(torch.cat([state.features(), goal], -1).detach(), task).sample(
                torch.randn(count, 2)
            )

        states, actions = model.imagine(start, task, act, noise, gradient == "dynamics")
        goals, nothing = goal.expand(2, -1, -1), torch.zeros(4, count)
        dream = Dream(states, actions, torch.zeros(2, count, 8, 8), goals, nothing, torch.ones(5, count), task[None])
        view, measured = agent._worker_view(dream)
        optimizer.zero_grad()
        agent.worker.loss(view)[0].backward()
        optimizer.step()
        ends.append(float(measured["goal/closeness_last"]))
    early, late = sum(ends[:10]) / 10, sum(ends[-10:]) / 10
    assert 1 - late < 0.6 * (1 - early), (early, late)
