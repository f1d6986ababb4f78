"""Exploration noise that is held for several steps, as a hierarchy holds its commands."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def repeat_noise(
    noise: Float[Tensor, "env action"],
    steps_since_decision: Int64[Tensor, " env"],
    skill_duration: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "env action"], Int64[Tensor, " env"]]:
    """Standard normal noise in force at this step, and the clock of the next.

    Args:
        noise, steps_since_decision: in force so far, and steps since it was drawn; a draw is due
            where the clock is 0.
        skill_duration: steps for which a draw is held.
    """
    # Drawn for all environments at every step, so that what one draws does not depend on the
    # others' clocks.
    fresh = torch.empty_like(noise).normal_(generator=generator)
    return torch.where((steps_since_decision == 0).unsqueeze(-1), fresh, noise), (
        steps_since_decision + 1
    ) % skill_duration
