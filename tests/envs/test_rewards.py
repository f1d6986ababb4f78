"""Batched tolerance against dm_control's own, value by value."""

import math

import numpy as np
import pytest
import torch
from dm_control.utils import rewards as dm_rewards
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.rewards import SIGMOIDS, tolerance

NUMBERS = st.floats(-20, 20)


@pytest.mark.parametrize("sigmoid", SIGMOIDS)
@settings(deadline=None)
@given(
    values=st.lists(NUMBERS, min_size=1, max_size=8),
    ends=st.tuples(NUMBERS, NUMBERS),
    margin=st.floats(0.01, 10),
    value_at_margin=st.floats(0.01, 0.99),
)
def test_equals_dm_controls(
    sigmoid: str,
    values: list[float],
    ends: tuple[float, float],
    margin: float,
    value_at_margin: float,
) -> None:
    bounds = (min(ends), max(ends))
    expected = dm_rewards.tolerance(np.array(values), bounds, margin, sigmoid, value_at_margin)
    actual = tolerance(
        torch.tensor(values, dtype=torch.float64), bounds, margin, sigmoid, value_at_margin
    )
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sigmoid", ["cosine", "linear", "quadratic"])
def test_may_reach_zero_at_the_margin(sigmoid: str) -> None:
    values = np.linspace(-3, 3, 61)
    expected = dm_rewards.tolerance(values, (0.0, 1.0), 1.5, sigmoid, 0.0)
    actual = tolerance(torch.from_numpy(values), (0.0, 1.0), 1.5, sigmoid, 0.0)
    np.testing.assert_allclose(actual.numpy(), expected, atol=1e-12)


def test_no_margin_is_an_indicator_and_bounds_may_be_infinite() -> None:
    values = torch.tensor([-1.0, 0.0, 0.5, 1.0, 1.1])
    assert tolerance(values, (0.0, 1.0)).tolist() == [0, 1, 1, 1, 0]
    assert tolerance(values, (0.5, math.inf)).tolist() == [0, 0, 1, 1, 1]
    assert tolerance(
        values, (-math.inf, 0.5), margin=1.0, sigmoid="linear", value_at_margin=0.0
    ).tolist() == (pytest.approx([1, 1, 1, 0.5, 0.4]))


def test_bounds_and_margins_may_differ_between_worlds() -> None:
    speeds, targets = torch.tensor([0.5, 0.5, 6.0]), torch.tensor([0.0, 1.0, 8.0])
    actual = tolerance(speeds, (targets, math.inf), targets / 2, "linear", 0.5)
    expected = [
        dm_rewards.tolerance(v, (t, np.inf), t / 2, "linear", 0.5)
        for v, t in zip([0.5, 0.5, 6], [0, 1, 8], strict=True)
    ]
    assert actual.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"sigmoid": "cubic"}, "cubic"),
        ({"bounds": (1.0, 0.0)}, "bound"),
        ({"margin": -1.0}, "margin"),
        ({"margin": 1.0, "value_at_margin": 0.0}, "value_at_margin"),
        ({"margin": 1.0, "value_at_margin": 1.0, "sigmoid": "linear"}, "value_at_margin"),
    ],
)
def test_refuses_what_makes_no_sense(arguments: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        tolerance(torch.zeros(3), **arguments)
