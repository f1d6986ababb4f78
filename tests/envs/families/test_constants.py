"""Constants of tasks are made once for each type, and equal the numbers that they are made of."""

import numpy as np
import torch

from envs.families.constants import constant


def test_a_constant_is_made_once_for_each_type() -> None:
    rows = ((0, 1), (2, 3.5))
    double = constant(rows, torch.zeros(1, dtype=torch.float64))
    assert double.tolist() == [[0, 1], [2, 3.5]]
    assert double.dtype == torch.float64
    assert constant(np.array(rows), torch.ones(4, dtype=torch.float64)) is double
    assert constant(rows, torch.zeros(1)).dtype == torch.float32
