"""Ranks agree, and two of n environments learn what one of 2n does."""

import pytest
import torch
from torch import nn

from hrl.agents.base import NonFiniteUpdate
from hrl.optim.normalizers import EmaStd, PercentileRange
from hrl.ranks import ONE_RANK, RankError, Ranks, join
from tests.hrl.in_ranks import (
    assert_learned_the_same,
    noise_by_thread,
    small_learner,
    together,
    trained,
)
from tests.hrl.same import assert_same

ITERATIONS = {"ppo": 2, "skills": 2, "dreamer": 3, "director": 3}


@pytest.fixture(
    scope="module",
    params=[
        "skills",
        "director",
        pytest.param("ppo", marks=pytest.mark.slow),
        pytest.param("dreamer", marks=pytest.mark.slow),
    ],
)
def pair(request):
    """One rank's learner with its first weights and its metrics, and those of each of two."""
    name = request.param

    def train(ranks):
        learner = small_learner(name, ranks)
        start = {key: value.clone() for key, value in learner.module.state_dict().items()}
        return learner, start, trained(learner, ITERATIONS[name])

    with noise_by_thread():
        return train(ONE_RANK), together(train)


def test_two_ranks_learn_what_one_does(pair):
    (alone, start, _), ranks = pair
    for learner, *_ in ranks:
        assert_learned_the_same(alone, start, learner.module.state_dict())
    assert alone.updates > 2


def test_the_weights_of_both_are_the_same_to_the_bit(pair):
    _, ((first, *_), (second, *_)) = pair
    assert_same(first.module.state_dict(), second.module.state_dict())
    moments = [learner.state_dict()["optimizer"] for learner in (first, second)]
    assert_same(*moments)


def test_counters_returns_and_losses_are_those_of_all_environments(pair):
    (*_, expected), ((*_, first), (*_, second)) = pair
    assert first == second
    for one, two in zip(expected, first, strict=True):
        assert one.keys() == two.keys()
        counters = {"frames", "steps", "updates", "decisions"} & one.keys()
        assert {key: one[key] for key in counters} == {key: two[key] for key in counters}
        for key in [key for key in one if key.startswith(("train/", "loss/total"))]:
            assert two[key] == pytest.approx(one[key], rel=1e-4, abs=1e-6), key
    assert "loss/total" in expected[-1]


def test_what_is_not_finite_on_one_rank_ends_the_update_of_all():
    def train(ranks: Ranks) -> str:
        learner = small_learner("ppo", ranks)
        loss = learner.policy.loss
        if ranks.index == 1:

            def spoiled(batch):
                value, metrics = loss(batch)
                return value, {**metrics, "loss/policy": metrics["loss/policy"] * torch.nan}

            learner.policy.loss = spoiled
        before = [parameter.detach().clone() for parameter in learner.module.parameters()]
        with pytest.raises(NonFiniteUpdate, match="loss/policy") as error:
            trained(learner, 1)
        learner.collector.env.close()
        assert_same(before, [parameter.detach() for parameter in learner.module.parameters()])
        return str(error.value)

    first, second = together(train)
    assert first == second


# What ranks exchange.


def draws(rank: int, count: int) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(rank)) * 10**rank + rank


@pytest.mark.parametrize("sizes", [(5, 5, 5), (1, 7, 4), (3, 0, 2)])
def test_moments_are_those_of_all_values(sizes):
    every = torch.cat([draws(rank, size) for rank, size in enumerate(sizes)])

    def moments(ranks: Ranks) -> tuple[torch.Tensor, ...]:
        own = draws(ranks.index, sizes[ranks.index])
        # What is not masked has no influence.
        padded = torch.cat([own, torch.full((2,), 1e6)])
        mask = torch.arange(len(padded)) < len(own)
        return *ranks.var_mean(own), *ranks.masked_moments(padded, mask)

    for variance, mean, count, same_mean, same_variance in together(moments, 3):
        torch.testing.assert_close(variance, every.var(correction=0))
        torch.testing.assert_close(mean, every.mean())
        assert int(count) == len(every)
        torch.testing.assert_close((same_mean, same_variance), (mean, variance))


@pytest.mark.parametrize("statistic", [EmaStd, PercentileRange])
def test_running_statistics_are_those_of_all_ranks(statistic):
    alone = statistic()
    for time in range(3):
        alone.update(torch.cat([draws(rank, 8) + time for rank in range(2)]))

    def update(ranks: Ranks) -> nn.Module:
        module = statistic()
        join(module, ranks)
        for time in range(3):
            module.update(draws(ranks.index, 8) + time)
        return module

    for module in together(update):
        for name, buffer in alone.named_buffers():
            torch.testing.assert_close(module.get_buffer(name), buffer, msg=name)


def test_gradients_are_averaged_and_absent_ones_stay_absent():
    def average(ranks: Ranks) -> list[torch.Tensor | None]:
        module = nn.Linear(3, 2)
        module.weight.grad = torch.full((2, 3), float(ranks.index))
        module.bias.requires_grad_(False)
        ranks.average_gradients(module.parameters())
        return [module.weight.grad, module.bias.grad]

    for weight, bias in together(average):
        torch.testing.assert_close(weight, torch.full((2, 3), 0.5))
        assert bias is None


def test_the_gradient_of_a_function_of_a_mean_is_that_of_all_values():
    values = torch.stack([draws(rank, 4) for rank in range(2)]).requires_grad_()
    values.mean(0).square().sum().backward()

    def gradient(ranks: Ranks) -> tuple[float, torch.Tensor]:
        own = draws(ranks.index, 4).requires_grad_()
        loss = ranks.mean_with_gradient(own).square().sum()
        loss.backward()
        return float(loss.detach()), own.grad

    (first, one), (second, two) = together(gradient)
    assert first == pytest.approx(second)
    # The learner takes the mean over ranks, here of the gradients by different values.
    torch.testing.assert_close(torch.stack([one, two]) / 2, values.grad)


def test_values_are_gathered_in_the_order_of_ranks():
    def gather(ranks: Ranks) -> list:
        own = {"x" * ranks.index: [ranks.index, None, 0.1]}
        return [
            ranks.gather(own),
            ranks.any(ranks.index == 1),
            ranks.any(False),
            ranks.merge({"a": [ranks.index], **({"b": [5]} if ranks.index else {})}),
            ranks.average({"a": float(ranks.index), **({"b": 5.0} if ranks.index else {})}),
        ]

    for found in together(gather, 3):
        assert found[0] == [{"x" * rank: [rank, None, 0.1]} for rank in range(3)]
        assert found[1:3] == [True, False]
        assert found[3] == {"a": [0, 1, 2], "b": [5, 5]}
        assert found[4] == {"a": 1.0, "b": 5.0}


def test_a_rank_that_left_is_an_error_and_no_hang():
    def leave(ranks: Ranks) -> str:
        if ranks.index == 1:
            return ""
        with pytest.raises(RankError) as error:
            ranks.gather(0)
        return str(error.value)

    assert together(leave, seconds=2)[0].startswith(
        "rank 0 of 2 lost contact with another: a test ended it"
    )


def test_weights_that_differ_are_noticed():
    def compare(ranks: Ranks) -> str:
        weights = {"same": torch.ones(3), "count": torch.tensor(2)}
        ranks.check_same(weights)
        weights["same"][1] += 1e-6 * ranks.index
        with pytest.raises(RankError) as error:
            ranks.check_same(weights)
        return str(error.value)

    for message in together(compare):
        assert message.startswith("the weights of rank 1 are no longer those of rank 0")


def test_one_rank_changes_nothing():
    values = torch.randn(5, requires_grad=True)
    for same in (ONE_RANK.sum, ONE_RANK.mean, ONE_RANK.mean_with_gradient, ONE_RANK.cat):
        assert same(values) is values
    assert ONE_RANK.gather(values) == [values]
    assert ONE_RANK.stream("act") == "act"
