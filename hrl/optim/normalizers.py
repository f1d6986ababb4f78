"""Running scales of returns and advantages, and coefficients that steer a quantity to its target.

State lives in buffers that change in place: nothing is read back to the host, so updates can be
captured in a CUDA graph, and checkpoints hold them with their module.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class EmaStd(nn.Module):
    """Standard deviation of a stream of batches, as an exponential moving average (Director, arXiv
    2206.04114).

    The deviation around the running mean, from bias-corrected averages of the values and of their
    squares. Kept as mean and variance, which are merged batch by batch, rather than as those
    averages themselves: in float32 the difference of two large squares would leave nothing of a
    small variance.

    Args:
        decay: weight of the past at each update, in [0, 1).
        floor: least scale; also the scale before the first update.

    Raises:
        ValueError: where a setting is out of its range, named.
    """

    mean: Tensor
    variance: Tensor
    weight: Tensor

    def __init__(self, decay: float = 0.999, floor: float = 0.01) -> None:
        super().__init__()
        _check(decay, floor)
        self.decay, self.floor = decay, floor
        for name in ("mean", "variance", "weight"):
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def update(self, values: Float[Tensor, "*batch"]) -> None:
        """Takes in one batch of values."""
        variance, mean = torch.var_mean(values.float(), correction=0)
        self.weight.lerp_(torch.ones_like(self.weight), 1 - self.decay)
        share = (1 - self.decay) / self.weight  # 1 at the first update: the bias correction
        exploration_reward = mean - self.mean
        self.variance.copy_(
            (1 - share) * (self.variance + share * exploration_reward.square()) + share * variance
        )
        self.mean.add_(share * exploration_reward)

    def spread(self) -> Float[Tensor, ""]:
        """The standard deviation, however small: what the floor hides."""
        return self.variance.sqrt()

    def scale(self) -> Float[Tensor, ""]:
        """The standard deviation, at least the floor."""
        return self.spread().clamp(min=self.floor)


class EmaMoments(EmaStd):
    """Running mean and standard deviation of advantages (Director, arXiv 2206.04114), to centre and
    scale them by.

    Args:
        decay: weight of the past at each update, in [0, 1).
        floor: least standard deviation.
    """

    def __init__(self, decay: float = 0.99, floor: float = 1e-8) -> None:
        super().__init__(decay, floor)

    def normalise(self, values: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Values less the mean, over the standard deviation; gradients flow through the values."""
        return (values - self.mean) / self.scale()


class PercentileRange(nn.Module):
    """Distance between two percentiles of returns, averaged exponentially (DreamerV3, arXiv
    2301.04104).

    A robust scale: few large returns do not shrink the rest. The averages start at zero and are not
    corrected for it, so the scale approaches the returns' range from below. With a floor of 1
    returns are only ever scaled down.

    Args:
        decay: weight of the past at each update, in [0, 1).
        low: lower percentile, in [0, 1].
        high: upper percentile, in [0, 1].
        floor: least scale.

    Raises:
        ValueError: where a setting is out of its range, named.
    """

    percentiles: Tensor
    bounds: Tensor

    def __init__(
        self, decay: float = 0.99, low: float = 0.05, high: float = 0.95, floor: float = 1.0
    ) -> None:
        super().__init__()
        _check(decay, floor)
        if not 0 <= low < high <= 1:
            raise ValueError(
                f"the percentiles are {low} and {high}; they must be 0 <= low < high <= 1"
            )
        self.decay, self.floor = decay, floor
        self.register_buffer("percentiles", torch.tensor([low, high]), persistent=False)
        self.register_buffer("bounds", torch.zeros(2))

    @torch.no_grad()
    def update(self, values: Float[Tensor, "*batch"]) -> None:
        """Takes in one batch of values."""
        self.bounds.lerp_(
            torch.quantile(values.float().flatten(), self.percentiles), 1 - self.decay
        )

    def spread(self) -> Float[Tensor, ""]:
        """The distance between the averaged percentiles, however small: what the floor hides."""
        return self.bounds[1] - self.bounds[0]

    def scale(self) -> Float[Tensor, ""]:
        """The distance between the averaged percentiles, at least the floor."""
        return self.spread().clamp(min=self.floor)


class AdaptiveCoefficient(nn.Module):
    """Coefficients of losses, each moved by a constant factor until what it weighs is near its
    target.

    Director (Hafner et al. 2022, arXiv 2206.04114): a measured value within `tolerance` of the
    target, as a ratio, leaves its coefficient alone; beyond that the coefficient is multiplied or
    divided by `factor`.

    Args:
        shape: of the coefficients, each with its own measured value; () for one.
        target: of the measured values, positive.
        low: least coefficient, positive.
        high: largest coefficient.
        raise_when_low: whether a value under its target raises the coefficient (a bonus, as on
            entropies) or lowers it (a penalty, as on divergences).
        factor: above 1.
        tolerance: not negative.
        start: first value of each coefficient, within [low, high].

    Raises:
        ValueError: where a setting is out of its range, named.
    """

    value: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        target: float,
        low: float,
        high: float,
        raise_when_low: bool,
        factor: float = 1.1,
        tolerance: float = 0.1,
        start: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 < low <= start <= high:
            raise ValueError(
                f"low, start and high are {low}, {start}, {high}; they must be 0 < low <= start <= high"
            )
        if target <= 0 or factor <= 1 or tolerance < 0:
            raise ValueError(
                f"target, factor and tolerance are {target}, {factor}, {tolerance}; "
                "they must be positive, above 1, and not negative"
            )
        self.low, self.high, self.factor = low, high, factor
        self.least, self.most = target / (1 + tolerance), target * (1 + tolerance)
        self.raise_when_low = raise_when_low
        self.register_buffer("value", torch.full(shape, start))

    @torch.no_grad()
    def update(self, measured: Float[Tensor, "*shape"]) -> None:
        """Moves each coefficient by at most one factor, in place: do so before the loss that it
        weighs is formed.

        Raises:
            ValueError: where the measured values are not one per coefficient.
        """
        if measured.shape != self.value.shape:
            raise ValueError(
                f"{tuple(measured.shape)} measured values for {tuple(self.value.shape)} coefficients"
            )
        under, over = measured < self.least, measured > self.most
        up, down = (under, over) if self.raise_when_low else (over, under)
        moved = torch.where(
            up, self.value * self.factor, torch.where(down, self.value / self.factor, self.value)
        )
        self.value.copy_(moved.clamp(self.low, self.high))


def _check(decay: float, floor: float) -> None:
    if not 0 <= decay < 1:
        raise ValueError(f"decay is {decay}; it must lie in [0, 1)")
    if floor <= 0:
        raise ValueError(f"floor is {floor}; it must be positive")
