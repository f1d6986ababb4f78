"""Repeat exploration noise for several steps, as a hierarchy keeps its high-level actions."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def repeat_noise(
    noise: Float[Tensor, "env action"],
    steps_since_noise: Int64[Tensor, " env"],
    noise_repeat: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "env action"], Int64[Tensor, " env"]]:
    """Return the standard normal noise of this step, and the counter of the next step.

    Args:
        noise: of the last step.
        steps_since_noise: steps since that noise was drawn; it is drawn anew where this is 0.
        noise_repeat: steps that share one draw.
        generator: source of random numbers.
    """
    # Drawn for all environments at every step, so that what one draws does not depend on the
    # others' counters.
    fresh = torch.empty_like(noise).normal_(generator=generator)
    is_drawn = (steps_since_noise == 0).unsqueeze(-1)
    return torch.where(is_drawn, fresh, noise), (steps_since_noise + 1) % noise_repeat
