"""The optimizer against a loop over single tensors that follows its definition."""

import math

import pytest
import torch

from hrl.optim.laprop import LaProp, clip_factors
from hrl.optim.optimizer_state import load_optimizer_state, optimizer_state

SHAPES = [(3, 4), (5,), (), (2, 3, 2, 2)]


def make_parameters(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    values[1].zero_()  # biases start at zero, where the clip is in units of the least norm
    return [torch.nn.Parameter(value.to(dtype)) for value in values]


def set_gradients(parameters, update):
    generator = torch.Generator().manual_seed(1000 + update)
    for index, parameter in enumerate(parameters):
        size = 10.0 ** (index - 2) * (50.0 if update == 3 else 1.0)
        gradient = size * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.grad = gradient.to(parameter.dtype)


class SlowLaProp:
    """One tensor at a time, with scalars as Python floats."""

    def __init__(self, parameters, lr, betas, eps, clip, least_norm, warmup, lr_decay_start):
        self.parameters = parameters
        self.settings = (lr, betas, eps, clip, least_norm, warmup, lr_decay_start)
        self.momenta = [torch.zeros_like(p) for p in parameters]
        self.squares = [torch.zeros_like(p) for p in parameters]
        self.updates = 0

    @torch.no_grad()
    def step(self):
        lr, (beta1, beta2), eps, clip, least_norm, warmup, lr_decay_start = self.settings
        self.updates += 1
        rate = lr * min(1.0, self.updates / warmup)
        if lr_decay_start and self.updates > lr_decay_start:
            rate = rate * math.sqrt(lr_decay_start / self.updates)
        for index, parameter in enumerate(self.parameters):
            gradient = parameter.grad
            largest = clip * max(least_norm, math.sqrt(float(parameter.square().sum())))
            length = math.sqrt(float(gradient.square().sum()))
            gradient = gradient / max(1.0, length / largest)
            self.squares[index] = beta2 * self.squares[index] + (1 - beta2) * gradient**2
            corrected = self.squares[index] / (1 - beta2**self.updates)
            direction = gradient / (corrected.sqrt() + eps)
            self.momenta[index] = beta1 * self.momenta[index] + (1 - beta1) * direction
            parameter -= rate * self.momenta[index] / (1 - beta1**self.updates)


@pytest.mark.parametrize("eps", [1e-20, 0.1])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.5)])
@pytest.mark.parametrize("lr_decay_start", [0, 7])
def test_updates_equal_a_loop_over_tensors(lr_decay_start, betas, eps):
    settings = {
        "lr": 0.03,
        "betas": betas,
        "eps": eps,
        "clip": 0.3,
        "least_norm": 1e-3,
        "warmup": 5,
    }
    settings |= {"lr_decay_start": lr_decay_start}
    fast, slow = make_parameters(), make_parameters(dtype=torch.float64)
    optimizer, reference = LaProp(fast, **settings), SlowLaProp(slow, **settings)
    for update in range(12):
        set_gradients(fast, update)
        set_gradients(slow, update)
        optimizer.step()
        reference.step()
        for one, other in zip(fast, slow, strict=True):
            torch.testing.assert_close(one.detach().double(), other.detach(), rtol=2e-5, atol=2e-6)


def test_the_first_update_moves_every_weight_by_the_warmed_up_rate():
    """Corrected averages of one gradient are that gradient, so that its sign is all that is left of
    it."""
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    parameter.grad = torch.tensor([1e-3, -20.0, 1e-9])
    LaProp([parameter], lr=1.0, warmup=10).step()
    torch.testing.assert_close(parameter.detach(), torch.tensor([0.9, -1.9, 2.9]))


def test_clip_is_in_units_of_each_tensors_own_norm():
    parameters = [torch.tensor([3.0, 4.0]), torch.zeros(2), torch.tensor([3.0, 4.0])]
    gradients = [torch.tensor([0.0, 6.0]), torch.tensor([6.0, 8.0]), torch.tensor([1.0, 1.0])]
    factors = clip_factors(parameters, gradients, clip=0.3, least_norm=1e-3)
    torch.testing.assert_close(torch.stack(factors), torch.tensor([1.5 / 6, 0.3e-3 / 10, 1.0]))


def test_a_gradient_that_is_not_finite_shows_in_the_weights():
    for bad in (math.inf, math.nan):
        parameter = torch.nn.Parameter(torch.ones(2))
        parameter.grad = torch.tensor([bad, 1.0])
        LaProp([parameter]).step()
        assert not bool(parameter.isfinite().all())


def test_a_missing_gradient_counts_as_zeros_and_a_frozen_parameter_stays():
    absent, zeros = make_parameters(), make_parameters()
    one, other = LaProp(absent, lr=0.1, warmup=0), LaProp(zeros, lr=0.1, warmup=0)
    absent[3].requires_grad_(False)
    zeros[3].requires_grad_(False)
    frozen = absent[3].clone()
    for update in range(4):
        set_gradients(absent, update)
        set_gradients(zeros, update)
        if update > 1:
            absent[0].grad, zeros[0].grad = None, torch.zeros_like(zeros[0])
        one.step()
        other.step()
    for first, second in zip(absent, zeros, strict=True):
        assert torch.equal(first, second)
    assert torch.equal(absent[3], frozen)


def test_a_parameter_that_thaws_after_the_first_update_is_refused():
    parameters = make_parameters()
    parameters[0].requires_grad_(False)
    optimizer = LaProp(parameters)
    set_gradients(parameters, 0)
    optimizer.step()
    parameters[0].requires_grad_(True)
    with pytest.raises(
        ValueError,
        match=r"1 of 4 parameters, the first of shape \(3, 4\), began to require gradients",
    ):
        optimizer.step()


def test_a_restored_optimizer_continues_exactly():
    def train(parameters, optimizer, updates):
        for update in updates:
            set_gradients(parameters, update)
            optimizer.step()

    through = make_parameters()
    train(through, LaProp(through, lr=0.1, warmup=6), range(9))

    first = make_parameters()
    optimizer = LaProp(first, lr=0.1, warmup=6)
    train(first, optimizer, range(4))
    saved = {
        index: {key: value.clone() for key, value in state.items()}
        for index, state in optimizer_state(optimizer).items()
    }
    second = [torch.nn.Parameter(parameter.detach().clone()) for parameter in first]
    resumed = LaProp(second, lr=0.1, warmup=6)
    load_optimizer_state(resumed, saved)
    train(second, resumed, range(4, 9))
    for one, other in zip(through, second, strict=True):
        assert torch.equal(one, other)
    assert len({id(state["step"]) for state in resumed.state.values()}) == 1


@pytest.mark.parametrize("fused", [False, True])
def test_restored_counts_lie_where_the_update_reads_them(fused):
    """Fused updates want them beside the parameter; a device without memory stands for a GPU."""
    parameter = torch.nn.Parameter(torch.empty(3, device="meta"))
    optimizer = torch.optim.Adam([parameter], fused=fused)
    load_optimizer_state(optimizer, {"0": {"step": torch.tensor(4.0), "exp_avg": torch.zeros(3)}})
    assert optimizer.state[parameter]["step"].is_meta == fused
    assert optimizer.state[parameter]["exp_avg"].is_meta


def test_channels_last_weights_get_the_same_update():
    plain = torch.nn.Parameter(torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)))
    layout = torch.nn.Parameter(plain.detach().clone().to(memory_format=torch.channels_last))
    for parameter in (plain, layout):
        optimizer = LaProp([parameter], lr=0.1, warmup=0)
        for update in range(3):
            parameter.grad = torch.sin(parameter.detach() * (update + 1))
            optimizer.step()
    torch.testing.assert_close(layout.detach(), plain.detach())


def test_a_closure_is_evaluated_with_gradients():
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = LaProp([parameter], lr=0.1, warmup=0)

    def closure():
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss.detach()

    assert float(optimizer.step(closure)) == 3.0
    torch.testing.assert_close(parameter.detach(), torch.full((3,), 0.9))


def test_it_minimises_a_badly_scaled_quadratic():
    scales = torch.tensor([1e-3, 1.0, 1e3])
    parameter = torch.nn.Parameter(torch.tensor([2.0, -1.0, 0.5]))
    optimizer = LaProp([parameter], lr=0.01, warmup=10)
    for _ in range(500):
        optimizer.zero_grad()
        (scales * parameter.square()).sum().backward()
        optimizer.step()
    assert float(parameter.detach().abs().max()) < 0.05


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("lr", -1.0),
        ("eps", 0.0),
        ("clip", 0.0),
        ("least_norm", -1e-3),
        ("warmup", -1),
        ("betas", (0.9, 1.0)),
    ],
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ValueError, match=setting):
        LaProp(make_parameters(), **{setting: value})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_captured_update_equals_an_eager_one():
    eager = [torch.nn.Parameter(p.detach().cuda()) for p in make_parameters()]
    captured = [torch.nn.Parameter(p.detach().cuda()) for p in make_parameters()]
    plain, optimizer = LaProp(eager, lr=0.1, warmup=4), LaProp(captured, lr=0.1, warmup=4)
    for parameter in captured:
        parameter.grad = torch.zeros_like(parameter)
    graph = torch.cuda.CUDAGraph()
    for update in range(6):
        set_gradients(eager, update)
        plain.step()
        for source, target in zip(eager, captured, strict=True):
            target.grad.copy_(source.grad)
        if update == 0:
            optimizer.step()
            continue
        if update == 1:
            with torch.cuda.graph(graph):
                optimizer.step()
        graph.replay()
        for one, other in zip(eager, captured, strict=True):
            torch.testing.assert_close(other.detach(), one.detach())


def test_a_group_without_gradients_waits():
    """Its count, and so its warm-up and the correction of its averages, begin at its first
    gradient."""
    waiting, late = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    other = torch.nn.Parameter(torch.ones(3))
    both = LaProp([{"params": [other]}, {"params": [waiting]}], lr=0.1, warmup=10)
    alone = LaProp([late], lr=0.1, warmup=10)
    for _ in range(5):
        other.grad = torch.tensor([1.0, -2.0, 3.0])
        both.step()
    assert torch.equal(waiting.detach(), torch.ones(3))
    for update in range(3):
        for parameter in (waiting, late):
            parameter.grad = torch.tensor([1.0, 2.0, -3.0]) * (update + 1)
        both.step()
        alone.step()
    assert torch.equal(waiting.detach(), late.detach())
    assert float((late.detach() - 1).abs().max()) > 0.01
