"""Optimize world models, actors and critics: LaProp after adaptive gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class LaProp(torch.optim.Optimizer):
    """Update parameters by LaProp, with DreamerV3's gradient clipping and warm-up.

    LaProp is algorithm 1 of Ziyin et al. 2020, arXiv 2002.04839. Each tensor's gradient is clipped
    to `clip` times the tensor's own norm (Brock et al. 2021, arXiv 2102.06171, equation 3, with
    whole tensors for units), then divided by its running root mean square, and only then averaged
    over time. Adam averages first and divides afterwards. In LaProp's order no term of the average
    exceeds `1 / sqrt(1 - beta2)`, whatever the two decays are, and epsilon may be tiny. Both
    averages are corrected for their start at zero.

    The learning rate rises linearly over the first updates, `lr * min(1, update / warmup)`, with
    the first update counted as 1. It may fall later with the square root of the number of updates
    (Vaswani et al. 2017, arXiv 1706.03762, equation 3).

    All parameters of a group are updated together and share one count of updates, on their device.
    Nothing is read back to the host, so an update can be captured in a CUDA graph: make one update
    first, which creates the state, and change no learning rate afterwards. A parameter without a
    gradient is treated as if its gradient were zero. A parameter that requires no gradient is not
    changed, and neither is a group in which no parameter has a gradient: its updates are counted
    from its first one.

    Args:
        params: parameters or parameter groups; float32, one device per group.
        lr: learning rate after the warm-up.
        betas: decay of the momentum, then of the mean square (beta2).
        eps: added to the root mean square.
        clip: largest norm of a gradient in units of its tensor's norm; infinity for no clipping.
        least_norm: used in place of a tensor's norm that is smaller, so that tensors that start at
            zero can leave it.
        warmup: number of updates until the full learning rate; 0 for no warm-up.
        lr_decay_start: number of updates after which the learning rate falls, as
            `lr * sqrt(lr_decay_start / update)`; 0 for never.

    Raises:
        ValueError: a setting is out of its range; the message names it.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 4e-5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-20,
        clip: float = 0.3,
        least_norm: float = 1e-3,
        warmup: int = 1000,
        lr_decay_start: int = 0,
    ) -> None:
        settings = {"lr": lr, "eps": eps, "clip": clip, "least_norm": least_norm}
        settings |= {"warmup": warmup, "lr_decay_start": lr_decay_start}
        for name, value in settings.items():
            positive = name not in ("lr", "warmup", "lr_decay_start")
            if not (value > 0 if positive else value >= 0):
                valid = "be positive" if positive else "not be negative"
                raise ValueError(f"{name} is {value}; it must {valid}")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas are {betas}; each must lie in [0, 1)")
        super().__init__(params, {**settings, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that requires a gradient.

        Raises:
            ValueError: a parameter began to require gradients after its group's first update. Its
                averages would be corrected for the wrong count.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [parameter for parameter in group["params"] if parameter.requires_grad]
            if any(parameter.grad is not None for parameter in params):
                self._update(params, group)
        return loss

    def averages(self) -> list[Tensor]:
        """Return the counts and averages that `step` changes, each tensor once.

        They are created here if there was no step yet.
        """
        counts = []
        averages = []
        for group in self.param_groups:
            params = [parameter for parameter in group["params"] if parameter.requires_grad]
            if params:
                counts.append(self._count(params))
            averages += [
                self.state[parameter][key] for parameter in params for key in ("momentum", "square")
            ]
        return counts + averages

    # Private methods.

    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        count = self._count(params)
        count += 1
        momentum_decay, beta2 = group["betas"]
        momenta = [self.state[parameter]["momentum"] for parameter in params]
        squares = [self.state[parameter]["square"] for parameter in params]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]

        directions = torch._foreach_mul(
            gradients, clip_factors(params, gradients, group["clip"], group["least_norm"])
        )
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, directions, directions, 1 - beta2)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, _weight_of_average(beta2, count).sqrt())
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_div_(directions, roots)
        torch._foreach_lerp_(momenta, directions, 1 - momentum_decay)

        warm = (count / group["warmup"]).clamp(max=1) if group["warmup"] else 1.0
        decay_start = group["lr_decay_start"]
        falling = (decay_start / count).clamp(max=1).sqrt() if decay_start else 1.0
        rate = group["lr"] * warm * falling / _weight_of_average(momentum_decay, count)
        torch._foreach_sub_(params, torch._foreach_mul(momenta, rate))

    def _count(self, params: list[Tensor]) -> Tensor:
        """Return the count that these parameters share; create their state if there is none."""
        stateless = [parameter for parameter in params if not self.state.get(parameter)]
        if len(stateless) == len(params):
            count = torch.zeros((), device=params[0].device)
            for parameter in params:
                self.state[parameter] = {
                    "step": count,
                    "momentum": torch.zeros_like(parameter),
                    "square": torch.zeros_like(parameter),
                }
        elif stateless:
            raise ValueError(
                f"{len(stateless)} of {len(params)} parameters, the first of shape "
                f"{tuple(stateless[0].shape)}, began to require gradients after their group's "
                "first update; give them an optimizer of their own"
            )
        return self._shared(params)

    def _shared(self, params: list[Tensor]) -> Tensor:
        # A restored checkpoint gives each parameter its own copy, perhaps on another device.
        first: Tensor = self.state[params[0]]["step"]
        count = first.to(params[0].device)
        if any(self.state[parameter]["step"] is not count for parameter in params):
            for parameter in params:
                self.state[parameter]["step"] = count
        return count


def clip_factors(
    params: list[Tensor], gradients: list[Tensor], clip: float, least_norm: float
) -> list[Float[Tensor, ""]]:
    """Return the factors that bring each gradient's norm down to its largest allowed value.

    The largest allowed norm is `clip * max(least_norm, norm of the parameter)` (Brock et al. 2021,
    arXiv 2102.06171, equation 3). A gradient that is not finite stays not finite.
    """
    largest = clip * torch.stack(torch._foreach_norm(params)).clamp(min=least_norm)
    lengths = torch.stack(torch._foreach_norm(gradients))
    return list((1 / (lengths / largest).clamp(min=1)).unbind())


def _weight_of_average(decay: float, count: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Return `1 - decay^count`, the total weight of an exponential average that began at zero.

    Computed by `expm1`, which is exact where the decay is close to 1.
    """
    return -torch.expm1(count * math.log(decay)) if decay else torch.ones_like(count)
