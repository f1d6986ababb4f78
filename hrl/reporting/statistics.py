"""Aggregate scores over runs and tasks, with intervals that say how sure one can be of them.

Definitions follow Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical
Precipice" (arXiv 2108.13264), here `A21`. Scores are float64 `[..., run, task]`: one run (training
seed) a row, one task a column, any number of leading axes (points of a curve, thresholds of a
profile) that are treated alike.

Two ways to resample stand side by side. `within_tasks` draws runs anew for every task (A21, section
4.1): right when each task was trained by runs of its own. `whole_runs` draws runs and keeps each
run's tasks together: right when one run learned all tasks, because its tasks then share one fate
and are no independent evidence.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[[Array], Array]
Resample: TypeAlias = Literal["within_tasks", "whole_runs"]

BATCH_ELEMENTS = 4_000_000  # of resampled scores held at once: 32 MB


@dataclass(frozen=True)
class Interval:
    """Hold the ends of a confidence interval, each with the leading axes of the scores.

    They are NaN where one run gives no interval.
    """

    low: Array
    high: Array


def normalised_score(returns: ArrayLike, random: ArrayLike, reference: ArrayLike) -> Array:
    """Return `(R - R_random) / (R_reference - R_random)`: 0 is random play, 1 the reference return.

    Shapes broadcast.

    Raises:
        ValueError: the reference is not above the random return, so that the score is undefined or
            falls where returns rise.
    """
    returns, random, reference = (
        np.asarray(value, dtype=np.float64) for value in (returns, random, reference)
    )
    if np.any(reference <= random):
        raise ValueError(
            f"reference return {reference} is not above the random return {random}: no score is "
            "defined"
        )
    return np.asarray((returns - random) / (reference - random), dtype=np.float64)


def interquartile_mean(scores: ArrayLike) -> Array:
    """Return the IQM, the mean of the middle half of all runs x tasks, `[..., run, task] -> [...]`.

    Source: A21, section 4.3. The quarter cut from either end is rounded down, as in SciPy's
    `trim_mean`: below four scores it is the mean.
    """
    return np.asarray(stats.trim_mean(_flat(scores), 0.25, axis=-1), dtype=np.float64)


def mean_score(scores: ArrayLike) -> Array:
    """Return the mean over all runs x tasks, `[..., run, task] -> [...]`."""
    return np.asarray(_flat(scores).mean(axis=-1))


def median_of_task_means(scores: ArrayLike) -> Array:
    """Return the median over tasks of the mean over runs, `[..., run, task] -> [...]`.

    Source: A21, section 4.3.
    """
    return np.asarray(np.median(_checked(scores).mean(axis=-2), axis=-1))


def optimality_gap(scores: ArrayLike, target: float = 1.0) -> Array:
    """Return the mean shortfall below `target`, `target - mean(min(score, target))`.

    Lower is better. Source: A21, section 4.3.
    """
    return np.asarray(target - np.minimum(_flat(scores), target).mean(axis=-1))


def exceedances(scores: ArrayLike, thresholds: ArrayLike) -> Array:
    """Return 1 where a score lies above a threshold, else 0.

    The shapes are `[run, task] -> [threshold, run, task]`. The `mean_score` of the result is the
    performance profile, the share of runs x tasks that score above each threshold (A21, section
    4.2), so `interval(exceedances(...), mean_score, rng)` is the profile's band.
    """
    thresholds = np.asarray(thresholds, dtype=np.float64)
    return (_checked(scores) > thresholds[:, None, None]).astype(np.float64)


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> Array:
    """Return P(X > Y): the mean over tasks of the Mann-Whitney U / (runs of x * runs of y).

    Ties count 1/2. `x` is `[..., run_x, task]`, `y` is `[..., run_y, task]` over the same tasks;
    the result has the leading axes. Source: A21, section 4.3.

    Raises:
        ValueError: the numbers of tasks differ.
    """
    x = _checked(x)
    y = _checked(y)
    _check_same_tasks(x, y)
    # The asymptotic method is the cheapest: only the statistic is used, never the p-value.
    wins = stats.mannwhitneyu(x, y, axis=-2, method="asymptotic").statistic
    return np.asarray(np.mean(wins / (x.shape[-2] * y.shape[-2]), axis=-1))


def interval(
    scores: ArrayLike,
    statistic: Statistic,
    rng: np.random.Generator,
    *,
    resample: Resample = "within_tasks",
    level: float = 0.95,
    resamples: int = 10_000,
) -> Interval:
    """Return the percentile bootstrap interval of `statistic` (A21, section 4.1).

    `statistic` maps `[..., run, task]` to `[...]`. The result does not depend on the order of the
    runs. One run gives no interval: both ends are NaN.

    Raises:
        ValueError: scores are empty or not finite, or `resample` is unknown.
    """
    return _percentile_interval(
        (_checked(scores),), lambda groups: statistic(groups[0]), rng, resample, level, resamples
    )


def improvement_interval(
    x: ArrayLike,
    y: ArrayLike,
    rng: np.random.Generator,
    *,
    resample: Resample = "within_tasks",
    level: float = 0.95,
    resamples: int = 2_000,
) -> Interval:
    """Return the percentile bootstrap interval of `probability_of_improvement(x, y)`.

    Runs of either method are drawn independently. Both ends are NaN where a method has one run.

    Raises:
        ValueError: as `interval` and `probability_of_improvement` do.
    """
    groups = (_checked(x), _checked(y))
    return _percentile_interval(
        groups, lambda drawn: probability_of_improvement(*drawn), rng, resample, level, resamples
    )


def difference_interval(
    x: ArrayLike,
    y: ArrayLike,
    statistic: Statistic,
    rng: np.random.Generator,
    *,
    resample: Resample = "within_tasks",
    level: float = 0.95,
    resamples: int = 2_000,
) -> Interval:
    """Return the percentile bootstrap interval of `statistic(x) - statistic(y)`.

    `x` is `[..., run_x, task]`, `y` is `[..., run_y, task]` over the same tasks. Runs of either
    method are drawn independently. Both ends are NaN where a method has one run.

    Raises:
        ValueError: as `interval` does, and where the numbers of tasks differ.
    """
    groups = (_checked(x), _checked(y))
    _check_same_tasks(*groups)
    return _percentile_interval(
        groups,
        lambda drawn: np.asarray(statistic(drawn[0]) - statistic(drawn[1])),
        rng,
        resample,
        level,
        resamples,
    )


def _percentile_interval(
    groups: tuple[Array, ...],
    statistic: Callable[[tuple[Array, ...]], Array],
    rng: np.random.Generator,
    resample: Resample,
    level: float,
    resamples: int,
) -> Interval:
    if resample not in RESAMPLINGS:
        raise ValueError(f"resample={resample!r} is none of {sorted(RESAMPLINGS)}")
    if any(group.shape[-2] == 1 for group in groups):
        undefined = np.full(groups[0].shape[:-2], np.nan)
        return Interval(undefined, undefined)
    samples, regroup = RESAMPLINGS[resample](groups)
    result = stats.bootstrap(
        samples,
        lambda *drawn, axis: statistic(regroup(drawn)),
        n_resamples=resamples,
        batch=max(1, BATCH_ELEMENTS // sum(group.size for group in groups)),
        vectorized=True,
        axis=-1,
        confidence_level=level,
        method="percentile",
        rng=rng,
    )
    return Interval(
        np.asarray(result.confidence_interval.low), np.asarray(result.confidence_interval.high)
    )


Regroup: TypeAlias = Callable[[tuple[Array, ...]], tuple[Array, ...]]


def _within_tasks(groups: tuple[Array, ...]) -> tuple[tuple[Array, ...], Regroup]:
    """Draw runs anew for each task: one sample a task.

    Runs are sorted first, so that their order cannot matter.
    """
    tasks = groups[0].shape[-1]
    samples = tuple(
        column for group in groups for column in np.moveaxis(np.sort(group, axis=-2), -1, 0)
    )

    def regroup(drawn: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(
            np.stack(drawn[start : start + tasks], axis=-1) for start in range(0, len(drawn), tasks)
        )

    return samples, regroup


def _whole_runs(groups: tuple[Array, ...]) -> tuple[tuple[Array, ...], Regroup]:
    """Draw runs with the scores of all their tasks: one sample of run numbers a group."""
    ordered = tuple(_sorted_runs(group) for group in groups)
    samples = tuple(np.arange(group.shape[-2], dtype=np.float64) for group in groups)

    def regroup(drawn: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(
            group[..., rows.astype(np.intp), :] for group, rows in zip(ordered, drawn, strict=True)
        )

    return samples, regroup


RESAMPLINGS: dict[str, Callable[[tuple[Array, ...]], tuple[tuple[Array, ...], Regroup]]] = {
    "within_tasks": _within_tasks,
    "whole_runs": _whole_runs,
}


def _sorted_runs(scores: Array) -> Array:
    rows = np.moveaxis(scores, -2, 0).reshape(scores.shape[-2], -1)
    return scores[..., np.lexsort(rows.T[::-1]), :]


def _checked(scores: ArrayLike) -> Array:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim < 2 or array.size == 0:
        raise ValueError(
            "scores must be [..., run, task] with at least one run and one task, got shape "
            f"{array.shape}"
        )
    if not np.all(np.isfinite(array)):
        raise ValueError(
            f"scores must be finite, {np.count_nonzero(~np.isfinite(array))} of {array.size} "
            "are not"
        )
    return array


def _check_same_tasks(x: Array, y: Array) -> None:
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"both methods need the same tasks, got {x.shape[-1]} and {y.shape[-1]}")


def _flat(scores: ArrayLike) -> Array:
    array = _checked(scores)
    return array.reshape(*array.shape[:-2], -1)
