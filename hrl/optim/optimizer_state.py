"""Save and restore an optimizer's state, such as Adam's moments, as plain nested mappings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """Return the state of each parameter, keyed by the parameter's position as text.

    Positions count through all parameter groups. A parameter that was never updated has an empty
    state. Learning rates and other settings are not included: they come from the configuration.
    """
    return {
        str(index): dict(optimizer.state.get(parameter, {}))
        for index, parameter in enumerate(_parameters(optimizer))
    }


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, saved: Mapping[str, Mapping[str, Any]]
) -> None:
    """Load a state of `optimizer_state` into an optimizer of the same parameters.

    Moments go to their parameter's device and memory layout, and counts of updates to where the
    optimizer reads them. Settings of the optimizer stay as they are.
    """
    fused = bool(optimizer.defaults.get("fused"))
    for index, parameter in enumerate(_parameters(optimizer)):
        state = saved.get(str(index), {})
        if state:
            optimizer.state[parameter] = {
                key: _like_parameter(value, parameter, fused) for key, value in state.items()
            }


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _like_parameter(value: Any, parameter: torch.Tensor, fused: bool) -> Any:
    """Return the value on its parameter's device and in its memory layout.

    Fused updates walk parameter and moments as flat memory, so that their layouts must agree.
    Counts of updates (scalars) stay in host memory unless the update is fused: there torch's plain
    updates read them without waiting for the device.
    """
    if not isinstance(value, torch.Tensor):
        return value
    if not value.dim():
        return value.to(parameter.device) if fused else value
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
