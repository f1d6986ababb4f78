"""Equality of saved states."""

import numpy as np
import torch


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
