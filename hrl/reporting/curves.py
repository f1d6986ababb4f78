"""Learning curves: the runs of a method put on one grid of frames or of seconds, `[point, run,
task]`.
"""

from dataclasses import dataclass

import numpy as np

from hrl.reporting.runs import Run, Runs
from hrl.reporting.statistics import Array, normalised_score

MOST_POINTS = 120


@dataclass(frozen=True)
class Curves:
    """Returns of one method while it learned. x: [point] frames or seconds.  returns: [point, run, task]."""

    x: Array
    returns: Array
    tasks: tuple[str, ...]


def evaluated_splits(runs: Runs) -> list[str]:
    """Splits whose greedy evaluations during training every trained run logged for all tasks of the
    split.
    """
    trained = [run for run in runs.runs if run.trained]
    return [
        split
        for split in runs.suite.splits
        if trained and all(_keys(run, split, "eval") is not None for run in trained)
    ]


def curve_source(runs: Runs) -> str:
    """`eval` where greedy evaluations of the training tasks were logged by all, else `train`:
    episodes as they came.
    """
    return "eval" if "train" in evaluated_splits(runs) else "train"


def method_curves(
    runs: Runs, method: str, split: str, source: str, *, seconds: bool = False
) -> Curves | None:
    """The curves of a method against frames, or against seconds of training; None where a run lacks
    what they need.

    Runs are interpolated linearly to shared points, no further than the shortest run reaches.
    """
    runs_of_method = runs.of(method)
    tasks = runs.suite.task_names(split)
    series = [
        _series(run, split, task, source, seconds) for run in runs_of_method for task in tasks
    ]
    present = [one for one in series if one is not None]
    if len(present) != len(series) or not series:
        return None
    x = _shared_points([one[0] for one in present])
    values = np.stack([np.interp(x, *one) for one in present], axis=-1)
    return Curves(x, values.reshape(len(x), len(runs_of_method), len(tasks)), tuple(tasks))


def scores_of(curves: Curves, runs: Runs, split: str) -> Array | None:
    """The curves as normalised scores `[point, run, task]`; None where random play was not measured
    on the split.
    """
    random = [runs.random_returns.get((split, task)) for task in curves.tasks]
    known = [value for value in random if value is not None]
    if len(known) != len(random):
        return None
    return normalised_score(curves.returns, known, runs.suite.reference_return)


def task_curves(runs: Runs, method: str, task: str, source: str) -> Curves | None:
    """The curves of one training task, `[point, run, 1]`, from the runs that logged it."""
    series = [_series(run, "train", task, source, False) for run in runs.of(method)]
    present = [one for one in series if one is not None]
    if not present:
        return None
    x = _shared_points([one[0] for one in present])
    return Curves(x, np.stack([np.interp(x, *one) for one in present], axis=-1)[..., None], (task,))


def _keys(run: Run, split: str, source: str) -> dict[str, str] | None:
    """Metric name per task of a split, or None where the run did not log all of them."""
    prefix = f"eval/{split}/return" if source == "eval" else "train/return"
    keys = {task: f"{prefix}/{task}" for task in run.suite.task_names(split)}
    return keys if all(key in run.metrics.columns for key in keys.values()) else None


def _series(
    run: Run, split: str, task: str, source: str, seconds: bool
) -> tuple[Array, Array] | None:
    """(x, return) of one run on one task, x increasing; None where it was not logged, or has no
    clock.
    """
    key = f"eval/{split}/return/{task}" if source == "eval" else f"train/return/{task}"
    if key not in run.metrics.columns or (seconds and run.timing.empty):
        return None
    logged = run.metrics[["frames", key]].dropna()
    if logged.empty:
        return None
    frames, returns = logged.to_numpy(dtype=np.float64).T
    return (_seconds_at(run, frames) if seconds else frames), returns


def _seconds_at(run: Run, frames: Array) -> Array:
    clock = run.timing[["frames", "seconds"]].to_numpy(dtype=np.float64)
    start = np.zeros((0 if clock[0, 0] == 0 else 1, 2))
    known = np.concatenate([start, clock])
    return np.asarray(np.interp(frames, known[:, 0], known[:, 1]))


def _shared_points(axes: list[Array]) -> Array:
    """The points themselves where all runs share them, else an even grid over the range that all
    cover.
    """
    if (
        all(len(axis) == len(axes[0]) and np.array_equal(axis, axes[0]) for axis in axes)
        and len(axes[0]) <= MOST_POINTS
    ):
        return axes[0]
    low, high = max(axis[0] for axis in axes), min(axis[-1] for axis in axes)
    return np.linspace(low, max(low, high), min(MOST_POINTS, max(len(axis) for axis in axes)))
