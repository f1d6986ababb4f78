"""Compare methods pair by pair on every split, and say what the intervals allow to claim."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from hrl.reporting import statistics
from hrl.reporting.runs import Runs, same_budget
from hrl.reporting.statistics import Array, Interval, Resample, Statistic
from hrl.reporting.summary import Aggregate, ends, generator, score_matrix

Verdict: TypeAlias = Literal["higher", "lower", "indistinguishable", "one run", "unequal budgets"]
"""What may be said of the first method against the second."""

RESAMPLES = 2000


@dataclass(frozen=True)
class Comparison:
    """Hold how one method does against another on a split.

    runs, frames: of the first and the second method.
    difference: of the IQM of the normalised score, first minus second.
    improvement: probability that a run of the first scores higher on a task than one of the second.
    success: difference of the share of successful episodes, first minus second.
    """

    split: str
    first: str
    second: str
    runs: tuple[int, int]
    frames: tuple[int, int]
    difference: Aggregate
    improvement: Aggregate
    success: Aggregate

    @property
    def verdict(self) -> Verdict:
        """Return what both intervals of the difference in score allow to say, never its sign alone.

        Methods that learned for different budgets are not compared; one run has no interval.
        """
        if 0 not in self.frames and not same_budget(self.frames):
            return "unequal budgets"
        return verdict(self.difference)

    def reversed(self) -> "Comparison":
        """Return the comparison of the second method with the first."""
        return Comparison(
            self.split,
            self.second,
            self.first,
            (self.runs[1], self.runs[0]),
            (self.frames[1], self.frames[0]),
            _negated(self.difference),
            _negated(self.improvement, 1.0),
            _negated(self.success),
        )


Comparisons: TypeAlias = Mapping[tuple[str, str, str], Comparison]
"""Comparisons by split, first and second method, in either order of the two."""


def wider_interval(aggregate: Aggregate) -> tuple[float, float] | None:
    """Return the ends of an interval that holds those of both ways of resampling.

    None where one run gives no interval.
    """
    pairs = (aggregate["ci95"], aggregate["ci95_runs"])
    known = [end for pair in pairs for end in pair if end is not None]
    return (min(known), max(known)) if len(known) == 4 else None


def verdict(difference: Aggregate) -> Verdict:
    """Return what the intervals of a difference allow to say."""
    found = wider_interval(difference)
    if found is None:
        return "one run"
    low, high = found
    return "higher" if low > 0 else "lower" if high < 0 else "indistinguishable"


def method_pairs(runs: Runs) -> list[tuple[str, str]]:
    """Return the pairs that are compared: of methods, and of each method with each control."""
    learned = runs.trained_methods
    compared = learned if len(learned) > 1 else runs.methods
    controls = [method for method in compared if method in runs.controls]
    methods = [method for method in compared if method not in runs.controls]
    return [*combinations(methods, 2), *product(methods, controls)]


def compare_methods(runs: Runs, table: pd.DataFrame) -> dict[tuple[str, str, str], Comparison]:
    """Return the comparisons of all pairs of methods on the splits that both were evaluated on.

    Args:
        runs: what is compared.
        table: its `task_scores`.
    """
    found = [
        _compare(runs, table, split, first, second)
        for split, (first, second) in product(runs.splits, method_pairs(runs))
        if score_matrix(table, first, split).size and score_matrix(table, second, split).size
    ]
    both = [comparison for one in found for comparison in (one, one.reversed())]
    return {(one.split, one.first, one.second): one for one in both}


def difference(x: Array, y: Array, statistic: Statistic, *labels: str) -> Aggregate:
    """Return `statistic(x) - statistic(y)` of [run, task] with its intervals.

    The labels seed them.
    """
    within, together = (
        statistics.difference_interval(
            x, y, statistic, generator(*labels), resample=resample, resamples=RESAMPLES
        )
        for resample in _RESAMPLINGS
    )
    return _aggregate(np.asarray(statistic(x) - statistic(y)), within, together)


# Private functions.

_RESAMPLINGS: tuple[Resample, Resample] = ("within_tasks", "whole_runs")


def _compare(runs: Runs, table: pd.DataFrame, split: str, first: str, second: str) -> Comparison:
    labels = (first, second, split)
    x, y = (score_matrix(table, method, split) for method in (first, second))
    succeeded, other = (score_matrix(table, method, split, "success") for method in (first, second))
    return Comparison(
        split,
        first,
        second,
        (len(x), len(y)),
        (_frames(table, first), _frames(table, second)),
        difference(x, y, statistics.interquartile_mean, *labels),
        _improvement(x, y, *labels),
        difference(succeeded, other, statistics.mean_score, *labels),
    )


def _improvement(x: Array, y: Array, *labels: str) -> Aggregate:
    within, together = (
        statistics.improvement_interval(
            x, y, generator(*labels), resample=resample, resamples=RESAMPLES
        )
        for resample in _RESAMPLINGS
    )
    return _aggregate(statistics.probability_of_improvement(x, y), within, together)


def _frames(table: pd.DataFrame, method: str) -> int:
    return int(table.loc[table["method"] == method, "frames"].max())


def _aggregate(value: Array, within: Interval, together: Interval) -> Aggregate:
    return {"value": float(value), "ci95": ends(within), "ci95_runs": ends(together)}


def _negated(aggregate: Aggregate, total: float = 0.0) -> Aggregate:
    """Return `total - aggregate`."""

    def flipped(pair: Iterable[float | None]) -> list[float | None]:
        low, high = pair
        return [None if end is None else total - end for end in (high, low)]

    return {
        "value": total - aggregate["value"],
        "ci95": flipped(aggregate["ci95"]),
        "ci95_runs": flipped(aggregate["ci95_runs"]),
    }
