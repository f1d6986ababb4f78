"""Equality of saved states, and of updates."""

import numpy as np
import torch

from hrl.agents.model_based import ModelBasedLearner


def assert_same(first: object, second: object, where: str = "state") -> None:
    """Nested mappings and lists of tensors, arrays and plain values: to the bit, or says where
    not."""
    if isinstance(first, dict):
        assert isinstance(second, dict)
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, list):
        assert isinstance(second, list)
        assert len(first) == len(second), where
        for index, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{where}/{index}")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert type(first) is type(second), where
        assert np.array_equal(first, second), where


def assert_same_update(plain: ModelBasedLearner, other: ModelBasedLearner) -> None:
    """The next update of two learners in the same state, to a rounding: metrics, gradients, steps,
    running averages.

    Steps of weights whose gradient is a thousandth of their tensor's largest and less are not
    compared. Where sums are made in another order an early step is as long for a gradient that is
    nothing but rounding as for any other, which is why the next update is no longer one of the same
    state. A step of these learners is about 1e-3.
    """
    expected, found = plain.update(), other.update()
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)
    for (name, one), two in zip(
        plain.module.named_parameters(), other.module.parameters(), strict=True
    ):
        assert (one.grad is None) == (two.grad is None), name
        if one.grad is None:
            continue
        assert_near(two.grad, one.grad, name)
        clear = one.grad.abs() > 1e-3 * one.grad.abs().max()
        assert ((two - one).detach().abs()[clear] <= 1e-5).all(), name
        kept, kept_by_other = plain.optimizer.state[one], other.optimizer.state[two]
        assert kept["step"] == kept_by_other["step"], name
        assert_near(kept_by_other["square"], kept["square"], name)
    for (name, one), two in zip(plain.module.named_buffers(), other.module.buffers(), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-5, msg=name)


def assert_near(found: torch.Tensor, expected: torch.Tensor, where: str) -> None:
    """Within a thousandth of the whole tensor's norm."""
    assert (found - expected).norm() <= 1e-3 * expected.norm() + 1e-6, where
