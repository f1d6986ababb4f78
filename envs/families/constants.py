"""Keep the constant numbers of tasks on the devices that compute with them."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor


def constant(numbers: Iterable[Any], like: Tensor) -> Tensor:
    """Return numbers, or rows of numbers, with the type of another tensor, and on its device.

    Whoever gets the tensor must not write into it: it is made once. To copy numbers to a GPU is to
    wait for all that it has to do, which must not happen in every control step.
    """
    return _tensor(_frozen(numbers), like.dtype, like.device)


@cache
def _tensor(numbers: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(numbers, dtype=dtype, device=device)


def _frozen(numbers: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(_frozen(one) if isinstance(one, Iterable) else one for one in numbers)
