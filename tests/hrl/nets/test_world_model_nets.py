"""The world model's layers and distributions against closed forms and slow references."""

import math

import pytest
import torch
from torch import distributions
from torch.nn import functional as F

from hrl.nets.block_linear import BlockLinear
from hrl.nets.bounded_normal import BoundedNormal
from hrl.nets.dense import Dense, RMSNorm, truncated_normal_
from hrl.nets.one_hot import OneHot, kl
from hrl.nets.two_hot import TwoHot, bins, symexp, symlog


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def randomise(module):
    """Biases and norms start at values that would hide a mistake with them."""
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter += 0.3 * draws(*parameter.shape, seed=index)
    return module


def slow_rms_norm(inputs, scale):
    return inputs / torch.sqrt((inputs**2).mean(-1, keepdim=True) + 1e-4) * scale


# Layers.


def test_rms_norm_divides_by_the_root_mean_square():
    norm = randomise(RMSNorm(6))
    inputs = draws(2, 3, 6)
    torch.testing.assert_close(norm(inputs), slow_rms_norm(inputs, norm.scale))
    inputs.requires_grad_()
    weights = draws(2, 3, 6, seed=5)
    own = torch.autograd.grad((norm(inputs) * weights).sum(), [inputs, norm.scale])
    slow = torch.autograd.grad(
        (slow_rms_norm(inputs, norm.scale) * weights).sum(), [inputs, norm.scale]
    )
    torch.testing.assert_close(own, slow)
    assert RMSNorm(4)(torch.tensor([3.0, 4.0, 0.0, 0.0])).tolist() == pytest.approx(
        [1.2, 1.6, 0.0, 0.0], rel=1e-4
    )
    assert float(RMSNorm(1)(torch.tensor([0.01])).detach()) == pytest.approx(
        0.5**0.5
    )  # its square is the epsilon


def test_rms_norm_is_computed_in_float32_and_keeps_the_dtype():
    """The square of 300 leaves float16's range."""
    inputs = torch.tensor([300.0, -300.0], dtype=torch.float16)
    assert RMSNorm(2)(inputs).dtype == torch.float16
    assert RMSNorm(2)(inputs).tolist() == [1.0, -1.0]


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_truncated_normal_has_the_asked_spread_and_no_tails(scale):
    torch.manual_seed(0)
    weight = truncated_normal_(torch.empty(400, 500), 100, scale)
    assert float(weight.std()) == pytest.approx(0.1 * scale, rel=0.01)
    assert abs(float(weight.mean())) < 0.001
    assert 1.9 * 0.11368 * scale < float(weight.abs().max()) <= 2 * 0.11368 * scale * (1 + 1e-6)


def test_truncated_normal_of_scale_zero_is_zero_and_bad_arguments_are_refused():
    assert not bool(truncated_normal_(torch.ones(3, 3), 3, 0.0).any())
    for arguments in ((0, 1.0), (3, -1.0)):
        with pytest.raises(ValueError, match="fan_in is"):
            truncated_normal_(torch.ones(3), *arguments)


def test_dense_is_linear_norm_silu_then_linear():
    dense = randomise(Dense(5, [7, 6], 4))
    inputs = draws(3, 2, 5)
    (w1, b1, s1, w2, b2, s2, w3, b3) = dense.parameters()
    hidden = F.silu(slow_rms_norm(inputs @ w1.T + b1, s1))
    hidden = F.silu(slow_rms_norm(hidden @ w2.T + b2, s2))
    torch.testing.assert_close(dense(inputs), hidden @ w3.T + b3)


def test_dense_sizes_and_output_scale():
    assert count(Dense(512, [512], 1024)) == 512 * 512 + 512 + 512 + 512 * 1024 + 1024
    assert Dense(5, [7, 6], None)(draws(2, 5)).shape == (2, 6)
    assert (Dense(5, [7], None).outputs, Dense(5, [7], 3).outputs) == (7, 3)
    assert not bool(Dense(5, [7], 3, output_scale=0.0)(draws(2, 5)).any())
    torch.manual_seed(0)
    small, large = Dense(64, [64], 64, output_scale=0.01), Dense(64, [64], 64)
    ratio = small.layers[-1].weight.std() / large.layers[-1].weight.std()
    assert float(ratio.detach()) == pytest.approx(0.01, rel=0.1)


def test_block_linear_equals_a_block_diagonal_matrix():
    layer = randomise(BlockLinear(12, 8, 4))
    matrix = torch.block_diag(*layer.weight.unbind())
    for shape in ((12,), (5, 12), (2, 3, 12)):
        inputs = draws(*shape)
        torch.testing.assert_close(layer(inputs), inputs @ matrix + layer.bias)


def test_block_linear_starts_with_the_fan_in_of_the_whole_layer():
    torch.manual_seed(0)
    layer = BlockLinear(400, 400, 4)
    assert float(layer.weight.detach().std()) == pytest.approx(1 / 20, rel=0.02)
    assert count(layer) == 4 * 100 * 100 + 400


@pytest.mark.parametrize(
    ("sizes", "name"), [((10, 8, 4), "inputs"), ((8, 10, 4), "outputs"), ((8, 8, 0), "inputs")]
)
def test_block_linear_refuses_sizes_that_blocks_do_not_divide(sizes, name):
    with pytest.raises(ValueError, match=f"must be positive and divide {name}"):
        BlockLinear(*sizes)


# Two-hot.


def slow_two_hot(value):
    """Weights of one number, found by walking along the bins."""
    places = bins().tolist()
    weights = [0.0] * len(places)
    value = min(max(value, places[0]), places[-1])
    for index in range(len(places) - 1):
        low, high = places[index], places[index + 1]
        if low <= value <= high:
            weights[index], weights[index + 1] = (
                (high - value) / (high - low),
                (value - low) / (high - low),
            )
            return torch.tensor(weights)
    raise AssertionError(value)


VALUES = [0.0, 0.1, -0.1, 0.3702, 1.0, -7.3, 999.0, -4e5, 1e9, -1e9]


def test_symlog_and_symexp_are_inverse():
    values = torch.tensor([-1e6, -3.0, -0.01, 0.0, 0.01, 3.0, 1e6])
    torch.testing.assert_close(symexp(symlog(values)), values, rtol=1e-5, atol=1e-7)
    assert symlog(torch.tensor([math.e - 1, 1 - math.e])).tolist() == pytest.approx([1.0, -1.0])


def test_bins_are_symmetric_to_the_last_bit_and_as_published():
    places = bins()
    assert places.shape == (255,)
    assert torch.equal(places, -places.flip(0))
    assert bool((places.diff() > 0).all())
    assert places[127:131].tolist() == pytest.approx([0.0, 0.1706, 0.3702, 0.6039], abs=1e-4)
    assert float(places[-1]) == pytest.approx(math.exp(20) - 1, rel=1e-5)


def test_two_hot_loss_equals_a_cross_entropy_formed_bin_by_bin():
    logits = 2 * draws(len(VALUES), 255)
    loss = TwoHot(logits).loss(torch.tensor(VALUES))
    slow = torch.stack(
        [
            -(slow_two_hot(v) * torch.log_softmax(row, 0)).sum()
            for v, row in zip(VALUES, logits, strict=True)
        ]
    )
    torch.testing.assert_close(loss, slow, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(TwoHot(logits).log_prob(torch.tensor(VALUES)), -loss)


def test_two_hot_gradient_is_probabilities_less_weights():
    logits, value = draws(1, 255).requires_grad_(), torch.tensor([0.25], requires_grad=True)
    TwoHot(logits).loss(value).sum().backward()
    expected = torch.softmax(logits.detach(), -1) - slow_two_hot(0.25)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-4, atol=1e-6)
    assert value.grad is None


def test_two_hot_mean_is_exactly_zero_for_equal_logits():
    for logit in (0.0, 1.7, -30.0):
        assert TwoHot(torch.full((3, 255), logit)).mean().tolist() == [0.0] * 3


def test_two_hot_mean_is_the_expected_bin_and_inverts_the_weights():
    places = bins().double()
    logits = draws(4, 255) - 3e-7 * places.abs().float().clamp(max=1e8)
    expected = (torch.softmax(logits.double(), -1) * places).sum(-1)
    torch.testing.assert_close(TwoHot(logits).mean().double(), expected, rtol=1e-4, atol=1e-3)
    for value in (0.1, -7.3, 999.0):
        logits = slow_two_hot(value).log().clamp(min=-100)
        assert float(TwoHot(logits).mean()) == pytest.approx(value, rel=1e-4)


def test_two_hot_works_in_float32_on_bfloat16_logits():
    logits = draws(5, 255).bfloat16()
    values = torch.tensor(VALUES[:5])
    assert torch.equal(TwoHot(logits).loss(values), TwoHot(logits.float()).loss(values))
    assert TwoHot(logits).mean().dtype == torch.float32
    with pytest.raises(ValueError, match="has 255 logits, not 41"):
        TwoHot(draws(2, 41))


def test_two_hot_shows_a_target_that_is_not_a_number():
    assert bool(TwoHot(torch.zeros(1, 255)).loss(torch.tensor([math.nan])).isnan())


# One-hot.


@pytest.mark.parametrize("unimix", [0.0, 0.01, 1.0])
def test_one_hot_agrees_with_torch(unimix):
    logits, other = draws(4, 3, 5), draws(4, 3, 5, seed=1)

    def reference(values):
        return distributions.Categorical(
            probs=(1 - unimix) * torch.softmax(values, -1) + unimix / 5
        )

    p, q = OneHot(logits, unimix), OneHot(other, unimix)
    index = torch.randint(5, (4, 3), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(p.probs, reference(logits).probs)
    torch.testing.assert_close(p.entropy(), reference(logits).entropy())
    torch.testing.assert_close(
        p.log_prob(F.one_hot(index, 5).float()), reference(logits).log_prob(index)
    )
    divergence = distributions.kl_divergence(reference(logits), reference(other)).sum(-1)
    torch.testing.assert_close(kl(p, q), divergence, rtol=1e-4, atol=1e-6)


def test_one_hot_draws_invert_the_cumulative_distribution():
    one_hot, noise = (
        OneHot(draws(50, 4, 6), 0.01),
        torch.rand(50, 4, generator=torch.Generator().manual_seed(3)),
    )
    sample = one_hot.sample(noise)
    for place in torch.cartesian_prod(torch.arange(50), torch.arange(4)).tolist():
        total, index = 0.0, 0
        for index, prob in enumerate(one_hot.probs[tuple(place)].tolist()):  # noqa: B007
            total += prob
            if noise[tuple(place)] < total:
                break
        assert sample[tuple(place)].tolist() == F.one_hot(torch.tensor(index), 6).tolist()


def test_one_hot_draws_have_the_asked_frequencies():
    noise = (torch.arange(1000) + 0.5) / 1000  # a fine grid in place of luck
    sample = OneHot(torch.tensor([0.5, 0.2, 0.3]).log().expand(1000, 1, 3)).sample(
        noise.unsqueeze(-1)
    )
    assert sample[:, 0].sum(0).tolist() == [500, 200, 300]


def test_one_hot_never_draws_the_impossible():
    one_hot = OneHot(torch.tensor([[[-200.0, 0.0, -200.0]]]))
    for noise in (0.0, 0.5, 1 - 2**-24):
        assert one_hot.sample(torch.tensor([[noise]])).tolist() == [[[0, 1, 0]]]
    wide = OneHot(torch.zeros(1, 1, 1000)).sample(torch.tensor([[1 - 2**-24]]))
    assert float(wide.sum()) == 1


@pytest.mark.parametrize("method", ["sample", "mode"])
def test_one_hot_gradient_is_that_of_the_probabilities(method):
    weights, noise = (
        draws(2, 3, 5, seed=1),
        torch.rand(2, 3, generator=torch.Generator().manual_seed(4)),
    )
    logits, same = draws(2, 3, 5).requires_grad_(), draws(2, 3, 5).requires_grad_()
    one_hot = OneHot(logits, 0.1)
    sample = one_hot.sample(noise) if method == "sample" else one_hot.mode()
    assert set(sample.detach().unique().tolist()) == {0.0, 1.0}
    (sample * weights).sum().backward()
    ((0.9 * torch.softmax(same, -1) + 0.02) * weights).sum().backward()
    torch.testing.assert_close(logits.grad, same.grad)


def test_one_hot_mode_is_the_likeliest_class():
    logits = draws(7, 2, 5)
    assert torch.equal(OneHot(logits).mode().argmax(-1), logits.argmax(-1))


def test_one_hot_detached_is_a_constant():
    logits, other = draws(2, 3, 5).requires_grad_(), draws(2, 3, 5, seed=1).requires_grad_()
    p, q = OneHot(logits, 0.01), OneHot(other, 0.01)
    torch.testing.assert_close(kl(p.detach(), q), kl(p, q))
    kl(p.detach(), q).sum().backward()
    assert logits.grad is None
    assert other.grad is not None


def test_one_hot_works_in_float32_on_bfloat16_logits():
    logits = draws(2, 3, 5).bfloat16()
    assert torch.equal(OneHot(logits, 0.01).log_probs, OneHot(logits.float(), 0.01).log_probs)


# Bounded normal.


def test_bounded_normal_agrees_with_torch():
    parameters = draws(4, 3, 6)
    policy = BoundedNormal(parameters, 0.1, 1.0)
    mean, raw = parameters[..., :3], parameters[..., 3:]
    reference = distributions.Normal(torch.tanh(mean), 0.1 + 0.9 / (1 + torch.exp(-raw - 2)))
    noise = draws(4, 3, 3, seed=1)
    value = policy.sample(noise)
    torch.testing.assert_close(value, reference.mean + reference.stddev * noise)
    torch.testing.assert_close(policy.log_prob(value), reference.log_prob(value))
    torch.testing.assert_close(policy.entropy(), reference.entropy())


def test_bounded_normal_divergence_agrees_with_torch():
    one, other = BoundedNormal(draws(3, 4), 0.1, 1.0), BoundedNormal(draws(3, 4, seed=1), 0.1, 1.0)
    pair = (distributions.Normal(policy.mean, policy.std) for policy in (one, other))
    torch.testing.assert_close(one.kl(other), distributions.kl_divergence(*pair))
    assert not one.kl(one).any()


def test_bounded_normal_entropy_is_normalised_between_its_bounds():
    policy = BoundedNormal(torch.tensor([0.0, 0.0, 0.0, -1000.0, 1000.0, 0.0]), 0.03, 1.0)
    torch.testing.assert_close(policy.std[:2], torch.tensor([0.03, 1.0]))
    torch.testing.assert_close(
        policy.normalised_entropy()[:2], torch.tensor([0.0, 1.0]), rtol=1e-5, atol=1e-5
    )
    low, high = (distributions.Normal(0.0, std).entropy() for std in (0.03, 1.0))
    torch.testing.assert_close(
        policy.normalised_entropy()[2], (policy.entropy()[2] - low) / (high - low)
    )


def test_bounded_normal_draws_carry_gradients_and_bounds_are_checked():
    parameters = draws(2, 4).requires_grad_()
    BoundedNormal(parameters, 0.1, 1.0).sample(torch.ones(2, 2)).sum().backward()
    assert bool((parameters.grad != 0).all())
    for bounds in ((0.0, 1.0), (1.0, 1.0)):
        with pytest.raises(ValueError, match="must be 0 < low < high"):
            BoundedNormal(parameters, *bounds)
