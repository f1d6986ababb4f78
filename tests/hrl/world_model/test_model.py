"""The world model: sizes as published, losses against slow loops, what they train, what leads
where."""

import math
from dataclasses import replace

import pytest
import torch

from hrl.agents.conditioning import PRESETS, ConditioningConfig
from hrl.agents.dreamer import Dreamer, DreamerConfig
from hrl.config import load
from hrl.data.observation import Observation
from hrl.nets.two_hot import TwoHot
from hrl.optim.laprop import LaProp
from hrl.world_model.model import WorldModel, WorldModelLossConfig
from hrl.world_model.rssm import RSSMState
from tests.fakes import model_setting, randomise, reached, replayed
from tests.hrl.small_world_models import (
    ALL_BITS,
    BATCH,
    OWN,
    TIME,
    noise,
    observe,
    only,
    rows,
    world_model,
)

# Sizes.


def test_parameter_counts_are_dreamerv3s():
    """Those of the published size12m for one image and six actions; slow copies do not count."""
    config, _ = load(["agent=dreamer", "size=12m", "agent.conditioning.preset=none", "suite=debug"])
    spec = replace(
        model_setting(action_size=6), image_size=64, world_model=config.network.world_model
    )
    torch.manual_seed(0)
    agent = Dreamer(config.agent, spec)
    model = agent.world_model
    parts = {
        "encoder": model.encoder,
        "rssm": model.rssm,
        "decoder": model.decoder,
        "reward": model.reward_net,
        "continue": model.continue_net,
        "actor": agent.actor_critic.actor,
        "critic": agent.actor_critic.critics,
        "total": agent,
    }
    counts = {
        name: sum(p.numel() for p in part.parameters() if p.requires_grad)
        for name, part in parts.items()
    }
    assert counts == {
        "encoder": 220_416,
        "rssm": 5_979_648,
        "decoder": 1_272_003,
        "reward": 721_407,
        "continue": 656_129,
        "actor": 791_052,
        "critic": 853_503,
        "total": 10_494_158,
    }


# Divergences.


def slow_divergence(p: torch.Tensor, q: torch.Tensor) -> float:
    """Of two groups-by-classes tables of probabilities, term by term."""
    total = 0.0
    for p_row, q_row in zip(p.tolist(), q.tolist(), strict=True):
        for one, other in zip(p_row, q_row, strict=True):
            total += one * (math.log(one) - math.log(other))
    return total


def test_divergences_are_balanced_and_free_below_the_threshold():
    """Each state's divergence, summed over groups before it is compared with the free nats; then
    weighted."""
    model, batch = world_model(), rows()
    with torch.no_grad():
        bare = observe(model, batch)
        initial = RSSMState(batch["deter"][:, 0], model._one_hot(batch["stoch"][:, 0]))
        embedding = model.embed(batch["pixels"][:, 1:], batch["task"][:, 1:])
        states, posterior = model.rssm.observe(
            initial,
            batch["action"][:, :-1],
            embedding,
            batch["is_first"][:, 1:],
            noise(BATCH, TIME + 1)[:, 1:],
        )
        prior = model.rssm.prior(states.deter)
    slow = torch.tensor(
        [
            [slow_divergence(posterior.probs[b, t], prior.probs[b, t]) for t in range(TIME)]
            for b in range(BATCH)
        ]
    )
    torch.testing.assert_close(bare.losses["dynamics"], slow, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(bare.metrics["divergence"], slow, rtol=1e-4, atol=1e-5)
    threshold = float(slow.median())
    observed = observe(
        model, batch, WorldModelLossConfig(free_nats=threshold, dynamics=0.5, representation=0.1)
    )
    expected = [[max(value, threshold) for value in row] for row in slow.tolist()]
    torch.testing.assert_close(
        observed.losses["dynamics"], 0.5 * torch.tensor(expected), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        observed.losses["representation"], 0.1 * torch.tensor(expected), rtol=1e-4, atol=1e-5
    )


def parts_of(model: WorldModel) -> dict[str, torch.nn.Module]:
    rssm = {name: getattr(model.rssm, name) for name in ("core", "prior_net", "posterior_net")}
    others = {
        name: getattr(model, name) for name in ("encoder", "decoder", "reward_net", "continue_net")
    }
    return rssm | others


@pytest.mark.parametrize(
    ("loss", "trained"),
    [
        ("dynamics", {"core", "prior_net"}),
        ("representation", {"core", "posterior_net", "encoder"}),
        ("image", {"core", "posterior_net", "encoder", "decoder"}),
        ("reward", {"core", "posterior_net", "encoder", "reward_net"}),
        ("continue", {"core", "posterior_net", "encoder", "continue_net"}),
    ],
)
def test_what_each_loss_trains(loss, trained):
    """In sequences of one step, where nothing reaches the posterior through the step after it."""
    model, batch = world_model(), rows(time=1)
    batch["is_first"][:] = False
    observe(model, batch).losses[loss].sum().backward()
    assert reached(parts_of(model)) == trained


def test_in_sequences_the_prior_also_shapes_the_states_before():
    """Its divergence at one step reaches the encoder through the state that was drawn at the step
    before."""
    model, batch = world_model(), rows(time=2)
    batch["is_first"][:] = False
    observe(model, batch).losses["dynamics"][:, 1].sum().backward()
    assert {"encoder", "posterior_net", "prior_net"} <= reached(parts_of(model))


@pytest.mark.parametrize("loss", ["dynamics", "representation"])
def test_free_nats_train_nothing(loss):
    model, batch = world_model(), rows()
    observe(model, batch, WorldModelLossConfig(free_nats=1e6)).losses[loss].sum().backward()
    assert reached({"all": model}) == set()


def test_states_are_handed_on_without_gradient():
    observed = observe(world_model(), rows())
    assert not observed.states.deter.requires_grad
    assert not observed.states.stoch.requires_grad


# Heads.


def test_rewards_and_ends_are_those_of_rows_after_the_context():
    """State t is measured against row t + 1 of the batch: a changed row changes its own loss and no
    other."""
    model, batch = world_model(), rows()
    before = observe(model, batch).losses
    for row in range(TIME + 1):
        changed = {key: value.clone() for key, value in batch.items()}
        changed["reward"][:, row] += 5
        changed["is_terminal"][:, row] ^= True
        after = observe(model, changed).losses
        own = [[time + 1 == row for time in range(TIME)]] * BATCH
        assert (after["reward"] != before["reward"]).tolist() == own
        assert (after["continue"] != before["continue"]).tolist() == own
        assert torch.equal(after["image"], before["image"])


def test_losses_of_the_heads_by_hand():
    """Two-hot cross-entropy of the reward, and -log of the probability given to what happened
    next."""
    model, batch = world_model(), rows()
    observed = observe(model, batch)
    features, task = observed.states.features(), batch["task"][:, 1:]
    goes_on, terminal = model.predict_continue(features, task), batch["is_terminal"][:, 1:]
    assert bool(terminal.any())
    assert not bool(terminal.all())
    slow = -torch.where(terminal, 1 - goes_on, goes_on).log()
    torch.testing.assert_close(observed.losses["continue"], slow, rtol=1e-4, atol=1e-5)
    logits = model.reward_net(features, task)
    torch.testing.assert_close(
        observed.losses["reward"], TwoHot(logits).loss(batch["reward"][:, 1:])
    )
    truth = batch["pixels"][:, 1:].double() / 255
    error = ((model.decode_image(observed.states).double() - truth) ** 2).sum((2, 3, 4)).float()
    torch.testing.assert_close(observed.losses["image"], error)


def test_a_fresh_model_expects_no_reward():
    model = world_model(moved=False)
    observed = observe(model, rows())
    assert not bool(
        model.predict_reward(observed.states.features(), rows()["task"][:, 1:]).mean().any()
    )
    torch.testing.assert_close(
        observed.losses["reward"], torch.full((BATCH, TIME), math.log(255.0)), rtol=1e-5, atol=1e-5
    )


# Alignment.


def test_an_action_leads_to_the_row_after_it():
    """The state at row t depends on actions of rows before t, most on that of row t - 1, since
    the last start."""
    model, batch = world_model(), rows(batch=1)
    batch["is_first"][:] = False
    batch["is_first"][:, 4] = True
    for row in range(1, TIME + 1):
        action = batch["action"].clone().requires_grad_()
        loss = observe(model, {**batch, "action": action}).losses["continue"][0, row - 1]
        (gradient,) = torch.autograd.grad(loss, action)
        since = 4 if row >= 4 else 0
        assert gradient[0].any(-1).tolist() == [
            since <= other < row for other in range(TIME + 1)
        ], row


def test_images_of_rows_are_seen_at_their_own_state():
    """The image of row t changes states from t on; that of the context changes none."""
    model, batch = world_model(), rows(batch=1)
    batch["is_first"][:] = False
    before = observe(model, batch).losses["representation"][0]
    for row in range(TIME + 1):
        pixels = batch["pixels"].clone()
        pixels[:, row] = 255 - pixels[:, row]
        after = observe(model, {**batch, "pixels": pixels}).losses["representation"][0]
        moved = [time + 1 for time in range(TIME) if after[time] != before[time]]
        assert moved[:1] == ([row] if row else [])


def test_sequences_begin_at_the_latents_of_their_context():
    """Both parts of it, unless the next row begins an episode."""
    model, batch = world_model(), rows()
    batch["is_first"][:, 1] = torch.tensor([False, True, False])
    before = observe(model, batch).losses["continue"][:, 0]
    for change in ({"deter": batch["deter"] + 1}, {"stoch": (batch["stoch"] + 1) % 4}):
        after = observe(model, {**batch, **change}).losses["continue"][:, 0]
        assert (after != before).tolist() == [True, False, True]


def test_latents_as_the_replay_buffer_stores_them_fit_a_float32_model():
    """bfloat16 beside float32 weights: precision=float32 is one of the choices."""
    model = world_model()
    batch = replayed(model_setting(), BATCH, TIME)
    kept = observe(model, batch)
    torch.testing.assert_close(
        kept.losses["dynamics"], observe(model, rows()).losses["dynamics"], rtol=0.02, atol=0.02
    )
    assert kept.states.deter.dtype == torch.float32


def test_latents_go_through_the_replays_form_and_back():
    """Class indices are exact, `deter` is rounded to bfloat16."""
    model = world_model()
    states = observe(model, rows()).states
    latents = model.latents(states)
    assert (latents["deter"].dtype, latents["stoch"].dtype) == (torch.bfloat16, torch.uint8)
    assert torch.equal(model._one_hot(latents["stoch"]), states.stoch)
    torch.testing.assert_close(latents["deter"].float(), states.deter, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_acting_and_training_go_through_the_same_states(preset):
    """A stream seen step by step, and the same rows as a replayed sequence whose first row begins
    an episode."""
    torch.manual_seed(0)
    agent = randomise(
        Dreamer(DreamerConfig(conditioning=ConditioningConfig(preset=preset)), model_setting())
    )
    batch = rows()
    batch["is_first"][:, 1:] = False
    batch["is_first"][:, 1] = True
    state, seen = agent.initial_state(BATCH), []
    with torch.no_grad():
        for row in range(1, TIME + 1):
            view = Observation.of({name: values[:, row] for name, values in batch.items()})
            now = agent.observe(view, state, torch.Generator().manual_seed(row))
            seen.append(now)
            state = {**now._asdict(), "action": batch["action"][:, row]}
        draws = [
            torch.rand(BATCH, 4, generator=torch.Generator().manual_seed(row))
            for row in range(1, TIME + 1)
        ]
        observed = agent.world_model.observe(batch, torch.stack(draws, 1), ALL_BITS)
    torch.testing.assert_close(torch.stack([now.deter for now in seen], 1), observed.states.deter)
    torch.testing.assert_close(torch.stack([now.stoch for now in seen], 1), observed.states.stoch)


# Learning.


@pytest.mark.slow
def test_a_small_batch_is_learned_by_heart():
    """Eighty updates on two sequences: images, rewards and ends come to half of what they cost at
    first."""
    model = world_model(moved=False, conditioning=only(*OWN))
    batch, uniform = rows(2, 3), noise(2, 3)
    batch["pixels"][:] = batch["pixels"][:, :, :1, :1]  # images of one colour each
    optimizer = LaProp(list(model.parameters()), 3e-2)
    history = []
    for _ in range(80):
        losses = model.observe(batch, uniform, WorldModelLossConfig()).losses
        optimizer.zero_grad()
        torch.stack([loss.mean() for loss in losses.values()]).sum().backward()
        optimizer.step()
        history.append({name: float(loss.detach().mean()) for name, loss in losses.items()})
    for name in ("image", "reward", "continue"):
        assert history[-1][name] < 0.5 * history[0][name], name
    assert history[-1]["dynamics"] < 1.5
