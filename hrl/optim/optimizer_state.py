"""An optimiser's moments as plain nested mappings, for checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """State of each parameter by its position; parameters that were never updated have none."""
    return {
        str(index): dict(optimizer.state.get(p, {}))
        for index, p in enumerate(_parameters(optimizer))
    }


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, saved: Mapping[str, Mapping[str, Any]]
) -> None:
    """Puts back what `moments` gave: averages on each parameter's device, counts where the
    optimiser reads them.
    """
    fused = bool(optimizer.defaults.get("fused"))
    for index, parameter in enumerate(_parameters(optimizer)):
        state = saved.get(str(index), {})
        if state:
            optimizer.state[parameter] = {
                key: _on(value, parameter, fused) for key, value in state.items()
            }


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _on(value: Any, parameter: torch.Tensor, fused: bool) -> Any:
    """The value beside its parameter, in the same memory layout: fused updates walk both as flat
    memory.

    Counts of updates stay in host memory, where torch's plain updates read them without waiting for
    the device.
    """
    if not isinstance(value, torch.Tensor):
        return value
    if not value.dim():
        return value.to(parameter.device) if fused else value
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
