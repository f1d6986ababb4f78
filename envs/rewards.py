"""Shape rewards in batches: dm_control's `tolerance` for tensors on any device.

Source: Tassa et al. 2018, "DeepMind Control Suite", section 3 (rewards), and
`dm_control.utils.rewards`, against which the tests compare every sigmoid.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Bound = Tensor | float
_Sigmoid = Callable[[Tensor, float], Tensor]


def _gaussian(x: Tensor, value_at_1: float) -> Tensor:
    return torch.exp(x.square() * math.log(value_at_1))


def _hyperbolic(x: Tensor, value_at_1: float) -> Tensor:
    return 1 / torch.cosh(x * math.acosh(1 / value_at_1))


def _long_tail(x: Tensor, value_at_1: float) -> Tensor:
    return 1 / (x.square() * (1 / value_at_1 - 1) + 1)


def _reciprocal(x: Tensor, value_at_1: float) -> Tensor:
    return 1 / (x.abs() * (1 / value_at_1 - 1) + 1)


def _cosine(x: Tensor, value_at_1: float) -> Tensor:
    # Beyond one half turn the cosine would rise again: the angle stops at pi, where the value is 0.
    angle = (x.abs() * math.acos(2 * value_at_1 - 1)).clamp(max=math.pi)
    return (1 + torch.cos(angle)) / 2


def _linear(x: Tensor, value_at_1: float) -> Tensor:
    return (1 - x.abs() * (1 - value_at_1)).clamp(min=0)


def _quadratic(x: Tensor, value_at_1: float) -> Tensor:
    return (1 - x.square() * (1 - value_at_1)).clamp(min=0)


def _tanh_squared(x: Tensor, value_at_1: float) -> Tensor:
    return 1 - torch.tanh(x * math.atanh(math.sqrt(1 - value_at_1))).square()


SIGMOIDS: dict[str, _Sigmoid] = {
    "gaussian": _gaussian,
    "hyperbolic": _hyperbolic,
    "long_tail": _long_tail,
    "reciprocal": _reciprocal,
    "cosine": _cosine,
    "linear": _linear,
    "quadratic": _quadratic,
    "tanh_squared": _tanh_squared,
}
_MAY_REACH_ZERO = ("cosine", "linear", "quadratic")


def tolerance(
    x: Tensor,
    bounds: tuple[Bound, Bound] = (0.0, 0.0),
    margin: Bound = 0.0,
    sigmoid: str = "gaussian",
    value_at_margin: float = 0.1,
) -> Tensor:
    """Return 1 where `x` lies within the bounds, and less the farther it lies outside them.

    Args:
        x: any shape.
        bounds: lower and upper bound, inclusive; numbers or tensors that broadcast against `x`; may
            be infinite.
        margin: distance from the nearer bound at which the value is `value_at_margin`; with 0 the
            value drops to 0 at the bound.
        sigmoid: how the value falls outside the bounds, a key of `SIGMOIDS`.
        value_at_margin: in (0, 1), or 0 for cosine, linear and quadratic.

    Returns:
        Values in [0, 1], with the shape of `x` (broadcast).

    Raises:
        ValueError: the sigmoid is unknown, the lower bound is above the upper one, the margin is
            negative, or the value is out of range. Bounds and margins that are tensors are not
            checked, because reading them would make a GPU wait.
    """
    _check(bounds, margin, sigmoid, value_at_margin)
    lower, upper, width = (_like(x, value) for value in (*bounds, margin))
    outside = torch.maximum(lower - x, x - upper).clamp(min=0)
    # Without a margin any distance is infinitely many margins.
    value = SIGMOIDS[sigmoid](torch.where(width > 0, outside / width, 0.0), value_at_margin)
    return torch.where(width > 0, value, (outside == 0).to(x.dtype))


def _like(x: Tensor, value: Bound) -> Tensor:
    """Return a bound in the precision and on the device of `x`."""
    if isinstance(value, Tensor):
        return value.to(x)
    # Filled on the device: a number that is copied there would make a GPU wait.
    return x.new_full((), value)


def _check(
    bounds: tuple[Bound, Bound], margin: Bound, sigmoid: str, value_at_margin: float
) -> None:
    lower, upper = bounds
    if sigmoid not in SIGMOIDS:
        raise ValueError(f"unknown sigmoid {sigmoid!r}; valid are {', '.join(SIGMOIDS)}")
    if not (isinstance(lower, Tensor) or isinstance(upper, Tensor) or lower <= upper):
        raise ValueError(f"the lower bound must not exceed the upper one, got {lower} and {upper}")
    if not (isinstance(margin, Tensor) or margin >= 0):
        raise ValueError(f"margin must not be negative, got {margin}")
    in_range = 0 < value_at_margin < 1 or (value_at_margin == 0 and sigmoid in _MAY_REACH_ZERO)
    if not in_range:
        raise ValueError(
            f"value_at_margin must lie in (0, 1), or be 0 for {', '.join(_MAY_REACH_ZERO)}, "
            f"got {value_at_margin}"
        )
