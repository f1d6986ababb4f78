"""Call modules with constant parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class frozen:  # noqa: N801  used like a function: frozen(module)(inputs)
    """Call a module with its parameters as constants, so that only its inputs get gradients."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, *inputs: Any) -> Any:
        """Return the module's outputs; gradients reach the inputs only."""
        constants = {name: parameter.detach() for name, parameter in self.module.named_parameters()}
        return torch.func.functional_call(self.module, constants, inputs)
