"""Tests of how pairs of methods are compared, against numbers worked out by hand and loops."""

from pathlib import Path

import numpy as np
import pytest

from hrl.reporting import statistics
from hrl.reporting.comparisons import difference, method_pairs, verdict, wider_interval
from hrl.reporting.summary import Aggregate
from tests.hrl.reporting.scored import scored_study


def aggregate(within: tuple[float, float], whole: tuple[float, float]) -> Aggregate:
    return {"value": 0.5, "ci95": list(within), "ci95_runs": list(whole)}


@pytest.mark.parametrize(
    ("within", "whole", "expected"),
    [
        ((0.1, 0.9), (0.05, 0.8), "higher"),
        ((0.1, 0.9), (-0.05, 0.8), "indistinguishable"),  # only one of the two says so
        ((-0.1, 0.9), (0.05, 0.8), "indistinguishable"),
        ((0.0, 0.9), (0.05, 0.8), "indistinguishable"),  # 0 is within the interval
        ((-0.9, -0.1), (-0.8, -0.05), "lower"),
    ],
)
def test_only_what_both_intervals_say_is_claimed(
    within: tuple[float, float], whole: tuple[float, float], expected: str
) -> None:
    found = aggregate(within, whole)
    assert verdict(found) == expected
    assert wider_interval(found) == (min(within[0], whole[0]), max(within[1], whole[1]))


def test_without_an_interval_nothing_is_claimed() -> None:
    found: Aggregate = {"value": 0.5, "ci95": [None, None], "ci95_runs": [None, None]}
    assert (verdict(found), wider_interval(found)) == ("one run", None)


def test_the_interval_of_a_difference_that_can_be_written_down() -> None:
    # The mean of two draws from {0, 1} is 0, 1/2, 1 with probability 1/4, 1/2, 1/4. That of two
    # draws from {2, 2} is 2: the difference has the same law, moved by 2.
    x, y = np.array([[0.0], [1.0]]), np.full((2, 1), 2.0)
    wide, narrow = (
        statistics.difference_interval(
            x, y, statistics.mean_score, np.random.default_rng(0), level=level
        )
        for level in (0.8, 0.4)
    )
    assert (float(wide.low), float(wide.high)) == (-2.0, -1.0)
    assert (float(narrow.low), float(narrow.high)) == (-1.5, -1.5)


@pytest.mark.parametrize("resample", ["within_tasks", "whole_runs"])
def test_the_interval_of_a_difference_against_a_loop(resample: statistics.Resample) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(6, 3)), rng.normal(size=(4, 3))

    def drawn(scores: np.ndarray) -> np.ndarray:
        if resample == "whole_runs":
            return scores[rng.integers(0, len(scores), len(scores))]
        picks = [rng.integers(0, len(scores), len(scores)) for _ in range(3)]
        return np.stack([scores[rows, task] for task, rows in enumerate(picks)], axis=1)

    loop = [
        float(statistics.interquartile_mean(drawn(x)) - statistics.interquartile_mean(drawn(y)))
        for _ in range(1500)
    ]
    interval = statistics.difference_interval(
        x, y, statistics.interquartile_mean, np.random.default_rng(5), resample=resample
    )
    assert [float(interval.low), float(interval.high)] == pytest.approx(
        np.quantile(loop, [0.025, 0.975]), abs=0.1
    )


def test_one_run_has_no_interval_of_a_difference_and_other_tasks_are_refused() -> None:
    found = difference(np.ones((1, 2)), np.zeros((3, 2)), statistics.mean_score, "a")
    assert found == {"value": 1.0, "ci95": [None, None], "ci95_runs": [None, None]}
    with pytest.raises(ValueError, match="same tasks, got 2 and 1"):
        difference(np.ones((2, 2)), np.zeros((3, 1)), statistics.mean_score, "a")


def test_a_pair_by_hand_and_in_either_order(tmp_path: Path) -> None:
    study = scored_study(tmp_path, {"a": [0.9, 0.9], "b": [[0.1, 0.9], [0.1, 0.9]]})
    one, other = (study.comparisons["train", *pair] for pair in (("a", "b"), ("b", "a")))
    # Every run of a equals every other, and so do those of b: intervals have no width. The IQM of
    # (0.1, 0.1, 0.9, 0.9) is 0.5; a is better on the first task and ties on the second. Random
    # play has some noise, which moves scores by less than a hundredth.
    assert one.difference["value"] == pytest.approx(0.4, abs=0.01)
    assert one.difference["ci95"] == pytest.approx([0.4, 0.4], abs=0.01)
    assert one.improvement["value"] == pytest.approx(0.75)
    assert one.success["value"] == pytest.approx(0.5)  # above half the reference is a success
    assert (one.verdict, other.verdict) == ("higher", "lower")
    assert other.difference["value"] == -one.difference["value"]
    assert other.improvement["ci95_runs"] == pytest.approx([0.25, 0.25])
    assert other.reversed() == one


def test_methods_are_compared_with_each_other_and_with_controls_that_are_not(
    tmp_path: Path,
) -> None:
    scores = {name: [0.5, 0.5] for name in ("a", "b", "c", "d")}
    study = scored_study(tmp_path, scores, controls={"a": "note", "d": ""})
    assert study.runs.methods == ["b", "c", "a", "d", "random"]
    assert method_pairs(study.runs) == [("b", "c"), ("b", "a"), ("b", "d"), ("c", "a"), ("c", "d")]
    assert ("train", "a", "d") not in study.comparisons


def test_budgets_that_differ_are_not_compared_but_random_play_is(tmp_path: Path) -> None:
    study = scored_study(
        tmp_path,
        {"a": [0.9, 0.9], "b": [0.1, 0.1], "c": [0.1, 0.1]},
        frames={"b": 60_000, "c": 121_000},  # the last rollout of c ends a little later
    )
    verdicts = {
        pair: study.comparisons["train", *pair].verdict for pair in (("a", "b"), ("a", "c"))
    }
    assert list(verdicts.values()) == ["unequal budgets", "higher"]
    alone = scored_study(tmp_path / "alone", {"a": [0.9, 0.9]})
    assert alone.comparisons["train", "a", "random"].verdict == "one run"
