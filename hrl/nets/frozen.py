"""Modules as constant functions."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class frozen:  # noqa: N801  reads as what it does to its module
    """A module whose parameters count as constants: gradient passes through it to its inputs and
    stops there.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, *inputs: Any) -> Any:
        constants = {name: parameter.detach() for name, parameter in self.module.named_parameters()}
        return torch.func.functional_call(self.module, constants, inputs)
