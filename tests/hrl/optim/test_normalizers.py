"""Running scales against averages computed as defined, in float64; controllers against their
rule."""

import pytest
import torch

from hrl.optim.normalizers import (
    AdaptiveCoefficient,
    EmaMoments,
    EmaStd,
    PercentileRange,
    RewardScale,
)


def batches(count, offset=0.0):
    generator = torch.Generator().manual_seed(0)
    return [
        offset + (1 + i) * torch.randn(6, 5, generator=generator) + 0.3 * i for i in range(count)
    ]


def slow_moments(values, decay):
    """Bias-corrected averages of values and of squares, then mean and standard deviation."""
    mean = square = weight = 0.0
    for batch in values:
        batch = batch.double()
        mean = decay * mean + (1 - decay) * float(batch.mean())
        square = decay * square + (1 - decay) * float(batch.square().mean())
        weight = decay * weight + (1 - decay)
    mean, square = mean / weight, square / weight
    return mean, (square - mean**2) ** 0.5


@pytest.mark.parametrize("offset", [0.0, 3000.0])
@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999])
def test_ema_std_equals_bias_corrected_averages(decay, offset):
    scale = EmaStd(decay)
    seen = []
    for batch in batches(7, offset):
        scale.update(batch)
        seen.append(batch)
        assert float(scale.scale()) == pytest.approx(slow_moments(seen, decay)[1], rel=1e-4)


def test_a_small_spread_around_a_large_mean_survives_float32():
    """Squares of 1e4 leave steps of 8 in float32, which would drown a variance of 1e-2."""
    scale = EmaStd(0.9)
    seen = [1e4 + 0.1 * batch / batch.std(correction=0) for batch in batches(5)]
    for batch in seen:
        scale.update(batch)
    assert float(scale.scale()) == pytest.approx(slow_moments(seen, 0.9)[1], rel=0.02)


def test_scales_have_a_floor_before_and_after_updates():
    for scale, floor in ((EmaStd(), 0.01), (EmaMoments(), 1e-8), (PercentileRange(), 1.0)):
        assert float(scale.scale()) == pytest.approx(floor)
        scale.update(torch.full((4, 2), 7.0))
        assert float(scale.scale()) == pytest.approx(floor)
        assert float(scale.spread()) < 1e-8, "the spread has no floor"
        scale.update(torch.linspace(-1e4, 1e4, 8))
        assert float(scale.spread()) == float(scale.scale()) > floor


def test_normalised_advantages_are_centred_and_scaled():
    normalizer, seen = EmaMoments(0.7), batches(4, offset=2.0)
    for batch in seen:
        normalizer.update(batch)
    mean, std = slow_moments(seen, 0.7)
    values = seen[-1].clone().requires_grad_()
    normalised = normalizer.normalise(values)
    torch.testing.assert_close(normalised, (seen[-1] - mean) / std, rtol=1e-4, atol=1e-5)
    normalizer.update(seen[0])
    normalised.sum().backward()
    torch.testing.assert_close(values.grad, torch.full_like(values, 1 / std), rtol=1e-4, atol=1e-6)


def test_percentile_range_by_hand():
    """Percentiles of 0..20 are 1 and 19; averaged twice from zero with decay 0.5 they are 0.75 and
    14.25."""
    scale = PercentileRange(decay=0.5)
    values = torch.arange(21.0)[
        torch.randperm(21, generator=torch.Generator().manual_seed(0))
    ].reshape(3, 7)
    scale.update(values)
    scale.update(values)
    assert float(scale.scale()) == pytest.approx(13.5)


def test_scales_continue_from_a_state_dict():
    for make in (EmaStd, EmaMoments, PercentileRange):
        whole, first, second = make(), make(), make()
        values = batches(6)
        for batch in values:
            whole.update(batch)
        for batch in values[:3]:
            first.update(batch)
        second.load_state_dict(first.state_dict())
        for batch in values[3:]:
            second.update(batch)
        assert torch.equal(second.scale(), whole.scale())


def test_updates_happen_in_place():
    coefficient = AdaptiveCoefficient((2,), 0.5, 1e-5, 100.0, raise_when_low=True)
    for module, values in (
        (EmaStd(), torch.randn(3)),
        (PercentileRange(), torch.rand(3)),
        (coefficient, torch.ones(2)),
    ):
        places = {name: buffer.data_ptr() for name, buffer in module.named_buffers()}
        module.update(values)
        assert places == {name: buffer.data_ptr() for name, buffer in module.named_buffers()}


def slow_coefficient(value, measured, target, low, high, raise_when_low):
    if measured > target * 1.1:
        value = value / 1.1 if raise_when_low else value * 1.1
    elif measured < target / 1.1:
        value = value * 1.1 if raise_when_low else value / 1.1
    return min(max(value, low), high)


@pytest.mark.parametrize("raise_when_low", [True, False])
def test_each_coefficient_follows_its_own_measured_value(raise_when_low):
    coefficient = AdaptiveCoefficient((4,), 0.5, 0.8, 1.3, raise_when_low)
    expected = [1.0] * 4
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        measured = 0.4 + 0.2 * torch.rand(4, generator=generator)
        coefficient.update(measured)
        expected = [
            slow_coefficient(v, float(m), 0.5, 0.8, 1.3, raise_when_low)
            for v, m in zip(expected, measured, strict=True)
        ]
        torch.testing.assert_close(coefficient.value, torch.tensor(expected))


def test_values_within_directors_tolerance_leave_the_coefficient_unchanged():
    """A target of 3.5 nats: 3.19 and 3.84 leave a penalty unchanged, 3.18 lowers and 3.86 raises
    it, by 1.1."""
    for measured, expected in ((3.19, 0.5), (3.84, 0.5), (3.18, 0.5 / 1.1), (3.86, 0.55)):
        penalty = AdaptiveCoefficient((), 3.5, 1e-5, 1.0, raise_when_low=False, start=0.5)
        penalty.update(torch.tensor(measured))
        assert float(penalty.value) == pytest.approx(expected)


def test_a_coefficient_steers_an_entropy_to_its_target():
    """An entropy that grows with its bonus settles within the tolerance."""
    bonus = AdaptiveCoefficient((), 0.5, 1e-5, 100.0, raise_when_low=True, start=50.0)
    for _ in range(100):
        bonus.update(torch.tanh(bonus.value))
    assert 0.5 / 1.1 <= float(torch.tanh(bonus.value)) <= 0.5 * 1.1


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match=r"decay is 1\.0"):
        EmaStd(decay=1.0)
    with pytest.raises(ValueError, match="floor is nan"):
        EmaStd(floor=float("nan"))
    with pytest.raises(ValueError, match="target, factor and tolerance are nan"):
        AdaptiveCoefficient((), float("nan"), 0.1, 2.0, raise_when_low=True)
    with pytest.raises(ValueError, match=r"floor is 0\.0"):
        PercentileRange(floor=0.0)
    with pytest.raises(ValueError, match=r"percentiles are 0\.9 and 0\.1"):
        PercentileRange(low=0.9, high=0.1)
    with pytest.raises(ValueError, match=r"low, start and high are 0\.1, 1\.0, 0\.5"):
        AdaptiveCoefficient((), 0.5, 0.1, 0.5, raise_when_low=True)
    with pytest.raises(ValueError, match=r"target, factor and tolerance are 0\.5, 1\.0, 0\.1"):
        AdaptiveCoefficient((), 0.5, 0.1, 2.0, raise_when_low=True, factor=1.0)
    with pytest.raises(ValueError, match=r"measured has shape \(3,\); it must be \(2,\)"):
        AdaptiveCoefficient((2,), 0.5, 0.1, 2.0, raise_when_low=True).update(torch.ones(3))


# The scale of rewards.


def test_reward_scale_is_the_spread_of_discounted_sums():
    """Against a slow loop; sums go on between updates."""
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randn(3, 7, 4, generator=generator)  # three updates of seven steps
    tracked, reference = RewardScale(4, 0.9, decay=0.8), EmaStd(0.8, 1e-4)
    sums = [0.0] * 4
    for update in range(3):
        seen = []
        for time in range(7):
            for env in range(4):
                sums[env] = 0.9 * sums[env] + float(rewards[update, time, env])
                seen.append(sums[env])
        tracked.update(rewards[update])
        reference.update(torch.tensor(seen))
        assert float(tracked.scale()) == pytest.approx(float(reference.scale()), rel=1e-5)


def test_reward_scale_of_a_reward_that_ends_its_episode_is_the_spread_of_the_true_returns():
    """The value before the last step is 1, the one before that 0.9, and so on."""
    length = 100
    rewards = torch.zeros(length, 1)
    rewards[-1] = 1.0
    tracked = RewardScale(1, 0.9, decay=0.0)
    for _ in range(2):
        tracked.update(rewards)
    returns = 0.9 ** torch.arange(length - 1, -1, -1)
    assert float(tracked.scale()) == pytest.approx(float(returns.std(correction=0)), rel=0.01)


def test_reward_scale_of_no_reward_is_its_floor():
    tracked = RewardScale(2, 0.9, floor=0.5)
    assert float(tracked.scale()) == 0.5
    tracked.update(torch.zeros(5, 2))
    assert float(tracked.scale()) == 0.5
