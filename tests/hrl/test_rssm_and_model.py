"""The recurrent state-space model and the world model against slow references, and DreamerV3's published sizes."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hrl.agents.dreamer import Dreamer
from hrl.agents.model_based import _trainable
from hrl.config import load
from hrl.nets.one_hot import OneHot
from hrl.rssm import RSSM, RSSMConfig, State, bounded, draw
from hrl.world_model import PRESETS, Conditioning, WorldModel, WorldModelConfig, WorldModelLossConfig
from tests.fakes import small_setting

SIZES = RSSMConfig(deter=16, hidden=6, groups=3, classes=4, blocks=4)
MODEL = WorldModelConfig(deter=16, hidden=8, groups=3, classes=4, blocks=4, units=8, depth=1, kernel=3)


def rssm() -> RSSM:
    torch.manual_seed(0)
    model = RSSM(SIZES, embedding=5, action=2)
    for parameter in model.parameters():  # biases and scales too, so that none can be forgotten
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def some_state(batch: int, seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, 3, 4, generator=generator)
    return State(torch.randn(batch, 16, generator=generator), OneHot(logits).mode().flatten(-2))


def norm(values: Tensor, scale: Tensor) -> Tensor:
    return values / torch.sqrt((values**2).mean(-1, keepdim=True) + 1e-4) * scale


def test_the_block_gru_equals_a_loop_over_blocks():
    """Every block sees its own part of the state and a copy of all that enters; its three gates see it alone."""
    model, state, move = rssm(), some_state(5), torch.randn(5, 6)
    entering = torch.cat([model.from_deter(state.deter), model.from_stoch(state.stoch), move], -1)
    core = []
    for block in range(4):
        mine = slice(4 * block, 4 * block + 4)
        weights = torch.cat([model.core.weight[block], model.core_inputs.weight[mine].T])
        core.append(torch.cat([state.deter[:, mine], entering], -1) @ weights + model.core.bias[mine])
    core = F.silu(norm(torch.cat(core, -1), model.core_norm.scale))
    expected = []
    for block in range(4):
        mine = slice(4 * block, 4 * block + 4)
        gates = core[:, mine] @ model.gates.weight[block] + model.gates.bias[12 * block : 12 * block + 12]
        reset, candidate, update = gates.chunk(3, -1)
        update = torch.sigmoid(update - 1)
        expected.append(update * torch.tanh(torch.sigmoid(reset) * candidate) + (1 - update) * state.deter[:, mine])
    torch.testing.assert_close(model.advance(state, move), torch.cat(expected, -1))


def test_observing_is_correcting_step_by_step():
    model, generator = rssm(), torch.Generator().manual_seed(1)
    actions, embeddings = (torch.randn(2, 6, size, generator=generator) for size in (2, 5))
    noise, first = torch.rand(2, 6, 3, generator=generator), torch.zeros(2, 6, dtype=torch.bool)
    states, posterior = model.observe(some_state(2), actions, embeddings, first, noise)
    state = some_state(2)
    for time in range(6):
        state = model.correct(state, actions[:, time], embeddings[:, time], noise[:, time])
        torch.testing.assert_close(states.deter[:, time], state.deter)
        torch.testing.assert_close(states.stoch[:, time], state.stoch)
    torch.testing.assert_close(model.posterior(states.deter, embeddings).probs, posterior.probs)


def test_the_past_ends_where_an_episode_begins():
    """From a first row on, neither the state nor the action before it matters; before it they do."""
    model, generator = rssm(), torch.Generator().manual_seed(1)
    embeddings, noise = torch.randn(1, 6, 5, generator=generator), torch.rand(1, 6, 3, generator=generator)
    first = torch.arange(6)[None] == 3
    pasts = []
    for seed in (2, 3):
        actions = torch.randn(1, 6, 2, generator=torch.Generator().manual_seed(seed))
        actions[:, 4:] = 0.5
        pasts.append(model.observe(some_state(1, seed), actions, embeddings, first, noise)[0].deter[0])
    assert not torch.allclose(pasts[0][2], pasts[1][2])
    torch.testing.assert_close(pasts[0][3:], pasts[1][3:])
    fresh = model.correct(model.initial(1), torch.zeros(1, 2), embeddings[:, 3], noise[:, 3])
    torch.testing.assert_close(pasts[0][3], fresh.deter[0])


def test_a_sequence_continues_from_what_it_left_behind():
    """Two halves, the second from the first's last state, are the whole: what stored latents are for."""
    model, generator = rssm(), torch.Generator().manual_seed(1)
    actions, embeddings = (torch.randn(2, 6, size, generator=generator) for size in (2, 5))
    noise, first = torch.rand(2, 6, 3, generator=generator), torch.zeros(2, 6, dtype=torch.bool)
    inputs = (actions, embeddings, first, noise)
    whole, _ = model.observe(some_state(2), *inputs)
    head, _ = model.observe(some_state(2), *(tensor[:, :4] for tensor in inputs))
    left = State(head.deter[:, -1], head.stoch[:, -1])
    tail, _ = model.observe(left, *(tensor[:, 4:] for tensor in inputs))
    torch.testing.assert_close(torch.cat([head.deter, tail.deter], 1), whole.deter)


def test_actions_beyond_one_are_scaled_and_modes_need_no_noise():
    torch.testing.assert_close(bounded(torch.tensor([0.5, -3.0, 1.0])), torch.tensor([0.5, -1.0, 1.0]))
    logits = torch.tensor([[[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]]])
    assert draw(OneHot(logits), None).tolist() == [[0, 1, 0, 1, 0, 0]]


def test_sizes_are_dreamerv3s():
    """Counts of DreamerV3's size12m, pictures only, six actions; nothing is told the task."""
    config, _ = load(["agent=dreamer", "size=12m", "agent.conditioning.preset=none"])
    setting = replace(small_setting(64, action_size=6), world_model=config.network.world_model)
    agent = Dreamer(config.agent, setting)
    model = agent.world_model
    counts = {
        "encoder": (model.encoder, 220_416),
        "rssm": (model.rssm, 5_979_648),
        "decoder": (model.decoder, 1_272_003),
        "reward": (model.reward_net, 721_407),
        "continue": (model.continue_net, 656_129),
        "actor": (agent.level.actor, 791_052),
        "critic": (agent.level.critics, 853_503),
        "all": (agent, 10_494_158),
    }
    assert {name: _trainable(part) for name, (part, _) in counts.items()} == {
        n: count for n, (_, count) in counts.items()
    }


def world_model(**switches: object) -> WorldModel:
    torch.manual_seed(0)
    model = WorldModel(MODEL, 16, 3, 2, 1, 4, Conditioning(**switches))
    for net in (model.reward_net, model.continue_net):
        torch.nn.init.normal_(net.dense.layers[-1].weight, std=0.3)
    return model


def batch(time: int = 5, rows: int = 3) -> dict[str, Tensor]:
    """Sequences of `time` steps after their row of context."""
    generator = torch.Generator().manual_seed(0)
    shape = (rows, 1 + time)
    return {
        "pixels": torch.randint(0, 256, (*shape, 16, 16, 3), dtype=torch.uint8, generator=generator),
        "task": torch.randn(*shape, 1, generator=generator),
        "action": torch.randn(*shape, 2, generator=generator),
        "reward": torch.randn(shape, generator=generator),
        "is_first": torch.zeros(shape, dtype=torch.bool),
        "is_terminal": torch.zeros(shape, dtype=torch.bool),
        "deter": torch.randn(*shape, 16, generator=generator),
        "stoch": torch.randint(0, 4, (*shape, 3), generator=generator).to(torch.uint8),
    }


def observe(model: WorldModel, rows: dict[str, Tensor], **weights: float) -> dict[str, Tensor]:
    noise = torch.rand(3, 5, 3, generator=torch.Generator().manual_seed(1))
    observed = model.observe(rows, noise, WorldModelLossConfig(**weights))
    return observed.losses | {"deter": observed.states.deter}


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_only_the_modules_that_are_told_see_the_task(preset):
    model, rows = world_model(preset=preset), batch()
    other = {**rows, "task": rows["task"] + 1}
    sees = Conditioning(preset=preset).sees
    embeddings = [model.embed(b["pixels"], b["task"]) for b in (rows, other)]
    assert torch.equal(*embeddings) is not sees("encoder")
    moves = [model.moved_by(b["action"], b["task"]) for b in (rows, other)]
    assert torch.equal(*moves) is not sees("dynamics")
    features = torch.randn(3, 6, MODEL.features)
    for head in (lambda task: model.reward(features, task).mean(), lambda task: model.continues(features, task)):
        assert torch.equal(head(rows["task"]), head(other["task"])) is not sees("heads")


def test_a_switch_overrides_its_preset():
    assert Conditioning(preset="none", worker=True).sees("worker")
    assert not Conditioning(preset="everywhere", worker=False).sees("worker")
    assert Conditioning().sees("manager")
    assert not Conditioning().sees("worker")


def test_the_action_of_a_row_leads_to_the_next_one():
    """Changing the action at row t changes states after t and none before; the last row's leads nowhere."""
    model, rows = world_model(), batch()
    before = observe(model, rows)["deter"]
    for time in range(6):
        changed = rows["action"].clone()
        changed[:, time] = -changed[:, time]
        moved = (observe(model, {**rows, "action": changed})["deter"] != before).any(-1).any(0)
        assert moved.tolist() == [row > time for row in range(1, 6)]


def test_targets_are_those_of_the_rows_after_the_context():
    """The context's reward, picture and flags are not learned from; every later row's are."""
    model, rows = world_model(), batch()
    before = observe(model, rows)
    for time in range(6):
        changed = {**rows, "reward": rows["reward"].clone(), "is_terminal": rows["is_terminal"].clone()}
        changed["reward"][:, time] += 3
        changed["is_terminal"][:, time] = True
        after = observe(model, changed)
        for name in ("reward", "continue"):
            differs = (after[name] != before[name]).any(0)
            assert differs.tolist() == [row == time for row in range(1, 6)]


def test_divergences_equal_a_slow_sum_with_free_nats_and_reach_one_side_each():
    model, rows = world_model(), batch()
    noise = torch.rand(3, 5, 3, generator=torch.Generator().manual_seed(1))
    observed = model.observe(rows, noise, WorldModelLossConfig(free_nats=0.0, representation=0.1))
    embeddings = model.embed(rows["pixels"][:, 1:], rows["task"][:, 1:])
    p = model.rssm.posterior(observed.states.deter, embeddings).probs
    q = model.rssm.prior(observed.states.deter).probs
    slow = torch.zeros(3, 5)
    for group in range(3):
        for option in range(4):
            slow += p[..., group, option] * torch.log(p[..., group, option] / q[..., group, option])
    torch.testing.assert_close(observed.losses["dynamics"], slow)
    torch.testing.assert_close(observed.losses["representation"], 0.1 * slow)
    reached = {}
    for name in ("dynamics", "representation"):
        model.zero_grad()
        observed.losses[name].sum().backward(retain_graph=True)
        nets = {"prior": model.rssm.prior_net, "posterior": model.rssm.posterior_net, "encoder": model.encoder}
        reached[name] = [key for key, net in nets.items() if any(bool((p.grad != 0).any()) for p in _given(net))]
        if name == "dynamics":
            assert "prior" in reached[name]
    # The prior's target is constant; what the posterior's loss cannot reach is the last layer of the prior.
    assert "prior" not in reached["representation"]
    below = model.observe(rows, noise, WorldModelLossConfig(free_nats=1e3))
    model.zero_grad()
    (below.losses["dynamics"] + below.losses["representation"]).sum().backward()
    assert not any(bool((p.grad != 0).any()) for p in _given(model))


def _given(net: torch.nn.Module) -> list[Tensor]:
    return [parameter for parameter in net.parameters() if parameter.grad is not None]


def test_a_model_learns_a_tiny_batch_by_heart():
    model, rows = world_model(), batch()
    rows["pixels"][:] = (40 * torch.arange(6, dtype=torch.uint8))[None, :, None, None, None]
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    totals = []
    for _ in range(120):
        losses = observe(model, rows, free_nats=0.0)
        total = torch.stack([losses[name].mean() for name in ("picture", "reward", "continue")]).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total))
    assert totals[-1] < 0.6 * totals[0]
