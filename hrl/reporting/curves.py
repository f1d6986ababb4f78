"""Put learning curves of a method's runs on one grid of frames or seconds, `[point, run, task]`."""

from dataclasses import dataclass

import numpy as np

from hrl.reporting.runs import Run, Runs
from hrl.reporting.statistics import Array, normalised_score

MOST_POINTS = 120


@dataclass(frozen=True)
class Curves:
    """Hold the returns of one method while it learned.

    x: [point] frames or seconds.  returns: [point, run, task].
    """

    x: Array
    returns: Array
    tasks: tuple[str, ...]


def evaluated_splits(runs: Runs) -> list[str]:
    """Return the splits that every trained run evaluated during training, with all their tasks."""
    trained = [run for run in runs.runs if run.trained]
    return [
        split
        for split in runs.suite.splits
        if trained and all(_keys(run, split, "eval") is not None for run in trained)
    ]


def curve_source(runs: Runs) -> str:
    """Return `eval` where all runs logged greedy evaluations of the training tasks, else `train`.

    `train` stands for training episodes as they came.
    """
    return "eval" if "train" in evaluated_splits(runs) else "train"


def method_curves(
    runs: Runs, method: str, split: str, source: str, *, seconds: bool = False
) -> Curves | None:
    """Return the curves of a method against frames, or against seconds of training.

    Runs are interpolated linearly to shared points, no further than the shortest run reaches. The
    result is None where a run lacks what the curves need.
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
    """Return the curves as normalised scores `[point, run, task]`.

    The result is None where random play was not measured on the split.
    """
    random = [runs.random_returns.get((split, task)) for task in curves.tasks]
    known = [value for value in random if value is not None]
    if len(known) != len(random):
        return None
    return normalised_score(curves.returns, known, runs.suite.reference_return)


def task_curves(runs: Runs, method: str, task: str, source: str) -> Curves | None:
    """Return the curves of one training task, `[point, run, 1]`, from the runs that logged it."""
    series = [_series(run, "train", task, source, False) for run in runs.of(method)]
    present = [one for one in series if one is not None]
    if not present:
        return None
    x = _shared_points([one[0] for one in present])
    return Curves(x, np.stack([np.interp(x, *one) for one in present], axis=-1)[..., None], (task,))


def _keys(run: Run, split: str, source: str) -> dict[str, str] | None:
    """Return the metric's name per task of a split; None where the run did not log all of them."""
    prefix = f"eval/{split}/return" if source == "eval" else "train/return"
    keys = {task: f"{prefix}/{task}" for task in run.suite.task_names(split)}
    return keys if all(key in run.metrics.columns for key in keys.values()) else None


def _series(
    run: Run, split: str, task: str, source: str, seconds: bool
) -> tuple[Array, Array] | None:
    """Return (x, return) of one run on one task, x increasing.

    The result is None where the task was not logged, or where the run has no record of time.
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
    timing = run.timing[["frames", "seconds"]].to_numpy(dtype=np.float64)
    start = np.zeros((0 if timing[0, 0] == 0 else 1, 2))
    known = np.concatenate([start, timing])
    return np.asarray(np.interp(frames, known[:, 0], known[:, 1]))


def _shared_points(axes: list[Array]) -> Array:
    """Return the points that all runs share, else an even grid over the range that all cover."""
    if (
        all(len(axis) == len(axes[0]) and np.array_equal(axis, axes[0]) for axis in axes)
        and len(axes[0]) <= MOST_POINTS
    ):
        return axes[0]
    low = max(axis[0] for axis in axes)
    high = min(axis[-1] for axis in axes)
    return np.linspace(low, max(low, high), min(MOST_POINTS, max(len(axis) for axis in axes)))
