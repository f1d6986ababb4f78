"""The optimiser of world models, actors and critics: LaProp behind adaptive gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class LaProp(torch.optim.Optimizer):
    """LaProp (Ziyin et al. 2020, arXiv 2002.04839, algorithm 1) with clipping and warm-up as in
    DreamerV3.

    Each tensor's gradient is clipped to `clip` times the tensor's own norm (Brock et al. 2021,
    arXiv 2102.06171, equation 3, with whole tensors for units), then divided by its running root
    mean square, and only then averaged over time. In this order no term of the average exceeds `1 /
    sqrt(1 - decay of the mean square)`, whatever the two decays are (Adam averages first and
    divides then), and epsilon may vanish. Both averages are corrected for their start at zero. The
    learning rate rises linearly over the first updates, `lr * min(1, update / warmup)`, update 1
    being the first, and may fall again with the square root of their number (Vaswani et al. 2017,
    arXiv 1706.03762, equation 3).

    All parameters of a group are updated together and share one count of updates, on their device:
    nothing is read back to the host, so an update can be captured in a CUDA graph (take one update
    first, which makes the state; change no learning rate after). A parameter that got no gradient
    is treated as having got zeros; one that requires none is left alone, and so is a group none of
    whose parameters got one: its updates are counted from its first.

    Args:
        params: parameters or parameter groups; float32, one device per group.
        lr: learning rate after the warm-up.
        betas: decay of the momentum, and of the mean square.
        eps: added to the root mean square.
        clip: largest norm of a gradient in units of its tensor's norm; infinity for no clipping.
        least_norm: tensors of smaller norm count as having this one, so that those that start at
            zero can leave it.
        warmup: updates until the full learning rate; 0 for none.
        lr_decay_start: updates after which it falls, as `lr * sqrt(lr_decay_start / update)`; 0 for
            never.

    Raises:
        ValueError: where a setting is out of its range, named.
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
                raise ValueError(
                    f"{name} is {value}; it must {'be positive' if positive else 'not be negative'}"
                )
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas are {betas}; each must lie in [0, 1)")
        super().__init__(params, {**settings, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that requires a gradient.

        Raises:
            ValueError: where a parameter began to require gradients after its group's first update:
                its averages would be corrected for the wrong count.
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
        """What `step` changes besides parameters, each tensor once; made here where there was no
        step yet.
        """
        counts, averages = [], []
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
        torch._foreach_div_(roots, _filled(beta2, count).sqrt())
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_div_(directions, roots)
        torch._foreach_lerp_(momenta, directions, 1 - momentum_decay)

        warm = (count / group["warmup"]).clamp(max=1) if group["warmup"] else 1.0
        falling = (
            (group["lr_decay_start"] / count).clamp(max=1).sqrt()
            if group["lr_decay_start"]
            else 1.0
        )
        rate = group["lr"] * warm * falling / _filled(momentum_decay, count)
        torch._foreach_sub_(params, torch._foreach_mul(momenta, rate))

    def _count(self, params: list[Tensor]) -> Tensor:
        """The count that these parameters share; their state is made where there is none yet."""
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
                f"{len(stateless)} of {len(params)} parameters, the first of shape {tuple(stateless[0].shape)}, "
                "began to require gradients after their group's first update; give them an optimiser of their own"
            )
        return self._shared(params)

    def _shared(self, params: list[Tensor]) -> Tensor:
        # A restored checkpoint gives each parameter its own copy, maybe on another device.
        first: Tensor = self.state[params[0]]["step"]
        count = first.to(params[0].device)
        if any(self.state[parameter]["step"] is not count for parameter in params):
            for parameter in params:
                self.state[parameter]["step"] = count
        return count


def clip_factors(
    params: list[Tensor], gradients: list[Tensor], clip: float, least_norm: float
) -> list[Float[Tensor, ""]]:
    """What each gradient is multiplied by so that its norm is at most `clip * max(least_norm,
    parameter's norm)`.

    Brock et al. 2021, arXiv 2102.06171, equation 3. A gradient that is not finite is not finite
    afterwards either.
    """
    largest = clip * torch.stack(torch._foreach_norm(params)).clamp(min=least_norm)
    lengths = torch.stack(torch._foreach_norm(gradients))
    return list((1 / (lengths / largest).clamp(min=1)).unbind())


def _filled(decay: float, count: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """`1 - decay^count`, the weight that an average from zero has gathered; exact where the decay
    is close to 1.
    """
    return -torch.expm1(count * math.log(decay)) if decay else torch.ones_like(count)
