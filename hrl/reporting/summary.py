"""From episodes to the numbers of the summary: per run and task first, then per method and split,
with intervals.
"""

import math
from collections.abc import Iterable
from typing import TypedDict
from zlib import crc32

import numpy as np
import pandas as pd

from hrl.reporting import statistics
from hrl.reporting.runs import Runs
from hrl.reporting.statistics import Array, Statistic

ENOUGH_RUNS = 5  # below this, bootstrap intervals are known to under-cover (A21, section 4.1)
AGGREGATES: dict[str, Statistic] = {
    "iqm": statistics.interquartile_mean,
    "median": statistics.median_of_task_means,
    "mean": statistics.mean_score,
    "optimality_gap": statistics.optimality_gap,
}

Ends = list[float | None]


class Aggregate(TypedDict):
    """A statistic of the scores with its 95 % intervals by either way of resampling; None where one
    run gives none.
    """

    value: float
    ci95: Ends
    ci95_runs: Ends


class SplitSummary(TypedDict):
    """One method on one split: the headline numbers and, under `aggregates`, every statistic with
    its intervals.
    """

    return_mean: float
    score_iqm: float
    ci95: Ends
    success: float
    tasks: int
    runs: int
    episodes: int
    frames: int
    aggregates: dict[str, Aggregate]


class Summary(TypedDict):
    """What summary.json holds."""

    suite: str
    reference_return: float
    random_source: str
    methods: dict[str, dict[str, SplitSummary]]


def generator(*labels: str) -> np.random.Generator:
    """A generator that depends on the labels alone, so that adding a method to a report moves no
    other method's interval.
    """
    return np.random.default_rng([crc32(label.encode()) for label in labels])


def task_scores(runs: Runs, intervention: str = "none") -> pd.DataFrame:
    """One row per run, split and task: return, success and score (means over episodes), episodes,
    frames.

    Columns: method, run, seed, split, task, frames, return, success, episodes, score. Ordered as
        `runs` and the suite are,
    whatever the order of the rows in the files.
    """
    rows = runs.scores[runs.scores["intervention"] == intervention]
    keys = ["method", "run", "seed", "split", "task", "frames"]
    means = rows.groupby(keys, as_index=False).agg(
        **{
            "return": ("return", "mean"),
            "success": ("success", "mean"),
            "episodes": ("episode", "size"),
        }
    )
    places = list(zip(means["split"], means["task"], strict=True))
    means["score"] = statistics.normalised_score(
        means["return"].to_numpy(),
        [runs.random_returns[place] for place in places],
        runs.suite.reference_return,
    )
    return _in_order(means, runs)


def score_matrix(table: pd.DataFrame, method: str, split: str, column: str = "score") -> Array:
    """`[run, task]` of one method on one split, out of `task_scores`; `[0, 0]` where the method was
    not evaluated there.
    """
    rows = table[(table["method"] == method) & (table["split"] == split)]
    tasks = list(dict.fromkeys(rows["task"]))
    return rows.pivot(index="run", columns="task", values=column)[tasks].to_numpy(dtype=np.float64)


def summarise(runs: Runs) -> Summary:
    """Mean return, aggregate scores with intervals, runs and episodes per method and split
    (undisturbed episodes only).
    """
    table = task_scores(runs)
    methods: dict[str, dict[str, SplitSummary]] = {method: {} for method in runs.methods}
    for (method, split), rows in table.groupby(["method", "split"], sort=False):
        methods[str(method)][str(split)] = _split_summary(rows, str(method), str(split))
    return {
        "suite": runs.suite.name,
        "reference_return": runs.suite.reference_return,
        "random_source": runs.random_source,
        "methods": methods,
    }


def summary_table(summary: Summary) -> str:
    """The summary as plain text, one line per split and method."""
    header = ("split", "method", "return", "score IQM", "95 % CI", "episodes", "runs")
    lines = [
        header,
        *(_table_line(split, method, numbers) for split, method, numbers in by_split(summary)),
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    texts = [
        "  ".join(
            _aligned(cell, width, i)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join([texts[0], "-" * len(texts[0]), *texts[1:]])


def by_split(summary: Summary) -> list[tuple[str, str, SplitSummary]]:
    """(split, method, numbers), ordered by split and then method, for reading methods side by
    side.
    """
    splits = dict.fromkeys(split for numbers in summary["methods"].values() for split in numbers)
    return [
        (split, method, numbers[split])
        for split in splits
        for method, numbers in summary["methods"].items()
        if split in numbers
    ]


def few_runs_note(runs: Runs, methods: Iterable[str]) -> str:
    """The methods with too few runs for a trustworthy interval, `A: 3 runs (intervals
    under-cover)`; empty without any.
    """
    counts = {method: len(runs.of(method)) for method in methods}
    few = {method: count for method, count in counts.items() if count < ENOUGH_RUNS}
    return "; ".join(
        f"{method}: {count} runs (intervals under-cover)"
        if count > 1
        else f"{method}: 1 run (no interval)"
        for method, count in few.items()
    )


def interval_text(ends: Ends, digits: int = 2) -> str:
    """`[low, high]`, or a dash where there is no interval."""
    low, high = ends
    return "-" if low is None or high is None else f"[{low:.{digits}f}, {high:.{digits}f}]"


def _in_order(means: pd.DataFrame, runs: Runs) -> pd.DataFrame:
    tasks = [(split, task.name) for split, members in runs.suite.splits.items() for task in members]
    rank = {place: i for i, place in enumerate(tasks)}
    position = {str(run.path): i for i, run in enumerate(runs.runs)}
    order = means.assign(
        _run=means["run"].map(position),
        _task=[rank[place] for place in zip(means["split"], means["task"], strict=True)],
    )
    return order.sort_values(["_run", "_task"], ignore_index=True).drop(columns=["_run", "_task"])


def _split_summary(rows: pd.DataFrame, method: str, split: str) -> SplitSummary:
    scores = score_matrix(rows, method, split)
    aggregates = {
        name: _aggregate(scores, statistic, method, split) for name, statistic in AGGREGATES.items()
    }
    return {
        "return_mean": float(rows["return"].mean()),
        "score_iqm": aggregates["iqm"]["value"],
        "ci95": aggregates["iqm"]["ci95"],
        "success": float(rows["success"].mean()),
        "tasks": scores.shape[1],
        "runs": scores.shape[0],
        "episodes": int(rows["episodes"].sum()),
        "frames": int(rows["frames"].max()),
        "aggregates": aggregates,
    }


def _aggregate(scores: Array, statistic: Statistic, method: str, split: str) -> Aggregate:
    within = statistics.interval(
        scores, statistic, generator(method, split), resample="within_tasks"
    )
    together = statistics.interval(
        scores, statistic, generator(method, split), resample="whole_runs"
    )
    return {"value": float(statistic(scores)), "ci95": ends(within), "ci95_runs": ends(together)}


def ends(interval: statistics.Interval) -> Ends:
    """Both ends of a scalar interval as JSON can hold them: None for NaN."""
    return [
        None if math.isnan(end) else float(end)
        for end in (float(interval.low), float(interval.high))
    ]


def _table_line(split: str, method: str, numbers: SplitSummary) -> tuple[str, ...]:
    return (
        split,
        method,
        f"{numbers['return_mean']:.1f}",
        f"{numbers['score_iqm']:.3f}",
        interval_text(numbers["ci95"], 3),
        str(numbers["episodes"]),
        str(numbers["runs"]),
    )


def _aligned(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column < 2 else cell.rjust(width)
