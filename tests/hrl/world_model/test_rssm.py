"""The recurrent state-space model against slow loops written from DreamerV3's equations."""

import math

import pytest
import torch
from torch.nn import functional as F

from hrl.nets.action_bounds import bounded
from hrl.nets.one_hot import OneHot
from hrl.world_model.rssm import RSSM, RSSMConfig, RSSMState
from tests.fakes import randomise

CONFIG = RSSMConfig(deter=12, hidden=5, groups=3, classes=4, blocks=3)
EMBEDDING, ACTION, BATCH, TIME = 6, 2, 4, 7


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def rssm() -> RSSM:
    torch.manual_seed(0)
    return randomise(RSSM(CONFIG, EMBEDDING, ACTION))


def some_state(seed: int = 0) -> RSSMState:
    index = torch.randint(4, (BATCH, 3), generator=torch.Generator().manual_seed(seed))
    return RSSMState(
        torch.tanh(draws(BATCH, 12, seed=seed)), F.one_hot(index, 4).float().flatten(1)
    )


def sequences(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Actions (some beyond 1), embeddings, noise."""
    draw = 100 * seed
    return (
        2 * draws(BATCH, TIME, ACTION, seed=draw),
        draws(BATCH, TIME, EMBEDDING, seed=draw + 1),
        noise(BATCH, TIME, 3, seed=draw + 2),
    )


def slow_norm(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return values / torch.sqrt((values**2).mean(-1, keepdim=True) + 1e-4) * scale


def slow_layer(dense: torch.nn.Module, values: torch.Tensor) -> torch.Tensor:
    weight, bias, scale = dense.parameters()
    return F.silu(slow_norm(values @ weight.T + bias, scale))


def slow_advance(rssm: RSSM, state: RSSMState, action: torch.Tensor) -> torch.Tensor:
    """DreamerV3's block GRU: every block is given its own part of `deter` and, beside it, a copy of
    all that enters."""
    entering = torch.cat(
        [
            slow_layer(rssm.from_deter, state.deter),
            slow_layer(rssm.from_stoch, state.stoch),
            slow_layer(rssm.from_action, action / action.abs().clamp(min=1)),
        ],
        -1,
    )
    size, hidden = 12 // 3, []
    for block in range(3):
        mine = slice(block * size, (block + 1) * size)
        inputs = torch.cat([state.deter[:, mine], entering], -1)
        weight = torch.cat([rssm.core.weight[block], rssm.core_inputs.weight[mine].T])
        hidden.append(inputs @ weight + rssm.core.bias[mine])
    core = F.silu(slow_norm(torch.cat(hidden, -1), rssm.core_norm.scale))
    new = []
    for block in range(3):
        mine = slice(block * size, (block + 1) * size)
        bias = rssm.gates.bias[3 * block * size : 3 * (block + 1) * size]
        reset, candidate, update = (core[:, mine] @ rssm.gates.weight[block] + bias).split(size, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        update = torch.sigmoid(update - 1)
        new.append(update * candidate + (1 - update) * state.deter[:, mine])
    return torch.cat(new, -1)


# One step.


def test_the_block_gru_equals_a_loop_over_blocks(rssm):
    """One dense layer for what enters every block is the published layer over copies of it, and its
    gradients."""
    state, action = some_state(), draws(BATCH, ACTION, seed=5)
    fast, slow = (
        rssm.advance(state, rssm.from_action(bounded(action))),
        slow_advance(rssm, state, action),
    )
    torch.testing.assert_close(fast, slow)
    used = [
        p
        for part in ("from_deter", "core", "core_inputs", "gates")
        for p in getattr(rssm, part).parameters()
    ]
    weights = draws(BATCH, 12, seed=6)
    for one, other in zip(
        torch.autograd.grad((fast * weights).sum(), used),
        torch.autograd.grad((slow * weights).sum(), used),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_weights_of_the_block_layer_start_with_the_fan_in_of_the_whole():
    """The published fan-in counts what enters once for every block."""
    torch.manual_seed(0)
    wide = RSSM(RSSMConfig(deter=256, hidden=64, groups=4, classes=4, blocks=4), EMBEDDING, ACTION)
    std = 1 / math.sqrt(256 + 3 * 64 * 4)
    assert float(wide.core.weight.detach().std()) == pytest.approx(std, rel=0.03)
    assert float(wide.core_inputs.weight.detach().std()) == pytest.approx(std, rel=0.03)
    assert float(wide.gates.weight.detach().std()) == pytest.approx(1 / 16, rel=0.03)


def test_a_fresh_state_moves_slowly():
    """With zero gates a step keeps 1 - sigmoid(-1) of `deter`, about 0.73."""
    still = RSSM(CONFIG, EMBEDDING, ACTION)
    torch.nn.init.zeros_(still.gates.weight)
    state = some_state()
    after = still.advance(state, draws(BATCH, 5)).detach()
    torch.testing.assert_close(after, state.deter / (1 + math.exp(-1)))


def test_an_imagined_step_draws_from_the_prior_and_an_observed_one_from_the_posterior(rssm):
    """Both from the `deter` that the action leads to; draws invert the cumulative distribution of
    each group."""
    state, action, embedding = some_state(), draws(BATCH, ACTION), draws(BATCH, EMBEDDING, seed=1)
    uniform = noise(BATCH, 3, seed=2)
    deter = slow_advance(rssm, state, action)
    imagined, seen = rssm(state, action, uniform), rssm.correct(state, action, embedding, uniform)
    torch.testing.assert_close(imagined.deter, deter)
    torch.testing.assert_close(seen.deter, deter)
    for drawn, logits in (
        (imagined, rssm.prior_net(deter)),
        (seen, rssm.posterior_net(torch.cat([deter, embedding], -1))),
    ):
        probs = 0.99 * torch.softmax(logits.unflatten(-1, (3, 4)), -1) + 0.01 / 4
        index = (probs.cumsum(-1) <= uniform.unsqueeze(-1)).sum(-1)
        assert torch.equal(drawn.stoch.detach().unflatten(-1, (3, 4)).argmax(-1), index)
        assert torch.equal(drawn.stoch.detach(), F.one_hot(index, 4).float().flatten(1))


def test_without_noise_the_mode_is_taken(rssm):
    state, action, embedding = some_state(), draws(BATCH, ACTION), draws(BATCH, EMBEDDING, seed=1)
    imagined, seen = rssm(state, action, None), rssm.correct(state, action, embedding, None)
    for drawn, likely in (
        (imagined, rssm.prior(imagined.deter)),
        (seen, rssm.posterior(seen.deter, embedding)),
    ):
        assert torch.equal(drawn.stoch.unflatten(-1, (3, 4)).argmax(-1), likely.probs.argmax(-1))


def test_actions_are_scaled_down_to_one_each_on_its_own():
    """Gradient is that of a division by a constant."""
    action = torch.tensor([[0.5, -3.0, 1.0], [-0.2, 8.0, -1.5]], requires_grad=True)
    scaled = bounded(action)
    assert scaled.tolist() == [[0.5, -1.0, 1.0], pytest.approx([-0.2, 1.0, -1.0])]
    scaled.sum().backward()
    torch.testing.assert_close(
        action.grad, torch.tensor([[1.0, 1 / 3, 1.0], [1.0, 1 / 8, 1 / 1.5]])
    )


def test_actions_beyond_one_count_as_one(rssm):
    state = some_state()
    far, edge = (
        torch.tensor([[7.0, -0.3]]).expand(BATCH, -1),
        torch.tensor([[1.0, -0.3]]).expand(BATCH, -1),
    )
    torch.testing.assert_close(rssm(state, far, None).deter, rssm(state, edge, None).deter)
    actions, embeddings, uniform = sequences()
    never = torch.zeros(BATCH, TIME, dtype=torch.bool)
    wide, _ = rssm.observe(state, actions, embeddings, never, uniform)
    narrow, _ = rssm.observe(
        state, actions / actions.abs().clamp(min=1), embeddings, never, uniform
    )
    torch.testing.assert_close(wide.deter, narrow.deter)


def test_the_initial_state_is_zero(rssm):
    initial = rssm.initial(2, 3)
    assert (initial.deter.shape, initial.stoch.shape) == ((2, 3, 12), (2, 3, 12))
    assert not bool(initial.features().any())


# Sequences.


def test_observing_is_correcting_step_by_step(rssm):
    """Where an episode begins the step starts from nothing: no state, no action."""
    state, (actions, embeddings, uniform) = some_state(), sequences()
    first = noise(BATCH, TIME, seed=9) < 0.3
    assert bool(first.any())
    states, posterior = rssm.observe(state, actions, embeddings, first, uniform)
    assert (states.deter.shape, states.stoch.shape) == ((BATCH, TIME, 12), (BATCH, TIME, 12))
    for time in range(TIME):
        begins = first[:, time, None]
        nothing = rssm.initial(BATCH)
        state = RSSMState(
            *(torch.where(begins, zero, old) for zero, old in zip(nothing, state, strict=True))
        )
        action = torch.where(begins, 0.0, actions[:, time])
        state = rssm.correct(state, action, embeddings[:, time], uniform[:, time])
        torch.testing.assert_close(states.deter[:, time], state.deter)
        torch.testing.assert_close(states.stoch[:, time], state.stoch)
        again = rssm.posterior(state.deter, embeddings[:, time])
        torch.testing.assert_close(posterior.probs[:, time], again.probs)


def test_an_episodes_start_resets_state_and_action(rssm):
    """Two pasts that differ in everything, then the same episode: equal states; without the flag
    they differ."""
    first = torch.zeros(BATCH, TIME, dtype=torch.bool)
    first[:, 3] = True
    pasts = []
    for seed in (1, 2):
        actions, embeddings, uniform = (values.clone() for values in sequences(seed))
        for column, shared in zip((actions, embeddings, uniform), sequences(3), strict=True):
            column[:, 4:] = shared[:, 4:]
        embeddings[:, 3], uniform[:, 3] = sequences(3)[1][:, 3], sequences(3)[2][:, 3]
        pasts.append((some_state(seed), actions, embeddings, uniform))
    for flags, same in ((first, True), (torch.zeros_like(first), False)):
        (one, _), (other, _) = (
            rssm.observe(state, actions, embeddings, flags, uniform)
            for state, actions, embeddings, uniform in pasts
        )
        assert torch.equal(one.deter[:, 3:], other.deter[:, 3:]) is same
        assert torch.equal(one.stoch[:, 3:], other.stoch[:, 3:]) is same
        assert not torch.isclose(one.deter[:, 2], other.deter[:, 2]).all()


def test_no_gradient_crosses_an_episodes_start(rssm):
    actions, embeddings, uniform = sequences()
    actions.requires_grad_()
    first = torch.zeros(BATCH, TIME, dtype=torch.bool)
    first[:, 3] = True
    states, _ = rssm.observe(some_state(), actions, embeddings, first, uniform)
    (gradient,) = torch.autograd.grad(states.deter[:, 3:].square().sum(), actions)
    moved = gradient.abs().sum((0, 2)) > 0
    assert moved.tolist() == [False] * 4 + [True] * 3


@pytest.mark.parametrize("cut", [1, 4, TIME - 1])
def test_a_sequence_cut_in_two_goes_on_from_the_stored_state(rssm, cut):
    """What is stored beside a row is all that the rest of the sequence needs of its past."""
    state, (actions, embeddings, uniform) = some_state(), sequences()
    first = noise(BATCH, TIME, seed=9) < 0.2
    whole, _ = rssm.observe(state, actions, embeddings, first, uniform)
    head, _ = rssm.observe(
        state, actions[:, :cut], embeddings[:, :cut], first[:, :cut], uniform[:, :cut]
    )
    stored = RSSMState(head.deter[:, -1].detach().clone(), head.stoch[:, -1].detach().clone())
    tail, _ = rssm.observe(
        stored, actions[:, cut:], embeddings[:, cut:], first[:, cut:], uniform[:, cut:]
    )
    torch.testing.assert_close(torch.cat([head.deter, tail.deter], 1), whole.deter)
    torch.testing.assert_close(torch.cat([head.stoch, tail.stoch], 1), whole.stoch)


def test_gradient_passes_draws_straight_through(rssm):
    """The state after a draw moves with the probabilities that were drawn from."""
    logits = draws(BATCH, 3, 4).requires_grad_()
    state = some_state()
    sample = OneHot(logits).sample(noise(BATCH, 3)).flatten(1)
    after = slow_advance(rssm, RSSMState(state.deter, sample), torch.zeros(BATCH, ACTION))
    fast = rssm.advance(
        RSSMState(state.deter, sample), rssm.from_action(torch.zeros(BATCH, ACTION))
    )
    expected = torch.autograd.grad(after.sum(), logits, retain_graph=True)[0]
    actual = torch.autograd.grad(fast.sum(), logits)[0]
    assert bool(expected.any())
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"deter": 10, "blocks": 4}, r"blocks is 4; it must divide .*deter, which is 10"),
        ({"classes": 300}, r"classes is 300; it must be at least 2 and at most 256"),
        ({"hidden": 0}, r"hidden is 0; it must be at least 1"),
        ({"unimix": 1.0}, r"unimix is 1\.0; it must be at least 0 and below 1"),
    ],
)
def test_impossible_sizes_are_refused_by_name(sizes, message):
    with pytest.raises(ValueError, match=message):
        RSSMConfig(**sizes)


def test_the_posterior_may_start_with_larger_logits():
    """And nothing else does: the same draws, times the scale."""
    pair = []
    for scale in (1.0, 3.0):
        torch.manual_seed(0)
        pair.append(
            RSSM(
                RSSMConfig(
                    deter=12, hidden=5, groups=3, classes=4, blocks=3, posterior_scale=scale
                ),
                6,
                2,
            )
        )
    for (name, plain), scaled in zip(pair[0].named_parameters(), pair[1].parameters(), strict=True):
        factor = 3.0 if name == "posterior_net.layers.3.weight" else 1.0
        torch.testing.assert_close(scaled, factor * plain, msg=name)
    with pytest.raises(ValueError, match=r"posterior_scale is 0\.0; it must be above 0"):
        RSSMConfig(posterior_scale=0.0)
