"""Tests of aggregates by hand, of intervals against exact distributions, loops and simulations."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrl.reporting import statistics
from hrl.reporting.statistics import Array, Resample, Statistic

RESAMPLINGS: tuple[Resample, ...] = ("within_tasks", "whole_runs")
both = pytest.mark.parametrize("resample", RESAMPLINGS)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_normalised_score_is_0_for_random_play_and_1_for_the_reference() -> None:
    scores = statistics.normalised_score([10.0, 60.0, 110.0, -40.0], 10.0, 110.0)
    assert scores.tolist() == [0.0, 0.5, 1.0, -0.5]


def test_normalised_score_per_task() -> None:
    assert statistics.normalised_score([[30.0, 30.0]], [10.0, 20.0], 50.0).tolist() == [
        [0.5, 1 / 3]
    ]


@pytest.mark.parametrize("reference", [5.0, -1.0])
def test_normalised_score_refuses_a_reference_that_random_play_reaches(reference: float) -> None:
    with pytest.raises(ValueError, match="is not above the random return"):
        statistics.normalised_score([1.0], [5.0], reference)


@pytest.mark.parametrize(
    ("statistic", "scores", "expected"),
    [
        (
            statistics.interquartile_mean,
            [[8, 1, 7, 2], [6, 3, 5, 4]],
            4.5,
        ),  # the middle half of 1..8 is 3, 4, 5, 6
        (
            statistics.interquartile_mean,
            [[0], [1], [2], [3], [10]],
            2.0,
        ),  # a quarter of five, rounded down: one a side
        (statistics.interquartile_mean, [[0, 3, 9]], 4.0),  # too few to cut any
        (statistics.mean_score, [[0, 1], [2, 5]], 2.0),
        (statistics.median_of_task_means, [[0, 1, 5], [2, 1, 7]], 1.0),  # task means 1, 1, 6
        (statistics.median_of_task_means, [[0, 1], [0, 3]], 1.0),  # task means 0, 2
        (statistics.optimality_gap, [[0.5, 2.0], [1.0, 0.0]], 0.375),  # 1 - (0.5 + 1 + 1 + 0) / 4
        (statistics.optimality_gap, [[3.0]], 0.0),
    ],
)
def test_aggregates_by_hand(
    statistic: Statistic, scores: list[list[float]], expected: float
) -> None:
    assert float(statistic(np.array(scores, dtype=float))) == pytest.approx(expected)


def test_performance_profile_counts_strictly_above() -> None:
    above = statistics.exceedances([[0.2, 0.6], [0.6, 0.9]], [0.0, 0.2, 0.6, 1.0])
    assert statistics.mean_score(above).tolist() == [1.0, 0.75, 0.25, 0.0]


def test_probability_of_improvement_by_hand() -> None:
    # Task 1: of the nine pairs, 1 beats 0; 2 ties twice and beats 0; 3 beats all: (1 + 2 + 3) / 9.
    # Task 2: 0.
    x, y = [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]], [[2.0, 1.0], [2.0, 1.0], [0.0, 1.0]]
    assert float(statistics.probability_of_improvement(x, y)) == pytest.approx((6 / 9 + 0) / 2)


def loop_improvement(x: Array, y: Array) -> float:
    wins = [
        np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a in x[:, task] for b in y[:, task]])
        for task in range(x.shape[1])
    ]
    return float(np.mean(wins))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(0, 10**6))
def test_probability_of_improvement_against_a_loop(
    runs_x: int, runs_y: int, tasks: int, seed: int
) -> None:
    rng = generator(seed)
    x, y = (
        rng.integers(0, 4, (runs, tasks)).astype(float) for runs in (runs_x, runs_y)
    )  # few values: many ties
    probability = float(statistics.probability_of_improvement(x, y))
    assert probability == pytest.approx(loop_improvement(x, y))
    assert float(statistics.probability_of_improvement(y, x)) == pytest.approx(1 - probability)


def test_probability_of_improvement_needs_the_same_tasks() -> None:
    with pytest.raises(ValueError, match="same tasks, got 2 and 1"):
        statistics.probability_of_improvement(np.ones((3, 2)), np.ones((3, 1)))


@both
def test_interval_of_a_distribution_that_can_be_written_down(resample: Resample) -> None:
    # The mean of two draws from {0, 1} is 0, 1/2, 1 with probability 1/4, 1/2, 1/4.
    scores = np.array([[0.0], [1.0]])
    wide = statistics.interval(
        scores, statistics.mean_score, generator(), resample=resample, level=0.8
    )
    narrow = statistics.interval(
        scores, statistics.mean_score, generator(), resample=resample, level=0.4
    )
    assert (float(wide.low), float(wide.high)) == (0.0, 1.0)
    assert (float(narrow.low), float(narrow.high)) == (0.5, 0.5)


def test_whole_runs_keep_tasks_together() -> None:
    # Two tasks that always agree. Whole runs: as above. Within tasks: Binomial(4, 1/2) / 4, whose
    # 10 % quantile is 1/4.
    scores = np.array([[0.0, 0.0], [1.0, 1.0]])
    ends = {
        resample: statistics.interval(
            scores, statistics.mean_score, generator(), resample=resample, level=0.8
        )
        for resample in RESAMPLINGS
    }
    assert (float(ends["whole_runs"].low), float(ends["whole_runs"].high)) == (0.0, 1.0)
    assert (float(ends["within_tasks"].low), float(ends["within_tasks"].high)) == (0.25, 0.75)


def loop_within(scores: Array, rng: np.random.Generator) -> Array:
    runs, tasks = scores.shape
    return np.stack([scores[rng.integers(0, runs, runs), task] for task in range(tasks)], axis=1)


def loop_whole(scores: Array, rng: np.random.Generator) -> Array:
    return scores[rng.integers(0, len(scores), len(scores))]


@pytest.mark.parametrize(
    ("resample", "draw"), [("within_tasks", loop_within), ("whole_runs", loop_whole)]
)
def test_interval_against_a_loop(
    resample: Resample, draw: Callable[[Array, np.random.Generator], Array]
) -> None:
    scores, rng = generator(3).normal(size=(6, 4)), generator(4)
    drawn = [float(statistics.interquartile_mean(draw(scores, rng))) for _ in range(1500)]
    interval = statistics.interval(
        scores, statistics.interquartile_mean, generator(5), resample=resample
    )
    assert [float(interval.low), float(interval.high)] == pytest.approx(
        np.quantile(drawn, [0.025, 0.975]), abs=0.06
    )


@both
def test_intervals_are_reproducible_and_differ_between_seeds(resample: Resample) -> None:
    scores = generator(1).normal(size=(5, 3))
    first, again, other = (
        statistics.interval(
            scores, statistics.mean_score, generator(seed), resample=resample, resamples=300
        )
        for seed in (7, 7, 8)
    )
    assert (first.low, first.high) == (again.low, again.high)
    assert (first.low, first.high) != (other.low, other.high)


@both
def test_intervals_do_not_depend_on_the_order_of_runs(resample: Resample) -> None:
    scores = generator(1).normal(size=(2, 5, 3))
    shuffled = scores[:, [3, 0, 4, 1, 2]]
    one, two = (
        statistics.interval(
            s, statistics.interquartile_mean, generator(), resample=resample, resamples=300
        )
        for s in (scores, shuffled)
    )
    np.testing.assert_array_equal(one.low, two.low)
    np.testing.assert_array_equal(one.high, two.high)


@both
def test_leading_axes_are_treated_alike(resample: Resample) -> None:
    scores = generator(2).normal(size=(3, 5, 2))
    stacked = statistics.interval(
        scores, statistics.mean_score, generator(), resample=resample, resamples=200
    )
    assert stacked.low.shape == stacked.high.shape == (3,)
    assert np.all(stacked.low < scores.mean((1, 2)))
    assert np.all(stacked.high > scores.mean((1, 2)))


@both
def test_one_run_gives_no_interval(resample: Resample) -> None:
    interval = statistics.interval(
        np.ones((4, 1, 3)), statistics.mean_score, generator(), resample=resample
    )
    assert interval.low.shape == (4,)
    assert np.isnan(interval.low).all()
    assert np.isnan(interval.high).all()
    improvement = statistics.improvement_interval(
        np.ones((1, 2)), np.ones((3, 2)), generator(), resample=resample
    )
    assert np.isnan(improvement.low)


def test_with_one_task_both_ways_of_resampling_agree() -> None:
    scores = generator(6).normal(size=(8, 1))
    within, whole = (
        statistics.interval(scores, statistics.mean_score, generator(), resample=resample)
        for resample in RESAMPLINGS
    )
    assert float(within.low) == pytest.approx(float(whole.low), abs=0.03)
    assert float(within.high) == pytest.approx(float(whole.high), abs=0.03)


def test_equal_scores_give_an_interval_of_no_width() -> None:
    interval = statistics.interval(np.full((4, 3), 0.3), statistics.interquartile_mean, generator())
    assert (float(interval.low), float(interval.high)) == pytest.approx((0.3, 0.3))


@both
def test_improvement_interval_holds_the_estimate(resample: Resample) -> None:
    x, y = generator(1).normal(0.6, 1, (6, 3)), generator(2).normal(0, 1, (5, 3))
    interval = statistics.improvement_interval(x, y, generator(), resample=resample)
    assert (
        0
        <= float(interval.low)
        < float(statistics.probability_of_improvement(x, y))
        < float(interval.high)
        <= 1
    )
    swapped = statistics.improvement_interval(y, x, generator(), resample=resample)
    assert float(swapped.low) == pytest.approx(1 - float(interval.high), abs=0.05)


@pytest.mark.parametrize(
    ("scores", "complaint"),
    [
        (np.ones(3), r"\[..., run, task\]"),
        (np.ones((0, 3)), "at least one run"),
        (np.array([[1.0, np.nan]]), "1 of 2 are not"),
    ],
)
def test_bad_scores_are_refused(scores: Array, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        statistics.interval(scores, statistics.mean_score, generator())


def test_unknown_resampling_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"'episodes' is none of .*whole_runs.*within_tasks"):
        statistics.interval(
            np.ones((3, 2)), statistics.mean_score, generator(), resample="episodes"
        )  # type: ignore[arg-type]


def coverage(resample: Resample, run_luck: float) -> float:
    """How often the interval holds the truth, 0, when all tasks of a run share some luck."""
    rng, held = generator(11), []
    for trial in range(150):
        scores = rng.normal(size=(10, 4)) + run_luck * rng.normal(size=(10, 1))
        interval = statistics.interval(
            scores,
            statistics.interquartile_mean,
            generator(trial),
            resample=resample,
            resamples=400,
        )
        held.append(float(interval.low) <= 0 <= float(interval.high))
    return float(np.mean(held))


def test_coverage_is_near_nominal_for_independent_tasks() -> None:
    assert 0.88 <= coverage("within_tasks", run_luck=0.0) <= 1.0


def test_only_whole_runs_cover_when_the_tasks_of_a_run_share_its_luck() -> None:
    assert coverage("within_tasks", run_luck=1.5) < 0.8
    assert coverage("whole_runs", run_luck=1.5) > 0.85
