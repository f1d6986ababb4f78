"""Turn episodes into the summary: per run and task first, then per method and split."""

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

SAME_TASKS = "same tasks in training"

Ends = list[float | None]


class Aggregate(TypedDict):
    """Hold a statistic of the scores with its 95 % intervals by either way of resampling.

    The ends of an interval are None where one run gives none.
    """

    value: float
    ci95: Ends
    ci95_runs: Ends


class TrainingScore(TypedDict):
    """Hold how a method does on some training tasks: the mean over its runs and these tasks."""

    tasks: list[str]
    return_mean: float
    score_mean: float


class SplitSummary(TypedDict):
    """Hold one method on one split.

    aggregates: every statistic with its intervals.
    success: share of successful episodes, with its intervals.
    training: of a split that varies single training tasks (dynamics, vision), the same method on
        these training tasks unchanged; else None.
    """

    return_mean: float
    score_iqm: float
    ci95: Ends
    success: Aggregate
    tasks: int
    runs: int
    episodes: int
    frames: int
    aggregates: dict[str, Aggregate]
    training: TrainingScore | None


class Summary(TypedDict):
    """Store the content of summary.json."""

    suite: str
    reference_return: float
    random_source: str
    methods: dict[str, dict[str, SplitSummary]]


def generator(*labels: str) -> np.random.Generator:
    """Return a generator that depends on the labels alone.

    Adding a method to a report then moves no other method's interval.
    """
    return np.random.default_rng([crc32(label.encode()) for label in labels])


def task_scores(runs: Runs) -> pd.DataFrame:
    """Return one row per run, split and task: return, success and score are means over episodes.

    Columns: method, run, seed, split, task, frames, return, success, episodes, score. Rows are
    ordered as `runs` and the suite are, whatever the order in the files.
    """
    keys = ["method", "run", "seed", "split", "task", "frames"]
    means = runs.scores.groupby(keys, as_index=False).agg(
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
    """Return a column of `task_scores` as `[run, task]` of one method on one split.

    It is `[0, 0]` where the method was not evaluated there.
    """
    rows = table[(table["method"] == method) & (table["split"] == split)]
    tasks = list(dict.fromkeys(rows["task"]))
    return rows.pivot(index="run", columns="task", values=column)[tasks].to_numpy(dtype=np.float64)


def summarise(runs: Runs) -> Summary:
    """Return returns, aggregate scores with intervals, runs and episodes per method and split."""
    table = task_scores(runs)
    methods: dict[str, dict[str, SplitSummary]] = {method: {} for method in runs.methods}
    for (method, split), rows in table.groupby(["method", "split"], sort=False):
        training = training_score(table, str(method), runs.suite.varied_tasks(str(split)))
        methods[str(method)][str(split)] = _split_summary(rows, str(method), str(split), training)
    return {
        "suite": runs.suite.name,
        "reference_return": runs.suite.reference_return,
        "random_source": runs.random_source,
        "methods": methods,
    }


def training_score(table: pd.DataFrame, method: str, tasks: list[str]) -> TrainingScore | None:
    """Return how a method does on some training tasks, out of `task_scores`; None without any."""
    training = table[(table["method"] == method) & (table["split"] == "train")]
    rows = training[training["task"].isin(tasks)]
    if rows.empty:
        return None
    return {
        "tasks": tasks,
        "return_mean": float(rows["return"].mean()),
        "score_mean": float(rows["score"].mean()),
    }


def summary_table(summary: Summary) -> str:
    """Return the summary as plain text, one line per split and method.

    Where splits vary single training tasks, a column has the return on these tasks unchanged.
    """
    header = ("split", "method", "return", "success", SAME_TASKS, "score IQM", "95 % CI")
    rows = by_split(summary)
    lines = [
        (*header, "episodes", "runs"),
        *(_table_line(split, method, numbers) for split, method, numbers in rows),
    ]
    if not any_varied(summary):
        place = header.index(SAME_TASKS)
        lines = [(*line[:place], *line[place + 1 :]) for line in lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    texts = [
        "  ".join(
            _aligned(cell, width, i)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join([texts[0], "-" * len(texts[0]), *texts[1:]])


def any_varied(summary: Summary) -> bool:
    """Return whether any split varies single training tasks."""
    return any(numbers["training"] is not None for _, _, numbers in by_split(summary))


def by_split(summary: Summary) -> list[tuple[str, str, SplitSummary]]:
    """Return (split, method, numbers), ordered by split and then by method."""
    splits = dict.fromkeys(split for numbers in summary["methods"].values() for split in numbers)
    return [
        (split, method, numbers[split])
        for split in splits
        for method, numbers in summary["methods"].items()
        if split in numbers
    ]


def few_runs_note(runs: Runs, methods: Iterable[str]) -> str:
    """Return the methods with too few runs for a trustworthy interval; empty without any.

    They read like `A: 3 runs (intervals under-cover)`.
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
    """Return `[low, high]`, or a dash where there is no interval."""
    low, high = ends
    return "-" if low is None or high is None else f"[{low:z.{digits}f}, {high:z.{digits}f}]"


def _in_order(means: pd.DataFrame, runs: Runs) -> pd.DataFrame:
    tasks = [(split, task.name) for split, members in runs.suite.splits.items() for task in members]
    rank = {place: i for i, place in enumerate(tasks)}
    position = {str(run.path): i for i, run in enumerate(runs.runs)}
    order = means.assign(
        _run=means["run"].map(position),
        _task=[rank[place] for place in zip(means["split"], means["task"], strict=True)],
    )
    return order.sort_values(["_run", "_task"], ignore_index=True).drop(columns=["_run", "_task"])


def _split_summary(
    rows: pd.DataFrame, method: str, split: str, training: TrainingScore | None
) -> SplitSummary:
    scores = score_matrix(rows, method, split)
    aggregates = {
        name: _aggregate(scores, statistic, method, split) for name, statistic in AGGREGATES.items()
    }
    return {
        "return_mean": float(rows["return"].mean()),
        "score_iqm": aggregates["iqm"]["value"],
        "ci95": aggregates["iqm"]["ci95"],
        "success": _aggregate(
            score_matrix(rows, method, split, "success"), statistics.mean_score, method, split
        ),
        "tasks": scores.shape[1],
        "runs": scores.shape[0],
        "episodes": int(rows["episodes"].sum()),
        "frames": int(rows["frames"].max()),
        "aggregates": aggregates,
        "training": training,
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
    """Return both ends of a scalar interval as JSON can hold them: None for NaN."""
    return [
        None if math.isnan(end) else float(end)
        for end in (float(interval.low), float(interval.high))
    ]


def _table_line(split: str, method: str, numbers: SplitSummary) -> tuple[str, ...]:
    training = numbers["training"]
    return (
        split,
        method,
        f"{numbers['return_mean']:z.1f}",
        f"{100 * numbers['success']['value']:.0f} %",
        "-" if training is None else f"{training['return_mean']:z.1f}",
        f"{numbers['score_iqm']:z.3f}",
        interval_text(numbers["ci95"], 3),
        str(numbers["episodes"]),
        str(numbers["runs"]),
    )


def _aligned(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column < 2 else cell.rjust(width)
