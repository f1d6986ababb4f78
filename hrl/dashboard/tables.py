"""Turn the state of runs into rows and sentences."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hrl.dashboard.run_status import RunStatus
from hrl.dashboard.watcher import Snapshot
from hrl.reporting.study import plural
from hrl.reporting.suite_record import RunFolderError
from hrl.reporting.tables import SHUFFLES, read_scores, read_shuffled_scores
from hrl.run.folder import RunFolder, study_record

STATES = ("running", "stalled", "waiting", "stopped", "failed", "finished")


def headline(snapshot: Snapshot) -> str:
    """Return how many runs are in which state, how much is done, and the time left."""
    counts = {state: sum(run.state == state for run in snapshot.runs) for state in STATES}
    shown = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    left = snapshot.seconds_left
    about = f"; about {duration(left)} left" if left else ""
    return f"{len(snapshot.runs)} runs: {shown}; {100 * snapshot.share:.0f} % of all frames{about}"


def duration(seconds: float | None) -> str:
    """Return a time as a reader would write it; a dash where it is unknown."""
    if seconds is None:
        return "-"
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{int(seconds)} s"
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def count_of_alerts(count: int) -> str:
    """Return how many alerts there are, as a reader would write it."""
    return f"{count or 'no'} {plural(count, 'alert')}"


def grid(runs: Sequence[RunStatus]) -> dict[tuple[str, str, str], dict[int, RunStatus]]:
    """Return the runs by (suite, kind, method) and seed, in the order in which they are given."""
    rows: dict[tuple[str, str, str], dict[int, RunStatus]] = {}
    for run in runs:
        rows.setdefault((run.suite, run.kind, run.method), {})[run.seed] = run
    return rows


def task_returns(
    runs: Sequence[tuple[RunStatus, Mapping[str, float]]],
) -> dict[str, dict[str, float]]:
    """Return task -> method -> mean over runs of the latest training return.

    Args:
        runs: each with the latest values of its metrics.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for run, latest in runs:
        for key, value in latest.items():
            prefix, _, task = key.rpartition("/")
            if prefix == "train/return":
                found.setdefault(task, {}).setdefault(run.method, []).append(value)
    return {
        task: {method: float(np.mean(values)) for method, values in by_method.items()}
        for task, by_method in sorted(found.items())
    }


def shuffle_returns(runs: Sequence[RunStatus]) -> dict[str, dict[str, list[float]]]:
    """Return method -> intervention -> mean return of each evaluated run on its training tasks.

    Only methods with shuffled episodes have an entry; a table that cannot be read is left out.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        files = RunFolder(run.folder)
        if not files.shuffled_scores.exists():
            continue
        try:
            plain = read_scores(files.scores).assign(intervention="none")
            table = pd.concat([plain, read_shuffled_scores(files.shuffled_scores)])
        except (RunFolderError, OSError):  # it is being written, or is no file
            continue
        table = table[(table["split"] == "train") & (table["frames"] == table["frames"].max())]
        for name in ("none", *SHUFFLES):
            returns = table.loc[table["intervention"] == name, "return"]
            if len(returns):
                by_name = found.setdefault(run.method, {})
                by_name.setdefault(name, []).append(float(returns.mean()))
    return found


def study_title(paths: Sequence[Path]) -> str:
    """Return the names of the watched folders, and what their studies ask."""
    titles = []
    for path in paths:
        try:
            study = json.loads(study_record(path).read_text())["study"]
            titles.append(f"{study['name']}: {study['description']}")
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            titles.append(str(path))
    return "; ".join(titles)
