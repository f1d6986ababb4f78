"""Equality of saved states, and of updates."""

import numpy as np
import torch

from hrl.agents.model_based import ModelBasedLearner


def assert_same(first: object, second: object, where: str = "state") -> None:
    """Nested mappings and lists of tensors, arrays and plain values: to the bit, or says where not."""
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
    """The next update of two learners that are alike: metrics, gradients, and the step of about 1e-3 that it takes.

    To a rounding, and of one update only: where sums are made in another order, a first step is as long for a gradient
    that is nothing but rounding as for any other. Of those there may be a few.
    """
    expected, found = plain.update(), other.update()
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)
    for (name, one), two in zip(plain.module.named_parameters(), other.module.parameters(), strict=True):
        if one.requires_grad:
            assert (two.grad - one.grad).norm() <= 1e-3 * one.grad.norm() + 1e-6, name
        strays = (two.detach() - one.detach()).abs() > 1e-5
        assert strays.sum() <= 1 + one.numel() // 20, name
