"""Put the curves of runs on common axes: smoothed, with bands over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from hrl.dashboard.run_status import FollowedRun
from hrl.reporting import statistics

Axis: TypeAlias = Literal["frames", "hours"]
MOST_POINTS = 200
RESAMPLES = 300


@dataclass(frozen=True)
class Band:
    """Hold the curve of some runs: mean over seeds, and its 95 % bootstrap interval.

    x, mean, low, high: [point]; low and high are NaN where one run gives no interval.
    """

    x: NDArray
    mean: NDArray
    low: NDArray
    high: NDArray
    seeds: int


def curve(run: FollowedRun, key: str, axis: Axis) -> tuple[NDArray, NDArray]:
    """Return a metric of a run against frames or hours of training; empty where there is none."""
    frames, values = run.columns.read([key])[key]
    if axis == "frames":
        return frames, values
    at, seconds = run.timing_columns.read(["seconds"])["seconds"]
    if not len(at):
        return np.empty(0), np.empty(0)
    return np.interp(frames, [0.0, *at], [0.0, *seconds]) / 3600, values


def smoothed(values: NDArray, window: int) -> NDArray:
    """Return the mean of each value and those before it, `window` in all, fewer at the start.

    Args:
        values: [point].
        window: of points; 1 changes nothing.
    """
    if window <= 1 or len(values) < 2:
        return values
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def band(curves: Sequence[tuple[NDArray, NDArray]], window: int, label: str) -> Band | None:
    """Return mean and interval over runs; None where no run has a point.

    Args:
        curves: (x, values) of each run, x increasing.
        window: points that are smoothed over.
        label: seeds the bootstrap.
    """
    known = [(x, smoothed(values, window)) for x, values in curves if len(x)]
    if not known:
        return None
    low = max(x[0] for x, _ in known)
    high = min(x[-1] for x, _ in known)
    if high <= low:  # a run that has only begun has no part in the others' range
        longest = max(known, key=lambda one: one[0][-1])
        known, low, high = [longest], longest[0][0], longest[0][-1]
    grid = np.linspace(low, high, min(MOST_POINTS, max(len(x) for x, _ in known)))
    values = np.stack([np.interp(grid, x, y) for x, y in known], -1)
    interval = statistics.interval(
        values[..., None],
        statistics.mean_score,
        np.random.default_rng(crc32(label.encode())),
        resamples=RESAMPLES,
    )
    return Band(grid, values.mean(-1), interval.low, interval.high, len(known))


def usage_matrix(record: Mapping[str, float]) -> tuple[NDArray, list[str], list[str]]:
    """Return the weights of skills in training `[skill, task]`, with both axes' names.

    Args:
        record: a line of metrics; keys `skills/usage/TASK/SKILL` count.
    """
    usage = {
        (key.split("/")[3], key.split("/")[2]): value
        for key, value in record.items()
        if key.startswith("skills/usage/") and key.count("/") == 3
    }
    skills = sorted({skill for skill, _ in usage}, key=lambda name: (len(name), name))
    tasks = list(dict.fromkeys(task for _, task in usage))
    table = np.array([[usage.get((skill, task), np.nan) for task in tasks] for skill in skills])
    return table.reshape(len(skills), len(tasks)), skills, tasks
