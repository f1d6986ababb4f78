"""Track running scales of returns and advantages, and steer quantities to their targets.

State lives in buffers that change in place: nothing is read back to the host, so updates can be
captured in a CUDA graph, and checkpoints hold them with their module. As with torch's own running
statistics, modules in evaluation mode (`module.eval()`, of frozen parts) leave them as they are.
Where several processes train a run, batches are those of all of them (`hrl.ranks`).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hrl.ranks import AcrossRanks


class EmaStd(AcrossRanks, nn.Module):
    """Track the standard deviation of a stream of batches by exponential moving averages.

    As in Director (arXiv 2206.04114), this is the deviation around the running mean, from
    bias-corrected averages of the values and of their squares. It is stored as mean and variance,
    which are merged batch by batch, rather than as those two averages: in float32 the difference of
    two large squares would leave nothing of a small variance.

    Args:
        decay: weight of the past at each update, in [0, 1).
        floor: least scale; also the scale before the first update.

    Raises:
        ValueError: a setting is out of its range; the message names it.
    """

    mean: Tensor
    variance: Tensor
    weight: Tensor

    def __init__(self, decay: float = 0.999, floor: float = 0.01) -> None:
        super().__init__()
        _check(decay, floor)
        self.decay = decay
        self.floor = floor
        for name in ("mean", "variance", "weight"):
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def update(self, values: Float[Tensor, "*batch"]) -> None:
        """Add one batch of values to the averages, unless in evaluation mode."""
        if not self.training:
            return
        variance, mean = self.ranks.var_mean(values.float())
        self.weight.lerp_(torch.ones_like(self.weight), 1 - self.decay)
        share = (1 - self.decay) / self.weight  # 1 at the first update: the bias correction
        difference = mean - self.mean
        self.variance.copy_(
            (1 - share) * (self.variance + share * difference.square()) + share * variance
        )
        self.mean.add_(share * difference)

    def spread(self) -> Float[Tensor, ""]:
        """Return the standard deviation without the floor."""
        return self.variance.sqrt()

    def scale(self) -> Float[Tensor, ""]:
        """Return the standard deviation, at least the floor."""
        return self.spread().clamp(min=self.floor)


class EmaMoments(EmaStd):
    """Centre and scale advantages by their running mean and standard deviation.

    Source: Director, arXiv 2206.04114.

    Args:
        decay: weight of the past at each update, in [0, 1).
        floor: least standard deviation.
    """

    def __init__(self, decay: float = 0.99, floor: float = 1e-8) -> None:
        super().__init__(decay, floor)

    def normalise(self, values: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Subtract the mean and divide by the standard deviation; values keep their gradients."""
        return (values - self.mean) / self.scale()


class RewardScale(nn.Module):
    """Track the spread of discounted returns, by which an on-policy learner divides its rewards.

    It is the standard deviation of the sums that each environment's rewards add up to, forwards in
    time and discounted ("reward scaling", Engstrom et al. 2020, arXiv 2005.12729, section 3; also
    in Gymnasium and Stable-Baselines3). Value functions of rewards divided by it are of the order
    of 1 whatever the unit of the rewards, and rewards of different environments keep their ratio.

    Sums go on from episode to episode, unlike in those libraries: then the steps after a reward
    count as those before it do in the returns that critics learn. If sums began anew, a reward that
    ends its episode would count at a single step, and its value would be ten times too large.

    Args:
        num_envs: number of environments.
        discount: per step, in [0, 1].
        decay: weight of the past at each update, in [0, 1).
        floor: least spread; also that before the first update.

    Raises:
        ValueError: a setting is out of its range; the message names it.
    """

    sums: Tensor

    def __init__(
        self, num_envs: int, discount: float, decay: float = 0.99, floor: float = 1e-4
    ) -> None:
        super().__init__()
        self.discount = discount
        self.spread = EmaStd(decay, floor)
        self.register_buffer("sums", torch.zeros(num_envs))

    @torch.no_grad()
    def update(self, rewards: Float[Tensor, "time env"]) -> None:
        """Add the rewards of consecutive steps."""
        seen = []
        for reward in rewards:
            self.sums.mul_(self.discount).add_(reward)
            seen.append(self.sums.clone())
        self.spread.update(torch.stack(seen))

    def scale(self) -> Float[Tensor, ""]:
        """Return the spread, at least the floor."""
        return self.spread.scale()


class PercentileRange(AcrossRanks, nn.Module):
    """Track the distance between two percentiles of returns by exponential moving averages.

    This is the scale of DreamerV3 (arXiv 2301.04104). It is robust: few large returns do not shrink
    the rest. The averages start at zero and are not corrected for it, so the scale approaches the
    returns' range from below. With a floor of 1 returns are only ever scaled down.

    Args:
        decay: weight of the past at each update, in [0, 1).
        low: lower percentile, in [0, 1].
        high: upper percentile, in [0, 1].
        floor: least scale.

    Raises:
        ValueError: a setting is out of its range; the message names it.
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
        self.decay = decay
        self.floor = floor
        self.register_buffer("percentiles", torch.tensor([low, high]), persistent=False)
        self.register_buffer("bounds", torch.zeros(2))

    @torch.no_grad()
    def update(self, values: Float[Tensor, "*batch"]) -> None:
        """Add one batch of values to the averages, unless in evaluation mode."""
        if not self.training:
            return
        everywhere = self.ranks.cat(values.float().flatten())
        self.bounds.lerp_(torch.quantile(everywhere, self.percentiles), 1 - self.decay)

    def spread(self) -> Float[Tensor, ""]:
        """Return the distance between the averaged percentiles without the floor."""
        return self.bounds[1] - self.bounds[0]

    def scale(self) -> Float[Tensor, ""]:
        """Return the distance between the averaged percentiles, at least the floor."""
        return self.spread().clamp(min=self.floor)


class AdaptiveCoefficient(nn.Module):
    """Adapt coefficients of losses until the quantities that they weigh are near their target.

    As in Director (Hafner et al. 2022, arXiv 2206.04114), a measured value within `tolerance` of
    the target, as a ratio, leaves its coefficient unchanged; beyond that the coefficient is
    multiplied or divided by `factor`.

    Args:
        shape: of the coefficients, each with its own measured value; () for one.
        target: of the measured values, positive.
        low: least coefficient, positive.
        high: largest coefficient.
        raise_when_low: whether a value under its target raises the coefficient (a bonus, as on
            entropies) or lowers it (a penalty, as on divergences).
        factor: of one change, above 1.
        tolerance: relative, not negative.
        start: first value of each coefficient, within [low, high].

    Raises:
        ValueError: a setting is out of its range; the message names it.
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
                f"low, start and high are {low}, {start}, {high}; "
                "they must be 0 < low <= start <= high"
            )
        if not (target > 0 and factor > 1 and tolerance >= 0):
            raise ValueError(
                f"target, factor and tolerance are {target}, {factor}, {tolerance}; "
                "they must be positive, above 1, and not negative"
            )
        self.low = low
        self.high = high
        self.factor = factor
        self.least = target / (1 + tolerance)
        self.most = target * (1 + tolerance)
        self.raise_when_low = raise_when_low
        self.register_buffer("value", torch.full(shape, start))

    @torch.no_grad()
    def update(self, measured: Float[Tensor, "*shape"]) -> None:
        """Change each coefficient by at most one factor, in place, unless in evaluation mode.

        Call this before the loss that uses the coefficient is formed.

        Args:
            measured: one value per coefficient, the same on all ranks of a run.

        Raises:
            ValueError: the measured values are not one per coefficient.
        """
        if measured.shape != self.value.shape:
            raise ValueError(
                f"measured has shape {tuple(measured.shape)}; "
                f"it must be {tuple(self.value.shape)}, one value per coefficient"
            )
        if not self.training:
            return
        under = measured < self.least
        over = measured > self.most
        up, down = (under, over) if self.raise_when_low else (over, under)
        moved = torch.where(
            up, self.value * self.factor, torch.where(down, self.value / self.factor, self.value)
        )
        self.value.copy_(moved.clamp(self.low, self.high))


def _check(decay: float, floor: float) -> None:
    if not 0 <= decay < 1:
        raise ValueError(f"decay is {decay}; it must lie in [0, 1)")
    if not floor > 0:
        raise ValueError(f"floor is {floor}; it must be positive")
