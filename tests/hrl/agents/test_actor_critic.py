"""One actor-critic: returns, weights, critics and actors against slow references."""

import math
from dataclasses import replace

import pytest
import torch

from hrl.agents.actor_critic import (
    ActorCritic,
    ActorCriticConfig,
    CodeActor,
    ContinuousActor,
    Critic,
    ReplayedStates,
    Trajectory,
)
from hrl.nets.two_hot import TwoHot
from hrl.optim.laprop import LaProp
from hrl.optim.returns import lambda_returns, replayed_returns
from tests.fakes import randomise, reached
from tests.hrl.small_actor_critics import (
    ACTION,
    BATCH,
    INPUTS,
    PLAIN,
    TASK,
    TIME,
    UNITS,
    actor_critic,
    critic,
    draws,
    slow_lambda_return,
    trajectory,
    uniform,
)

# Returns.


@pytest.mark.parametrize(
    ("discount", "gae_lambda"), [(0.9, 0.8), (1.0, 1.0), (0.97, 0.0), (0.0, 0.5)]
)
def test_lambda_returns_are_a_mixture_of_n_step_returns(discount, gae_lambda):
    rewards, values, continues = draws(6, 4), draws(7, 4, seed=1), uniform(6, 4, seed=2)
    continues[3, 1] = 0.0
    fast = lambda_returns(rewards, values, continues, discount, gae_lambda)
    for batch in range(4):
        columns = [column[:, batch].tolist() for column in (rewards, values, continues)]
        slow = [slow_lambda_return(*columns, discount, gae_lambda, start) for start in range(6)]
        torch.testing.assert_close(fast[:, batch], torch.tensor(slow), rtol=1e-4, atol=1e-5)


def test_lambda_returns_by_hand():
    """Two steps: 2 + .5 * (.5 * 8 + .5 * (3 + .5 * 4)); the value of the first state is not
    read."""
    values = torch.tensor([math.nan, 8.0, 4.0])
    assert lambda_returns(torch.tensor([2.0, 3.0]), values, torch.ones(2), 0.5, 0.5).tolist() == [
        5.25,
        5.0,
    ]


def test_an_end_cuts_the_future_off():
    continues = torch.tensor([1.0, 0.0, 1.0])
    returns = lambda_returns(
        torch.tensor([1.0, 2.0, 100.0]), torch.full((4,), 50.0), continues, 1.0, 1.0
    )
    assert returns.tolist() == [3.0, 2.0, 150.0]


# Weights.


def test_weights_are_the_discounted_chance_to_get_there():
    """The first is the chance that the start has a future at all; the last state's own does not
    count."""
    seen = trajectory()
    weights = actor_critic()._weights(seen)
    for batch in range(BATCH):
        chance = 1.0
        for time in range(TIME):
            chance *= float(seen.continues[time, batch]) * (0.9 if time else 1.0)
            assert float(weights[time, batch]) == pytest.approx(chance, rel=1e-5)


def test_weights_by_the_loss_of_a_fresh_critic():
    """Its distribution is even, so each state costs ln 255 for the return and as much for the slow
    copy's value."""
    torch.manual_seed(0)
    config = replace(PLAIN, slow_regulariser=0.5)
    fresh = ActorCritic(
        ContinuousActor(INPUTS, TASK, 4, UNITS, ACTION, config),
        {"task": Critic(INPUTS, TASK, 4, UNITS, config)},
        {"task": 1.0},
        config,
    )
    seen = trajectory()._replace(
        continues=torch.tensor([1.0, 0.5, 0.0, 1.0, 1.0])[:, None].expand(-1, BATCH)
    )
    _, metrics = fresh.loss(seen)
    assert float(metrics["critic_loss"].detach()) == pytest.approx(
        1.5 * math.log(255) * (1 + 0.45) / TIME, rel=1e-4
    )


def test_nothing_is_learned_of_what_follows_an_end():
    """After a state with no future, inputs, rewards and actions change no gradient."""
    gradients = []
    for seed in (5, 6):
        trained, seen = actor_critic(), trajectory()
        continues = seen.continues.clone()
        continues[2] = 0.0
        inputs, reward, actions = (
            seen.inputs.clone(),
            seen.rewards["task"].clone(),
            seen.actions.clone(),
        )
        inputs[2:], reward[2:], actions[2:] = (
            draws(3, BATCH, INPUTS, seed=seed),
            seed,
            draws(2, BATCH, 2, seed=seed),
        )
        changed = seen._replace(
            inputs=inputs, rewards={"task": reward}, actions=actions, continues=continues
        )
        trained.critics["task"].scale.update = lambda values: None  # whose batches see all returns
        trained.coefficients.update = lambda measured: None
        trained.loss(changed)[0].backward()
        gradients.append([p.grad.clone() for p in trained.parameters() if p.grad is not None])
    assert len(gradients[0]) > 8
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


# Critics.


@pytest.mark.parametrize("bootstrap", ["slow", "critic"])
def test_values_are_those_of_the_copy_that_bootstraps(bootstrap):
    built = critic(replace(PLAIN, bootstrap=bootstrap))
    inputs, task = draws(TIME, BATCH, INPUTS), draws(1, BATCH, TASK, seed=1)
    net, other = (built.slow, built.net) if bootstrap == "slow" else (built.net, built.slow)
    values = built.values(inputs, task)
    torch.testing.assert_close(values, TwoHot(net(inputs, task)).mean())
    assert not torch.isclose(values, TwoHot(other(inputs, task)).mean()).any()


@pytest.mark.parametrize("bootstrap", ["slow", "critic"])
def test_critic_loss_by_a_loop(bootstrap):
    """Cross-entropy with the return, and with the slow copy's value whichever of them bootstraps,
    weighted."""
    built = critic(replace(PLAIN, bootstrap=bootstrap, slow_regulariser=0.3))
    inputs, task = draws(TIME, BATCH, INPUTS), draws(1, BATCH, TASK, seed=1)
    returns, weights = 5 * draws(TIME, BATCH, seed=2), uniform(TIME, BATCH, seed=3)
    loss = built.loss(inputs, task, returns, weights, built.values(inputs, task).detach())
    total = 0.0
    for time in range(TIME):
        for batch in range(BATCH):
            task_input_size = task[0, batch]
            predicted = TwoHot(built.net(inputs[time, batch], task_input_size))
            slow = TwoHot(built.slow(inputs[time, batch], task_input_size)).mean()
            cost = predicted.loss(returns[time, batch]) + 0.3 * predicted.loss(slow)
            total += float((weights[time, batch] * cost).detach())
    assert float(loss.detach()) == pytest.approx(total / (TIME * BATCH), rel=1e-4)


@pytest.mark.parametrize("bootstrap", ["slow", "critic"])
def test_values_carry_gradient_to_what_is_seen_and_to_nothing_else(bootstrap):
    built = critic(replace(PLAIN, bootstrap=bootstrap))
    inputs = draws(TIME, BATCH, INPUTS).requires_grad_()
    built.values(inputs, draws(1, BATCH, TASK)).sum().backward()
    assert bool(inputs.grad.any())
    assert reached({"critic": built}) == set()


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_the_slow_copy_follows_at_its_rate(rate):
    built = critic(replace(PLAIN, slow_rate=rate))
    before = [p.detach().clone() for p in built.slow.parameters()]
    fast = [p.detach().clone() for p in built.net.parameters()]
    built.update_target()
    for old, new, target, now in zip(
        before, built.slow.parameters(), fast, built.net.parameters(), strict=True
    ):
        torch.testing.assert_close(new.detach(), (1 - rate) * old + rate * target)
        assert torch.equal(now.detach(), target)
        assert not new.requires_grad


@pytest.mark.slow
def test_a_critic_learns_the_return_that_it_is_shown():
    torch.manual_seed(0)
    built = Critic(INPUTS, 0, 4, 32, PLAIN)
    inputs, task = draws(TIME, BATCH, INPUTS), torch.zeros(1, BATCH, TASK)
    returns = torch.tensor([3.0, -1.0, 0.0, 20.0])[:, None].expand(TIME, BATCH)
    optimizer = torch.optim.Adam(built.net.parameters(), 0.003)
    for _ in range(1000):
        optimizer.zero_grad()
        built.loss(
            inputs, task, returns, torch.ones(TIME, BATCH), built.values(inputs, task)
        ).backward()
        optimizer.step()
        built.slow.load_state_dict(built.net.state_dict())
    assert float((built.values(inputs, task) - returns).abs().max()) < 0.5


# Actors.


def test_the_entropy_controller_moves_each_dimension_on_its_own():
    """Too narrow a dimension has its coefficient raised, too broad a one has it lowered, one at
    target keeps it."""
    torch.manual_seed(0)
    actor = ContinuousActor(INPUTS, TASK, 4, UNITS, 3, PLAIN)
    last = actor.net.dense.layers[-1]
    torch.nn.init.zeros_(last.weight)
    half = math.sqrt(0.1)  # the standard deviation at half of the range of ln std between 0.1 and 1
    with torch.no_grad():
        last.bias.copy_(
            torch.tensor([0.0, 0.0, 0.0, -9.0, 9.0, math.log((half - 0.1) / (1 - half)) - 2])
        )
    trained = ActorCritic(actor, {"task": critic()}, {"task": 1.0}, PLAIN)
    for updates in (1, 2):
        _, metrics = trained.loss(trajectory(actions=draws(TIME, BATCH, 3)))
        expected = torch.tensor([1.1**updates, 1.1**-updates, 1.0])
        torch.testing.assert_close(trained.coefficients.value, expected)
        assert float(metrics["entropy"]) == pytest.approx(0.5, abs=0.01), (
            "a shared one would rest at this mean"
        )
        assert float(metrics["entropy_least"]) == pytest.approx(0.0, abs=0.01)


def slow_advantage(trained: ActorCritic, seen: Trajectory, time: int, batch: int) -> float:
    """Sum over reward types of weight * (return - value) / scale, which is the spread of the first
    batch of returns."""
    total = 0.0
    for name, weight in trained.reward_weights.items():
        values = trained.critics[name].values(seen.inputs, seen.task).tolist()
        table = [
            [
                slow_lambda_return(
                    seen.rewards[name][:, b].tolist(),
                    [row[b] for row in values],
                    seen.continues[1:, b].tolist(),
                    seen.discount,
                    trained.config.return_lambda,
                    t,
                )
                for b in range(BATCH)
            ]
            for t in range(TIME)
        ]
        scale = max(float(torch.tensor(table).std(correction=0)), 0.01)
        total += weight * (table[time][batch] - values[time][batch]) / scale
    return total


@pytest.mark.parametrize("entropy", ["adaptive", "fixed"])
def test_the_coefficient_on_entropy_that_is_logged_is_the_one_in_use(entropy):
    trained = actor_critic(replace(PLAIN, entropy=entropy, entropy_scale=0.2))
    _, metrics = trained.loss(trajectory(("task",)))
    expected = 0.2 if entropy == "fixed" else float(trained.coefficients.value.mean())
    assert float(metrics["entropy_coefficient"]) == pytest.approx(expected)


def test_a_target_without_entropy_is_refused_by_key():
    with pytest.raises(ValueError, match=r"entropy_target is 0\.0; it must be above 0"):
        ActorCriticConfig(entropy_target=0.0)


@pytest.mark.parametrize("entropy", ["adaptive", "fixed"])
def test_reinforce_loss_by_a_loop(entropy):
    """-weight * (log-likelihood * advantage + entropy bonus), two reward types with weights of
    their own."""
    config = replace(PLAIN, entropy=entropy, entropy_scale=0.2, entropy_target=0.9)
    trained = actor_critic(config, reward_weights={"task": 1.0, "exploration": 0.1})
    seen = trajectory(("task", "exploration"))
    weights = trained._weights(seen)
    with torch.no_grad():
        policy = trained.actor(seen.inputs[:-1], seen.task)
    _, metrics = trained.loss(seen)
    total = 0.0
    for time in range(TIME):
        for batch in range(BATCH):
            gain, bonus = 0.0, 0.0
            for d in range(ACTION):
                mean, std = float(policy.mean[time, batch, d]), float(policy.std[time, batch, d])
                action = float(seen.actions[time, batch, d])
                gain += (
                    -0.5 * ((action - mean) / std) ** 2
                    - math.log(std)
                    - 0.5 * math.log(2 * math.pi)
                )
                nats = math.log(std) + 0.5 * math.log(2 * math.pi * math.e)
                share = 1 - math.log(std) / math.log(0.1)
                bonus += (
                    0.2 * nats
                    if entropy == "fixed"
                    else float(trained.coefficients.value[d]) * share
                )
            gain *= slow_advantage(trained, seen, time, batch)
            total -= float(weights[time, batch]) * (gain + bonus)
    assert float(metrics["actor_loss"]) == pytest.approx(total / (TIME * BATCH), rel=1e-3)


def test_means_at_their_bounds_are_counted():
    trained, seen = actor_critic(), trajectory()
    assert float(trained.loss(seen)[1]["saturated"]) < 0.5
    with torch.no_grad():
        trained.actor.net.dense.layers[-1].bias[:ACTION] = torch.tensor([9.0, 0.0])
        trained.actor.net.dense.layers[-1].weight.zero_()
    assert float(trained.loss(seen)[1]["saturated"]) == 0.5


def test_reinforce_gradient_by_the_score():
    """The likelihood's gradient times a constant: nothing flows through the advantage."""
    trained, seen = actor_critic(), trajectory()
    trained.loss(seen)
    advantage = torch.tensor(
        [[slow_advantage(trained, seen, t, b) for b in range(BATCH)] for t in range(TIME)]
    )
    policy = trained.actor(seen.inputs[:-1], seen.task)
    score = policy.log_prob(seen.actions).sum(-1) * advantage
    bonus = (trained.coefficients.value * 1.0 * policy.normalised_entropy()).sum(-1)
    parameters = list(trained.actor.parameters())
    expected = torch.autograd.grad(-((score + bonus) * trained._weights(seen)).mean(), parameters)
    trained.coefficients.update = lambda measured: None
    trained.critics["task"].scale.update = lambda values: None
    actual = torch.autograd.grad(trained.loss(seen)[0], parameters)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_advantages_are_centred_and_scaled_where_asked():
    """At the first batch by its own mean and deviation, whatever is added to all or multiplies
    all."""
    config = replace(PLAIN, normalise_advantage=True, entropy="fixed", entropy_scale=0.0)
    losses = []
    for offset, factor in ((0.0, 1.0), (100.0, 1.0), (0.0, 7.0)):
        torch.manual_seed(0)
        trained = ActorCritic(
            randomise(ContinuousActor(INPUTS, TASK, 4, UNITS, ACTION, config)),
            {"task": Critic(INPUTS, TASK, 4, UNITS, config)},
            {"task": 1.0},
            config,
        )
        seen = trajectory()
        alive = torch.ones(TIME, BATCH)
        advantage = factor * seen.rewards["task"] + offset
        losses.append(trained._actor_loss(seen, advantage, alive)[0].detach())
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(losses[2], losses[0], rtol=1e-4, atol=1e-4)


def test_codes_are_scored_group_by_group():
    """A manager's likelihood is that of all its choices; its entropies are shares of ln classes."""
    config = replace(PLAIN, unimix=0.01)
    actor = randomise(CodeActor(INPUTS, TASK, 4, UNITS, 3, 4, config))
    policy = actor(draws(BATCH, INPUTS), draws(BATCH, TASK))
    assert policy.probs.shape == (BATCH, 3, 4)
    assert float(policy.probs.detach().min()) >= 0.01 / 4
    slow = -(policy.probs * policy.probs.log()).sum(-1) / math.log(4)
    torch.testing.assert_close(actor.normalised_entropy(policy), slow)
    trained = ActorCritic(actor, {"task": critic()}, {"task": 1.0}, config)
    code = policy.sample(uniform(TIME, BATCH, 3)).detach()
    trained.loss(trajectory(actions=code))[0].backward()
    assert reached({"actor": actor, "critic": trained.critics}) == {"actor", "critic"}
    assert trained.coefficients.value.shape == (3,)


def test_one_actor_critics_loss_touches_no_other_state():
    """Scales, controllers and slow copies belong to their actor-critic; `update_target` moves
    critics' copies and nothing else."""
    trained = actor_critic()
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    trained.update_target()
    moved = {
        name for name, value in trained.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved
    assert all(".slow." in name for name in moved)


@pytest.mark.parametrize("bootstrap", ["slow", "critic"])
def test_values_stay_where_rewards_allow(bootstrap):
    """Of rewards in [0, 1] no return exceeds 1 / (1 - discount); neither do the values that are
    learned from them.

    Rewards are 1 in half of the states for ever and 0 in the others, so that both bounds are
    approached.
    """
    config = ActorCriticConfig(layers=1, bootstrap=bootstrap, slow_rate=0.1)
    torch.manual_seed(0)
    critics = {
        "task": Critic(INPUTS, TASK, 4, UNITS, config)
    }  # as it starts: everything is worth nothing
    trained = ActorCritic(
        ContinuousActor(INPUTS, TASK, 4, UNITS, ACTION, config), critics, {"task": 1.0}, config
    )
    generator = torch.Generator().manual_seed(0)
    optimizer = LaProp([p for p in trained.parameters() if p.requires_grad], 1e-2, warmup=100)
    most, discount = 5.0, 0.8
    for count in range(400):
        good = (torch.rand(1, 16, generator=generator) < 0.5).float().expand(TIME + 1, -1)
        inputs = torch.cat(
            [good[..., None], torch.rand(TIME + 1, 16, INPUTS - 1, generator=generator)], -1
        )
        task, actions = torch.zeros(1, 16, TASK), torch.zeros(TIME, 16, ACTION)
        seen = Trajectory(
            inputs, task, actions, {"task": good[1:]}, torch.ones(TIME + 1, 16), discount
        )
        loss, measured = trained.loss(seen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        trained.update_target()
        least, highest = float(measured["task/value_least"]), float(measured["task/value_most"])
        if count >= 300:  # before, a large step may overshoot
            assert -0.05 * most < least <= highest < 1.05 * most
    assert least < 0.5
    assert highest > 4.5


def test_a_reward_type_that_dies_out_shows_below_the_least_scale():
    """Returns are divided by at least the least scale; what is logged is how far they really
    spread."""
    trained = actor_critic()
    shape = (TIME + 1, 4)
    inputs, actions = torch.rand(*shape, INPUTS), torch.zeros(TIME, 4, ACTION)
    rewards = {name: torch.zeros(TIME, 4) for name in trained.critics}
    seen = Trajectory(inputs, torch.zeros(1, 4, TASK), actions, rewards, torch.zeros(shape), 0.9)
    _, measured = trained.loss(seen)
    for name, own in trained.critics.items():
        assert float(measured[f"{name}/return_spread"]) == 0 < float(own.scale.scale())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"entropy": "none"}, r"entropy is \'none\'; choose from adaptive, fixed"),
        (
            {"return_scale": "max"},
            r"return_scale is \'max\'; choose from std, percentile",
        ),
        ({"layers": 0}, r"layers is 0"),
        ({"std_low": 2.0}, r"std_low is 2"),
        ({"return_lambda": 1.5}, r"return_lambda is 1\.5; it must be at least 0 and at most 1"),
    ],
)
def test_impossible_actor_critics_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ActorCriticConfig(**change)


# Values of replayed states, and copies that are renewed.


def replayed_states(inputs: torch.Tensor, weight: float = 0.3) -> ReplayedStates:
    """Two sequences of three states; the first one has an episode's end in it."""
    return ReplayedStates(
        inputs,
        draws(2, 3, TASK, seed=7),
        {"task": draws(2, 3, seed=8)},
        torch.tensor([[False, True, False], [False, False, False]]),
        torch.zeros(2, 3, dtype=torch.bool),
        0.9,
        weight,
    )


def test_replay_value_loss_by_a_loop():
    """It is added to the loss of the imagined states."""
    trained = actor_critic()
    seen = trajectory_from(2 * 3)
    replayed = replayed_states(draws(2, 3, INPUTS, seed=9))
    without = trained.loss(seen)[1]["critic_loss"]
    metrics = trained.loss(seen, replayed)[1]
    critic_, config = trained.critics["task"], trained.config
    imagined = lambda_returns(
        seen.rewards["task"],
        critic_.values(seen.inputs, seen.task),
        seen.continues[1:],
        seen.discount,
        config.return_lambda,
    )[0].view(2, 3)
    flags = (replayed.is_last, replayed.is_terminal)
    returns = replayed_returns(
        replayed.rewards["task"], imagined, *flags, 0.9, config.return_lambda
    )
    cost = 0.0
    for row, step in ((0, 0), (1, 0), (1, 1)):  # the end of an episode has no successor
        inputs, task = replayed.inputs[row, step], replayed.task[row, step]
        predicted = TwoHot(critic_.net(inputs, task))
        slow = TwoHot(critic_.slow(inputs, task)).mean()
        cost += float(predicted.loss(returns[row, step]).detach())
        cost += config.slow_regulariser * float(predicted.loss(slow).detach())
    assert float(metrics["task/replay_value_loss"]) == pytest.approx(cost / 4, rel=1e-4)
    added = float((metrics["critic_loss"] - without).detach())
    assert added == pytest.approx(0.3 * cost / 4, rel=1e-3)


def test_replay_value_loss_reaches_the_inputs_and_imagination_does_not():
    trained = actor_critic()
    inputs = draws(2, 3, INPUTS, seed=9).requires_grad_()
    trained.loss(trajectory_from(2 * 3), replayed_states(inputs))[0].backward()
    assert bool(inputs.grad[:, :-1].any())
    assert not bool(inputs.grad[:, -1].any())  # it is bootstrapped from, not learned
    assert not bool(inputs.grad[0, 1].any())  # the last state of an episode


def test_a_renewed_copy_is_renewed_every_hundred_updates():
    built = critic(replace(PLAIN, bootstrap="copy", slow_rate=0.5))
    inputs, task = draws(BATCH, INPUTS), draws(BATCH, TASK, seed=1)
    before = built.values(inputs, task)
    for update in range(1, 201):
        with torch.no_grad():
            for parameter in built.net.parameters():
                parameter.add_(1e-3)
        built.update_target()
        is_fresh = torch.equal(built.values(inputs, task), TwoHot(built.net(inputs, task)).mean())
        assert is_fresh is (update % 100 == 0)
        if update < 100:
            assert torch.equal(built.values(inputs, task), before)


def test_a_renewed_copy_regularises_nothing():
    inputs, task = draws(TIME, BATCH, INPUTS), draws(1, BATCH, TASK, seed=1)
    returns, weights = draws(TIME, BATCH, seed=2), uniform(TIME, BATCH, seed=3)
    losses = []
    for weight in (0.0, 5.0):
        built = critic(replace(PLAIN, bootstrap="copy", slow_regulariser=weight))
        values = built.values(inputs, task).detach()
        losses.append(built.loss(inputs, task, returns, weights, values))
    assert torch.equal(*losses)


def trajectory_from(starts: int) -> Trajectory:
    """A trajectory from so many states."""
    return Trajectory(
        draws(TIME + 1, starts, INPUTS),
        draws(1, starts, TASK, seed=1),
        draws(TIME, starts, ACTION, seed=2),
        {"task": draws(TIME, starts, seed=3)},
        uniform(TIME + 1, starts, seed=4),
        0.9,
    )
